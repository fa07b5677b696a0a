"""Several fleets on the same nodes, or under the same disruption budget: what one is about to do counts for the others at once."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from actuators.api import Applied, Failed, Skipped
from controlplane.contracts.errors import SupplierError
from controlplane.contracts.fleet import Offer, Tier
from tests.kube.conftest import FLEET, Scene, SceneMaker, eventually
from tests.kube.objects import deployment

pytestmark = pytest.mark.needs("kube-apiserver")
NEIGHBOUR = "r2"


async def neighbour(scene: Scene, gpus: int = 1) -> Offer:
    """Create another fleet's Deployment on the same nodes; return its offer once it can be seen."""
    body = deployment(scene.namespace, NEIGHBOUR, gpus=gpus, node_selector={"pool": scene.namespace})
    scene.plane.call("POST", scene.deployments, body)
    offer = replace(scene.offer, actuator_options={**scene.offer.actuator_options, "name": NEIGHBOUR})

    async def is_seen() -> bool:
        with contextlib.suppress(SupplierError):
            await scene.subject.observe(NEIGHBOUR, offer)
            return True
        return False

    assert await eventually(is_seen, bool)
    return offer


def asked(scene: Scene) -> tuple[int, ...]:
    return tuple(int(scene.plane.call("GET", f"{scene.deployments}/{name}")["spec"]["replicas"]) for name in ("r1", NEIGHBOUR))


@pytest.fixture
async def floors(scene_of: SceneMaker) -> AsyncIterator[Scene]:
    """A fixed pool of eight GPUs that two fleets share."""
    scene = scene_of(tier=Tier.FLOOR)
    scene.limit_stock(8)
    await scene.subject.observe(FLEET, scene.offer)
    await eventually(lambda: gpus(scene), lambda count: count == 8)
    yield scene
    scene.plane.call("DELETE", f"{scene.deployments}/{NEIGHBOUR}")


async def gpus(scene: Scene) -> int:
    nodes = await scene.cluster.nodes()
    return sum(node.gpus for node in nodes.all() if node.name == scene.node) if nodes is not None else 0


async def test_two_fleets_that_grow_at_once_are_not_both_promised_the_same_room(floors: Scene) -> None:
    other = await neighbour(floors)
    await asyncio.gather(floors.subject.apply(FLEET, floors.offer, 6), floors.subject.apply(NEIGHBOUR, other, 6))
    assert sorted(asked(floors)) == [2, 6], "eight, whoever came first"


async def test_anothers_replica_that_waits_for_a_whole_node_has_its_place(floors: Scene) -> None:
    other = await neighbour(floors, gpus=8)
    slow = {"spec": {"template": {"spec": {"schedulerName": "one-that-has-not-looked-yet"}}}}
    floors.plane.call("PATCH", f"{floors.deployments}/{NEIGHBOUR}", slow, "application/merge-patch+json")
    assert await floors.subject.apply(NEIGHBOUR, other, 1) == Applied(1)

    async def waiting() -> int:
        return sum(pod.gpus == 8 for pod in (await floors.cluster.pods(floors.namespace)).find("node/"))

    assert await eventually(waiting, lambda count: count == 1) == 1
    refused = await floors.subject.apply(FLEET, floors.offer, 1)
    assert isinstance(refused, Failed)
    assert "the pool has 1 nodes, 8 GPUs, 8 free, 1 wait for a place" in refused.error
    assert asked(floors) == (0, 1), "the node is that replica's, once its scheduler has looked"


async def test_what_another_may_not_have_created_takes_no_place(floors: Scene) -> None:
    other = await neighbour(floors, gpus=8)
    limits = f"/api/v1/namespaces/{floors.namespace}/limitranges"
    small = {"metadata": {"name": "small"}, "spec": {"limits": [{"type": "Container", "max": {"nvidia.com/gpu": "1"}}]}}
    floors.plane.call("POST", limits, small)
    assert await floors.subject.apply(NEIGHBOUR, other, 1) == Applied(1)

    async def said() -> str:
        return (await floors.subject.observe(NEIGHBOUR, other)).message

    assert "1 not created" in await eventually(said, lambda message: "not created" in message)
    assert await floors.subject.apply(FLEET, floors.offer, 4) == Applied(4), "all eight GPUs are free, and stay so"
    floors.plane.call("DELETE", f"{limits}/small")


async def test_workloads_under_one_disruption_budget_let_go_together_what_it_allows(scene: Scene) -> None:
    other = await neighbour(scene)
    await scene.ready(2)
    await scene.subject.apply(NEIGHBOUR, other, 2)
    scene.kubelets.settle(NEIGHBOUR, pods=4)
    path = f"/apis/policy/v1beta1/namespaces/{scene.namespace}/poddisruptionbudgets"
    both = {"matchExpressions": [{"key": "app", "operator": "In", "values": ["r1", NEIGHBOUR]}]}
    scene.plane.call("POST", path, {"metadata": {"name": "keep-three"}, "spec": {"minAvailable": 3, "selector": both}})

    async def allowed() -> int:
        return int((scene.plane.call("GET", f"{path}/keep-three").get("status") or {}).get("disruptionsAllowed") or 0)

    async def known() -> int | None:
        budgets = await scene.cluster.budgets(scene.namespace)
        found = list(budgets.find(scene.namespace)) if budgets is not None else []
        return found[0].allowed if found else None

    assert await eventually(allowed, lambda count: count == 1) == 1
    assert await eventually(known, lambda count: count == 1) == 1
    await scene.observed(lambda status: status.ready == 2)
    results = await asyncio.gather(scene.subject.apply(FLEET, scene.offer, 0), scene.subject.apply(NEIGHBOUR, other, 0))
    assert {type(result) for result in results} == {Applied, Skipped}, results
    for _ in range(20):
        results = await asyncio.gather(scene.subject.apply(FLEET, scene.offer, 0), scene.subject.apply(NEIGHBOUR, other, 0))
        assert {type(result) for result in results} == {Skipped}
    assert sum(asked(scene)) == 3
    scene.plane.call("DELETE", f"{scene.deployments}/{NEIGHBOUR}")
