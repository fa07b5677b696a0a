"""An API server that refuses, throttles, loses replies, crashes, is gone for long: no wrong number, no lost decision, and it recovers."""

import asyncio
import time
from datetime import timedelta

import pytest

from actuators.api import Applied, Failed, Skipped
from actuators.kubernetes.actuator import KubernetesActuator
from actuators.kubernetes.cluster import Cluster
from controlplane.clocks import SystemClock, VirtualClock
from controlplane.contracts.errors import SupplierError
from controlplane.contracts.events import Actuation, Decision, Event, Outcome, PoolStatus
from controlplane.contracts.fleet import Mode
from controlplane.contracts.units import from_unix
from controlplane.services.reconciler import Reconciler
from tests.kube.conftest import FLEET, Scene, eventually
from tests.kube.proxy import Fault

pytestmark = pytest.mark.needs("kube-apiserver")


@pytest.mark.parametrize("status", [429, 500, 503, 0])
async def test_a_moment_of_trouble_is_waited_out(scene: Scene, status: int) -> None:
    await scene.observe()
    scene.proxy.fail(Fault("PATCH", "/scale", status))
    assert await scene.subject.apply(FLEET, scene.offer, 3) == Applied(3)
    assert (scene.asked(), scene.purchases()) == (3, 1)


async def test_everybody_waits_as_long_as_the_server_asks_for(scene: Scene) -> None:
    await scene.observe()
    scene.proxy.fail(Fault("PATCH", "/scale", 429, retry_after="0.3"))
    assert await scene.subject.apply(FLEET, scene.offer, 3) == Applied(3)
    scene.proxy.fail(Fault("PATCH", "/scale", 429, times=100, retry_after="60"))
    before = scene.proxy.count("PATCH", "/scale")
    result = await scene.subject.apply(FLEET, scene.offer, 4)
    assert isinstance(result, Failed)
    assert result.retryable
    assert "patch deployments.apps/scale" in result.error
    assert scene.proxy.count("PATCH", "/scale") == before + 1, "a minute is longer than it has patience for: it is not asked again"


async def test_a_storm_of_conflicts_passes_without_a_wrong_number(scene: Scene) -> None:
    await scene.observe()
    scene.proxy.fail(Fault("PATCH", "/scale", 409, times=3))
    assert await scene.subject.apply(FLEET, scene.offer, 3) == Applied(3)
    scene.proxy.fail(Fault("PATCH", "/scale", 409, times=100))
    result = await scene.subject.apply(FLEET, scene.offer, 7)
    assert isinstance(result, Failed)
    assert result.retryable
    assert scene.asked() == 3
    scene.proxy.faults.clear()
    assert await scene.subject.apply(FLEET, scene.offer, 7) == Applied(4)
    assert scene.asked() == 7


async def test_a_reply_that_is_lost_is_not_taken_for_anothers_edit(scene: Scene) -> None:
    await scene.observe()
    scene.proxy.fail(Fault("PATCH", "/scale", 0, after=True, times=100))
    result = await scene.subject.apply(FLEET, scene.offer, 3)
    assert isinstance(result, Skipped | Failed), "it was written, or nobody knows"
    scene.proxy.faults.clear()
    assert await scene.actuator().apply(FLEET, scene.offer, 3) == Skipped("already there")
    assert await scene.actuator().apply(FLEET, scene.offer, 4) == Applied(1)
    assert scene.asked() == 4


async def test_a_number_that_was_written_although_the_reply_was_lost_is_our_own(scene: Scene) -> None:
    await scene.ready(2)
    scene.proxy.fail(Fault("PATCH", "/scale", 0, after=True))
    result = await scene.subject.apply(FLEET, scene.offer, 5)
    assert result == Skipped("already there"), "asked again, it was in conflict with itself"
    assert await scene.actuator().apply(FLEET, scene.offer, 6) == Applied(1)
    assert await scene.subject.apply(FLEET, scene.offer, 7) == Applied(1), "and what another process of ours wrote is ours too"


async def test_a_broken_watch_goes_on_where_it_broke_off(scene: Scene) -> None:
    await scene.ready(2)
    await scene.ready(1)
    lists = scene.proxy.count("GET", "limit=500")
    for target in (3, 1, 4):
        scene.proxy.break_watches()
        assert (await scene.ready(target)).ready == target
    assert scene.proxy.count("GET", "limit=500") == lists, "what it knew was still good"


async def test_a_version_that_is_too_old_is_listed_anew(scene: Scene) -> None:
    await scene.ready(2)
    lists = scene.proxy.count("GET", "limit=500")
    scene.proxy.fail(Fault("GET", "watch=1", 410, times=3))
    scene.proxy.break_watches()
    assert (await scene.ready(3)).ready == 3
    assert scene.proxy.count("GET", "limit=500") >= lists + 3


async def test_what_went_while_nobody_watched_is_not_counted(scene: Scene) -> None:
    await scene.ready(3)
    scene.proxy.fail(Fault("GET", "watch=1", 503, times=2), Fault("GET", "watch=1", 410, times=3))
    scene.proxy.break_watches()
    scene.kubelets.lead_seconds = 3600.0
    for pod in scene.kubelets.pods():
        scene.plane.call("DELETE", f"/api/v1/namespaces/{scene.namespace}/pods/{pod['metadata']['name']}?gracePeriodSeconds=0")
    status = await scene.observed(lambda status: status.ready == 0)
    assert (status.ready, status.pending) == (0, 3)


