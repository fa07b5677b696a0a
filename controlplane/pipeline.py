"""tidegate without a network: the pure steps (state, event) -> (state, outputs). A new reader starts here.

    Observation, Launch ──▶ Forecasting.step ──▶ Forecast ─┐
    Observation, PoolStatus, Quote, Launch, Alert, Tick ───┴──▶ Planning.step ──▶ Decision (one for each Tick)

Production folds the stream TIDEGATE_INPUTS through these two; the pipe and the simulator fold frames through both at once
(`Pipeline.frame`). Time is always the event's. Go on to `policies.decide` for what a Tick decides.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from controlplane.contracts.events import (
    Alert,
    AlertAction,
    Decision,
    Event,
    Forecast,
    Launch,
    Observation,
    PoolStatus,
    Quote,
    Tick,
)
from controlplane.contracts.fleet import Fleet, LaunchPlan, Mode, Offer
from controlplane.contracts.frame import Frame
from controlplane.verdicts import decision_of
from forecasters.api import Array, Batch
from forecasters.combine import Combination, CombinationState, CombinedForecast
from policies.decide import Verdict, decide, start_memory
from policies.view import Memory, OfferView, Outlook, View

HORIZONS_SECONDS = (60, 120, 300, 480, 600, 900, 1200, 1800, 2700, 3600, 5400, 7200, 10800, 14400, 21600, 43200, 86400, 172800)
QUANTILES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.995, 0.999)
LIFT_SECONDS_AT_MOST = 3600.0


def horizons_of(fleet: Fleet) -> Array:
    """Return the horizons that a fleet's decisions need, seconds: the standard ones and its offers' lead times."""
    leads = {float(round(offer.lead_time_seconds)) for offer in fleet.offers if offer.lead_time_seconds >= 30.0}
    return np.array(sorted({float(horizon) for horizon in HORIZONS_SECONDS} | leads))


@dataclass(frozen=True, slots=True)
class ForecastState:
    """What the forecaster knows of one fleet: the methods' own state, and the waves that were announced."""

    methods: CombinationState
    waves: Mapping[str, LaunchPlan] = field(default_factory=dict)
    observed_unix: float | None = None


class Forecasting:
    """Demand of one fleet as a distribution by horizon: learns each Observation, answers with a Forecast."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.combination = Combination(fleet.forecast, horizons_of(fleet), np.array(QUANTILES))

    def start(self) -> ForecastState:
        """Return the state that has seen nothing but the policy's own launches."""
        return ForecastState(self.combination.start(1), {plan.name: plan for plan in self.fleet.launches})

    def step(self, state: ForecastState, event: Event) -> tuple[ForecastState, tuple[Forecast, ...]]:
        """Fold one event; an Observation that says something new is answered with a Forecast."""
        if isinstance(event, Launch):
            return see_launch(state, event), ()
        if not isinstance(event, Observation) or event.demand_per_second is None:
            return state, ()
        now = event.time.timestamp()
        if state.observed_unix is not None and now <= state.observed_unix:
            return state, ()
        state, made = self.learn(state, now, event.demand_per_second)
        return state, (self._event(made, event),)

    def learn(self, state: ForecastState, now: float, demand_per_second: float) -> tuple[ForecastState, CombinedForecast]:
        """Learn one value and forecast from it."""
        waves = (tuple(state.waves.values()),)
        batch = Batch(np.array([now]), np.array([demand_per_second]))
        methods = self.combination.learn(state.methods, batch, waves)
        made = self.combination.forecast(methods, now, waves)
        return ForecastState(methods, state.waves, now), made

    def _event(self, made: CombinedForecast, observation: Observation) -> Forecast:
        return Forecast(
            fleet=self.fleet.name,
            time=observation.time,
            observed=observation.time,
            horizons_seconds=tuple(self.combination.horizons_seconds.tolist()),
            quantiles=QUANTILES,
            demand_per_second=tuple(map(tuple, made.demand[0].tolist())),
            peak_per_second=tuple(map(tuple, made.peak[0].tolist())),
            weights={name: min(max(float(share[0]), 0.0), 1.0) for name, share in made.weights.items()},
        )


def see_launch(state: ForecastState, launch: Launch) -> ForecastState:
    """Return the state with a wave announced, corrected or called off."""
    waves = {name: plan for name, plan in state.waves.items() if name != launch.name}
    if not launch.cancelled:
        starts = launch.starts.timestamp()
        waves[launch.name] = LaunchPlan(launch.name, starts, launch.peak_multiple, launch.ramp_seconds, launch.half_life_seconds)
    return replace(state, waves=waves)


