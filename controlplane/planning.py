"""The planner's half of the pipeline: everything that bears on a decision in, one Decision for each Tick out, for one fleet.

Owns the state that is folded from the stream, and how it becomes the View that a decision sees. Pure: time is the event's.
It must not decide; `policies.decide` does. `controlplane.verdicts` writes the Decision down.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from controlplane.contracts.events import Alert, AlertAction, Decision, Event, Flag, Forecast, Observation, PoolStatus, Quote, Tick
from controlplane.contracts.fleet import Fleet, Mode, Offer
from controlplane.forecasting import DOUBTS, outlook_of
from controlplane.verdicts import decision_of
from policies.carried import AS_STATED, Carried, Work, see_work
from policies.decide import Verdict, decide, start_memory
from policies.stabilize import age_cohorts
from policies.starts import LONGEST_SECONDS, Starts, lead_time_seconds, see_pool
from policies.view import Cohort, Memory, OfferView, Outlook, View

LIFT_SECONDS_AT_MOST = 3600.0


@dataclass(frozen=True, slots=True)
class Tally:
    """Work since the last decision, in units of work, and the mean rate of spill over it; None where nobody reports it.

    Until something is reported after a decision, `spilled_per_second` is the one before it, over no seconds.
    """

    demand: float = 0.0
    late: float | None = None
    spilled_per_second: float | None = None
    spilled_seconds: float = 0.0

    def spilling(self, rate: float | None, seconds: float) -> tuple[float | None, float]:
        """Return the mean rate of spill, and the seconds it is over, with one more interval."""
        if rate is None:
            return (self.spilled_per_second, self.spilled_seconds) if self.spilled_seconds > 0.0 else (None, 0.0)
        if self.spilled_seconds <= 0.0 or self.spilled_per_second is None or seconds <= 0.0:
            return rate, seconds
        covered = self.spilled_seconds + seconds
        return self.spilled_per_second + (rate - self.spilled_per_second) * seconds / covered, covered


@dataclass(frozen=True, slots=True)
class Pool:
    """What one offer holds, as last reported. `unserving` replicas drain or have failed: paid, and in neither of the others.

    Of the pending, `stuck` are those that the scheduler cannot place, by the time since when. `usd_per_hour` is what all of it costs now.
    """

    ready: int = 0
    pending: int = 0
    unavailable: bool = False
    stuck: tuple[Cohort, ...] = ()
    unserving: int = 0
    usd_per_hour: float | None = None
    told_unix: float = float("inf")

    def stuck_replicas(self, since_unix: float = float("-inf")) -> int:
        """Return how many have been stuck since no earlier than `since_unix`."""
        return sum(cohort.replicas for cohort in self.stuck if cohort.since_unix > since_unix)


@dataclass(frozen=True, slots=True)
class Price:
    """An offer's last quote. None: not known."""

    usd_per_replica_hour: float | None
    stock_replicas: int | None = None
    expires_unix: float = float("inf")
    lead_time_seconds: float | None = None


NOTHING_HELD = Pool()


@dataclass(frozen=True, slots=True)
class PlanState:
    """What the planner knows of one fleet, folded from the stream; plain data, so that it can be snapshot."""

    memory: Memory
    outlook: Outlook | None = None
    forecast_unix: float | None = None
    observed_unix: float | None = None
    demand_per_second: float | None = None
    backlog: float = 0.0
    doubtful: bool = False
    tally: Tally = Tally()
    pools: Mapping[str, Pool] = field(default_factory=dict)
    prices: Mapping[str, Price] = field(default_factory=dict)
    alerts: Mapping[str, Alert] = field(default_factory=dict)
    ticked_unix: float | None = None
    starts: Mapping[str, Starts] = field(default_factory=dict)
    carried: Carried = AS_STATED
    startup_seconds: float = 0.0


