"""Anything with a scale subresource is found by discovery and scaled: a StatefulSet, a custom resource with paths of its own."""

import contextlib
import urllib.error
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from actuators.api import Applied, Failed, Skipped
from actuators.kubernetes.pods import DRAINING_SINCE
from controlplane.contracts.fleet import Offer
from tests.kube.conftest import FLEET, Scene, eventually
from tests.kube.control_plane import ControlPlane
from tests.kube.objects import leader_worker_set_kind, server_kind, stateful_set

pytestmark = pytest.mark.needs("kube-apiserver")
GROUP = "kinds.example.dev"


def of_kind(scene: Scene, kind: str, name: str, api_version: str = "apps/v1") -> Offer:
    options = {**scene.offer.actuator_options, "kind": kind, "name": name, "api_version": api_version, "nodes": "elastic"}
    return replace(scene.offer, actuator_options=options)


@pytest.fixture(scope="module")
def servers(control_plane: ControlPlane) -> Callable[[str], str]:
    """Define the kind `Server`; return what makes the path of a namespace's servers."""
    with contextlib.suppress(urllib.error.HTTPError):
        control_plane.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", server_kind(GROUP))
    return lambda namespace: f"/apis/{GROUP}/v1/namespaces/{namespace}/servers"


async def created(scene: Scene, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Create an object of a kind that the server may have learnt of only just now."""

    async def ask() -> dict[str, Any]:
        try:
            return scene.plane.call("POST", path, body)
        except urllib.error.HTTPError:
            return {}

    found = await eventually(ask, bool)
    assert found
    return found


async def test_a_stateful_set_is_scaled_and_observed(scene: Scene) -> None:
    offer = of_kind(scene, "StatefulSet", "st")
    scene.plane.call("POST", f"/apis/apps/v1/namespaces/{scene.namespace}/statefulsets", stateful_set(scene.namespace, "st"))
    assert await scene.subject.apply(FLEET, offer, 3) == Applied(3)
    scene.kubelets.lead_seconds = 0.0

    async def observed() -> tuple[int, int]:
        scene.kubelets.step()
        status = await scene.subject.observe(FLEET, offer)
        return status.ready, status.pending

    assert await eventually(observed, lambda seen: seen == (3, 0)) == (3, 0)
    assert await scene.subject.apply(FLEET, offer, 1) == Applied(-2)
    assert await eventually(observed, lambda seen: seen == (1, 0)) == (1, 0)
    scene.plane.call("DELETE", f"/apis/apps/v1/namespaces/{scene.namespace}/statefulsets/st")


async def test_of_a_stateful_set_the_highest_ordinal_is_waited_for(scene: Scene) -> None:
    offer = of_kind(scene, "StatefulSet", "st")
    offer = replace(offer, actuator_options={**offer.actuator_options, "drain_grace_seconds": 60.0})
    path = f"/apis/apps/v1/namespaces/{scene.namespace}/statefulsets"
    scene.plane.call("POST", path, stateful_set(scene.namespace, "st"))
    await scene.subject.apply(FLEET, offer, 3)
    scene.kubelets.lead_seconds = 0.0

    async def ready() -> int:
        scene.kubelets.step()
        return (await scene.subject.observe(FLEET, offer)).ready

    assert await eventually(ready, lambda count: count == 3) == 3
    scene.annotate("st-2", in_flight_requests="5")

    async def seen() -> float:
        return sum(pod.in_flight for pod in (await scene.cluster.pods(scene.namespace)).find(scene.namespace))

    assert await eventually(seen, bool) == 5.0

    async def shrunk() -> object:
        return await scene.subject.apply(FLEET, offer, 2)

    result = await shrunk()
    assert isinstance(result, Skipped), "two idle ones are there, but it is not they who would go"
    marked = [pod["metadata"]["name"] for pod in scene.kubelets.pods() if DRAINING_SINCE in pod["metadata"].get("annotations", {})]
    assert marked == ["st-2"]
    scene.annotate("st-2", in_flight_requests="0")
    assert await eventually(shrunk, lambda result: isinstance(result, Applied)) == Applied(-1)
    scene.plane.call("DELETE", f"{path}/st")


async def test_of_a_stateful_set_the_budget_is_asked_for_the_replicas_that_would_go_not_for_the_idle_ones(scene: Scene) -> None:
    offer = of_kind(scene, "StatefulSet", "st")
    path = f"/apis/apps/v1/namespaces/{scene.namespace}/statefulsets"
    scene.plane.call("POST", path, stateful_set(scene.namespace, "st"))
    await scene.subject.apply(FLEET, offer, 4)
    scene.kubelets.lead_seconds = 0.0

    async def ready() -> int:
        scene.kubelets.step()
        return (await scene.subject.observe(FLEET, offer)).ready

    assert await eventually(ready, lambda count: count == 4) == 4
    unready = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}
    pod = f"/api/v1/namespaces/{scene.namespace}/pods/st-0/status"
    scene.plane.call("PATCH", pod, unready, "application/strategic-merge-patch+json")
    budgets = f"/apis/policy/v1beta1/namespaces/{scene.namespace}/poddisruptionbudgets"
    selector = {"matchLabels": {"app": "st"}}
    scene.plane.call("POST", budgets, {"metadata": {"name": "keep-three"}, "spec": {"minAvailable": 3, "selector": selector}})

    async def shrunk() -> object:
        return await scene.subject.apply(FLEET, offer, 3)

    async def known() -> tuple[int, int | None]:
        mirror = await scene.cluster.budgets(scene.namespace)
        found = list(mirror.find(scene.namespace)) if mirror is not None else []
        ready = (await scene.subject.observe(FLEET, offer)).ready
        return ready, found[0].healthy if found else None

    assert await eventually(known, lambda seen: seen == (3, 3)) == (3, 3)
    assert await shrunk() == Skipped("1 kept for now: PodDisruptionBudget keep-three lets 0 go"), "it is st-3 that would go, and it serves"
    scene.kubelets.step()
    assert await eventually(shrunk, lambda result: isinstance(result, Applied)) == Applied(-1)
    scene.plane.call("DELETE", f"{path}/st")


async def test_what_another_object_controls_is_left_to_it(scene: Scene) -> None:
    await scene.ready(1)
    sets = scene.plane.call("GET", f"/apis/apps/v1/namespaces/{scene.namespace}/replicasets")["items"]
    result = await scene.subject.apply(FLEET, of_kind(scene, "ReplicaSet", sets[0]["metadata"]["name"]), 4)
    assert isinstance(result, Failed)
    assert "is controlled by Deployment r1: scale that instead" in result.error
    assert result.unavailable
    assert await scene.subject.apply(FLEET, of_kind(scene, "ReplicaSet", sets[0]["metadata"]["name"]), 1) == Skipped("already there")
    status = await scene.subject.observe(FLEET, of_kind(scene, "ReplicaSet", sets[0]["metadata"]["name"]))
    assert (status.ready, status.unavailable) == (1, True), "nobody should count on more from here"
    assert "scale that instead" in status.message


async def test_a_custom_resource_is_scaled_wherever_it_keeps_its_number(scene: Scene, servers: Callable[[str], str]) -> None:
    path = servers(scene.namespace)
    await created(scene, path, {"apiVersion": f"{GROUP}/v1", "kind": "Server", "metadata": {"name": "s"}, "spec": {"size": 1}})
    offer = of_kind(scene, "Server", "s", f"{GROUP}/v1")
    status = {"status": {"size": 1, "selector": "app=s", "readyReplicas": 1}}
    scene.plane.call("PATCH", f"{path}/s/status", status, "application/merge-patch+json")
    assert await scene.subject.apply(FLEET, offer, 4) == Applied(3)
    assert scene.plane.call("GET", f"{path}/s")["spec"] == {"size": 4}
    for number in range(2):
        container = {"name": "c", "image": "c"}
        pod = {"metadata": {"name": f"s-{number}", "labels": {"app": "s"}}, "spec": {"containers": [container]}}
        scene.plane.call("POST", f"/api/v1/namespaces/{scene.namespace}/pods", pod)
    scene.kubelets.lead_seconds = 0.0

    async def observed() -> tuple[int, int]:
        scene.kubelets.step()
        status = await scene.subject.observe(FLEET, offer)
        return status.ready, status.pending

    assert await eventually(observed, lambda seen: seen == (2, 2)) == (2, 2)
    scene.plane.call("PATCH", f"{path}/s?fieldManager=somebody", {"spec": {"size": 2}}, "application/merge-patch+json")

    async def applied() -> object:
        return await scene.subject.apply(FLEET, offer, 5)

    assert isinstance(await eventually(applied, lambda result: isinstance(result, Skipped)), Skipped)


async def test_of_a_leader_worker_set_the_leaders_are_counted(scene: Scene) -> None:
    group = "leaderworkerset.x-k8s.io"
    with contextlib.suppress(urllib.error.HTTPError):
        scene.plane.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", leader_worker_set_kind())
    path = f"/apis/{group}/v1/namespaces/{scene.namespace}/leaderworkersets"
    limits = {"name": "c", "image": "c", "resources": {"limits": {"nvidia.com/gpu": "8"}}}
    spec = {"replicas": 2, "leaderWorkerTemplate": {"size": 2, "workerTemplate": {"spec": {"containers": [limits]}}}}
    await created(scene, path, {"apiVersion": f"{group}/v1", "kind": "LeaderWorkerSet", "metadata": {"name": "big"}, "spec": spec})
    selector = f"{group}/name=big,{group}/worker-index=0"
    scene.plane.call("PATCH", f"{path}/big/status", {"status": {"hpaPodSelector": selector}}, "application/merge-patch+json")
    for replica in range(2):
        for worker in range(2):
            labels = {f"{group}/name": "big", f"{group}/worker-index": str(worker)}
            pod = {"metadata": {"name": f"big-{replica}-{worker}", "labels": labels}, "spec": {"containers": [{"name": "c", "image": "c"}]}}
            scene.plane.call("POST", f"/api/v1/namespaces/{scene.namespace}/pods", pod)
    scene.kubelets.lead_seconds = 0.0
    offer = of_kind(scene, "LeaderWorkerSet", "big", f"{group}/v1")

    async def observed() -> tuple[int, int]:
        scene.kubelets.step()
        status = await scene.subject.observe(FLEET, offer)
        return status.ready, status.pending

    assert await eventually(observed, lambda seen: seen == (2, 0)) == (2, 0)
    assert await scene.subject.apply(FLEET, offer, 3) == Applied(1)
    assert scene.plane.call("GET", f"{path}/big")["spec"]["replicas"] == 3


async def test_a_kind_that_tells_no_pods_is_counted_by_its_own_status(scene: Scene, servers: Callable[[str], str]) -> None:
    path = servers(scene.namespace)
    await created(scene, path, {"apiVersion": f"{GROUP}/v1", "kind": "Server", "metadata": {"name": "quiet"}, "spec": {"size": 3}})
    scene.plane.call("PATCH", f"{path}/quiet/status", {"status": {"readyReplicas": 2}}, "application/merge-patch+json")
    offer = of_kind(scene, "Server", "quiet", f"{GROUP}/v1")

    async def observed() -> tuple[int, int]:
        status = await scene.subject.observe(FLEET, offer)
        return status.ready, status.pending

    assert await eventually(observed, lambda seen: seen == (2, 1)) == (2, 1)


@pytest.mark.parametrize(
    ("kind", "api_version", "said"),
    [
        ("Frigate", "apps/v1", "apps/v1 has no kind Frigate in this cluster"),
        ("Server", "absent.example.dev/v1", "discover absent.example.dev/v1"),
        ("DaemonSet", "apps/v1", "apps/v1 DaemonSet has no scale subresource"),
        ("Deployment", "apps/v1", "there is no Deployment"),
    ],
)
async def test_what_is_not_there_is_named(scene: Scene, kind: str, api_version: str, said: str) -> None:
    result = await scene.subject.apply(FLEET, of_kind(scene, kind, "ghost", api_version), 3)
    assert isinstance(result, Failed)
    assert not result.retryable
    assert said in result.error


async def test_however_many_fleets_there_is_one_watch_per_kind(scene: Scene) -> None:
    names = [f"many-{number}" for number in range(12)]
    for name in names:
        body = {**scene.plane.call("GET", f"{scene.deployments}/r1"), "metadata": {"name": name, "namespace": scene.namespace}}
        body["spec"]["selector"] = {"matchLabels": {"app": name}}
        body["spec"]["template"]["metadata"]["labels"] = {"app": name}
        scene.plane.call("POST", scene.deployments, {**body, "status": {}})
    for name in names:
        offer = replace(scene.offer, actuator_options={**scene.offer.actuator_options, "name": name})
        assert await scene.subject.apply(name, offer, 1) == Applied(1)
        assert await scene.subject.apply(name, offer, 0) == Applied(-1)
    watches = [path for (method, path), _ in scene.proxy.requests.items() if method == "GET" and "watch=1" in path]
    kinds = {path.partition("?")[0] for path in watches}
    assert kinds == {"/apis/apps/v1/deployments", "/api/v1/pods", "/api/v1/nodes", "/apis/policy/v1beta1/poddisruptionbudgets"}
    assert len(watches) == len(kinds)