@dataclass(frozen=True, slots=True)
class Tally:
    """Work since the last decision, in units of work; None in `late` where nobody reports it."""

    demand: float = 0.0
    late: float | None = None
    spilled_per_second: float = 0.0


@dataclass(frozen=True, slots=True)
class PlanState:
    """What the planner knows of one fleet, folded from the stream; plain data, so that it can be snapshot."""

    memory: Memory
    outlook: Outlook | None = None
    observed_unix: float | None = None
    demand_per_second: float | None = None
    backlog: float = 0.0
    tally: Tally = Tally()
    pools: Mapping[str, PoolStatus] = field(default_factory=dict)
    quotes: Mapping[str, Quote] = field(default_factory=dict)
    alerts: Mapping[str, Alert] = field(default_factory=dict)
    ticked_unix: float | None = None


class Planning:
    """One fleet's decisions: folds everything that bears on them, and answers each Tick with one Decision."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet

    def start(self) -> PlanState:
        """Return the state that has seen nothing."""
        return PlanState(Memory())

    def step(self, state: PlanState, event: Event, sequence: int | None = None) -> tuple[PlanState, tuple[Decision, ...]]:
        """Fold one event; `sequence` is its place in the stream, recorded in the Decision that answers a Tick."""
        match event:
            case Observation():
                return self.see(state, event), ()
            case Forecast():
                return replace(state, outlook=outlook_of(event)), ()
            case PoolStatus():
                return replace(state, pools={**state.pools, event.offer: event}), ()
            case Quote():
                return replace(state, quotes={**state.quotes, event.offer: event}), ()
            case Alert():
                return replace(state, alerts={**state.alerts, event.name: event}), ()
            case Tick() if event.fleet in (None, self.fleet.name):
                now = event.time.timestamp()
                view = self.view(state, now, poke=event.is_poke)
                state, verdict = self.decide(state, view)
                return state, (decision_of(view, verdict, event, sequence),)
        return state, ()

    def see(self, state: PlanState, seen: Observation) -> PlanState:
        """Fold an Observation; an older one than what is known, or one that knows nothing, changes nothing."""
        now = seen.time.timestamp()
        if state.observed_unix is not None and now <= state.observed_unix:
            return state
        if seen.demand_per_second is None:
            return replace(state, backlog=state.backlog if seen.backlog is None else seen.backlog)
        elapsed = now - state.observed_unix if state.observed_unix is not None else seen.interval_seconds or 0.0
        late = state.tally.late
        if seen.late_per_second is not None:
            late = (late or 0.0) + seen.late_per_second * elapsed
        tally = Tally(state.tally.demand + seen.demand_per_second * elapsed, late, seen.spilled_per_second or 0.0)
        backlog = seen.backlog if seen.backlog is not None else 0.0
        return replace(state, observed_unix=now, demand_per_second=seen.demand_per_second, backlog=backlog, tally=tally)

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
        firing = [alert for alert in state.alerts.values() if alert.status == "firing" and now < _alert_ends(alert)]
        late = state.tally.late
        return View(
            now_unix=now,
            fleet=self.fleet,
            offers=tuple(self._offer(state, offer, now, shadow) for offer in self.fleet.offers),
            outlook=state.outlook,
            demand_per_second=state.demand_per_second,
            demand_age_seconds=now - state.observed_unix if state.observed_unix is not None else float("inf"),
            backlog=state.backlog,
            late_share=late / state.tally.demand if late is not None and state.tally.demand > 0.0 else None,
            spilled_per_second=state.tally.spilled_per_second,
            lift_replicas=sum(alert.lift_replicas for alert in firing if alert.action is AlertAction.LIFT),
            frozen=any(alert.action is AlertAction.FREEZE for alert in firing),
            poke=poke,
        )

    def _offer(self, state: PlanState, offer: Offer, now: float, shadow: bool) -> OfferView:
        pool, quote = state.pools.get(offer.name), state.quotes.get(offer.name)
        live = quote if quote is not None and (quote.expires is None or now < quote.expires.timestamp()) else None
        prices = (
            live.usd_per_replica_hour if live is not None else None,
            offer.usd_per_replica_hour,
            offer.ceiling_usd_per_replica_hour,
        )
        ready, pending = (pool.ready, pool.pending) if pool is not None else (0, 0)
        if shadow:
            ready, pending = state.memory.targets.get(offer.name, 0), 0
        return OfferView(
            offer=offer,
            ready=ready,
            pending=pending,
            usd_per_replica_hour=next((price for price in prices if price is not None), None),
            stock=live.stock_replicas if live is not None else None,
            unavailable=pool is not None and pool.unavailable,
        )


def _alert_ends(alert: Alert) -> float:
    """Return when an alert stops acting: its own expiry, at most an hour after it fired."""
    latest = alert.time.timestamp() + LIFT_SECONDS_AT_MOST
    return min(alert.expires.timestamp(), latest) if alert.expires is not None else latest


def outlook_of(forecast: Forecast) -> Outlook:
    """Return the arrays of a Forecast event."""
    return Outlook(
        np.array(forecast.horizons_seconds),
        np.array(forecast.quantiles),
        np.array(forecast.demand_per_second),
        np.array(forecast.peak_per_second),
    )


@dataclass(frozen=True, slots=True)
class PipeState:
    """Both halves of one fleet."""

    forecasting: ForecastState
    planning: PlanState


class Pipeline:
    """The whole of one fleet on frames, in event time: what the pipe, the simulator and a backtest run."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.forecasting = Forecasting(fleet)
        self.planning = Planning(fleet)

    def start(self) -> PipeState:
        """Return the state that has seen nothing."""
        return PipeState(self.forecasting.start(), self.planning.start())

    def frame(self, state: PipeState, frame: Frame) -> tuple[PipeState, Verdict]:
        """Fold one frame as the Observation, PoolStatus, Quotes and Tick that it stands for."""
        now = frame.time.timestamp()
        forecasting, planning = state.forecasting, state.planning
        if frame.demand is not None and (forecasting.observed_unix is None or now > forecasting.observed_unix):
            forecasting, made = self.forecasting.learn(forecasting, now, frame.demand)
            outlook = Outlook(self.forecasting.combination.horizons_seconds, _QUANTILES, made.demand[0], made.peak[0])
            planning = replace(planning, outlook=outlook)
        planning = self.planning.see(planning, observation_of(frame))
        stated = bool(frame.ready) or bool(frame.pending)
        if stated or frame.unavailable:
            planning = replace(planning, pools=dict(pools_of(frame, self.fleet.offers)))
        if frame.prices:
            planning = replace(planning, quotes={**planning.quotes, **dict(quotes_of(frame))})
        view = self.planning.view(planning, now, shadow=not stated and bool(planning.memory.targets) and _history(frame))
        planning, verdict = self.planning.decide(planning, view)
        return PipeState(forecasting, planning), verdict

    def tell(self, state: PipeState, event: Launch | Alert) -> PipeState:
        """Fold a launch or an alert; it is decided on with the next frame."""
        if isinstance(event, Launch):
            return replace(state, forecasting=see_launch(state.forecasting, event))
        planning, _ = self.planning.step(state.planning, event)
        return replace(state, planning=planning)


