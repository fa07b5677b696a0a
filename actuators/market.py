"""Several suppliers as one offer: what is missing comes from the cheapest that can sell, what is too much goes back to the dearest.

Owns the ranking, the split and the way around a supplier that refuses, fails or is silent; each supplier's purchases go through intents
of its own, so nothing is asked for twice whatever the order of suppliers is by then. It must not decide how many to hold.

Money: nothing is bought at a price above the one last quoted, which is what the decision reckoned with. A supplier that refuses makes
the next one's price the quote, the refusal pokes the planner, and the next decision reckons with that.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b

from actuators.api import Applied, Failed, IntentStore, Result, Skipped
from actuators.holdings import HoldingState, Supplier
from actuators.intents import ROUNDING_USD, affordable
from actuators.ledger import Ledger, LedgerStore
from actuators.market_health import Health, Trust
from actuators.market_listing import Watched
from actuators.market_result import together
from actuators.market_shop import Shop
from actuators.purchasing import PurchasingActuator
from controlplane.contracts.errors import SupplierError, SupplierUnavailable
from controlplane.contracts.events import PoolStatus, Quote
from controlplane.contracts.fleet import Offer
from controlplane.contracts.units import from_unix

NAME_CHARACTERS = 63
USE_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class MarketSettings:
    """`price_advantage`: share by which another supplier must be cheaper before purchases move to it; durations in seconds."""

    price_advantage: float = 0.1
    refused_for_seconds: float = 120.0
    banned_for_seconds: float = 6 * 3600.0


class MarketActuator:
    """An Actuator over named suppliers. `clock` is unix seconds."""

    def __init__(
        self,
        suppliers: Mapping[str, Supplier],
        store: IntentStore,
        settings: MarketSettings | None = None,
        clock: Callable[[], float] = time.time,
        settle_seconds: float = 300.0,
        ledger: LedgerStore | None = None,
        health: LedgerStore | None = None,
    ) -> None:
        """Know nothing of the suppliers yet. `ledger` and `health` keep what they cost, and how far they are trusted."""
        self._store, self._settings, self._clock = store, settings or MarketSettings(), clock
        self._ledger, self._trust = ledger, Trust(health)
        self._quoted_usd: float | None = None
        self._has_looked = False
        self._shops: list[Shop] = []
        for name, supplier in suppliers.items():
            watched = Watched(supplier)
            refused = self._settings.refused_for_seconds
            actuator = PurchasingActuator(watched, store, settle_seconds=settle_seconds, refusal_seconds=refused, ledger=ledger)
            self._shops.append(Shop(name, watched, actuator, Health(refused, self._settings.banned_for_seconds)))

    async def observe(self, fleet: str, offer: Offer) -> PoolStatus:
        """Return what all suppliers hold together; SupplierUnavailable only where none of them answers."""
        now = self._clock()
        for shop in self._shops:
            await self._trust.recall(fleet, part_of(offer, shop.name).name, shop.health)
        await asyncio.gather(*(self._look(shop, fleet, offer, now) for shop in self._shops))
        await self._note(fleet, offer)
        if not any(shop.answers for shop in self._shops):
            raise SupplierUnavailable("; ".join(f"{shop.name}: {shop.health.reason}" for shop in self._shops))
        for shop in self._shops:
            if shop.supplier.last is None:
                await self._remember(shop, fleet, offer, now)
        self._has_looked = True
        seen = [shop.status for shop in self._shops if shop.status is not None]
        newest = max((one for one in seen if one.lead_time_seconds is not None), key=lambda one: one.time, default=None)
        silent = [f"{shop.name}: {shop.health.reason}" for shop in self._shops if not shop.health.may_sell(now)]
        return PoolStatus(
            time=from_unix(now),
            fleet=fleet,
            offer=offer.name,
            ready=sum(shop.ready for shop in self._shops),
            pending=sum(shop.held - shop.ready for shop in self._shops),
            draining=sum(one.draining for one in seen),
            failed_replicas=sum(shop.failed for shop in self._shops),
            usd_per_hour=self._paid_usd_per_hour(offer),
            unavailable=not any(shop.health.may_sell(now) for shop in self._shops),
            lead_time_seconds=None if newest is None else newest.lead_time_seconds,
            message="; ".join(silent),
        )

    async def _note(self, fleet: str, offer: Offer) -> None:
        """Keep what was learnt of the suppliers."""
        for shop in self._shops:
            await self._trust.note(fleet, part_of(offer, shop.name).name, shop.health)

    def _paid_usd_per_hour(self, offer: Offer) -> float | None:
        """Return what everything held costs per hour, what is promised and what has failed included; None where that is not known."""
        paid = [shop.usd_per_hour(self._reckoned_usd(shop, offer)) for shop in self._shops]
        return None if None in paid else sum(usd or 0.0 for usd in paid)

    async def _remember(self, shop: Shop, fleet: str, offer: Offer, now: float) -> None:
        """Take the ledger's word for what a supplier holds that was not heard since our start, as pending: it may serve, and is paid.

        Where no ledger is kept, a purchase that was seen does not say what became of it since: SupplierUnavailable.
        """
        if shop.intent is None:
            return
        if self._ledger is None:
            raise SupplierUnavailable(f"{shop.name} was bought from before, does not answer, and nobody knows what it holds")
        shop.supplier.last = Ledger.load(await self._ledger.read(fleet, part_of(offer, shop.name).name)).listing(now, shop.intent)

    async def _look(self, shop: Shop, fleet: str, offer: Offer, now: float) -> None:
        """Observe one supplier; where it is silent, what was last seen of it goes on to count."""
        shop.answers = False
        shop.intent = await self._store.latest(fleet, part_of(offer, shop.name).name)
        if shop.health.is_quiet(now):
            return
        try:
            shop.status = await shop.actuator.observe(fleet, part_of(offer, shop.name))
        except SupplierError as error:
            shop.health.erred(now, str(error))
            return
        shop.answers = True
        shop.health.answered()
        if shop.status.unavailable and shop.health.may_sell(now):
            shop.health.refused(now, shop.status.message)
        holdings = shop.holdings
        failed = frozenset(one.lot for one in holdings if one.state is HoldingState.FAILED)
        shop.health.saw(failed, frozenset(one.lot for one in holdings if one.state is HoldingState.READY), now)

    async def apply(self, fleet: str, offer: Offer, target: int) -> Result:
        """Make all suppliers together hold the target: give failed machines back, then shrink or grow."""
        try:
            await self.observe(fleet, offer)
            await self._price(offer)
        except SupplierError as error:
            return Failed(str(error), retryable=True)
        surplus = sum(shop.held for shop in self._shops) - target
        now = self._clock()
        results: list[tuple[str, Result]] = []
        for shop in self._shops:
            shop.stuck = shop.failed
        for shop in sorted(self._shops, key=self._usd, reverse=True):
            if not shop.answers:
                continue
            less = min(max(surplus, 0), shop.held)
            most = shop.held - surplus - sum(other.stuck for other in self._shops if other is not shop)
            result = await shop.actuator.tend(fleet, self._part(shop, offer), shop.held - less, most)
            results.append((shop.name, result))
            surplus -= -result.change if isinstance(result, Applied) and surplus > 0 else 0
            # A change may come with a failed machine that could not be ended.
            shop.stuck = 0 if isinstance(result, Skipped) else shop.failed
        # What could not be given back is still paid for: nothing is bought in its place, or the budget would pay twice.
        missing = max(0, -surplus - sum(shop.stuck for shop in self._shops))
        if missing >= offer.replicas_per_lot:
            bought, missing = await self._grow(fleet, offer, missing, now)
            results += bought
            await self._note(fleet, offer)
        return together(results, missing)

    async def _grow(self, fleet: str, offer: Offer, missing: int, now: float) -> tuple[list[tuple[str, Result]], int]:
        """Buy what is missing, the best supplier first; what a supplier may have sold without our knowing counts as bought.

        A stock that is quoted as smaller is not asked for more; one that is quoted as none is asked last, as quotes may be old. All
        together costs no more than the decision reckoned with, though what was lost since was cheaper.
        """
        results: list[tuple[str, Result]] = []
        paid = self._paid_usd_per_hour(offer)
        for shop in self.ranked(offer, now):
            if self._is_too_dear(shop, offer):
                results.append((shop.name, Failed(f"{self._usd(shop):.4f} USD is more than was quoted", retryable=True, unavailable=True)))
                break
            part = self._part(shop, offer, paid)
            room = affordable(offer, paid, part.usd_per_replica_hour)
            if room is not None and room < offer.replicas_per_lot:
                results.append((shop.name, Skipped(f"{offer.most_usd_per_hour:.2f} USD/h were decided on, and {paid:.2f} are paid")))
                continue
            stock = (shop.quote.stock_replicas if shop.quote is not None else None) or missing
            want = min(missing, stock, missing if room is None else room)
            # Its own actuator takes off again what is stuck, which `missing` leaves out already.
            result = await shop.actuator.apply(fleet, part, shop.held + shop.stuck + want)
            shop.intent = await self._store.latest(fleet, part.name)
            results.append((shop.name, result))
            if isinstance(result, Failed) and result.unavailable:
                shop.health.refused(now, result.error)
                continue
            more = max(result.change, 0) if isinstance(result, Applied) else want if isinstance(result, Failed) else 0
            missing -= more
            paid = None if paid is None else paid + more * (part.usd_per_replica_hour or 0.0)
            if missing < offer.replicas_per_lot:
                return results, 0
        if not results:
            reasons = "; ".join(f"{shop.name}: {shop.health.reason}" for shop in self._shops)
            results.append(("", Failed(f"no supplier can sell now: {reasons}", retryable=False, unavailable=True)))
        return results, missing

    def ranked(self, offer: Offer, now: float) -> list[Shop]:
        """Return the suppliers that may sell, by USD per unit of work: price with its boot and its failures.

        2.00 USD/h, a lead time of 10 min and one failure in fifty: 2.00 × (600 + 3600) / 3600 / 0.98 = 2.38. The one that most is held
        from comes first unless another is cheaper by the policy's advantage.
        """
        ceiling = offer.ceiling_usd_per_replica_hour
        able = [
            shop
            for shop in self._shops
            if shop.answers and shop.health.may_sell(now) and not (ceiling is not None and self._usd(shop) > ceiling + ROUNDING_USD)
        ]
        used = max(able, key=lambda shop: shop.held, default=None)

        def cost(shop: Shop) -> tuple[bool, float, str]:
            lead = shop.status.lead_time_seconds if shop.status is not None and shop.status.lead_time_seconds else offer.lead_time_seconds
            hold = max(offer.hold_seconds, USE_SECONDS)
            usd = self._usd(shop) * (lead + hold) / hold / (1.0 - shop.health.failure_share)
            favour = 1.0 - self._settings.price_advantage if shop is used and shop.held else 1.0
            return shop.quote is not None and shop.quote.stock_replicas == 0, usd * favour, shop.name

        return sorted(able, key=cost)

    def _usd(self, shop: Shop) -> float:
        known = None if shop.quote is None else shop.quote.usd_per_replica_hour
        return float("inf") if known is None else known

    def _reckoned_usd(self, shop: Shop, offer: Offer) -> float | None:
        """Return a supplier's price, the ceiling where it tells none."""
        usd = self._usd(shop)
        return usd if usd != float("inf") else offer.ceiling_usd_per_replica_hour

    def _part(self, shop: Shop, offer: Offer, paid_usd_per_hour: float | None = None) -> Offer:
        """Return the offer as one supplier's part of it, at its price of now, with the money that the others leave.

        Its own actuator knows nothing of the others, and may find less there than was promised: it buys in the place of that too.
        """
        usd, limit = self._reckoned_usd(shop, offer), offer.most_usd_per_hour
        if limit is not None and paid_usd_per_hour is not None:
            limit = max(0.0, limit - paid_usd_per_hour + (shop.usd_per_hour(usd) or 0.0))
        return replace(part_of(offer, shop.name), usd_per_replica_hour=usd, most_usd_per_hour=limit)

    def _is_too_dear(self, shop: Shop, offer: Offer) -> bool:
        """Return whether a supplier costs more than was quoted, or than the decision reckoned with: without a quote the policy's price."""
        usd, decided = self._reckoned_usd(shop, offer), offer.most_usd_per_replica_hour
        policy = (offer.usd_per_replica_hour, offer.ceiling_usd_per_replica_hour)
        limit = next((price for price in (self._quoted_usd, decided, *policy) if price is not None), float("inf"))
        return usd is None or usd > min(limit, float("inf") if decided is None else decided) + ROUNDING_USD

    async def _price(self, offer: Offer) -> None:
        """Ask every supplier that is not left alone for its quote; one that fails to answer keeps its last word until that expires."""
        now = self._clock()

        async def ask(shop: Shop) -> None:
            try:
                shop.quote = await shop.actuator.quote(part_of(offer, shop.name))
            except SupplierError as error:
                shop.health.erred(now, str(error))

        await asyncio.gather(*(ask(shop) for shop in self._shops if not shop.health.is_quiet(now)))
        for shop in self._shops:
            if shop.quote is not None and shop.quote.expires is not None and shop.quote.expires.timestamp() <= now:
                shop.quote = None

    async def quote(self, offer: Offer) -> Quote | None:
        """Return what the next replica costs, or what the held ones cost on average where that is more: a budget must cover both.

        None before the first look after a start: without what is held it could be too low, and the last word stands until then.
        """
        await self._price(offer)
        if not self._has_looked:
            return None
        now = self._clock()
        able = self.ranked(offer, now)
        held = [usd for shop in self._shops for usd in shop.paid_usd]
        prices = [*([self._usd(able[0])] if able else []), *([sum(held) / len(held)] if held else [])]
        self._quoted_usd = max(prices) if prices and max(prices) < float("inf") else None
        stocks = [None if shop.quote is None else shop.quote.stock_replicas for shop in able]
        return Quote(
            time=from_unix(now),
            offer=offer.name,
            usd_per_replica_hour=self._quoted_usd,
            stock_replicas=None if None in stocks else sum(stock or 0 for stock in stocks),
        )

    async def close(self) -> None:
        """Let go of connections."""
        for shop in self._shops:
            await shop.actuator.close()


def part_of(offer: Offer, supplier: str) -> Offer:
    """Return the offer as one supplier's part of it, under a name of its own: its purchases and marks are counted apart."""
    name = f"{offer.name}--{supplier}"
    if len(name) > NAME_CHARACTERS:
        name = f"{offer.name[:40]}--{blake2b(name.encode(), digest_size=8).hexdigest()}"
    return replace(offer, name=name)
