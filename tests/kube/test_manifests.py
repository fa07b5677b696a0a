"""What `deploy/` holds: every rendered manifest is accepted by a real API server, and the rights in it are enough and no more."""

import contextlib
import os
import shutil
import subprocess
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from actuators.api import Applied
from actuators.kubernetes.actuator import KubernetesActuator
from actuators.kubernetes.cluster import Cluster
from controlplane.config import load_policies
from tests.fakes import MemoryIntentStore
from tests.kube.conftest import FLEET, Scene, eventually
from tests.kube.control_plane import ControlPlane

ROOT = Path(__file__).parents[2] / "deploy"
OVERLAYS = sorted(path.name for path in (ROOT / "kubernetes" / "overlays").iterdir())
MONITORING = ROOT / "kubernetes" / "components" / "monitoring"
COMPONENTS = ("components/monitoring", "components/pod-marks")
MARKS = "components/pod-marks/rbac-pods.yaml"
# The server that tests have is older than policy/v1; what is in a budget has not changed.
OLDER = {"policy/v1": "policy/v1beta1"}


def rendered(overlay: str) -> list[dict[str, Any]]:
    kubectl = shutil.which("kubectl")
    assert kubectl is not None
    text = subprocess.run(
        [kubectl, "kustomize", str(ROOT / "kubernetes" / "overlays" / overlay)], check=True, capture_output=True, text=True
    )
    return list(yaml.safe_load_all(text.stdout))


def post(plane: ControlPlane, body: dict[str, Any], query: str = "") -> dict[str, Any]:
    version = body["apiVersion"]
    group = f"/apis/{version}" if "/" in version else f"/api/{version}"
    kind = next(each for each in plane.call("GET", group)["resources"] if each["kind"] == body["kind"] and "/" not in each["name"])
    where = f"/namespaces/{body['metadata']['namespace']}" if kind["namespaced"] else ""
    return plane.call("POST", f"{group}{where}/{kind['name']}{query}", body)


@pytest.fixture(scope="module")
def namespaces(control_plane: ControlPlane) -> Iterator[None]:
    for name in ("tidegate", "serving"):
        control_plane.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    yield
    for name in ("tidegate", "serving"):
        control_plane.call("DELETE", f"/api/v1/namespaces/{name}")


@pytest.mark.needs("kube-apiserver")
@pytest.mark.needs("kubectl")
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_rendered_manifest_is_accepted_by_the_server(control_plane: ControlPlane, namespaces: None, overlay: str) -> None:
    is_old = "policy/v1" not in {version["groupVersion"] for version in control_plane.call("GET", "/apis/policy")["versions"]}
    for body in rendered(overlay):
        if body["kind"] == "Namespace":
            continue
        body = {**body, "apiVersion": OLDER.get(body["apiVersion"], body["apiVersion"]) if is_old else body["apiVersion"]}
        assert post(control_plane, body, "?dryRun=All")["metadata"]["name"] == body["metadata"]["name"]


@pytest.mark.needs("kube-apiserver")
@pytest.mark.needs("kubectl")
def test_the_components_are_accepted_on_an_overlay(control_plane: ControlPlane, namespaces: None, tmp_path: Path) -> None:
    with contextlib.suppress(urllib.error.HTTPError):
        control_plane.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", service_monitor_kind())
    where = {name: os.path.relpath(ROOT / "kubernetes" / name, tmp_path) for name in ("overlays/all-in-one", *COMPONENTS)}
    overlay = {"resources": [where.pop("overlays/all-in-one")], "components": list(where.values())}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    bodies = [body for body in rendered(str(tmp_path)) if body["kind"] in ("Service", "ServiceMonitor", "ClusterRole", "RoleBinding")]
    assert {"tidegate-mark-pods", "tidegate", "tidegate-metrics"} <= {body["metadata"]["name"] for body in bodies}
    deadline = time.monotonic() + 10.0
    for body in bodies:
        while True:
            try:
                kept = post(control_plane, body, "?dryRun=All")
                assert body["kind"] == "Service" or kept.get("spec") == body.get("spec"), "no field was dropped as unknown"
                break
            except urllib.error.HTTPError:
                # The server may have learnt of the kind only just now.
                assert time.monotonic() < deadline, body
                time.sleep(0.1)


