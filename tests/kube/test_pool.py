"""The pool and what becomes of replicas: not placed and why, a node that goes, budgets, draining, and which replica goes first."""

import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from actuators.api import Applied, Failed, Skipped
from actuators.kubernetes.shrink import CHEAPEST
from controlplane.clocks import SystemClock
from controlplane.contracts.events import Decision, Event, PoolStatus, Tick
from controlplane.contracts.fleet import Mode, Tier
from controlplane.contracts.units import from_unix
from controlplane.services.reconciler import Reconciler
from tests.kube.conftest import FLEET, Engine, Scene, eventually

pytestmark = pytest.mark.needs("kube-apiserver")
SceneMaker = Callable[..., Scene]


async def test_a_pool_that_is_full_is_asked_for_no_more_than_it_has(scene_of: SceneMaker) -> None:
    scene = scene_of(tier=Tier.FLOOR)
    scene.limit_stock(3)
    await scene.observed(lambda status: True)
    result = await eventually(lambda: scene.subject.apply(FLEET, scene.offer, 8), lambda result: isinstance(result, Applied))
    assert isinstance(result, Applied)
    assert result.change == 3
    assert "5 fewer than asked for: the pool has 1 nodes, 3 GPUs, 3 free" in result.reason
    scene.kubelets.settle("r1")
    status = await scene.observed(lambda status: status.unavailable and "wait for a place" not in status.message)
    assert f"held by {scene.namespace}/r1 3" in status.message
    refused = await scene.subject.apply(FLEET, scene.offer, 8)
    assert isinstance(refused, Failed)
    assert refused.unavailable


async def test_what_is_asked_for_and_not_placed_yet_has_its_place_in_the_pool(scene_of: SceneMaker) -> None:
    scene = scene_of(tier=Tier.FLOOR)
    scene.limit_stock(3)
    await scene.observed(lambda status: True)

    async def gpus() -> int:
        nodes = await scene.cluster.nodes()
        return sum(node.gpus for node in nodes.all() if node.name == scene.node) if nodes is not None else 0

    assert await eventually(gpus, lambda count: count == 3) == 3
    assert await scene.subject.apply(FLEET, scene.offer, 2) == Applied(2)
    for _ in range(5):
        result = await scene.subject.apply(FLEET, scene.offer, 8)
        if isinstance(result, Applied):
            assert result.change == 1
    assert scene.asked() == 3, "however quickly it is asked again"


