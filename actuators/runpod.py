"""RunPod pods over its public REST API, version 2: https://docs.runpod.io/api-reference-v2/overview (version 1 has been retired).

Owns the translation of that API into marks, machines and typed errors; it must not retry or remember. `renting` makes replicas of it.
The API creates one pod per call, tells stock as NONE, LOW, MEDIUM or HIGH, and knows no idempotency token: our mark is in the pod's
environment. It answers 400 both to a rule that is broken and to a lack of capacity, so 400 counts as no capacity.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx

from actuators.cloud_http import HttpApi, leaves_unknown
from actuators.holdings import HoldingState, before_asking
from actuators.renting import Listed, Mark, Offered, is_allowed, understood
from controlplane.contracts.errors import (
    AccessRefused,
    InsufficientCapacity,
    QuotaExceeded,
    SupplierError,
    SupplierUnavailable,
    Throttled,
)

STATES = {
    "PROVISIONING": HoldingState.PENDING,
    "STARTING": HoldingState.PENDING,
    "RUNNING": HoldingState.READY,
    "ERROR": HoldingState.FAILED,
    "EXITED": HoldingState.FAILED,
    "STOPPED": HoldingState.FAILED,
    "TERMINATED": HoldingState.GONE,
}
STATUSES: Mapping[int, type[SupplierError]] = {
    400: InsufficientCapacity,
    401: AccessRefused,
    402: QuotaExceeded,
    403: AccessRefused,
    429: Throttled,
}


class Runpod:
    """One GPU type and count, in the data centres that the policy allows."""

    remembers_tokens = False

    def __init__(self, api: HttpApi, options: Mapping[str, Any], regions: Sequence[str], args: str = "") -> None:
        """Order pods of `options`; `args` are handed to the image's entry point."""
        self._api, self._options, self._regions, self._args = api, options, regions, args

    async def machines(self) -> Sequence[Listed]:
        """Return our pods."""
        listed = []
        for pod in (await self._json("GET", "/v2/pods"))["pods"]:
            mark = Mark.read({name.lower().replace("_", "-"): str(value) for name, value in (pod.get("env") or {}).items()})
            if mark is not None:
                usd = None if pod.get("cost") is None else float(pod["cost"])
                listed.append(Listed(pod["id"], mark, STATES.get(pod["status"], HoldingState.PENDING), pod["id"], usd))
        return listed

    async def order(self, mark: Mark) -> str:
        """Create a pod in the data centres that are allowed and have stock."""
        with before_asking(), understood():
            places = await self._places()
        if not places and (self._regions or self._options.get("data_center_ids")):
            raise InsufficientCapacity(f"no allowed data centre has {self._options['gpu_type']}")
        body = {
            "name": f"tidegate-{mark.fleet}-{mark.offer}",
            "image": self._options["image"],
            "gpu": {"id": self._options["gpu_type"], "count": self._options["gpu_count"]},
            "cloud": self._options["cloud"],
            "disk": self._options["disk_gb"],
            "ports": list(self._options["ports"]),
            "env": {name.upper().replace("-", "_"): value for name, value in mark.fields().items()},
            **({"dataCenterIds": places} if places else {}),
            **({"args": self._args} if self._args else {}),
        }
        return str((await self._json("POST", "/v2/pods", json=body))["id"])

    async def end(self, machine: str) -> None:
        """Terminate a pod; one that does not exist any more is fine."""
        answer, body = await self._api.call("DELETE", f"/v2/pods/{quote(machine, safe='')}")
        if answer.status_code != httpx.codes.NOT_FOUND:
            _raise_for(answer, body)

    async def offered(self) -> Offered:
        """Return the price of a pod's GPUs together; the catalogue prices one."""
        catalogue = await self._catalogue()
        usd = (catalogue.get("price") or {}).get(str(self._options["cloud"]).lower())
        places = self._allowed(catalogue)
        has_stock = catalogue.get("availability") != "NONE" and (bool(places) or not catalogue.get("dataCenters"))
        return Offered(None if usd is None else float(usd) * int(self._options["gpu_count"]), None if has_stock else 0)

    async def _places(self) -> list[str]:
        return self._allowed(await self._catalogue()) if self._regions or self._options.get("data_center_ids") else []

    def _allowed(self, catalogue: Mapping[str, Any]) -> list[str]:
        wanted = self._options.get("data_center_ids") or ()
        stocked = [str(place["id"]) for place in catalogue.get("dataCenters") or () if place["availability"] != "NONE"]
        return [name for name in stocked if is_allowed(name, self._regions) and (not wanted or name in wanted)]

    async def _catalogue(self) -> dict[str, Any]:
        words = {"include": "AVAILABILITY", "product": "POD", "count": self._options["gpu_count"], "cloud": self._options["cloud"]}
        kind = quote(str(self._options["gpu_type"]), safe="")
        found: dict[str, Any] = await self._json("GET", f"/v2/catalog/gpus/{kind}", params=words)
        return found

    async def _json(self, method: str, path: str, **arguments: Any) -> Any:
        answer, body = await self._api.call(method, path, **arguments)
        _raise_for(answer, body)
        return body

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()


def _raise_for(answer: httpx.Response, body: Any) -> None:
    """Raise what an error answer means: RFC 9457 problem details."""
    if answer.is_success:
        return
    detail = body.get("detail", "") if isinstance(body, Mapping) else ""
    text = f"{answer.status_code} {detail}".strip()
    if answer.status_code in STATUSES:
        raise STATUSES[answer.status_code](text)
    raise SupplierUnavailable(text) if leaves_unknown(answer.status_code) else SupplierError(text)