async def test_a_server_that_restarts_is_found_again_and_the_decision_is_made_so(scene: Scene) -> None:
    scene.subject = scene.actuator(blind_seconds=0.5)
    await scene.ready(2)
    scene.plane.stop_api()
    try:
        result = await scene.subject.apply(FLEET, scene.offer, 5)
        assert isinstance(result, Failed)
        assert result.retryable
        with pytest.raises(SupplierError):
            await eventually(scene.observe, lambda _: False)
    finally:
        await asyncio.to_thread(scene.plane.start_api)

    async def again() -> int:
        await scene.subject.apply(FLEET, scene.offer, 5)
        return scene.asked()

    assert await eventually(again, lambda asked: asked == 5) == 5
    assert (await scene.ready(5)).ready == 5


async def test_through_ten_minutes_of_outage_nothing_is_forgotten_and_the_last_decision_wins_after_it(scene: Scene) -> None:
    said: list[Event] = []

    async def hear(event: Event) -> None:
        said.append(event)

    clock = VirtualClock(time.time())
    scene.subject = scene.actuator(blind_seconds=0.5)
    reconciler = Reconciler(FLEET, scene.offer, scene.subject, clock, hear)

    async def decided(target: int) -> None:
        now = from_unix(clock.now())
        expires = now + timedelta(seconds=60)
        reconciler.follow(Decision(time=now, fleet=FLEET, mode=Mode.ACT, expires=expires, targets={scene.offer.name: target}))
        await reconciler.reconcile()

    await scene.ready(2)
    await decided(2)
    scene.cut(True)
    await asyncio.sleep(1.0)
    for tick in range(40):
        await decided(3 + tick % 3)
        await clock.advance(15.0)
    blind = [event for event in said if isinstance(event, PoolStatus) and event.unavailable]
    assert 1 <= len(blind) <= 4, "said at once, and then every five minutes"
    assert {(status.ready, status.pending) for status in blind} == {(2, 0)}, "what was there is not forgotten"
    await clock.advance(60.0)
    scene.cut(False)

    async def seen_again() -> bool:
        said.clear()
        await reconciler.reconcile()
        return any(isinstance(event, PoolStatus) and not event.unavailable for event in said)

    assert await eventually(seen_again, bool)
    assert scene.asked() == 2, "the last decision has expired: neither more nor less on its account"
    await decided(5)
    assert scene.asked() == 5


async def test_what_is_not_allowed_is_said_by_verb_and_resource(scene: Scene) -> None:
    cluster = Cluster(kubeconfig=scene.plane.kubeconfig("stranger"), patience_seconds=0.5)
    stranger = KubernetesActuator(cluster, scene.store)
    try:
        with pytest.raises(SupplierError, match=r"not allowed to list deployments\.apps") as error:
            await stranger.observe(FLEET, scene.offer)
        assert not error.value.retryable
        result = await stranger.apply(FLEET, scene.offer, 3)
        assert isinstance(result, Failed)
        assert 'User "stranger" cannot list resource "deployments"' in result.error
    finally:
        await cluster.close()
    assert scene.asked() == 0


async def test_what_is_not_allowed_is_published_where_a_person_looks(scene: Scene) -> None:
    cluster = Cluster(kubeconfig=scene.plane.kubeconfig("stranger"), patience_seconds=0.5)
    said: list[Event] = []

    async def hear(event: Event) -> None:
        said.append(event)

    clock = SystemClock()
    reconciler = Reconciler(FLEET, scene.offer, KubernetesActuator(cluster, scene.store), clock, hear)
    now = from_unix(clock.now())
    targets = {scene.offer.name: 3}
    reconciler.follow(Decision(time=now, fleet=FLEET, mode=Mode.ACT, expires=now + timedelta(seconds=60), targets=targets))
    try:
        await reconciler.reconcile()
        await reconciler.reconcile()
    finally:
        await cluster.close()
    assert [type(event) for event in said] == [Actuation], "once, and not that the pool is empty"
    assert isinstance(said[0], Actuation)
    assert (said[0].outcome, said[0].retryable) == (Outcome.FAILED, False)
    assert "not allowed to list deployments.apps" in said[0].error


async def test_a_right_to_look_alone_is_said_when_it_comes_to_writing(scene: Scene) -> None:
    rules = [
        {"apiGroups": ["apps"], "resources": ["deployments", "deployments/scale"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
    ]
    bind(scene, "tidegate", rules)
    cluster = Cluster(kubeconfig=scene.plane.kubeconfig("tidegate"), patience_seconds=0.5)
    actuator = KubernetesActuator(cluster, scene.store)
    try:
        status = await actuator.observe(FLEET, scene.offer)
        assert (status.ready, status.unavailable) == (0, False)
        result = await actuator.apply(FLEET, scene.offer, 3)
        assert isinstance(result, Failed)
        assert not result.retryable
        assert f"not allowed to patch deployments.apps/scale {scene.namespace}/r1" in result.error
    finally:
        await cluster.close()


def bind(scene: Scene, user: str, rules: list[dict[str, list[str]]]) -> None:
    """Let a user do what the rules say, in the scene's namespace only."""
    access = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{scene.namespace}"
    scene.plane.call("POST", f"{access}/roles", {"metadata": {"name": user}, "rules": rules})
    subject = {"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}
    role = {"kind": "Role", "name": user, "apiGroup": "rbac.authorization.k8s.io"}
    scene.plane.call("POST", f"{access}/rolebindings", {"metadata": {"name": user}, "subjects": [subject], "roleRef": role})
