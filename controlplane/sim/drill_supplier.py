"""The simulated market as a Supplier in this process: what a drill buys from by the thousand, without HTTP.

Owns the translation of the model's answers into holdings and typed errors, as `actuators.simulated` does over HTTP.
"""

from collections.abc import Callable

from actuators.api import Intent
from actuators.holdings import Holding, HoldingState, Listing, Owned
from controlplane.contracts.errors import InsufficientCapacity, QuotaExceeded, SupplierError, SupplierUnavailable, Throttled
from controlplane.contracts.events import Quote
from controlplane.contracts.fleet import Offer
from controlplane.contracts.units import from_unix
from controlplane.sim.cloud_ledger import Refused, Reply
from controlplane.sim.cloud_model import Market, Replica, ReplicaState

STATES = {
    ReplicaState.PENDING: HoldingState.PENDING,
    ReplicaState.READY: HoldingState.READY,
    ReplicaState.FAILED: HoldingState.FAILED,
    ReplicaState.INTERRUPTED: HoldingState.GONE,
    ReplicaState.RELEASED: HoldingState.GONE,
}
REFUSALS: dict[int, type[SupplierError]] = {403: QuotaExceeded, 409: InsufficientCapacity, 429: Throttled, 503: SupplierUnavailable}


class ModelSupplier:
    """One simulated cloud; `clock` is its unix seconds. `remembers_tokens` is what it says of itself; its world must be like that.

    `keeps` is asked before each release whether it refuses to take a replica back.
    """

    def __init__(
        self, market: Market, clock: Callable[[], float], *, remembers_tokens: bool = True, keeps: Callable[[], bool] = lambda: False
    ) -> None:
        """Buy from a market."""
        self.market, self._clock, self.remembers_tokens, self._keeps = market, clock, remembers_tokens, keeps

    def _now(self) -> float:
        now = self._clock()
        if self.market.config.is_down_at(now - self.market.opened_unix):
            raise SupplierUnavailable("down")
        return now

    async def listing(self, fleet: str, offer: Offer) -> Listing:
        """Return what is listed."""
        now = self._now()
        return Listing(now, tuple(_holding(replica, now) for replica in self.market.listing(now, fleet, offer.name)))

    async def buy(self, intent: Intent, offer: Offer) -> tuple[str, ...]:
        """Buy as much of the intent as there is."""
        now = self._now()
        answer = self.market.buy(now, offer.name, intent.count, intent.fleet, intent.token, offer.replicas_per_lot)
        if isinstance(answer, Refused):
            raise REFUSALS[answer.status](answer.reason)
        if answer.reply is Reply.LOST:
            raise SupplierUnavailable("the reply was lost")
        return tuple(replica.lease.id for replica in self.market.purchased(now, offer.name, intent.token))

    async def release(self, fleet: str, offer: Offer, replica: str) -> None:
        """Give a replica back."""
        now = self._now()
        if self._keeps():
            raise SupplierUnavailable("it is not taken back now")
        entry = self.market.release(now, replica)
        if entry is not None:
            self.market.fold(entry)

    async def owned(self) -> tuple[Owned, ...]:
        """Return all that is listed and paid."""
        now = self._now()
        listed = [one for one in self.market.listing(now) if one.is_held(now)]
        return tuple(Owned(one.owner, one.offer, one.lease.id, one.requested_unix) for one in listed)

    async def quote(self, offer: Offer) -> Quote | None:
        """Return price and stock."""
        now = self._now()
        quote = self.market.quote(now, offer.name)
        usd, stock = quote.usd_per_replica_hour, quote.stock_replicas
        return Quote(time=from_unix(now), offer=offer.name, usd_per_replica_hour=usd, stock_replicas=stock)

    async def close(self) -> None:
        """Nothing is open."""


def _holding(replica: Replica, now_unix: float) -> Holding:
    state = replica.state(now_unix)
    return Holding(
        id=replica.lease.id,
        lot=replica.lease.lot,
        token=replica.token,
        state=STATES[state],
        requested_unix=replica.requested_unix,
        ready_unix=replica.lease.ready_unix if state is ReplicaState.READY else None,
        held_until_unix=replica.held_until_unix,
        usd_per_hour=replica.lease.usd_per_hour,
    )