_QUANTILES = np.array(QUANTILES)


def _history(frame: Frame) -> bool:
    """Whether a frame says nothing at all about replicas: an exported history of demand, decided for on a shadow pool."""
    return "ready" not in frame.model_fields_set and "pending" not in frame.model_fields_set


def observation_of(frame: Frame) -> Observation:
    """Return the Observation in a frame."""
    return Observation.model_construct(
        fleet=frame.fleet,
        time=frame.time,
        interval_seconds=None,
        demand_per_second=frame.demand,
        backlog=frame.backlog,
        served_per_second=frame.served,
        late_per_second=frame.late,
        spilled_per_second=frame.spilled,
        flags=(),
    )


def pools_of(frame: Frame, offers: Iterable[Offer]) -> Iterable[tuple[str, PoolStatus]]:
    """Return the PoolStatus of every offer in a frame; an offer that it leaves out has nothing."""
    for offer in offers:
        name = offer.name
        yield (
            name,
            PoolStatus.model_construct(
                fleet=frame.fleet,
                offer=name,
                time=frame.time,
                ready=frame.ready.get(name, 0),
                pending=frame.pending.get(name, 0),
                draining=0,
                unavailable=name in frame.unavailable,
                message="",
            ),
        )


def quotes_of(frame: Frame) -> Iterable[tuple[str, Quote]]:
    """Return the quotes in a frame."""
    for name, price in frame.prices.items():
        yield name, Quote.model_construct(offer=name, time=frame.time, usd_per_replica_hour=price, stock_replicas=None, expires=None)
