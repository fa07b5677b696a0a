"""One offer of one fleet, kept as the newest unexpired Decision says: level-triggered, so a missed event costs a moment, not a replica.

Owns the loop observe → report → apply → report. It must not decide a number, and it buys or gives back nothing on an expired decision.
The actuator behind it is `actuators`; `controlplane.services.actuator` gives it the decisions.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime

import structlog

from actuators.api import Actuator, Applied, Failed, Result, Skipped, Watching, failed
from controlplane import tracing
from controlplane.clocks import Clock
from controlplane.contracts.errors import SupplierError, TidegateError
from controlplane.contracts.events import Actuation, Decision, Event, Outcome, PoolStatus, Quote, Reason, Tick
from controlplane.contracts.fleet import Mode, Offer
from controlplane.contracts.units import from_unix

PERIOD_SECONDS = 30.0
QUICK_SECONDS = 5.0
REPORT_SECONDS = 300.0
# How long replicas that came back may keep a shrink waiting for a decision that knows of them.
OUTDATED_SECONDS = 120.0

PRICES_KEPT = 64
# Prices are compared as money is: to a hundredth of a cent.
ROUNDING_USD = 1e-4

log = structlog.get_logger(__name__)
Publish = Callable[[Event], Awaitable[object]]


class Reconciler:
    """Follows decisions for one offer. `follow` hands it a decision, `run` works until cancelled.

    `shortest_pause_seconds` is wall time: a replay at high speed must not turn its 30 s period into a busy loop.
    """

    def __init__(
        self, fleet: str, offer: Offer, actuator: Actuator, clock: Clock, publish: Publish, shortest_pause_seconds: float = 0.05
    ) -> None:
        self.fleet, self.offer = fleet, offer
        self._actuator, self._clock, self._publish = actuator, clock, publish
        self._shortest_pause_seconds = shortest_pause_seconds
        self._decision: Decision | None = None
        self._trace: Mapping[str, str] = {}
        self._woken = asyncio.Event()
        self._status: PoolStatus | None = None
        self._quote: Quote | None = None
        # Since when each price was told, the newest last.
        self._prices: deque[tuple[datetime, float]] = deque(maxlen=PRICES_KEPT)
        self._answer: tuple[str, str] = ("", "")
        # When the planner was first told what is here: what was decided before that, this process does not know how it fits.
        self._told: datetime | None = None
        # When the supply last rose by itself, and since when a shrink waits for a decision made after that.
        self._rose: datetime | None = None
        self._waiting_since: datetime | None = None

    def follow(self, decision: Decision) -> None:
        """Take a decision over, unless a newer one is known."""
        if self._decision is None or decision.time >= self._decision.time:
            # Asked for again, the newest decision comes without its trace.
            self._trace = tracing.carried() or (self._trace if decision == self._decision else {})
            self._decision = decision
            self._woken.set()

    async def run(self) -> None:
        """Reconcile on every decision, when the actuator says that something changed, and in between all the same."""
        if isinstance(self._actuator, Watching):
            self._actuator.on_change(self.fleet, self.offer, self._woken.set)
        while True:
            self._woken.clear()
            try:
                await self.reconcile()
            except TidegateError as error:
                log.warning("reconciling waits", fleet=self.fleet, offer=self.offer.name, reason=str(error))
            await self._pause()

    async def reconcile(self) -> None:
        """Observe, report, and make the offer be the target, once."""
        status = await self._observe()
        if status is None:
            return
        decision, now = self._decision, self._clock.now()
        if decision is None or now >= decision.expires.timestamp() or self.offer.name not in decision.targets:
            return
        target = decision.targets[self.offer.name]
        held = status.ready + status.pending
        hands_off = _hands_off(decision)
        if hands_off:
            if target != held:
                await self._report(decision, target, held, Skipped(hands_off))
            return
        outdated = self._outdated(decision) if target < held else ""
        if outdated:
            await self._report(decision, target, held, Skipped(f"{outdated}: it takes nothing away before the next one"))
            return
        if target > held and self._is_dearer(decision):
            await self._report(
                decision, target, held, Skipped("it is dearer than when that was decided: nothing is bought before the next decision")
            )
            await self._quote_again()
            target = held
        with self._span(target, held):
            await self._make(decision, target, held)

    def _is_dearer(self, decision: Decision) -> bool:
        """Return whether the price is above the one that the decision reckoned with: 10 decided on at 2.00 USD/h cost twice that at 4.00.

        The decision says which that was, so a restart in between changes nothing. Where it does not, the price counts that had been told by
        then, and before any was told the policy's, or else the ceiling.
        """
        if not self._prices:
            return False
        decided = decision.most_usd_per_replica_hour.get(self.offer.name)
        policy = (decided, self.offer.usd_per_replica_hour, self.offer.ceiling_usd_per_replica_hour)
        told = [usd for since, usd in self._prices if since <= decision.time][-1:] if decided is None else []
        known = told + [usd for usd in policy if usd is not None]
        return bool(known) and self._prices[-1][1] > known[0] + ROUNDING_USD

    async def _quote_again(self) -> None:
        """Tell the price once more: a decision that reckons with a lower one may have it from elsewhere, and would do so for ever."""
        if self._quote is not None:
            self._quote = self._quote.model_copy(update={"time": from_unix(self._clock.now())})
            await self._publish(self._quote)

    def _at_its_price(self, decision: Decision) -> Offer:
        """Return the offer at its price of now, bound to the price and the money that the decision reckoned with."""
        name, now = self.offer.name, self._prices[-1][1] if self._prices else self.offer.usd_per_replica_hour
        most, limit = decision.most_usd_per_replica_hour.get(name), decision.most_usd_per_hour.get(name)
        return replace(self.offer, usd_per_replica_hour=now, most_usd_per_replica_hour=most, most_usd_per_hour=limit)

    def _outdated(self, decision: Decision) -> str:
        """Return why the decision cannot know of all that is here, "" where it can.

        Something may have come up by itself since: of 4 asked for with one crashing it says 3, and once that one has recovered nobody
        meant to lose a warm replica. It holds up shrinking alone, and no longer than `OUTDATED_SECONDS` on end, however often something
        comes and goes. After a restart nobody knows what came up meanwhile: a decision from before it takes nothing away as long as it
        lasts, which is until the next tick unless the planner is down.
        """
        if self._told is not None and decision.time < self._told:
            return "it was decided before this process told what is here"
        if self._rose is None or decision.time >= self._rose:
            self._waiting_since = None
            return ""
        now = from_unix(self._clock.now())
        self._waiting_since = self._waiting_since or now
        is_patient = (now - self._waiting_since).total_seconds() < OUTDATED_SECONDS
        return "more came up since the decision" if is_patient else ""

    def _span(self, target: int, held: int) -> AbstractContextManager[tracing.Noted]:
        """Open a span on the decision's trace where there is something to do; making sure that nothing is leaves none."""
        if target == held:
            return tracing.NOTHING
        return tracing.span("actuate", self._trace, kind="consumer", fleet=self.fleet, offer=self.offer.name, target=target, before=held)

    async def _make(self, decision: Decision, target: int, held: int) -> None:
        """Make the offer be the target, and say what came of it."""
        with tracing.span("request", kind="client", offer=self.offer.name) if target != held else tracing.NOTHING as span:
            result = await self._actuator.apply(self.fleet, self._at_its_price(decision), target)
            span.note(result=type(result).__name__)
            if isinstance(result, Failed):
                span.fail("the supplier refused or failed")
        if target != held or isinstance(result, Failed):
            await self._report(decision, target, held, result)
        if not isinstance(result, Skipped):
            refused = isinstance(result, Failed) and result.unavailable
            await self._observe(is_our_doing=isinstance(result, Applied) and result.change > 0, asked=0 if refused else target)
        if isinstance(result, Failed) and result.unavailable:
            await self._publish(Tick(time=from_unix(self._clock.now()), cause="refusal", fleet=self.fleet))

    async def _observe(self, *, is_our_doing: bool = False, asked: int = 0) -> PoolStatus | None:
        """Return what is there, published when it changed; None while the supplier does not answer, which is published too.

        `asked` is the target that may have been bought up to just now: what nobody can see of it counts as pending.
        """
        try:
            status = await self._actuator.observe(self.fleet, self.offer)
        except SupplierError as error:
            known = self._status or PoolStatus(time=from_unix(self._clock.now()), fleet=self.fleet, offer=self.offer.name, ready=0)
            blind = known.model_copy(
                update={
                    "unavailable": True,
                    "message": str(error)[:300],
                    "time": from_unix(self._clock.now()),
                    "pending": max(known.pending, asked - known.ready),
                    "usd_per_hour": known.usd_per_hour if known.ready + known.pending >= asked else None,
                }
            )
            if self._status is not None:
                await self._publish_status(blind)
            elif not error.retryable and (decision := self._decision) is not None and self.offer.name in decision.targets:
                # Nothing is known of the offer and asking again won't help: say so where a person looks.
                await self._report(decision, decision.targets[self.offer.name], 0, failed(error))
            log.warning("the supplier does not answer", fleet=self.fleet, offer=self.offer.name, reason=str(error))
            return None
        status = status.model_copy(update={"time": from_unix(self._clock.now())})
        if self._status is not None and _supply(status) > _supply(self._status) and not is_our_doing:
            self._rose = status.time
        await self._price()
        await self._publish_status(status)
        self._told = self._told or from_unix(self._clock.now())
        return status

    async def _publish_status(self, status: PoolStatus) -> None:
        old = self._status
        same = old is not None and old.model_copy(update={"time": status.time}) == status
        if same and old is not None and (status.time - old.time).total_seconds() < REPORT_SECONDS:
            return
        await self._publish(status)
        self._status = status
        if status.unschedulable > (old.unschedulable if old is not None else 0):
            await self._publish(Tick(time=status.time, cause="unschedulable", fleet=self.fleet))

    async def _price(self) -> None:
        """Publish the quote where it is new. Without one the last counts: giving back, and what is held, do not hang on a price."""
        try:
            quote = await self._actuator.quote(self.offer)
        except SupplierError as error:
            log.warning("there is no quote", fleet=self.fleet, offer=self.offer.name, reason=str(error))
            return
        if quote is None:
            return
        old = self._quote
        if old is None or old.model_copy(update={"time": quote.time}) != quote:
            await self._publish(quote)
            self._quote = quote
        usd = quote.usd_per_replica_hour
        if usd is not None and (not self._prices or usd != self._prices[-1][1]):
            self._prices.append((from_unix(self._clock.now()), usd))

    async def _report(self, decision: Decision, target: int, held: int, result: Result) -> None:
        """Publish what came of an attempt; the same answer to the same target is said once."""
        actuation = actuation_of(self.fleet, self.offer.name, decision, target, held, result, self._clock.now())
        answer = (f"{target} {actuation.outcome}", actuation.reason or actuation.error)
        if answer == self._answer and not isinstance(result, Applied):
            return
        self._answer = answer
        with tracing.span("outcome", offer=self.offer.name, outcome=actuation.outcome.value, change=actuation.change):
            await self._publish(actuation)
        log.info("actuated", **actuation.model_dump(mode="json", exclude={"time", "decision"}, exclude_defaults=True))

    async def _pause(self) -> None:
        """Wait for a decision or for the period, whichever comes first; sooner while something is on its way."""
        waiting = self._status is not None and self._status.pending > 0
        sleeping = asyncio.ensure_future(self._clock.sleep(QUICK_SECONDS if waiting else PERIOD_SECONDS))
        waking = asyncio.ensure_future(self._woken.wait())
        try:
            await asyncio.sleep(self._shortest_pause_seconds)
            await asyncio.wait({sleeping, waking}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            waking.cancel()
            await asyncio.gather(sleeping, waking, return_exceptions=True)


def _supply(status: PoolStatus) -> int:
    """Return what a planner counts on: what is ready or on its way, less what no node takes."""
    return status.ready + max(status.pending - status.unschedulable, 0)


def _hands_off(decision: Decision) -> str:
    """Return why nothing may be touched, "" where it may. A frozen target is what is held, and even making sure of that could buy."""
    if decision.mode is Mode.RECOMMEND:
        return "recommend mode: nothing is touched"
    return "frozen: nothing is touched" if Reason.FROZEN in decision.reasons else ""


def actuation_of(fleet: str, offer: str, decision: Decision, target: int, held: int, result: Result, now_unix: float) -> Actuation:
    """Return the event that says what came of one attempt."""
    shared = {"fleet": fleet, "offer": offer, "time": from_unix(now_unix), "decision": decision.event_id, "target": target, "before": held}
    match result:
        case Applied():
            return Actuation(**shared, outcome=Outcome.APPLIED, change=result.change, intent=result.intent, reason=result.reason)
        case Skipped():
            return Actuation(**shared, outcome=Outcome.SKIPPED, reason=result.reason)
        case Failed():
            return Actuation(**shared, outcome=Outcome.FAILED, error=result.error, retryable=result.retryable)
