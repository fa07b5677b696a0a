"""The actuator of anything that is bought replica by replica: makes a supplier's listing be the target, through intents.

Owns the order of the steps: read the intent, list, settle, ask again, give back, grow or shrink. It must not know any supplier,
nor decide a number. `intents` holds the state machine, `holdings` the choice of what goes; suppliers implement `holdings.Supplier`.
"""

from collections.abc import Sequence
from dataclasses import replace

from actuators.api import Applied, Failed, Intent, IntentConflict, IntentStore, Result, Skipped, failed
from actuators.holdings import Holding, HoldingState, Listing, Supplier, choose_releases
from actuators.intents import IntentState, Purchases, affordable, is_unknown, unseen, usd_per_hour_of
from actuators.ledger import Books, LedgerStore
from actuators.lots import machine_of
from controlplane.contracts.errors import SupplierError, SupplierUnavailable
from controlplane.contracts.events import PoolStatus, Quote
from controlplane.contracts.fleet import Offer
from controlplane.contracts.units import from_unix

SETTLE_SECONDS = 300.0
REFUSAL_SECONDS = 120.0


class PurchasingActuator:
    """An Actuator over one supplier. All ages are by the supplier's clock.

    `settle_seconds`: after this a purchase that was never listed is given up. `refusal_seconds`: an offer counts as unavailable
    for this long after a refusal.
    """

    def __init__(
        self,
        supplier: Supplier,
        store: IntentStore,
        *,
        settle_seconds: float = SETTLE_SECONDS,
        refusal_seconds: float = REFUSAL_SECONDS,
        ledger: LedgerStore | None = None,
    ) -> None:
        """Keep nothing in memory but these: what is there is observed each time."""
        self._supplier = supplier
        self._purchases = Purchases(store, supplier, settle_seconds)
        self._refusal_seconds = refusal_seconds
        self._books = Books(ledger)

    async def observe(self, fleet: str, offer: Offer) -> PoolStatus:
        """Return what is listed, orphans included, and what an open intent still promises. Writes nothing but the ledger."""
        intent = await self._purchases.latest(fleet, offer)
        listing = await self._supplier.listing(fleet, offer)
        await self._books.note(fleet, offer.name, listing, offer.hold_seconds, offer.usd_per_replica_hour)
        newest = max((h for h in listing.holdings if h.ready_unix is not None), key=lambda h: h.requested_unix, default=None)
        lead = None if newest is None or newest.ready_unix is None else max(0.0, newest.ready_unix - newest.requested_unix)
        return PoolStatus(
            time=from_unix(listing.now_unix),
            fleet=fleet,
            offer=offer.name,
            ready=listing.count(HoldingState.READY),
            pending=listing.count(HoldingState.PENDING) + unseen(intent, listing.seen),
            draining=listing.count(HoldingState.DRAINING),
            failed_replicas=listing.count(HoldingState.FAILED),
            usd_per_hour=usd_per_hour_of(listing, intent, None),
            unavailable=self._is_unavailable(intent, listing),
            lead_time_seconds=lead,
            message=intent.reason if intent is not None and intent.state in (IntentState.OPEN, IntentState.FAILED) else "",
        )

    def _is_unavailable(self, intent: Intent | None, listing: Listing) -> bool:
        if intent is None or not intent.reason:
            return False
        lately = listing.now_unix - intent.opened_unix <= self._refusal_seconds
        return is_unknown(intent) or (intent.state == IntentState.FAILED and lately)

    async def apply(self, fleet: str, offer: Offer, target: int) -> Result:
        """Make ready + pending be the target, one step of it at a time; what it cannot do yet it does when called again."""
        return await self._attempt(fleet, offer, target, target, may_buy=True)

    async def tend(self, fleet: str, offer: Offer, target: int, most: int) -> Result:
        """Do the same, but buy nothing new, not even in place of a purchase that is given up meanwhile: for who buys elsewhere too.

        An open purchase is asked for again only where at most `most` are held with it, failed ones that stay included.
        """
        return await self._attempt(fleet, offer, target, most, may_buy=False)

    async def _attempt(self, fleet: str, offer: Offer, target: int, most: int, *, may_buy: bool) -> Result:
        try:
            return await self._apply(fleet, offer, target, most, may_buy)
        except IntentConflict:
            return Failed("somebody else is buying for this offer: observe again", retryable=True)
        except SupplierError as error:
            return failed(error)

    async def _apply(self, fleet: str, offer: Offer, target: int, most: int, may_buy: bool) -> Result:
        intent = await self._purchases.latest(fleet, offer)
        listing = await self._supplier.listing(fleet, offer)
        if unseen(intent, {}):
            # Once its intent is closed, only the ledger remembers a purchase for a restart while its supplier is silent.
            await self._books.note(fleet, offer.name, listing, offer.hold_seconds, offer.usd_per_replica_hour)
        intent = await self._settled(intent, offer, listing)
        # Only now, as a replica that went back before it was seen would be waited for.
        failures = [holding for holding in listing.holdings if holding.state is HoldingState.FAILED]
        went, error = await self._release(fleet, offer, failures)
        wanted = target if may_buy else min(target, listing.counted + unseen(intent, listing.seen))
        # Nothing is bought in place of what failed, could not be ended, and is still paid for.
        result = await self._make(fleet, offer, wanted, most - (len(failures) - went), listing, intent)
        if error is None:
            return result
        if isinstance(result, Applied):
            return replace(result, reason="; ".join(filter(None, (result.reason, str(error)))))
        raise error

    async def _make(self, fleet: str, offer: Offer, target: int, most: int, listing: Listing, intent: Intent | None) -> Result:
        """Shrink to the target, ask again or grow: these two up to `most`, if that is less."""
        promised = unseen(intent, listing.seen)
        if listing.counted > target:
            return await self._shrink(fleet, offer, target, listing)
        if intent is not None and promised:
            if listing.counted + promised <= most and self._purchases.may_ask(intent, offer, listing.now_unix):
                return _bought(await self._purchases.ask(intent, offer, again=True))
            return Skipped(f"intent {intent.number} for {intent.count} is not listed yet")
        return await self._grow(fleet, offer, max(listing.counted, min(target, most)), listing, intent)

    async def _release(self, fleet: str, offer: Offer, leaving: Sequence[Holding]) -> tuple[int, SupplierError | None]:
        """Give each machine back once; return how many replicas went, and the first error: one that stays does not keep the others."""
        machines: dict[str, list[Holding]] = {}
        for holding in leaving:
            machines.setdefault(machine_of(holding.id), []).append(holding)
        went, first = 0, None
        for replicas in machines.values():
            try:
                await self._supplier.release(fleet, offer, replicas[0].id)
                went += len(replicas)
            except SupplierError as error:
                first = first or error
        return went, first

    async def _settled(self, intent: Intent | None, offer: Offer, listing: Listing) -> Intent | None:
        """Close the intent if the listing allows; a purchase of unknown size that is listed in part is asked for again, to learn it.

        That waits for the settling of the rest where the supplier does not remember tokens, and for the next time where it does not answer.
        """
        intent = await self._purchases.settle(intent, listing.seen, listing.now_unix)
        if intent is None or not (is_unknown(intent) and listing.seen[intent.token] and self._supplier.remembers_tokens):
            return intent
        try:
            intent = await self._purchases.ask(intent, offer, again=True)
        except SupplierUnavailable:
            stored = await self._purchases.latest(intent.fleet, offer)
            if stored is None or (stored.number, stored.state) != (intent.number, intent.state):
                raise IntentConflict("somebody else bought since the listing") from None
            return stored
        return await self._purchases.settle(intent, listing.seen, listing.now_unix)

    async def _grow(self, fleet: str, offer: Offer, target: int, listing: Listing, latest: Intent | None) -> Result:
        missing = target - listing.counted
        count = missing // offer.replicas_per_lot * offer.replicas_per_lot
        if missing == 0:
            return Skipped("already there")
        if count == 0:
            return Skipped(f"{missing} missing is less than a lot of {offer.replicas_per_lot}")
        usd = offer.usd_per_replica_hour if offer.usd_per_replica_hour is not None else offer.ceiling_usd_per_replica_hour
        room = affordable(offer, usd_per_hour_of(listing, latest, usd), usd)
        if room == 0:
            return Skipped(f"no money is left for more within the {offer.most_usd_per_hour:.2f} USD/h that were decided on")
        count = count if room is None else min(count, room)
        intent = await self._purchases.open(latest, fleet, offer, count, listing.now_unix)
        return _bought(await self._purchases.ask(intent, offer))

    async def _shrink(self, fleet: str, offer: Offer, target: int, listing: Listing) -> Result:
        surplus = listing.counted - target
        leaving = choose_releases(listing, offer, surplus)
        went, error = await self._release(fleet, offer, leaving)
        if error is not None and not went:
            raise error
        kept = surplus - len(leaving)
        reason = f"{kept} kept: within their minimum hold, or not a whole lot" if kept else ""
        reason = "; ".join(filter(None, (reason, str(error or ""))))
        return Applied(-went, reason=reason) if went else Skipped(reason)

    async def quote(self, offer: Offer) -> Quote | None:
        """Return the offer's price and stock now."""
        return await self._supplier.quote(offer)

    async def close(self) -> None:
        """Let go of connections."""
        await self._supplier.close()


def _bought(intent: Intent) -> Applied:
    short = intent.count - len(intent.replicas)
    return Applied(len(intent.replicas), intent.token, f"{short} fewer than asked for" if short else "")
