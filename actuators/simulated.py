"""The simulated cloud as a supplier, over HTTP: what the demo and the end-to-end tests buy from.

Owns the translation of that API into holdings, ids and typed errors; it must not retry or remember. `purchasing` does the acting,
`controlplane.sim.cloud` is the other end.
"""

from typing import Any

import httpx

from actuators.api import Intent, IntentStore
from actuators.holdings import Holding, HoldingState, Listing, Owned
from actuators.purchasing import REFUSAL_SECONDS, SETTLE_SECONDS, PurchasingActuator
from controlplane.contracts.errors import InsufficientCapacity, QuotaExceeded, SupplierError, SupplierUnavailable
from controlplane.contracts.events import Quote
from controlplane.contracts.fleet import Offer
from controlplane.contracts.units import from_unix

TIMEOUT_SECONDS = 5.0
STATES = {
    "pending": HoldingState.PENDING,
    "ready": HoldingState.READY,
    "failed": HoldingState.FAILED,
    "interrupted": HoldingState.GONE,
}
REFUSALS = {409: InsufficientCapacity, 403: QuotaExceeded}


class SimulatedSupplier:
    """One simulated cloud; replicas are owned by the fleet's name."""

    remembers_tokens = True

    def __init__(self, client: httpx.AsyncClient) -> None:
        """Speak through a client whose base address is the cloud's."""
        self._client = client

    async def _call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        """Return the body of an answer, or raise the typed error for it."""
        try:
            answer = await self._client.request(method, path, **arguments)
            body: dict[str, Any] = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise SupplierUnavailable(f"{method} {path}: {type(error).__name__} {error}".rstrip()) from error
        if answer.is_success:
            return body
        reason = f"{method} {path}: {answer.status_code} {body.get('error', '')}"
        if answer.status_code == 429 or answer.status_code >= 500:
            raise SupplierUnavailable(reason)
        raise REFUSALS.get(answer.status_code, SupplierError)(reason)

    async def listing(self, fleet: str, offer: Offer) -> Listing:
        """Return what the cloud lists for this owner and offer."""
        body = await self._call("GET", "/replicas", params={"owner": fleet, "offer": pool_of(offer)})
        return Listing(body["now_unix"], tuple(_holding(replica) for replica in body["replicas"]))

    async def buy(self, intent: Intent, offer: Offer) -> tuple[str, ...]:
        """Buy as much of the intent as there is, a lot at least."""
        body = {"count": intent.count, "min_count": offer.replicas_per_lot, "token": intent.token, "owner": intent.fleet}
        answer = await self._call("POST", f"/offers/{pool_of(offer)}/replicas", json=body)
        return tuple(replica["id"] for replica in answer["replicas"])

    async def release(self, fleet: str, offer: Offer, replica: str) -> None:
        """Give a replica back; 404 means that it went already."""
        del fleet, offer
        try:
            answer = await self._client.delete(f"/replicas/{replica}")
        except httpx.HTTPError as error:
            raise SupplierUnavailable(f"DELETE {replica}: {type(error).__name__} {error}".rstrip()) from error
        if not answer.is_success and answer.status_code != 404:
            raise SupplierUnavailable(f"DELETE {replica}: {answer.status_code}")

    async def owned(self) -> tuple[Owned, ...]:
        """Return all that the cloud lists and bills, of every owner."""
        replicas = (await self._call("GET", "/replicas"))["replicas"]
        paid = [replica for replica in replicas if STATES[replica["state"]] is not HoldingState.GONE]
        return tuple(Owned(one["owner"], one["offer"], one["id"], one["requested_unix"]) for one in paid)

    async def quote(self, offer: Offer) -> Quote | None:
        """Return the cloud's price and stock."""
        body = await self._call("GET", f"/offers/{pool_of(offer)}")
        quote = body["offers"][0]
        fields = ("usd_per_replica_hour", "stock_replicas", "lead_time_seconds")
        return Quote(time=from_unix(body["now_unix"]), offer=offer.name, **{field: quote[field] for field in fields})

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def pool_of(offer: Offer) -> str:
    """Return the offer's name at the cloud."""
    return str(offer.actuator_options.get("pool") or offer.name)


def _holding(replica: dict[str, Any]) -> Holding:
    return Holding(
        id=replica["id"],
        lot=replica["lot"],
        token=replica["token"],
        state=STATES[replica["state"]],
        requested_unix=replica["requested_unix"],
        ready_unix=replica["ready_unix"],
        held_until_unix=replica["held_until_unix"],
        usd_per_hour=replica["usd_per_hour"],
    )


def simulated_supplier(
    url: str, *, timeout_seconds: float = TIMEOUT_SECONDS, transport: httpx.AsyncBaseTransport | None = None
) -> SimulatedSupplier:
    """Return the simulated cloud at `url` as a supplier; `transport` replaces the network. Proxies are ignored: it is on loopback."""
    return SimulatedSupplier(httpx.AsyncClient(base_url=url, timeout=timeout_seconds, trust_env=False, transport=transport))


def simulated_actuator(
    url: str,
    store: IntentStore,
    *,
    timeout_seconds: float = TIMEOUT_SECONDS,
    settle_seconds: float = SETTLE_SECONDS,
    refusal_seconds: float = REFUSAL_SECONDS,
    speed: float = 1.0,
    transport: httpx.AsyncBaseTransport | None = None,
) -> PurchasingActuator:
    """Return the actuator of the simulated cloud at `url`; `transport` replaces the network. `timeout_seconds` is wall time.

    `speed` is the cloud's simulated seconds per wall second: a request in flight takes wall time, so the time to settle, which is
    by the cloud's clock, grows with it.
    """
    supplier = simulated_supplier(url, timeout_seconds=timeout_seconds, transport=transport)
    return PurchasingActuator(supplier, store, settle_seconds=settle_seconds * max(1.0, speed), refusal_seconds=refusal_seconds)
