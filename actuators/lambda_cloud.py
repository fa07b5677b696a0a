"""Lambda Cloud over its public API, version 1: https://docs.lambda.ai/public-cloud/cloud-api/ and https://cloud.lambda.ai/api/v1/openapi.json.

Owns the translation of that API into marks, machines and typed errors; it must not retry or remember. `renting` makes replicas of it.
The API launches one instance per call, lists capacity by region without a number, and knows no idempotency token: our mark is in the tags.
"""

from collections.abc import Mapping, Sequence
from typing import Any

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
    "booting": HoldingState.PENDING,
    "active": HoldingState.READY,
    "unhealthy": HoldingState.FAILED,
    "terminating": HoldingState.GONE,
    "terminated": HoldingState.GONE,
    "preempted": HoldingState.GONE,
}
CODES: Mapping[str, type[SupplierError]] = {
    "instance-operations/launch/insufficient-capacity": InsufficientCapacity,
    "global/quota-exceeded": QuotaExceeded,
    "global/account-inactive": AccessRefused,
    "global/invalid-api-key": AccessRefused,
}
NAME_CHARACTERS = 64


class LambdaCloud:
    """One instance type, in the regions that the policy allows."""

    remembers_tokens = False

    def __init__(self, api: HttpApi, options: Mapping[str, Any], regions: Sequence[str], user_data: str = "") -> None:
        """Order machines of `options`; `user_data` is the cloud-init that starts the engine."""
        self._api, self._options, self._regions, self._user_data = api, options, regions, user_data

    async def machines(self) -> Sequence[Listed]:
        """Return our instances; those that have ended are listed for a while."""
        listed = []
        for one in await self._data("GET", "/instances"):
            mark = Mark.read({tag["key"]: tag["value"] for tag in one.get("tags") or ()})
            if mark is not None:
                usd = one["instance_type"]["price_cents_per_hour"] / 100.0
                state = STATES.get(one["status"], HoldingState.PENDING)
                listed.append(Listed(one["id"], mark, state, one.get("ip") or "", usd))
        return listed

    async def order(self, mark: Mark) -> str:
        """Launch in the first allowed region that has capacity."""
        with before_asking(), understood():
            regions = await self._places()
        if not regions:
            raise InsufficientCapacity(f"no allowed region has {self._options['instance_type']}")
        body = {
            "region_name": regions[0],
            "instance_type_name": self._options["instance_type"],
            "ssh_key_names": list(self._options["ssh_key_names"]),
            "name": f"tidegate-{mark.fleet}-{mark.offer}"[:NAME_CHARACTERS],
            "tags": [{"key": key, "value": value} for key, value in mark.fields().items()],
            **({"user_data": self._user_data} if self._user_data else {}),
        }
        data = await self._data("POST", "/instance-operations/launch", json=body)
        return str(data["instance_ids"][0])

    async def end(self, machine: str) -> None:
        """Terminate an instance; one that does not exist any more is fine."""
        answer, body = await self._api.call("POST", "/instance-operations/terminate", json={"instance_ids": [machine]})
        if answer.status_code != httpx.codes.NOT_FOUND:
            _raise_for(answer, body)

    async def offered(self) -> Offered:
        """Return the price; no capacity in any allowed region is a stock of zero, capacity comes without a number."""
        kind = (await self._data("GET", "/instance-types")).get(self._options["instance_type"])
        if kind is None:
            return Offered(None, 0)
        return Offered(kind["instance_type"]["price_cents_per_hour"] / 100.0, None if self._allowed(kind) else 0)

    async def _places(self) -> list[str]:
        kind = (await self._data("GET", "/instance-types")).get(self._options["instance_type"])
        return [] if kind is None else self._allowed(kind)

    def _allowed(self, kind: Mapping[str, Any]) -> list[str]:
        names = [str(region["name"]) for region in kind["regions_with_capacity_available"]]
        return [name for name in names if is_allowed(name, self._regions)]

    async def _data(self, method: str, path: str, **arguments: Any) -> Any:
        answer, body = await self._api.call(method, path, **arguments)
        _raise_for(answer, body)
        return body["data"]

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()


def _raise_for(answer: httpx.Response, body: Any) -> None:
    """Raise what an error answer means: `{"error": {"code", "message", "suggestion"}}`."""
    if answer.is_success:
        return
    error = body.get("error", {}) if isinstance(body, Mapping) else {}
    code, text = str(error.get("code", "")), f"{answer.status_code} {error.get('code', '')} {error.get('message', '')}".strip()
    if code in CODES:
        raise CODES[code](text)
    if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
        raise Throttled(text)
    if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise AccessRefused(text)
    raise SupplierUnavailable(text) if leaves_unknown(answer.status_code) else SupplierError(text)
