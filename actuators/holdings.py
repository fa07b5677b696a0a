"""What a supplier lists for one offer of one fleet, the port to such a supplier, and which of it to give back first.

Owns plain data and the pure choice; it must not talk to anyone. `purchasing` acts on it, `simulated` implements the port.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from actuators.api import Intent
from controlplane.contracts.errors import NotAsked, SupplierUnavailable
from controlplane.contracts.events import Quote
from controlplane.contracts.fleet import Offer

# Forms of what is owned, beside a plain machine: a capacity reservation, a machine in a capacity block.
RESERVATION, SLOT = "reservation", "slot"


class HoldingState(StrEnum):
    """Where a listed replica is. `GONE` was taken back by the supplier and is still listed; `FAILED` never served and is still paid."""

    PENDING = "pending"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Holding:
    """One listed replica. `lot` is what must be given back together; `token` names the purchase, "" where the supplier doesn't know."""

    id: str
    lot: str
    token: str
    state: HoldingState
    requested_unix: float
    ready_unix: float | None = None
    held_until_unix: float = 0.0
    usd_per_hour: float = 0.0


@dataclass(frozen=True, slots=True)
class Listing:
    """All that a supplier lists as ours for one fleet and offer, known to an intent or not, at the supplier's time."""

    now_unix: float
    holdings: tuple[Holding, ...]

    def count(self, *states: HoldingState) -> int:
        """Return how many are in one of these states."""
        return sum(holding.state in states for holding in self.holdings)

    @property
    def counted(self) -> int:
        """Ready and pending together: what a target is compared with."""
        return self.count(HoldingState.READY, HoldingState.PENDING)

    @property
    def paid(self) -> tuple[Holding, ...]:
        """What is paid for: all but what the supplier took back."""
        return tuple(holding for holding in self.holdings if holding.state is not HoldingState.GONE)

    @property
    def seen(self) -> Counter[str]:
        """How many replicas of each purchase are listed, whatever became of them."""
        return Counter(holding.token for holding in self.holdings)


@dataclass(frozen=True, slots=True)
class Owned:
    """One thing that is marked as tidegate's, whichever fleet and offer it names: what a sweep looks at.

    `form` tells apart what different purchase options make: "" is a plain machine.
    """

    fleet: str
    offer: str
    id: str
    requested_unix: float
    form: str = ""


class Supplier(Protocol):
    """What a kind of supplier must do for purchases through intents. All methods raise `SupplierError` only.

    `remembers_tokens`: the same token again buys nothing more and returns the same ids. Where it is False a purchase of unknown outcome
    is never asked for again: it is found in the listing by its token, or given up.
    """

    remembers_tokens: bool

    async def listing(self, fleet: str, offer: Offer) -> Listing:
        """Return what is listed as ours; it may lag behind purchases."""
        ...

    async def buy(self, intent: Intent, offer: Offer) -> tuple[str, ...]:
        """Buy up to `intent.count` under `intent.token` and return the ids.

        SupplierUnavailable: the outcome is unknown. Any other SupplierError: surely nothing was bought.
        """
        ...

    async def release(self, fleet: str, offer: Offer, replica: str) -> None:
        """Give a replica back; one that is gone already is fine."""
        ...

    async def owned(self) -> tuple[Owned, ...]:
        """Return everything that is marked as tidegate's and paid for, of whichever fleet and offer."""
        ...

    async def quote(self, offer: Offer) -> Quote | None:
        """Return the price and stock now, None where there are no quotes."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


@contextmanager
def before_asking() -> Iterator[None]:
    """Make NotAsked of a supplier that does not answer what must be known before a purchase: nothing was bought, for certain."""
    try:
        yield
    except SupplierUnavailable as error:
        raise NotAsked(str(error)) from error


def choose_releases(listing: Listing, offer: Offer, surplus: int) -> tuple[Holding, ...]:
    """Return what to give back so that at most `surplus` replicas go, in whole lots, none of them within its minimum hold.

    Lots with a pending replica first, then the dearest, then the newest: the rent is owed until the hold is over anyway, so
    keeping a replica until then is free.
    """
    lots: dict[str, list[Holding]] = {}
    for holding in listing.holdings:
        if holding.state in (HoldingState.READY, HoldingState.PENDING):
            lots.setdefault(holding.lot, []).append(holding)

    def order(lot: list[Holding]) -> tuple[bool, float, float, str]:
        pending = any(holding.state is HoldingState.PENDING for holding in lot)
        return (not pending, -max(h.usd_per_hour for h in lot), -max(h.requested_unix for h in lot), lot[0].lot)

    chosen: list[Holding] = []
    for lot in sorted(lots.values(), key=order):
        if not is_held(lot, offer, listing.now_unix) and len(chosen) + len(lot) <= surplus:
            chosen += lot
    return tuple(chosen)


def is_held(lot: Iterable[Holding], offer: Offer, now_unix: float) -> bool:
    """Return whether any of a lot is within its minimum hold, the policy's or the supplier's, whichever ends later."""
    return any(now_unix < max(holding.held_until_unix, holding.requested_unix + offer.hold_seconds) for holding in lot)