def service_monitor_kind() -> dict[str, Any]:
    """Return the ServiceMonitor's definition, with the fields of its reference that the manifests use; any other is dropped."""
    text, labels = {"type": "string"}, {"type": "object", "additionalProperties": {"type": "string"}}
    secret = {"type": "object", "required": ["key"], "properties": {"name": text, "key": text}}
    sign_in = {"type": "object", "properties": {"type": text, "credentials": secret}}
    endpoint = {"type": "object", "properties": {"port": text, "path": text, "interval": text, "authorization": sign_in}}
    spec = {
        "type": "object",
        "required": ["selector", "endpoints"],
        "properties": {
            "endpoints": {"type": "array", "items": endpoint},
            "selector": {"type": "object", "properties": {"matchLabels": labels}},
        },
    }
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}
    names = {"plural": "servicemonitors", "singular": "servicemonitor", "kind": "ServiceMonitor"}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "servicemonitors.monitoring.coreos.com"},
        "spec": {"group": "monitoring.coreos.com", "scope": "Namespaced", "names": names, "versions": [version]},
    }


@pytest.mark.needs("kubectl")
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_refers_to_something_finds_it(overlay: str) -> None:
    bodies = rendered(overlay)
    by_kind = {(body["kind"], body["metadata"]["name"]): body for body in bodies}
    pods = [body["spec"]["template"] for body in bodies if body["kind"] in ("Deployment", "StatefulSet")]
    service = by_kind["Service", "tidegate"]["spec"]
    assert any(service["selector"].items() <= pod["metadata"]["labels"].items() for pod in pods)
    for pod in pods:
        spec = pod["spec"]
        if pod["metadata"]["labels"]["app.kubernetes.io/name"] == "tidegate":
            assert ("ServiceAccount", spec["serviceAccountName"]) in by_kind
        for volume in spec.get("volumes", ()):
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in by_kind
        for container in spec["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert container["resources"]["limits"]["memory"]


@pytest.mark.needs("kubectl")
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_process_is_scraped_once(overlay: str) -> None:
    bodies = [
        *rendered(overlay),
        *(body for path in sorted(MONITORING.glob("service*.yaml")) for body in yaml.safe_load_all(path.read_text())),
    ]
    (monitor,) = (body["spec"] for body in bodies if body["kind"] == "ServiceMonitor")
    labels, ports = monitor["selector"]["matchLabels"], {endpoint["port"] for endpoint in monitor["endpoints"]}
    services = [
        body["spec"] for body in bodies if body["kind"] == "Service" and labels.items() <= body["metadata"].get("labels", {}).items()
    ]
    pods = [body["spec"]["template"] for body in bodies if body["kind"] in ("Deployment", "StatefulSet")]
    for pod in (pod for pod in pods if pod["metadata"]["labels"]["app.kubernetes.io/name"] == "tidegate"):
        (found,) = (service for service in services if service["selector"].items() <= pod["metadata"]["labels"].items())
        assert ports <= {port["name"] for port in found["ports"]}
        targets = {port["name"] for container in pod["spec"]["containers"] for port in container["ports"]}
        assert {port["targetPort"] for port in found["ports"]} <= targets


def test_the_policy_in_the_manifests_is_valid_and_scales_where_the_rights_are() -> None:
    reading = load_policies([ROOT / "kubernetes" / "base" / "policy.yaml"])
    assert reading.problems == ()
    bound = [body["metadata"]["namespace"] for body in documents("base/rbac-scale.yaml") if body["kind"] == "RoleBinding"]
    assert {offer.actuator_options["namespace"] for read in reading.policies for offer in read.fleet.offers} == set(bound)


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((ROOT / "kubernetes" / name).read_text()))


