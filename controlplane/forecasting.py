"""The forecaster's half of the pipeline: Observation and Launch in, Forecast out, for one fleet.

Owns which horizons and quantiles a fleet's decisions need, and the waves that were announced. Pure: time is the event's.
`forecasters.combine` makes the numbers; `controlplane.planning` is the other half; `controlplane.pipeline` shows both.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from controlplane.contracts.events import Event, Flag, Forecast, Launch, Observation, Tide
from controlplane.contracts.fleet import Fleet, LaunchPlan
from controlplane.contracts.units import from_unix
from forecasters.api import Array, Batch
from forecasters.combine import Combination, CombinationState, CombinedForecast
from forecasters.rewind import Rewindable
from forecasters.watch import is_past
from policies.view import Outlook

HORIZONS_SECONDS = (60, 120, 300, 480, 600, 900, 1200, 1800, 2700, 3600, 5400, 7200, 10800, 14400, 21600, 43200, 86400, 172800)
QUANTILES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.995, 0.999)
# An observation with one of these flags is neither learnt from nor shrunk on.
DOUBTS = frozenset({Flag.IMPLAUSIBLE, Flag.RESET})


def horizons_of(fleet: Fleet) -> Array:
    """Return the horizons that a fleet's decisions need, seconds: the standard ones and its offers' lead times."""
    leads = {float(round(offer.lead_time_seconds)) for offer in fleet.offers if offer.lead_time_seconds >= 30.0}
    return np.array(sorted({float(horizon) for horizon in HORIZONS_SECONDS} | leads))


@dataclass(frozen=True, slots=True)
class ForecastState:
    """What the forecaster knows of one fleet: what its methods learnt in so many changes, and the waves that were announced.

    Whoever has one after a step from it failed has it as it was; that of a step before has been used up.
    """

    learnt: Rewindable
    waves: Mapping[str, LaunchPlan] = field(default_factory=dict)
    observed_unix: float | None = None
    changes: int = 0

    @property
    def methods(self) -> CombinationState:
        """The methods' own state."""
        return self.learnt.at(self.changes)


class Forecasting:
    """Demand of one fleet as a distribution by horizon: learns each Observation, answers with a Forecast."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.combination = Combination(fleet.forecast, horizons_of(fleet), np.array(QUANTILES))

    @property
    def planned(self) -> dict[str, LaunchPlan]:
        """The launches that the policy announces, by name."""
        return {plan.name: plan for plan in self.fleet.launches}

    def start(self) -> ForecastState:
        """Return the state that has seen nothing but the policy's own launches."""
        return ForecastState(Rewindable(self.combination, self.combination.start(1)), self.planned)

    def step(self, state: ForecastState, event: Event) -> tuple[ForecastState, tuple[Forecast, ...]]:
        """Fold one event; an Observation that says something new is answered with a Forecast, unless it is history read back.

        So is a Launch, once anything was observed: what was known is forecast again with the wave in it. A Tide is taken over.
        """
        if isinstance(event, Launch):
            before, state = state.waves, see_launch(state, event)
            if state.observed_unix is None or state.waves == before:
                return state, ()
            made = self.combination.forecast(state.methods, state.observed_unix, (tuple(state.waves.values()),), announced=True)
            return state, (self._event(made, event, state.observed_unix),)
        if isinstance(event, Tide):
            return self._adopt(state, event), ()
        if not isinstance(event, Observation) or event.demand_per_second is None or DOUBTS & set(event.flags):
            return state, ()
        now = event.time.timestamp()
        if state.observed_unix is not None and now <= state.observed_unix:
            return state, ()
        state, made = self.learn(state, now, event.demand_per_second)
        return state, () if Flag.HISTORY in event.flags else (self._event(made, event, now),)

    def _adopt(self, state: ForecastState, found: Tide) -> ForecastState:
        """Take over what a refit found, unless that is nothing new or its day is not the policy's any more."""
        settings = self.fleet.forecast
        if not found.coefficients or (found.time_zone, found.season_seconds) != (settings.time_zone, settings.season_seconds):
            return state
        state.learnt.adopt(state.changes, np.zeros(1, dtype=np.int64), np.array([found.coefficients]))
        return replace(state, changes=state.changes + 1)

    def learn(self, state: ForecastState, now: float, demand_per_second: float) -> tuple[ForecastState, CombinedForecast]:
        """Learn one value and forecast from it."""
        waves = (tuple(state.waves.values()),)
        batch = Batch(np.array([now]), np.array([demand_per_second]))
        methods = state.learnt.learn(state.changes, batch, waves)
        made = self.combination.forecast(methods, now, waves)
        return ForecastState(state.learnt, state.waves, now, state.changes + 1), made

    def _event(self, made: CombinedForecast, cause: Event, observed_unix: float) -> Forecast:
        return Forecast(
            fleet=self.fleet.name,
            time=cause.time,
            observed=from_unix(observed_unix),
            horizons_seconds=tuple(self.combination.horizons_seconds.tolist()),
            quantiles=QUANTILES,
            demand_per_second=tuple(map(tuple, made.demand[0].tolist())),
            peak_per_second=tuple(map(tuple, made.peak[0].tolist())),
            weights={name: min(max(float(share[0]), 0.0), 1.0) for name, share in made.weights.items()},
        )


def see_launch(state: ForecastState, launch: Launch) -> ForecastState:
    """Return the state with a wave announced, corrected or called off; a change forgets those that can no longer matter.

    They are measured against the newest observation, not against the announcement's own time: every later forecast is from a later
    observation, whereas a launch may be told before the history that it lies in is read back, or by a clock that is years ahead.
    """
    waves = {name: plan for name, plan in state.waves.items() if name != launch.name}
    if not launch.cancelled:
        starts = launch.starts.timestamp()
        waves[launch.name] = LaunchPlan(launch.name, starts, launch.peak_multiple, launch.ramp_seconds, launch.half_life_seconds)
    if waves == state.waves:
        return state
    now = state.observed_unix
    if now is not None:
        waves = {name: plan for name, plan in waves.items() if not is_past(state.methods.watch, 0, now, plan)}
    return replace(state, waves=waves)


def waves_anew(
    waves: Mapping[str, LaunchPlan], planned: Mapping[str, LaunchPlan], plans: Mapping[str, LaunchPlan]
) -> dict[str, LaunchPlan]:
    """Return the waves of a state that was kept under a policy with the launches `planned`, now that it has the launches `plans`.

    What the policy says anew counts, and what it no longer says is gone. Where it says what it said, what was said since stays: a launch
    that was called off is not back after a restart.
    """
    kept = {name: wave for name, wave in waves.items() if name in plans or wave != planned.get(name)}
    return kept | {name: plan for name, plan in plans.items() if plan != planned.get(name)}


def outlook_of(forecast: Forecast) -> Outlook:
    """Return the arrays of a Forecast event."""
    return Outlook(
        np.array(forecast.horizons_seconds),
        np.array(forecast.quantiles),
        np.array(forecast.demand_per_second),
        np.array(forecast.peak_per_second),
    )
