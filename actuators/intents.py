"""Purchases that a crash cannot double: a numbered intent is stored before the supplier is asked, and its id is the token.

Owns the intent's state machine for any supplier; it must not choose how many to buy. `purchasing` drives it, `api.IntentStore` keeps it.

                 asked: bought n              all n listed
    ┌──────┐ ───────────────────────▶ ┌────────┐ ─────────▶ ┌──────┐
    │ OPEN │                          │ BOUGHT │            │ SEEN │
    └──────┘ ◀─┐ unknown outcome:     └────────┘ ─────────▶ └──────┘
     │  │  └───┘ ask again, same token     never listed within settle_seconds: no longer counted
     │  └─── all listed ──────────────────────────────────────▲
     │ refused when first asked, or neither listed nor wanted any more within settle_seconds
     ▼
    ┌────────┐
    │ FAILED │
    └────────┘
OPEN and BOUGHT count as pending for what is not listed yet, and no second intent is opened for the offer meanwhile.
A crash before the supplier was asked, before its answer came, or before the answer was stored leaves OPEN: the same token is asked
again, but only in the first half of `settle_seconds`: what was bought then must be listed by the end of the second half.
A supplier that does not remember tokens is never asked again for an intent: what it sold is found in its listing, by the token.
So `settle_seconds` must be more than twice the supplier's listing lag, and less than its tokens live.
"""

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum

from actuators.api import Intent, IntentStore
from actuators.holdings import Listing, Supplier
from controlplane.contracts.errors import SupplierError, SupplierUnavailable
from controlplane.contracts.fleet import Offer

# Prices are compared as money is: to a hundredth of a cent.
ROUNDING_USD = 1e-4


class IntentState(StrEnum):
    """See the drawing above."""

    OPEN = "open"
    BOUGHT = "bought"
    SEEN = "seen"
    FAILED = "failed"


def unseen(intent: Intent | None, seen: Mapping[str, int]) -> int:
    """Return how many replicas of an intent must still be counted as pending, given how many are listed by token."""
    if intent is None:
        return 0
    match intent.state:
        case IntentState.OPEN:
            return max(0, intent.count - seen.get(intent.token, 0))
        case IntentState.BOUGHT:
            return max(0, len(intent.replicas) - seen.get(intent.token, 0))
        case _:
            return 0


def usd_per_hour_of(listing: Listing | None, intent: Intent | None, usd_per_replica_hour: float | None) -> float | None:
    """Return what is listed and what an intent still promises cost per hour together, None where that is not known.

    `usd_per_replica_hour` is for replicas whose price the supplier did not tell; None: that is not known either.
    """
    told = [] if listing is None else [holding.usd_per_hour for holding in listing.paid]
    promised = unseen(intent, {} if listing is None else listing.seen)
    told += [intent.usd_per_replica_hour] * promised if intent is not None else []
    if usd_per_replica_hour is None and 0.0 in told:
        return None
    return sum(usd or usd_per_replica_hour or 0.0 for usd in told)


def affordable(offer: Offer, paid_usd_per_hour: float | None, usd_per_replica_hour: float | None) -> int | None:
    """Return how many replicas more, in whole lots, the decision that is followed has money for; None: it sets no limit.

    `paid_usd_per_hour` is of everything held. Where that or the price is not known the decision could not know either, and its target
    is the limit.
    """
    limit = offer.most_usd_per_hour
    if limit is None or paid_usd_per_hour is None or not usd_per_replica_hour:
        return None
    count = int((limit - paid_usd_per_hour + ROUNDING_USD) // usd_per_replica_hour)
    return max(count, 0) // offer.replicas_per_lot * offer.replicas_per_lot


def is_unknown(intent: Intent | None) -> bool:
    """Return whether nobody knows yet what came of it."""
    return intent is not None and intent.state == IntentState.OPEN


class Purchases:
    """Writes intents and asks a supplier; every method may raise IntentConflict when somebody else acts for the offer."""

    def __init__(self, store: IntentStore, supplier: Supplier, settle_seconds: float) -> None:
        """Work on a store and a supplier."""
        self._store, self._supplier, self._settle_seconds = store, supplier, settle_seconds

    async def latest(self, fleet: str, offer: Offer) -> Intent | None:
        """Return the newest intent, to be read before the listing so that a purchase in between is a conflict."""
        return await self._store.latest(fleet, offer.name)

    async def settle(self, intent: Intent | None, seen: Mapping[str, int], now_unix: float) -> Intent | None:
        """Close an intent that is fully listed, or that should have been listed long ago."""
        if intent is None or intent.state not in (IntentState.OPEN, IntentState.BOUGHT):
            return intent
        if not unseen(intent, seen):
            return await self._store.put(replace(intent, state=IntentState.SEEN))
        if now_unix - intent.opened_unix <= self._settle_seconds:
            return intent
        listed = seen.get(intent.token, 0)
        state = IntentState.SEEN if listed or intent.state == IntentState.BOUGHT else IntentState.FAILED
        return await self._store.put(replace(intent, state=state, reason=f"{listed} of {intent.count} were listed in time"))

    def may_ask(self, intent: Intent, offer: Offer, now_unix: float) -> bool:
        """Return whether it may be asked for again: whatever that buys is then listed before the intent is given up.

        Never of a supplier that forgets tokens: nobody knows whether it was asked, and asking again could buy again. Nor while it costs
        more than when it was decided on: what was not sold then would be sold at the price of now.
        """
        before, now = intent.usd_per_replica_hour, offer.usd_per_replica_hour
        if before and now is not None and now > before + ROUNDING_USD:
            return False
        return self._supplier.remembers_tokens and is_unknown(intent) and now_unix - intent.opened_unix <= self._settle_seconds / 2

    async def open(self, latest: Intent | None, fleet: str, offer: Offer, count: int, now_unix: float) -> Intent:
        """Write the next intent; only after this may the supplier be asked."""
        number, revision = (latest.number + 1, latest.revision) if latest else (1, 0)
        usd = offer.usd_per_replica_hour or 0.0
        intent = Intent(fleet, offer.name, number, count, IntentState.OPEN, revision, opened_unix=now_unix, usd_per_replica_hour=usd)
        return await self._store.put(intent)

    async def ask(self, intent: Intent, offer: Offer, *, again: bool = False) -> Intent:
        """Ask the supplier for an open intent and store the answer; raises what the supplier raised.

        `again`: it may have been asked before. A refusal then says only that this asking bought nothing, so the outcome stays unknown.
        """
        try:
            replicas = await self._supplier.buy(intent, offer)
        except SupplierError as error:
            if again or isinstance(error, SupplierUnavailable):
                await self._store.put(replace(intent, reason=f"outcome unknown: {error}"))
                raise SupplierUnavailable(str(error)) from error
            await self._store.put(replace(intent, state=IntentState.FAILED, reason=str(error)))
            raise
        return await self._store.put(replace(intent, state=IntentState.BOUGHT, replicas=replicas, reason=""))