async def test_what_another_workload_holds_is_not_promised_to_the_fleet(scene_of: SceneMaker) -> None:
    scene = scene_of(tier=Tier.FLOOR)
    scene.limit_stock(4)
    body = {"replicas": 3, "selector": {"matchLabels": {"app": "train"}}}
    container = {"name": "c", "image": "c", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
    pods = {"metadata": {"labels": {"app": "train"}}, "spec": {"containers": [container], "nodeSelector": {"pool": scene.namespace}}}
    scene.plane.call("POST", scene.deployments, {"metadata": {"name": "train"}, "spec": {**body, "template": pods}})

    async def applied() -> object:
        return await scene.subject.apply(FLEET, scene.offer, 4)

    deadline = time.monotonic() + 10.0
    while sum("nodeName" in pod["spec"] for pod in scene.kubelets.pods()) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    result = await applied()
    assert isinstance(result, Applied)
    assert result.change == 1
    assert f"{scene.namespace}/train 3" in result.reason


async def test_what_the_scheduler_cannot_place_is_said_with_its_reason_and_asks_for_an_early_tick(scene_of: SceneMaker) -> None:
    scene = scene_of(actuator_options={"nodes": "elastic"})
    scene.limit_stock(2)
    said: list[Event] = []

    async def hear(event: Event) -> None:
        said.append(event)

    clock = SystemClock()
    reconciler = Reconciler(FLEET, scene.offer, scene.subject, clock, hear)
    now = from_unix(clock.now())
    expires = now + timedelta(seconds=60)
    reconciler.follow(Decision(time=now, fleet=FLEET, mode=Mode.ACT, expires=expires, targets={scene.offer.name: 5}))
    await reconciler.reconcile()
    scene.kubelets.settle("r1")
    await scene.observed(lambda status: status.unschedulable == 3)
    await reconciler.reconcile()
    status = next(event for event in reversed(said) if isinstance(event, PoolStatus))
    assert (status.pending, status.unschedulable) == (5, 3)
    assert "3 unschedulable: 0/" in status.message
    assert "Insufficient nvidia.com/gpu" in status.message
    assert {event.cause for event in said if isinstance(event, Tick)} == {"unschedulable"}
    said.clear()
    await reconciler.reconcile()
    assert not any(isinstance(event, Tick) for event in said), "what is known already is no news"


async def test_what_waits_for_a_node_stays_asked_for_and_comes_when_one_is_there(scene_of: SceneMaker) -> None:
    scene = scene_of(actuator_options={"nodes": "elastic"})
    scene.limit_stock(2)
    await scene.subject.apply(FLEET, scene.offer, 5)
    scene.kubelets.settle("r1")
    await scene.observed(lambda status: status.unschedulable == 3)
    for target in (2, 3, 4):
        kept = await scene.subject.apply(FLEET, scene.offer, target)
        assert isinstance(kept, Skipped)
        assert "stay asked for" in kept.reason
    scene.limit_stock(5)
    scene.kubelets.lead_seconds = 0.0
    status = await scene.observed(lambda status: scene.kubelets.step() is None and status.ready == 5)
    assert (status.ready, status.unschedulable) == (5, 0)


async def test_a_node_that_goes_takes_its_replicas_and_they_come_back_elsewhere(scene: Scene) -> None:
    await scene.ready(2)
    spare = f"{scene.node}-spare"
    scene.kubelets.add_node(spare, 8, pool=scene.namespace)
    scene.kubelets.remove_node(scene.node)
    try:
        scene.kubelets.settle("r1")
        status = await scene.observed(lambda status: status.ready == 2)
        assert (status.ready, status.pending) == (2, 0)
        assert {pod["spec"]["nodeName"] for pod in scene.kubelets.pods()} == {spare}
        assert await scene.subject.apply(FLEET, scene.offer, 2) == Skipped("already there")
    finally:
        scene.plane.call("DELETE", f"/api/v1/nodes/{spare}")
        scene.kubelets.add_node(scene.node, 8, pool=scene.namespace)


async def test_a_disruption_budget_lets_replicas_go_only_as_it_allows(scene: Scene) -> None:
    await scene.ready(4)
    path = f"/apis/policy/v1beta1/namespaces/{scene.namespace}/poddisruptionbudgets"
    spec = {"minAvailable": 3, "selector": {"matchLabels": {"app": "r1"}}}
    scene.plane.call("POST", path, {"metadata": {"name": "keep-three"}, "spec": spec})

    async def allowed() -> int:
        return int((scene.plane.call("GET", f"{path}/keep-three").get("status") or {}).get("disruptionsAllowed") or 0)

    assert await eventually(allowed, lambda count: count == 1) == 1
    result = await scene.subject.apply(FLEET, scene.offer, 0)
    assert result == Applied(-1, reason="3 kept for now: PodDisruptionBudget keep-three lets 1 go")
    scene.kubelets.settle("r1")
    assert await eventually(allowed, lambda count: count == 0) == 0
    await scene.observed(lambda status: (status.ready, status.draining) == (3, 0))

    async def again() -> object:
        return await scene.subject.apply(FLEET, scene.offer, 0)

    kept = Skipped("3 kept for now: PodDisruptionBudget keep-three lets 0 go")
    assert await eventually(again, lambda result: result == kept) == kept
    assert scene.asked() == 3


async def test_a_disruption_budget_holds_however_quickly_it_is_asked_again(scene: Scene) -> None:
    await scene.ready(4)
    path = f"/apis/policy/v1beta1/namespaces/{scene.namespace}/poddisruptionbudgets"
    spec = {"minAvailable": 3, "selector": {"matchLabels": {"app": "r1"}}}
    scene.plane.call("POST", path, {"metadata": {"name": "keep-three"}, "spec": spec})

    async def shrunk() -> object:
        return await scene.subject.apply(FLEET, scene.offer, 0)

    assert isinstance(await eventually(shrunk, lambda result: isinstance(result, Applied)), Applied)
    for _ in range(20):
        assert isinstance(await shrunk(), Skipped)
    assert scene.asked() == 3


async def rolled_out_in_part(scene: Scene) -> None:
    """Replace the template of four replicas; return when three old ones serve beside two new ones that no kubelet starts."""
    newer = {"spec": {"template": {"metadata": {"annotations": {"build": "newer"}}}}}
    scene.plane.call("PATCH", f"{scene.deployments}/r1", newer, "application/merge-patch+json")

    async def there() -> int:
        return sum("deletionTimestamp" not in pod["metadata"] for pod in scene.kubelets.pods())

    assert await eventually(there, lambda count: count == 5) == 5


async def test_in_the_middle_of_a_rollout_whatever_serves_has_its_grace(scene_of: SceneMaker, engine: Engine) -> None:
    scene = scene_of(actuator_options={"drain_grace_seconds": 60.0, "metrics_port": engine.port})
    await scene.ready(4)
    await rolled_out_in_part(scene)
    await scene.observed(lambda status: status.ready == 3)
    engine.running = 2
    result = await scene.subject.apply(FLEET, scene.offer, 3)
    assert isinstance(result, Skipped), "the new ones that do not serve yet may not be those that the Deployment takes"
    assert result.reason.startswith("draining: 6 requests in flight on 3 replicas")
    engine.running = 0
    assert await scene.subject.apply(FLEET, scene.offer, 3) == Applied(-1)


async def test_in_the_middle_of_a_rollout_a_budget_is_not_spent_on_what_serves(scene: Scene) -> None:
    await scene.ready(4)
    await rolled_out_in_part(scene)
    path = f"/apis/policy/v1beta1/namespaces/{scene.namespace}/poddisruptionbudgets"
    spec = {"minAvailable": 3, "selector": {"matchLabels": {"app": "r1"}}}
    scene.plane.call("POST", path, {"metadata": {"name": "keep-three"}, "spec": spec})

    async def known() -> tuple[int, int | None]:
        budgets = await scene.cluster.budgets(scene.namespace)
        found = list(budgets.find(scene.namespace)) if budgets is not None else []
        return (await scene.observe()).ready, found[0].healthy if found else None

    assert await eventually(known, lambda seen: seen == (3, 3)) == (3, 3)
    kept = Skipped("1 kept for now: PodDisruptionBudget keep-three lets 0 go")
    assert await scene.subject.apply(FLEET, scene.offer, 3) == kept, "the Deployment would take it from the old ones, which serve"
    assert scene.asked() == 4


async def test_a_drain_that_is_called_off_leaves_no_mark(scene_of: SceneMaker, engine: Engine) -> None:
    scene = scene_of(actuator_options={"drain_grace_seconds": 60.0, "metrics_port": engine.port})
    await scene.ready(2)
    engine.running = 2

    async def marked() -> int:
        mirror = await scene.cluster.pods(scene.namespace)
        return sum(pod.draining_since_unix is not None for pod in mirror.find(scene.namespace))

    assert isinstance(await scene.subject.apply(FLEET, scene.offer, 1), Skipped)
    assert await eventually(marked, lambda count: count == 1) == 1
    assert await scene.subject.apply(FLEET, scene.offer, 2) == Skipped("already there")
    assert await eventually(marked, lambda count: count == 0) == 0
    notes = [pod["metadata"].get("annotations", {}) for pod in scene.kubelets.pods()]
    assert not any("deletion-cost" in key for each in notes for key in each)


async def test_the_idle_are_marked_to_go_first_and_the_busy_are_not(scene: Scene) -> None:
    await scene.ready(3)
    busy, *idle = sorted(pod["metadata"]["name"] for pod in scene.kubelets.pods())
    scene.annotate(busy, in_flight_requests="7")

    async def in_flight() -> float:
        return sum(pod.in_flight for pod in (await scene.cluster.pods(scene.namespace)).find(scene.namespace))

    assert await eventually(in_flight, lambda requests: requests == 7.0) == 7.0
    assert await scene.subject.apply(FLEET, scene.offer, 1) == Applied(-2)
    cost = "controller.kubernetes.io/pod-deletion-cost"
    notes = {pod["metadata"]["name"]: pod["metadata"].get("annotations", {}) for pod in scene.kubelets.pods()}
    marks = {name: each[cost] for name, each in notes.items() if cost in each}
    assert set(marks) == set(idle)
    assert set(marks.values()) == {str(CHEAPEST), str(CHEAPEST + 1)}


async def test_a_request_in_flight_is_not_cut_before_the_grace_is_over(scene_of: SceneMaker, engine: Engine) -> None:
    scene = scene_of(actuator_options={"drain_grace_seconds": 60.0, "metrics_port": engine.port})
    await scene.ready(2)
    engine.running = 2
    result = await scene.subject.apply(FLEET, scene.offer, 1)
    assert isinstance(result, Skipped)
    assert result.reason.startswith("draining: 2 requests in flight on 1 replicas that are to go")
    assert scene.asked() == 2
    leaving = [pod for pod in scene.kubelets.pods() if "tidegate.dev/draining-since" in pod["metadata"].get("annotations", {})]
    assert len(leaving) == 1
    engine.running = 0
    assert await scene.subject.apply(FLEET, scene.offer, 1) == Applied(-1)


async def test_a_drain_ends_with_its_grace_whatever_is_in_flight(scene_of: SceneMaker) -> None:
    scene = scene_of(actuator_options={"drain_grace_seconds": 60.0})
    await scene.ready(2)
    for pod in scene.kubelets.pods():
        scene.annotate(pod["metadata"]["name"], in_flight_requests="2", draining_since=f"{time.time() - 61.0:.0f}")

    async def shrunk() -> object:
        return await scene.subject.apply(FLEET, scene.offer, 1)

    assert await eventually(shrunk, lambda result: isinstance(result, Applied)) == Applied(-1)


async def test_what_is_being_deleted_drains_and_is_counted_nowhere_else(scene: Scene) -> None:
    await scene.ready(3)
    scene.kubelets.holds_terminating = True
    await scene.subject.apply(FLEET, scene.offer, 1)
    status = await scene.observed(lambda status: status.draining == 2)
    assert (status.ready, status.pending, status.draining) == (1, 0, 2)
    scene.kubelets.holds_terminating = False


async def test_replicas_that_crash_are_no_supply(scene: Scene) -> None:
    scene.kubelets.failing = True
    await scene.subject.apply(FLEET, scene.offer, 2)
    scene.kubelets.settle("r1")
    status = await scene.observed(lambda status: status.unavailable)
    assert (status.ready, status.pending, status.unavailable) == (0, 0, True)
    assert "2 failed: CrashLoopBackOff" in status.message
    assert status.failed_replicas == 2, "each holds its node, which a budget has to pay"
