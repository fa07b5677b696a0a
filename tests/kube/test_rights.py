"""What tidegate is not allowed to do is said by verb and resource: in the log, in the status, among the actuations."""

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


async def test_a_denied_write_is_in_the_log_the_status_and_what_a_person_reads_over_http(scene: Scene) -> None:
    bind(scene, "tidegate", LOOKING)
    cluster = Cluster(kubeconfig=scene.plane.kubeconfig("tidegate"), patience_seconds=0.5)
    board, said = Board({FLEET: Fleet(FLEET, Slo(attainment=0.99), Unit.REQUESTS, (scene.offer,))}), list[Event]()

    async def hear(event: Event) -> None:
        said.append(event)
        board.hear(event)

    clock = SystemClock()
    reconciler = Reconciler(FLEET, scene.offer, KubernetesActuator(cluster, scene.store), clock, hear)
    now = from_unix(clock.now())
    targets = {scene.offer.name: 3}
    reconciler.follow(Decision(time=now, fleet=FLEET, mode=Mode.ACT, expires=now + timedelta(seconds=60), targets=targets))
    try:
        with capture_logs() as logs:
            await reconciler.reconcile()
    finally:
        await cluster.close()
    denied = f"not allowed to patch deployments.apps/scale {scene.namespace}/r1"
    assert any(denied in str(line) for line in logs)
    status = [event for event in said if isinstance(event, PoolStatus)][-1]
    assert denied in status.message
    assert status.unavailable, "nobody should count on more from here"
    assert [event.cause for event in said if isinstance(event, Tick)] == ["refusal"], "so that something else is bought at once"
    shown = board.detail(FLEET, clock.now())
    assert denied in shown["offers"][0]["message"]
    assert denied in shown["actuations"][0]["error"]


async def test_a_right_that_is_given_later_is_found(scene: Scene) -> None:
    bind(scene, "tidegate", LOOKING)
    cluster = Cluster(kubeconfig=scene.plane.kubeconfig("tidegate"), patience_seconds=0.5)
    now = [1_700_000_000.0]
    actuator = KubernetesActuator(cluster, scene.store, lambda: now[0])

    async def applied() -> object:
        return await actuator.apply(FLEET, scene.offer, 3)

    try:
        assert isinstance(await applied(), Failed)
        assert (await actuator.observe(FLEET, scene.offer)).unavailable
        now[0] += kubernetes.DENIED_SECONDS
        status = await actuator.observe(FLEET, scene.offer)
        assert not status.unavailable, "so that somebody asks again"
        bind(scene, "tidegate", [{"apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": ["patch"]}], "writing")
        assert await eventually(applied, lambda result: isinstance(result, Applied)) == Applied(3)
        assert not (await actuator.observe(FLEET, scene.offer)).unavailable
    finally:
        await cluster.close()


def bind(scene: Scene, user: str, rules: list[dict[str, list[str]]], name: str = "looking") -> None:
    """Let a user do what the rules say, in the scene's namespace only."""
    access = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{scene.namespace}"
    scene.plane.call("POST", f"{access}/roles", {"metadata": {"name": name}, "rules": rules})
    subject = {"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}
    role = {"kind": "Role", "name": name, "apiGroup": "rbac.authorization.k8s.io"}
    scene.plane.call("POST", f"{access}/rolebindings", {"metadata": {"name": name}, "subjects": [subject], "roleRef": role})