def test_only_the_component_that_says_so_can_change_a_pod() -> None:
    base = [
        body for name in ("base/rbac-observe.yaml", "base/rbac-scale.yaml") for body in documents(name) if body["kind"] == "ClusterRole"
    ]
    for rule in (rule for role in base for rule in role["rules"]):
        assert "pods" not in rule["resources"] or set(rule["verbs"]) <= {"get", "list", "watch"}
    (marks,) = (body for body in documents(MARKS) if body["kind"] == "ClusterRole")
    assert marks["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["patch"]}]


@pytest.fixture
def bound(scene: Scene) -> Iterator[Scene]:
    """The manifests' roles, bound to the user `tidegate`: to look everywhere, to scale in the scene's namespace."""
    plane, access = scene.plane, "/apis/rbac.authorization.k8s.io/v1"
    subjects = [{"kind": "User", "name": "tidegate", "apiGroup": "rbac.authorization.k8s.io"}]
    for name in ("base/rbac-observe.yaml", "base/rbac-scale.yaml", MARKS):
        for body in documents(name):
            if body["kind"] == "ClusterRole":
                post(plane, body)
            if body["kind"] == "ClusterRoleBinding":
                post(plane, {**body, "subjects": subjects})
            if body["kind"] == "RoleBinding":
                post(plane, {**body, "metadata": {"name": body["metadata"]["name"], "namespace": scene.namespace}, "subjects": subjects})
    yield scene
    for path in (
        "clusterroles/tidegate-observe",
        "clusterroles/tidegate-scale",
        "clusterroles/tidegate-mark-pods",
        "clusterrolebindings/tidegate-observe",
    ):
        plane.call("DELETE", f"{access}/{path}")


@pytest.mark.needs("kube-apiserver")
async def test_the_rights_in_the_manifests_are_enough_for_everything_that_it_does(bound: Scene) -> None:
    await eventually_allowed(bound, "patch", "apps", "deployments/scale", bound.namespace)
    cluster = Cluster(kubeconfig=bound.plane.kubeconfig("tidegate"), patience_seconds=0.5)
    actuator = KubernetesActuator(cluster, MemoryIntentStore())
    bound.kubelets.lead_seconds = 0.0
    try:
        assert await actuator.apply(FLEET, bound.offer, 3) == Applied(3)
        bound.kubelets.settle("r1")

        async def observed() -> int:
            return (await actuator.observe(FLEET, bound.offer)).ready

        assert await eventually(observed, lambda ready: ready == 3) == 3
        assert await actuator.apply(FLEET, bound.offer, 1) == Applied(-2)
        assert len(bound.events()) == 2
        assert cluster.server.calls["patch", "pods"] == 2
        assert cluster.server.calls["watch", "nodes"] >= 1
        assert cluster.server.calls["watch", "poddisruptionbudgets.policy"] >= 1
    finally:
        await cluster.close()


async def eventually_allowed(scene: Scene, verb: str, group: str, resource: str, namespace: str) -> bool:
    async def ask() -> bool:
        return is_allowed(scene.plane, verb, group, resource, namespace)

    return await eventually(ask, bool)


def is_allowed(plane: ControlPlane, verb: str, group: str, resource: str, namespace: str) -> bool:
    kind, _, sub = resource.partition("/")
    attributes = {"verb": verb, "group": group, "resource": kind, "subresource": sub, "namespace": namespace}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": "tidegate", "resourceAttributes": attributes},
    }
    return bool(plane.call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)["status"]["allowed"])


@pytest.mark.needs("kube-apiserver")
async def test_the_rights_in_the_manifests_are_no_more_than_that(bound: Scene) -> None:
    assert await eventually_allowed(bound, "patch", "apps", "deployments/scale", bound.namespace)
    for verb, group, resource, namespace in [
        ("patch", "apps", "deployments", bound.namespace),
        ("patch", "apps", "deployments/scale", "default"),
        ("delete", "", "pods", bound.namespace),
        ("create", "", "pods", bound.namespace),
        ("get", "", "secrets", bound.namespace),
        ("list", "", "configmaps", bound.namespace),
        ("patch", "", "nodes", ""),
        ("create", "", "pods/exec", bound.namespace),
    ]:
        assert not is_allowed(bound.plane, verb, group, resource, namespace), f"{verb} {resource}"


@pytest.mark.needs("docker-compose")
def test_the_compose_file_is_valid_and_asks_for_its_token(tmp_path: Path) -> None:
    command = ["docker-compose", "-f", str(ROOT / "compose" / "compose.yaml"), "config"]
    plain = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    refused = subprocess.run(command, env=plain, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "TIDEGATE_WEB_TOKEN" in refused.stderr
    token = {"TIDEGATE_WEB_TOKEN": "0123456789abcdef"}
    shown = subprocess.run(command, env={**plain, **token}, capture_output=True, text=True, check=True).stdout
    service = yaml.safe_load(shown)["services"]["tidegate"]
    assert service["environment"]["TIDEGATE_WEB_TOKEN"] == token["TIDEGATE_WEB_TOKEN"]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])


def test_the_compose_file_and_the_image_name_the_same_things() -> None:
    compose = yaml.safe_load((ROOT / "compose" / "compose.yaml").read_text())
    service = compose["services"]["tidegate"]
    assert (ROOT / "compose" / service["build"]["context"] / service["build"]["dockerfile"]).resolve() == (ROOT / "Containerfile").resolve()
    image = (ROOT / "Containerfile").read_text()
    lines = [line.split() for line in image.splitlines() if line.startswith("COPY ") and "--from" not in line]
    for line in lines:
        assert all((ROOT.parent / source).exists() for source in line[1:-1]), line
    assert "USER 10001" in image
