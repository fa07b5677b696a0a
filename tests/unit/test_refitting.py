"""The hours that a refit is fitted to, when one is due, and that its result is taken over as an event."""

import numpy as np
import pytest

from controlplane.coalescing import Coalescing, GatherState
from controlplane.contracts.errors import SnapshotError
from controlplane.contracts.events import Flag, Launch, Observation, Tide
from controlplane.contracts.units import from_unix
from controlplane.refitting import HOUR_SECONDS, KEPT_HOURS, LEAST_HOURS, is_due, start_hours
from controlplane.services.forecaster import dump_gathered, load_gathered
from forecasters.harmonic import FEATURES
from tests.unit.web_rig import FLEET

START = 1_790_002_800.0
DAY = 86400.0


def seen(after: float, demand: float) -> Observation:
    return Observation(time=from_unix(START + after), fleet=FLEET.name, demand_per_second=demand, flags=(Flag.HISTORY,))


def tide(after: float, *coefficients: float, zone: str = "UTC") -> Tide:
    when = from_unix(START + after)
    return Tide(
        fleet=FLEET.name, time=when, observed=when, time_zone=zone, season_seconds=DAY, chosen="ets", errors={}, coefficients=coefficients
    )


def after_days(coalescing: Coalescing, days: float) -> GatherState:
    state = coalescing.start()
    for number in range(int(days * 48)):
        state, _ = coalescing.step(state, seen(1800.0 * number, 10.0 + number % 2))
    return state


def test_hours_are_means_over_four_weeks_and_unknown_where_nothing_came() -> None:
    hours = start_hours()
    hours.add(START + 600.0, 600.0, 5.0)
    hours.add(START + 1200.0, 600.0, 7.0)
    hours.add(START + 3 * HOUR_SECONDS + 60.0, 5 * HOUR_SECONDS, 9.0)
    hours.add(START + 4 * HOUR_SECONDS + 60.0, 60.0, 1.0)
    ends, mean = hours.series()
    assert (ends == START + HOUR_SECONDS * np.array([1.0, 2.0, 3.0, 4.0])).all()
    assert mean == pytest.approx([6.0, np.nan, np.nan, 9.0], nan_ok=True)
    assert hours.known == 3
    for number in range(2 * KEPT_HOURS):
        hours.add(START + (number + 5) * HOUR_SECONDS, HOUR_SECONDS, float(number))
    ends, mean = hours.series()
    assert len(ends) == KEPT_HOURS - 1
    assert mean[-1] == 2 * KEPT_HOURS - 2
    assert (np.diff(mean) == 1.0).all()


def test_a_refit_is_due_after_a_week_and_then_every_day() -> None:
    hours = start_hours()
    assert not is_due(hours, None, None)
    for number in range(LEAST_HOURS + 1):
        assert not is_due(hours, None, START)
        hours.add(START + number * HOUR_SECONDS, HOUR_SECONDS, 1.0)
    assert is_due(hours, None, START)
    assert not is_due(hours, START - DAY + 1.0, START)
    assert is_due(hours, START - DAY, START)


def test_hours_of_a_wave_are_left_out() -> None:
    coalescing = Coalescing(FLEET)
    state = after_days(coalescing, 2.0)
    known = state.hours.known
    launch = Launch(
        time=from_unix(START + 2 * DAY),
        fleet=FLEET.name,
        name="v4",
        starts=from_unix(START + 2 * DAY),
        peak_multiple=20.0,
        ramp_seconds=60.0,
    )
    state, _ = coalescing.step(state, launch)
    for number in range(96, 106):
        state, _ = coalescing.step(state, seen(1800.0 * number, 200.0))
    assert state.hours.known <= known + 1
    assert np.nanmax(state.hours.series()[1]) < 20.0


def test_a_tide_is_taken_over_when_it_says_something_new_of_the_same_day() -> None:
    coalescing = Coalescing(FLEET)
    state = after_days(coalescing, 3.0)
    before = state.learnt.methods.pool.methods["harmonic"].theta.copy()
    level = (1.0,) + (0.0,) * (FEATURES - 1)
    for nothing_new in (tide(3 * DAY), tide(3 * DAY, *level, zone="Asia/Tokyo")):
        state, made = coalescing.step(state, nothing_new)
        assert made == ()
        assert (state.learnt.methods.pool.methods["harmonic"].theta == before).all()
    state, _ = coalescing.step(state, tide(3 * DAY, *level))
    assert tuple(state.learnt.methods.pool.methods["harmonic"].theta[0]) == level
    assert state.refitted_unix == START + 3 * DAY
    with pytest.raises(ValueError, match="finite coefficients"):
        coalescing.step(state, tide(3 * DAY, 1.0, 2.0))


def test_a_restart_knows_the_hours_and_the_last_refit() -> None:
    coalescing = Coalescing(FLEET)
    state, _ = coalescing.step(after_days(coalescing, 2.0), tide(2 * DAY))
    again = load_gathered(coalescing, dump_gathered(coalescing, state))
    assert again.refitted_unix == state.refitted_unix
    assert again.hours.series()[1] == pytest.approx(state.hours.series()[1])
    assert again.hours.newest == state.hours.newest
    for broken in (b"[0, 0, null]\n", b'{"gathered": [0, 0, null]}\n', b"\xff\n"):
        with pytest.raises(SnapshotError):
            load_gathered(coalescing, broken)
