"""Observations that come faster than anybody decides, gathered into one before they are learnt from. Pure: time is the event's.

Owns the mean over what was gathered, weighted by time; a value that stands alone passes as it is. It notes the calm hours for the next
refit of the tide (`controlplane.refitting`). It must not doubt or learn anything: `controlplane.forecasting` does. The planner sees every
observation all the same, as staleness and backlog are judged on the newest.
"""

from dataclasses import dataclass, field, replace
from hashlib import blake2b

from controlplane.contracts.events import Event, Forecast, Observation, Tide
from controlplane.contracts.fleet import Fleet
from controlplane.forecasting import DOUBTS, Forecasting, ForecastState
from controlplane.refitting import HOUR_SECONDS, Hours, start_hours

# A tick of 15 s takes a forecast a second: more of them would be overwritten before they are decided on.
SHARE_OF_TICK = 1.0 / 16.0


@dataclass(frozen=True, slots=True)
class GatherState:
    """What is learnt, and beyond it `work` units over `covered_seconds` until `until_unix`, not learnt yet.

    `hours` is what the tide was lately, and `refitted_unix` up to when it was known at the newest refit; None: there was none.
    """

    learnt: ForecastState
    work: float = 0.0
    covered_seconds: float = 0.0
    until_unix: float | None = None
    hours: Hours = field(default_factory=start_hours)
    refitted_unix: float | None = None


def stagger_of(name: str) -> float:
    """Return a share between 0.75 and 1 by name, so that many fleets in one process do not all learn in the same moment."""
    return 1.0 - blake2b(name.encode(), digest_size=1).digest()[0] / 1024.0


class Coalescing:
    """A fleet's forecasting, fed about once in a sixteenth of its tick however fast observations come."""

    def __init__(self, fleet: Fleet) -> None:
        self.forecasting = Forecasting(fleet)
        self._least_seconds = SHARE_OF_TICK * fleet.tick_seconds * stagger_of(fleet.name)

    def start(self) -> GatherState:
        """Return the state that has seen nothing."""
        return GatherState(self.forecasting.start())

    def step(self, state: GatherState, event: Event) -> tuple[GatherState, tuple[Forecast, ...]]:
        """Fold one event; what is gathered is learnt once it covers long enough."""
        if isinstance(event, Observation) and event.demand_per_second is not None and not DOUBTS & set(event.flags):
            return self._observe(state, event, event.demand_per_second)
        learnt, made = self.forecasting.step(state.learnt, event)
        refitted = event.observed.timestamp() if isinstance(event, Tide) else state.refitted_unix
        return replace(state, learnt=learnt, refitted_unix=refitted), made

    def _observe(self, state: GatherState, seen: Observation, demand_per_second: float) -> tuple[GatherState, tuple[Forecast, ...]]:
        now, observed = seen.time.timestamp(), state.learnt.observed_unix
        since = state.until_unix if state.until_unix is not None else observed
        if since is None or observed is None:
            return self._learn(state, seen)
        if now <= since:
            return state, ()
        is_long_enough = now - observed >= self._least_seconds
        if is_long_enough and state.covered_seconds == 0.0:
            return self._learn(state, seen)
        work = state.work + demand_per_second * (now - since)
        covered = state.covered_seconds + now - since
        if not is_long_enough:
            return replace(state, work=work, covered_seconds=covered, until_unix=now), ()
        mean = seen.model_copy(update={"demand_per_second": work / covered, "interval_seconds": covered})
        return self._learn(state, mean)

    def _learn(self, state: GatherState, seen: Observation) -> tuple[GatherState, tuple[Forecast, ...]]:
        before = state.learnt.observed_unix
        learnt, made = self.forecasting.step(state.learnt, seen)
        now, demand = learnt.observed_unix, seen.demand_per_second
        if now is not None and demand is not None and now != before and learnt.methods.is_calm(0):
            state.hours.add(now, seen.interval_seconds or (HOUR_SECONDS if before is None else now - before), demand)
        return GatherState(learnt, hours=state.hours, refitted_unix=state.refitted_unix), made
