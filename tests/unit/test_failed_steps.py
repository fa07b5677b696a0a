"""A step of the forecaster that fails half-way: what comes after is forecast as if that one had never come."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from controlplane.coalescing import Coalescing
from controlplane.contracts.events import Event, Forecast, Observation, Tide
from controlplane.contracts.units import from_unix
from controlplane.pipe import LineError, Pipe
from controlplane.snapshot import dump_forecast
from forecasters.api import Array, Batch
from forecasters.combine import Combination, CombinationState, CombinedForecast
from forecasters.harmonic import FEATURES
from forecasters.intake import Index
from forecasters.launch import Waves
from forecasters.rewind import COPY_EVERY
from tests.unit.web_rig import FLEET

START = 1_790_000_000.0
POISON = 666.0


class Defect(ValueError):
    """What a defect of ours raises; pydantic's ValidationError is a ValueError too."""


class Tripping(Combination):
    """A combination that fails on one value of demand: with some of its arrays changed, all of them, or in the forecast after."""

    fails_in = "the middle of learning"

    def learn(self, state: CombinationState, batch: Batch, waves: Waves = ()) -> CombinationState:
        is_poison = batch.demand_per_second[0] == POISON
        if is_poison and self.fails_in == "the middle of learning":
            self._pool.learn(state.pool, batch)
            raise Defect
        after = super().learn(state, batch, waves)
        if is_poison and self.fails_in == "the end of learning":
            raise Defect
        return after

    def forecast(self, state: CombinationState, now_unix: float, waves: Waves = (), *, announced: bool = False) -> CombinedForecast:
        made = super().forecast(state, now_unix, waves, announced=announced)
        if state.pool.intake.demand[0] != POISON:
            return made
        if self.fails_in == "the forecast":
            raise Defect
        made.demand[0, 0] = np.nan  # no event can carry this
        return made

    def adopt(self, state: CombinationState, fleet: Index, theta: Array) -> CombinationState:
        after = super().adopt(state, fleet, theta)
        if theta[0, 0] == POISON:
            raise Defect
        return after


def tripping(fails_in: str) -> Tripping:
    fleet = Coalescing(FLEET).forecasting
    made = Tripping(FLEET.forecast, fleet.combination.horizons_seconds, fleet.combination.quantiles)
    made.fails_in = fails_in
    return made


def coalescing(fails_in: str = "the middle of learning") -> Coalescing:
    made = Coalescing(FLEET)
    made.forecasting.combination = tripping(fails_in)
    return made


def seen(minute: float, demand: float) -> Observation:
    return Observation(time=from_unix(START + 60.0 * minute), fleet=FLEET.name, demand_per_second=demand)


def demands(count: int, every: int) -> Iterator[tuple[float, float]]:
    """Yield minutes and demand: a tide with bursts, and `every` so often, half a minute later, a value that trips."""
    rng = np.random.default_rng(5)
    for minute in range(count):
        yield minute, float(40.0 + 30.0 * np.sin(minute / 200.0) + 100.0 * (rng.random() < 0.02))
        if minute % every == every - 1:
            yield minute + 0.5, POISON


def folded(service: Coalescing, events: Sequence[Event]) -> tuple[list[Forecast], int, bytes]:
    """Fold as the services do: a step that fails leaves its state to the next. Return forecasts, failures and the state's snapshot."""
    state, made, failed = service.start(), [], 0
    for event in events:
        try:
            state, out = service.step(state, event)
        except ValueError:
            failed += 1
        else:
            made += out
    return made, failed, dump_forecast(service.forecasting, state.learnt)


@pytest.mark.parametrize("fails_in", ["the middle of learning", "the end of learning", "the forecast", "the event"])
def test_a_step_that_fails_leaves_nothing_behind(fails_in: str) -> None:
    events = [seen(minute, demand) for minute, demand in demands(2 * COPY_EVERY + 100, 97)]
    clean = [event for event in events if event.demand_per_second != POISON]
    made, failed, kept = folded(coalescing(fails_in), events)
    assert failed == len(events) - len(clean)
    assert failed > 2
    assert (made, 0, kept) == folded(coalescing(fails_in), clean)


def test_a_snapshot_right_after_a_failure_is_of_the_state_before() -> None:
    service = coalescing()
    before = [seen(minute, demand) for minute, demand in demands(30, 1000)]
    assert folded(service, [*before, seen(29.5, POISON)])[1:] == (1, folded(service, before)[2])


def test_a_refit_that_cannot_be_taken_over_changes_nothing() -> None:
    service, when = coalescing(), from_unix(START + 1800.0)
    before = [seen(minute, demand) for minute, demand in demands(30, 1000)]
    coefficients = (POISON, *[0.0] * (FEATURES - 1))
    found = Tide(
        fleet=FLEET.name,
        time=when,
        observed=when,
        time_zone=FLEET.forecast.time_zone,
        season_seconds=FLEET.forecast.season_seconds,
        chosen="ets",
        errors={},
        coefficients=coefficients,
    )
    assert folded(service, [*before, found])[1:] == (1, folded(service, before)[2])


def test_a_line_that_the_pipe_cannot_forecast_from_is_as_if_it_had_not_come() -> None:
    events = [seen(minute, demand) for minute, demand in demands(120, 50)]
    lines = [
        f'{{"type":"observation","fleet":"{event.fleet}","time":"{event.time.isoformat()}","demand":{event.demand_per_second}}}'.encode()
        for event in events
    ]
    poisoned = [f'"demand":{POISON}'.encode() in line for line in lines]

    def answered(given: Sequence[bytes]) -> tuple[list[bytes | LineError | None], bytes]:
        pipe = Pipe([FLEET])
        forecasting = pipe.pipelines[FLEET.name].forecasting
        forecasting.combination = tripping("the end of learning")
        pipe.forecasting[FLEET.name] = forecasting.start()
        return pipe.answer(given), dump_forecast(forecasting, pipe.forecasting[FLEET.name])

    mixed, kept = answered(lines)
    assert [isinstance(answer, LineError) for answer in mixed] == poisoned
    assert sum(poisoned) == 2
    good = [answer for answer in mixed if not isinstance(answer, LineError)]
    assert (good, kept) == answered([line for line, bad in zip(lines, poisoned, strict=True) if not bad])
