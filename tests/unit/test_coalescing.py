"""Observations that come fast are learnt as their mean; those that come at a fleet's own pace are learnt as they are."""

import numpy as np

from controlplane.coalescing import Coalescing
from controlplane.contracts.events import Event, Flag, Forecast, Launch, Observation
from controlplane.contracts.fleet import Fleet
from controlplane.contracts.units import from_unix
from controlplane.forecasting import Forecasting
from controlplane.services.forecaster import dump_gathered, load_gathered
from tests.unit.web_rig import FLEET

START = 1_790_000_000.0


def seen(after: float, demand: float | None, *flags: Flag) -> Observation:
    return Observation(time=from_unix(START + after), fleet=FLEET.name, demand_per_second=demand, flags=flags)


def forecasts(events: list[Event], fleet: Fleet = FLEET) -> list[Forecast]:
    coalescing = Coalescing(fleet)
    state, made = coalescing.start(), []
    for event in events:
        state, out = coalescing.step(state, event)
        made += out
    return made


def test_at_a_fleets_own_pace_nothing_changes() -> None:
    events: list[Event] = [seen(float(number), 10.0 + number % 7) for number in range(60)]
    plain, state, expected = Forecasting(FLEET), Forecasting(FLEET).start(), []
    for event in events:
        state, out = plain.step(state, event)
        expected += out
    assert forecasts(events) == expected


def test_a_hundred_a_second_are_one_forecast_a_second_of_their_mean() -> None:
    rng = np.random.default_rng(1)
    demands = rng.uniform(0.0, 20.0, 1000)
    made = forecasts([seen(number / 100.0, float(demand)) for number, demand in enumerate(demands, 1)])
    assert 10 <= len(made) <= 15
    coalescing, learnt = Coalescing(FLEET), []
    state = coalescing.start()
    for number, demand in enumerate(demands, 1):
        before = state
        state, out = coalescing.step(state, seen(number / 100.0, float(demand)))
        if out and before.covered_seconds:
            learnt.append((before.work + float(demand) * 0.01) / (before.covered_seconds + 0.01))
    assert len(learnt) >= 9
    assert abs(np.mean(learnt) - demands[1:].mean()) < 0.5


def test_the_mean_is_weighted_by_time_and_late_ones_are_passed_over() -> None:
    coalescing = Coalescing(FLEET)
    state, _ = coalescing.step(coalescing.start(), seen(0.0, 5.0))
    for event in (seen(0.1, 10.0), seen(0.1, 99.0), seen(0.05, 99.0), seen(0.2, None), seen(0.3, 99.0, Flag.RESET), seen(0.5, 20.0)):
        state, made = coalescing.step(state, event)
        assert made == ()
    assert abs(state.work - (10.0 * 0.1 + 20.0 * 0.4)) < 1e-6
    assert abs(state.covered_seconds - 0.5) < 1e-6


def test_a_launch_passes_at_once() -> None:
    coalescing = Coalescing(FLEET)
    state, _ = coalescing.step(coalescing.start(), seen(0.0, 5.0))
    state, _ = coalescing.step(state, seen(0.1, 5.0))
    launch = Launch(time=from_unix(START), fleet=FLEET.name, name="v4", starts=from_unix(START + 3600.0))
    state, _ = coalescing.step(state, launch)
    assert "v4" in state.learnt.waves
    assert state.covered_seconds > 0.0


def test_a_snapshot_resumes_in_the_middle_of_what_is_gathered() -> None:
    events = [seen(number / 10.0, 5.0 + number % 3) for number in range(1, 60)]
    coalescing = Coalescing(FLEET)
    state = coalescing.start()
    for event in events[:25]:
        state, _ = coalescing.step(state, event)
    other = Coalescing(FLEET)
    resumed = load_gathered(other, dump_gathered(coalescing, state))
    for event in events[25:]:
        state, made = coalescing.step(state, event)
        resumed, remade = other.step(resumed, event)
        assert made == remade
