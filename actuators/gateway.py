"""The spill weight of a Gateway API HTTPRoute: which share of the requests goes to the hosted endpoint.

Owns reading and writing that one weight; every other weight keeps its ratio, and an edit by somebody else in between is never
overwritten. It must not decide the share: `spill_valve` does. https://gateway-api.sigs.k8s.io/reference/spec/#httpbackendref
"""

from collections.abc import Mapping
from math import ceil
from typing import Any

from actuators.kubernetes.api_server import MERGE, ApiServer, Json, Resource
from actuators.kubernetes.errors import NotFound
from controlplane.contracts.errors import SupplierError

VERSIONS = ("gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1")
# Own weights are raised to this many together, so that a share is set to a tenth of a percent.
RESOLUTION = 1000
LARGEST_WEIGHT = 1_000_000


class GatewayRoute:
    """One HTTPRoute and the name of the hosted endpoint among its backendRefs."""

    def __init__(self, server: ApiServer, options: Mapping[str, Any]) -> None:
        """Ask nothing yet."""
        self._server = server
        self._namespace, self._name = str(options["http_route"]["namespace"]), str(options["http_route"]["name"])
        self._backend = str(options["backend"])
        self._kind: Resource | None = None

    async def share(self) -> float:
        """Return the share that is set now, of the first rule that has the backend; SupplierError where there is none."""
        route = await self._route()
        return _share(self._refs(route)[0], self._backend)

    async def set_share(self, share: float) -> bool:
        """Make the share be this wherever the backend stands beside others; return whether anything had to be changed."""
        route = await self._route()
        wanted = [weights_for(refs, self._backend, share) for refs in self._refs(route)]
        if all(weights == _weights(refs) for weights, refs in zip(wanted, self._refs(route), strict=True)):
            return False
        for refs, weights in zip(self._refs(route), wanted, strict=True):
            for ref, weight in zip(refs, weights, strict=True):
                ref["weight"] = weight
        body = {"metadata": {"resourceVersion": route["metadata"]["resourceVersion"]}, "spec": {"rules": route["spec"]["rules"]}}
        await self._server.patch(await self._resource(), (self._namespace, self._name, ""), body, MERGE)
        return True

    def _refs(self, route: Json) -> list[list[Json]]:
        rules = [rule.get("backendRefs") or [] for rule in route["spec"].get("rules") or ()]
        found = [refs for refs in rules if any(ref["name"] == self._backend for ref in refs)]
        if not found:
            raise SupplierError(f"the HTTPRoute {self._namespace}/{self._name} has no backendRef {self._backend}")
        return found

    async def _route(self) -> Json:
        return await self._server.get(await self._resource(), self._namespace, self._name)

    async def _resource(self) -> Resource:
        if self._kind is None:
            try:
                self._kind = await self._server.resource(VERSIONS[0], "HTTPRoute")
            except NotFound:
                self._kind = await self._server.resource(VERSIONS[1], "HTTPRoute")
        return self._kind

    async def close(self) -> None:
        """Close the connections."""
        await self._server.close()


def _weights(refs: list[Json]) -> list[int]:
    """Return the weights of a rule; a weight left out is 1, as the Gateway API says."""
    return [int(ref.get("weight", 1)) for ref in refs]


def _share(refs: list[Json], backend: str) -> float:
    total = sum(_weights(refs))
    hosted = sum(weight for ref, weight in zip(refs, _weights(refs), strict=True) if ref["name"] == backend)
    return hosted / total if total else 0.0


def weights_for(refs: list[Json], backend: str, share: float) -> list[int]:
    """Return the weights of a rule that send `share` to the backend.

    The others keep their ratio: 1 : 1 with a quarter to the hosted endpoint is 500 : 500 : 333. A share of 1 leaves the others at 0 only
    where they weigh nothing already; else it is the largest weight that there is. A backend that stands there more than once shares its
    weight. A rule without others is left as it is: there is nothing to spill from, and at 0 it would serve nobody.
    """
    weights = _weights(refs)
    count = sum(ref["name"] == backend for ref in refs)
    if count == len(refs):
        return weights
    own = sum(weight for ref, weight in zip(refs, weights, strict=True) if ref["name"] != backend)
    factor = ceil(RESOLUTION / own) if 0 < own < RESOLUTION else 1
    if share <= 0.0:
        hosted = 0
    elif own == 0:
        hosted = 1
    elif share >= 1.0:
        hosted = LARGEST_WEIGHT
    else:
        hosted = min(LARGEST_WEIGHT, max(1, round(own * factor * share / (1.0 - share) / count)))
    return [hosted if ref["name"] == backend else weight * factor for ref, weight in zip(refs, weights, strict=True)]


def gateway_of(options: Mapping[str, Any]) -> GatewayRoute:
    """Return the route that a spill offer's gateway block names."""
    return GatewayRoute(ApiServer(str(options["context"]) if options.get("context") else None), options)
