"""The spill weight on an HTTPRoute of a real API server: one weight is set, an edit in between is kept, a stranger is refused."""

import contextlib
import urllib.error
from collections.abc import AsyncIterator
from typing import Any

import pytest

from actuators.gateway import GatewayRoute
from actuators.kubernetes.api_server import ApiServer
from controlplane.contracts.errors import SupplierError
from tests.kube.conftest import eventually
from tests.kube.control_plane import ControlPlane

pytestmark = pytest.mark.needs("kube-apiserver")

GROUP = "gateway.networking.k8s.io"
NAMESPACE, NAME = "default", "r1"
PATH = f"/apis/{GROUP}/v1/namespaces/{NAMESPACE}/httproutes"


def definition() -> dict[str, Any]:
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    names = {"plural": "httproutes", "singular": "httproute", "kind": "HTTPRoute"}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    approved = {"api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/gateway-api/pull/1086"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"httproutes.{GROUP}", "annotations": approved},
        "spec": {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def route() -> dict[str, Any]:
    refs = [{"name": "own", "port": 8000}, {"name": "canary", "port": 8000, "weight": 1}, {"name": "hosted", "port": 443, "weight": 0}]
    rules = [{"matches": [{"path": {"value": "/v1"}}], "backendRefs": refs}, {"backendRefs": [{"name": "docs", "port": 80}]}]
    return {"apiVersion": f"{GROUP}/v1", "kind": "HTTPRoute", "metadata": {"name": NAME}, "spec": {"rules": rules}}


@pytest.fixture
async def served(control_plane: ControlPlane) -> AsyncIterator[ControlPlane]:
    """The control plane, with the kind and one route."""
    with contextlib.suppress(urllib.error.HTTPError):
        control_plane.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition())

    async def created() -> bool:
        try:
            control_plane.call("POST", PATH, route())
        except urllib.error.HTTPError as error:
            return error.code == 409
        return True

    assert await eventually(created, bool)
    yield control_plane
    control_plane.call("DELETE", f"{PATH}/{NAME}")


def gateway(plane: ControlPlane, user: str = "admin", **options: Any) -> GatewayRoute:
    plain = {"http_route": {"namespace": NAMESPACE, "name": NAME}, "backend": "hosted"}
    return GatewayRoute(ApiServer("test", plane.kubeconfig(user), patience_seconds=0.5), {**plain, **options})


def weights(plane: ControlPlane) -> list[int | None]:
    rules = plane.call("GET", f"{PATH}/{NAME}")["spec"]["rules"]
    return [ref.get("weight") for rule in rules for ref in rule["backendRefs"]]


async def test_the_share_is_set_and_read_back_and_nothing_else_is_touched(served: ControlPlane) -> None:
    spill = gateway(served)
    assert await spill.share() == 0.0
    assert await spill.set_share(0.25)
    assert weights(served) == [500, 500, 333, None]
    assert await spill.share() == pytest.approx(0.25, abs=0.001)
    assert not await spill.set_share(0.25), "the same share again writes nothing"
    assert await spill.set_share(0.0)
    assert weights(served) == [500, 500, 0, None]
    kept = served.call("GET", f"{PATH}/{NAME}")["spec"]["rules"][0]["matches"]
    assert kept == [{"path": {"value": "/v1"}}]
    await spill.close()


async def test_a_backend_that_is_not_there_is_said(served: ControlPlane) -> None:
    spill = gateway(served, backend="elsewhere")
    with pytest.raises(SupplierError, match="no backendRef elsewhere"):
        await spill.set_share(0.1)
    await spill.close()


async def test_without_the_right_to_patch_it_is_said_which_one_is_missing(served: ControlPlane) -> None:
    spill = gateway(served, user="stranger")
    with pytest.raises(SupplierError, match="httproutes"):
        await spill.set_share(0.1)
    assert weights(served)[2] == 0
    await spill.close()
