"""What tidegate is not allowed to do is said by verb and resource: in the log, in the status, among the actuations."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from actuators.api import Applied, Failed
from actuators.kubernetes import actuator as kubernetes
from actuators.kubernetes.actuator import KubernetesActuator
from actuators.kubernetes.cluster import Cluster
from controlplane.clocks import SystemClock
from controlplane.contracts.errors import SupplierError
from controlplane.contracts.events import Actuation, Decision, Event, Outcome, PoolStatus, Tick
from controlplane.contracts.fleet import Fleet, Mode, Slo, Unit
from controlplane.contracts.units import from_unix
from controlplane.services.reconciler import Reconciler
from controlplane.web.board import Board
from tests.kube.conftest import FLEET, Scene, eventually
from tests.kube.proxy import Fault

pytestmark = pytest.mark.needs("kube-apiserver")


async def test_what_is_not_allowed_is_said_by_verb_and_resource(scene: Scene) -> None:
    async with seen_by("stranger", scene) as cluster:
        stranger = KubernetesActuator(cluster, scene.store)
        with pytest.raises(SupplierError, match=r"not allowed to list deployments\.apps") as error:
            await stranger.observe(FLEET, scene.offer)
        assert not error.value.retryable
        result = await stranger.apply(FLEET, scene.offer, 3)
        assert isinstance(result, Failed)
        assert 'User "stranger" cannot list resource "deployments"' in result.error
    assert scene.asked() == 0


async def test_what_is_not_allowed_is_published_where_a_person_looks(scene: Scene) -> None:
    said: list[Event] = []
    async with seen_by("stranger", scene) as cluster:
        reconciler = asked_for_three(scene, cluster, said.append)
        await reconciler.reconcile()
        await reconciler.reconcile()
    assert [type(event) for event in said] == [Actuation], "once, and not that the pool is empty"
    assert isinstance(said[0], Actuation)
    assert (said[0].outcome, said[0].retryable) == (Outcome.FAILED, False)
    assert "not allowed to list deployments.apps" in said[0].error


async def test_a_number_that_the_server_will_not_have_is_no_supply(scene: Scene) -> None:
    await scene.observe()
    scene.proxy.fail(Fault("PATCH", "/scale", 422, times=2))
    for _ in range(2):
        result = await scene.subject.apply(FLEET, scene.offer, 3)
        assert isinstance(result, Failed)
        assert (result.retryable, result.unavailable) == (False, True)
        status = await scene.observe()
        assert status.unavailable, "nobody should count on more from here"
        assert f"patch deployments.apps/scale {scene.namespace}/r1: spoilt by the test" in status.message
    assert await scene.subject.apply(FLEET, scene.offer, 3) == Applied(3)
    assert not (await scene.observe()).unavailable


LOOKING = [
    {"apiGroups": ["apps"], "resources": ["deployments", "deployments/scale"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
]


async def test_a_right_to_look_alone_is_said_when_it_comes_to_writing(scene: Scene) -> None:
    bind(scene, "tidegate", LOOKING)
    async with seen_by("tidegate", scene) as cluster:
        actuator = KubernetesActuator(cluster, scene.store)
        status = await actuator.observe(FLEET, scene.offer)
        assert (status.ready, status.unavailable) == (0, False)
        result = await actuator.apply(FLEET, scene.offer, 3)
        assert isinstance(result, Failed)
        assert not result.retryable
        assert f"not allowed to patch deployments.apps/scale {scene.namespace}/r1" in result.error


async def test_a_denied_write_is_in_the_log_the_status_and_what_a_person_reads_over_http(scene: Scene) -> None:
    bind(scene, "tidegate", LOOKING)
    board, said = Board({FLEET: Fleet(FLEET, Slo(attainment=0.99), Unit.REQUESTS, (scene.offer,))}), list[Event]()

    def hear(event: Event) -> None:
        said.append(event)
        board.hear(event)

    async with seen_by("tidegate", scene) as cluster:
        with capture_logs() as logs:
            await asked_for_three(scene, cluster, hear).reconcile()
    denied = f"not allowed to patch deployments.apps/scale {scene.namespace}/r1"
    assert any(denied in str(line) for line in logs)
    status = [event for event in said if isinstance(event, PoolStatus)][-1]
    assert denied in status.message
    assert status.unavailable, "nobody should count on more from here"
    assert [event.cause for event in said if isinstance(event, Tick)] == ["refusal"], "so that something else is bought at once"
    shown = board.detail(FLEET, SystemClock().now())
    assert denied in shown["offers"][0]["message"]
    assert denied in shown["actuations"][0]["error"]


async def test_a_right_that_is_given_later_is_found(scene: Scene) -> None:
    bind(scene, "tidegate", LOOKING)
    now = [1_700_000_000.0]
    async with seen_by("tidegate", scene) as cluster:
        actuator = KubernetesActuator(cluster, scene.store, lambda: now[0])

        async def applied() -> object:
            return await actuator.apply(FLEET, scene.offer, 3)

        assert isinstance(await applied(), Failed)
        assert (await actuator.observe(FLEET, scene.offer)).unavailable
        now[0] -= 3600.0
        assert not (await actuator.observe(FLEET, scene.offer)).unavailable, "a clock that went back makes two minutes no hour"
        now[0] += 3600.0 + kubernetes.DENIED_SECONDS
        status = await actuator.observe(FLEET, scene.offer)
        assert not status.unavailable, "so that somebody asks again"
        bind(scene, "tidegate", [{"apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": ["patch"]}], "writing")
        assert await eventually(applied, lambda result: isinstance(result, Applied)) == Applied(3)
        assert not (await actuator.observe(FLEET, scene.offer)).unavailable


@asynccontextmanager
async def seen_by(user: str, scene: Scene) -> AsyncIterator[Cluster]:
    """The cluster as far as a user may see it."""
    cluster = Cluster(kubeconfig=scene.plane.kubeconfig(user), patience_seconds=0.5)
    try:
        yield cluster
    finally:
        await cluster.close()


def asked_for_three(scene: Scene, cluster: Cluster, hear: Callable[[Event], None]) -> Reconciler:
    """A reconciler that follows a decision for three replicas; `hear` is told what it says."""

    async def say(event: Event) -> None:
        hear(event)

    clock = SystemClock()
    now = from_unix(clock.now())
    reconciler = Reconciler(FLEET, scene.offer, KubernetesActuator(cluster, scene.store), clock, say)
    decided = Decision(time=now, fleet=FLEET, mode=Mode.ACT, expires=now + timedelta(seconds=60), targets={scene.offer.name: 3})
    reconciler.follow(decided)
    return reconciler


def bind(scene: Scene, user: str, rules: list[dict[str, list[str]]], name: str = "looking") -> None:
    """Let a user do what the rules say, in the scene's namespace only."""
    access = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{scene.namespace}"
    scene.plane.call("POST", f"{access}/roles", {"metadata": {"name": name}, "rules": rules})
    subject = {"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}
    role = {"kind": "Role", "name": name, "apiGroup": "rbac.authorization.k8s.io"}
    scene.plane.call("POST", f"{access}/rolebindings", {"metadata": {"name": name}, "subjects": [subject], "roleRef": role})