class Planning:
    """One fleet's decisions: folds everything that bears on them, and answers each Tick with one Decision."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.learning = frozenset(offer.name for offer in fleet.offers if offer.learns_lead_time)

    def start(self) -> PlanState:
        """Return the state that has seen nothing."""
        return PlanState(Memory())

    def step(self, state: PlanState, event: Event, sequence: int | None = None) -> tuple[PlanState, tuple[Decision, ...]]:
        """Fold one event; `sequence` is its place in the stream, recorded in the Decision that answers a Tick."""
        match event:
            case Observation():
                return self.see_observation(state, event), ()
            case Forecast():
                return replace(state, outlook=outlook_of(event), forecast_unix=event.observed.timestamp()), ()
            case PoolStatus():
                return self.see_pool(state, event), ()
            case Quote():
                return replace(state, prices={**state.prices, event.offer: price_of(event)}), ()
            case Alert():
                return see_alert(state, event), ()
            case Tick() if event.fleet in (None, self.fleet.name):
                now = event.time.timestamp()
                view = self.view(state, now, poke=event.is_poke)
                state, verdict = self.decide(state, view)
                factor = state.carried.factor if self.fleet.corrects_capacity else None
                return state, (decision_of(view, verdict, event, sequence, state.memory, factor),)
        return state, ()

    def see_observation(self, state: PlanState, seen: Observation) -> PlanState:
        """Fold an Observation. One that its collector doubts (`DOUBTS`) is not believed: demand is unknown. History is not decided on."""
        if Flag.HISTORY in seen.flags:
            return state
        doubtful = bool(DOUBTS & set(seen.flags))
        demand = None if doubtful else seen.demand_per_second
        work = Work(demand, seen.backlog, seen.late_per_second, seen.spilled_per_second)
        state = self.see(state, seen.time.timestamp(), work, seen.interval_seconds or 0.0)
        state = self.see_carried(state, work, seen.time.timestamp())
        if self.learning and seen.startup_seconds and seen.startup_seconds != state.startup_seconds:
            state = replace(state, startup_seconds=min(seen.startup_seconds, LONGEST_SECONDS))
        return state if state.doubtful == doubtful else replace(state, doubtful=doubtful)

    def see(self, state: PlanState, now: float, work: Work, interval_seconds: float = 0.0) -> PlanState:
        """Fold what was seen at `now`; older than what is known changes nothing, and unknown demand leaves the known to grow old.

        `interval_seconds` is what the first one covers; later ones cover the time since the one before.
        """
        seen = self.seen(state, now, work, interval_seconds)
        return replace(state, **seen) if seen else state

    def seen(self, state: PlanState, now: float, work: Work, interval_seconds: float = 0.0) -> dict[str, Any]:
        """Return what `see` changes."""
        if state.observed_unix is not None and now <= state.observed_unix:
            return {}
        backlog = state.backlog if work.backlog is None and work.demand is None else work.backlog or 0.0
        if work.demand is None:
            return {"backlog": backlog}
        elapsed = now - state.observed_unix if state.observed_unix is not None else interval_seconds
        missed = work.late if work.late is not None else self._estimated_late(state, work)
        late = state.tally.late if missed is None else (state.tally.late or 0.0) + missed * elapsed
        tally = Tally(state.tally.demand + work.demand * elapsed, late, *state.tally.spilling(work.spilled, elapsed))
        return {"observed_unix": now, "demand_per_second": work.demand, "backlog": backlog, "tally": tally}

    def _estimated_late(self, state: PlanState, work: Work) -> float | None:
        """Return the work per second that ready replicas cannot have served, where nobody reports it and replicas are known."""
        if work.demand is None or not state.pools:
            return None
        ready = self._ready_per_second(state) * state.carried.factor
        return max(work.demand - ready - (work.spilled or 0.0), 0.0)

    def _ready_per_second(self, state: PlanState) -> float:
        """Return the stated capacity of the replicas that are ready."""
        return sum(offer.capacity_per_second * state.pools.get(offer.name, NOTHING_HELD).ready for offer in self.fleet.offers)

    def see_carried(self, state: PlanState, work: Work, now: float) -> PlanState:
        """Fold what ready replicas were seen to carry, where the policy corrects capacity by it."""
        if not self.fleet.corrects_capacity:
            return state
        slo, ready = self.fleet.slo, self._ready_per_second(state)
        carried = see_work(state.carried, work, ready, now, slo.attainment, slo.ttft_seconds)
        return replace(state, carried=carried)

    def see_pool(self, state: PlanState, seen: PoolStatus) -> PlanState:
        """Fold what one offer really holds, and since when the scheduler has not been able to place some of it."""
        now, stuck = seen.time.timestamp(), min(seen.unschedulable, seen.pending)
        known = state.pools.get(seen.offer, NOTHING_HELD).stuck
        if (stuck or known) and (offer := self.fleet.offer_by_name.get(seen.offer)) is not None:
            known = age_cohorts(known, stuck, now, max(self._lead_time_seconds(state, offer, now), 1.0))
        pool = Pool(seen.ready, seen.pending, seen.unavailable, known, seen.draining + seen.failed_replicas, seen.usd_per_hour, now)
        state = replace(state, pools={**state.pools, seen.offer: pool})
        return self.see_starts(state, {seen.offer: pool}, now, seen.lead_time_seconds)

    def see_starts(self, state: PlanState, pools: Mapping[str, Pool], now: float, measured_seconds: float | None = None) -> PlanState:
        """Fold what pools say of how long starting takes, where an offer learns it."""
        # In the policy's order: a set's would make two runs' snapshots differ.
        told = [offer.name for offer in self.fleet.offers if offer.learns_lead_time and offer.name in pools] if self.learning else []
        if not told:
            return state
        seen = {
            name: see_pool(
                state.starts.get(name), pools[name].ready, pools[name].pending, now, self._asked_unix(state, name, now), measured_seconds
            )
            for name in told
        }
        return replace(state, starts={**state.starts, **seen})

    def _asked_unix(self, state: PlanState, name: str, now: float) -> float:
        """Return when what is new in a pool was asked for: when its target was raised above what the pool had, else at the last tick.

        A supplier may list a purchase only minutes later. In recommend mode others buy, and not by our targets.
        """
        known, memory = state.starts.get(name), state.memory
        raised = memory.raised_unix.get(name)
        listed = known.ready + known.pending if known is not None else 0
        if raised is not None and self.fleet.guard.mode is Mode.ACT and memory.targets.get(name, 0) > listed:
            return min(raised, now)
        return min(state.ticked_unix, now) if state.ticked_unix is not None else now

    def decide(self, state: PlanState, view: View) -> tuple[PlanState, Verdict]:
        """Decide on a view, and start a new tally."""
        memory = state.memory if state.memory.metered_unix is not None else start_memory(view.now_unix)
        verdict, memory = decide(view, memory)
        tally = Tally(spilled_per_second=state.tally.spilled_per_second)
        return replace(state, memory=memory, tally=tally, ticked_unix=view.now_unix), verdict

    def view(self, state: PlanState, now: float, *, poke: bool = False, shadow: bool | None = None) -> View:
        """Return what the decision sees at `now`. In recommend mode replicas are those of a shadow pool that follows every target."""
        if shadow is None:
            shadow = self.fleet.guard.mode is Mode.RECOMMEND and bool(state.memory.targets)
        firing = [alert for alert in state.alerts.values() if now < _alert_ends(alert)]
        late = state.tally.late
        return View(
            now_unix=now,
            fleet=self.fleet,
            offers=tuple(self._offer(state, offer, now, shadow) for offer in self.fleet.offers),
            outlook=state.outlook,
            demand_per_second=state.demand_per_second,
            demand_age_seconds=now - _known_unix(state),
            backlog=state.backlog,
            late_share=late / state.tally.demand if late is not None and state.tally.demand > 0.0 else None,
            spilled_per_second=state.tally.spilled_per_second,
            lift_replicas=sum(alert.lift_replicas for alert in firing if alert.action is AlertAction.LIFT),
            implausible=state.doubtful,
            frozen=any(alert.action is AlertAction.FREEZE for alert in firing),
            poke=poke,
            is_shadow=shadow,
        )

    def _offer(self, state: PlanState, offer: Offer, now: float, shadow: bool) -> OfferView:
        pool, price = state.pools.get(offer.name, NOTHING_HELD), state.prices.get(offer.name)
        if price is not None and now >= price.expires_unix:
            price = None
        usd = price.usd_per_replica_hour if price is not None else None
        if usd is None:
            usd = offer.usd_per_replica_hour if offer.usd_per_replica_hour is not None else offer.ceiling_usd_per_replica_hour
        if offer.learns_lead_time:
            offer = replace(offer, lead_time_seconds=self._lead_time_seconds(state, offer, now))
        stuck = self._stuck(pool, offer, now) if pool.stuck else 0
        if state.carried.factor != 1.0:
            offer = replace(offer, capacity_per_second=offer.capacity_per_second * state.carried.factor)
        return OfferView(
            offer=offer,
            ready=state.memory.targets.get(offer.name, 0) if shadow else pool.ready,
            pending=0 if shadow else pool.pending - stuck,
            usd_per_replica_hour=usd,
            stock=price.stock_replicas if price is not None else None,
            unavailable=pool.unavailable or stuck > 0,
            stuck=0 if shadow else stuck,
            unserving=0 if shadow else pool.unserving,
            paid_usd_per_hour=None if shadow else pool.usd_per_hour,
            told_unix=pool.told_unix,
            untold=not shadow and offer.name not in state.pools and offer.actuator != "none" and self.fleet.guard.mode is Mode.ACT,
        )

    def _stuck(self, pool: Pool, offer: Offer, now: float) -> int:
        """Return how many the scheduler cannot place and will not soon: no supply on its way, and more of them would not be either.

        Where nodes are added on demand, being unplaced is what calls for them: it is a boot like any other, as long as one may take.
        """
        return pool.stuck_replicas() - (pool.stuck_replicas(now - offer.lead_time_seconds) if offer.has_elastic_nodes else 0)

    def _lead_time_seconds(self, state: PlanState, offer: Offer, now: float) -> float:
        """Return the lead time to reckon with: as stated, or as learnt where the offer learns it."""
        if not offer.learns_lead_time:
            return offer.lead_time_seconds
        price = state.prices.get(offer.name)
        quoted = price.lead_time_seconds if price is not None and now < price.expires_unix else None
        # What an engine took to start is a part of any lead time: less than that nobody need believe.
        prior = max(quoted if quoted is not None else offer.lead_time_seconds, state.startup_seconds)
        return lead_time_seconds(state.starts.get(offer.name), prior, now)


def _known_unix(state: PlanState) -> float:
    """Return when the newest demand is from that the outlook knows of: without a forecaster, fresh demand makes no fresh outlook."""
    if state.observed_unix is None:
        return float("-inf")
    return state.observed_unix if state.forecast_unix is None else min(state.observed_unix, state.forecast_unix)


def see_alert(state: PlanState, alert: Alert) -> PlanState:
    """Return the state with an alert firing or resolved; those that ended are forgotten."""
    now = alert.time.timestamp()
    firing = {name: known for name, known in state.alerts.items() if name != alert.name and now < _alert_ends(known)}
    if alert.status == "firing":
        firing[alert.name] = alert
    return replace(state, alerts=firing)


def price_of(quote: Quote) -> Price:
    """Return what the planner keeps of a Quote."""
    expires = quote.expires.timestamp() if quote.expires is not None else float("inf")
    return Price(quote.usd_per_replica_hour, quote.stock_replicas, expires, quote.lead_time_seconds)


def _alert_ends(alert: Alert) -> float:
    """Return when an alert stops acting: its own expiry, at most an hour after it fired."""
    latest = alert.time.timestamp() + LIFT_SECONDS_AT_MOST
    return min(alert.expires.timestamp(), latest) if alert.expires is not None else latest
