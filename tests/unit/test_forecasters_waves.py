"""Stories of waves: announced ones that come, come late, larger or never; detected ones; and a tide that stays clean."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from controlplane.contracts.fleet import ForecastSettings, LaunchPlan
from forecasters.api import Array, Batch
from forecasters.combine import Combination, CombinationState
from forecasters.launch import excess
from forecasters.watch import is_past
from forecasters.wave import ANNOUNCED, DETECTED, IDLE

HOUR, DAY = 3600.0, 86400.0
HORIZONS = np.array([600.0, HOUR, 6 * HOUR, DAY, 2 * DAY])
QUANTILES = np.array([0.1, 0.5, 0.9])
START = 1_700_006_400.0
STEP = 900.0
METHOD = Combination(ForecastSettings(), HORIZONS, QUANTILES)


def tide(time: Array, seed: int = 3) -> Array:
    """Return an ordinary daily shape with 10 % noise."""
    noise = np.random.default_rng(seed)
    out: Array = 100.0 * np.exp(0.5 * np.sin(2 * np.pi * time / DAY) + 0.1 * noise.standard_normal(len(time)))
    return out


def run(time: Array, demand: Array, plans: Sequence[LaunchPlan] = (), announced: float = -np.inf) -> CombinationState:
    """Learn a series; the plans are known from `announced` on."""
    state = METHOD.start(1)
    for when, what in zip(time, demand, strict=True):
        waves = (tuple(plans),) if when >= announced else ()
        state = METHOD.learn(state, Batch(np.array([when]), np.array([what])), waves)
    return state


def times(days: float) -> Array:
    """Return a regular grid."""
    return np.asarray(START + STEP * np.arange(1, int(days * DAY / STEP) + 1), dtype=np.float64)


BEGINS = START + 6 * DAY
PLAN = LaunchPlan("v4", BEGINS, peak_multiple=10.0, ramp_seconds=1800.0, half_life_seconds=12 * HOUR)


def test_an_announced_launch_is_foreseen_at_its_horizon_and_not_before_it() -> None:
    time = times(5.5)
    demand = tide(time)
    now = float(time[-1])
    with_plan = METHOD.forecast(run(time, demand, [PLAN]), now, ((PLAN,),)).demand[0]
    without = METHOD.forecast(run(time, demand), now).demand[0]
    assert np.allclose(with_plan[:2], without[:2], rtol=0.05), "nothing changes in the hours before"
    assert with_plan[3, 1] > 3.0 * without[3, 1]
    assert with_plan[3, 2] > 6.0 * without[3, 1]
    assert with_plan[3, 0] < 2.5 * without[3, 1], "it may come late or never"


@pytest.mark.parametrize(("factor", "late"), [(1.0, 0.0), (2.5, 0.0), (0.4, 0.0), (1.0, 3 * HOUR)])
def test_a_launch_larger_smaller_or_late_is_followed(factor: float, late: float) -> None:
    time = times(6.0 + (late + 2.5 * HOUR) / DAY)
    came = LaunchPlan("v4", BEGINS + late, 1.0 + 9.0 * factor, 1800.0, 12 * HOUR)
    demand = tide(time) * (1.0 + excess(came, time))
    now = float(time[-1])
    said = METHOD.forecast(run(time, demand, [PLAN]), now, ((PLAN,),)).demand[0]
    ahead = now + HORIZONS
    true = 100.0 * np.exp(0.5 * np.sin(2 * np.pi * ahead / DAY)) * (1.0 + excess(came, ahead))
    assert (said[:4, 0] < 1.15 * true[:4]).all()
    assert (said[:4, 2] > 0.85 * true[:4]).all()
    assert said[1, 2] < 2.5 * true[1]


def test_a_launch_that_never_comes_is_forgotten() -> None:
    time = times(7.0)
    demand = tide(time)
    state = run(time, demand, [PLAN])
    now = float(time[-1])
    said = METHOD.forecast(state, now, ((PLAN,),)).demand[0]
    usual = METHOD.forecast(run(time, demand), now).demand[0]
    assert state.watch.wave.kind[0] == IDLE
    assert np.allclose(said[:, 1], usual[:, 1], rtol=0.15)


def test_a_cancelled_launch_leaves_no_trace() -> None:
    time = times(5.5)
    demand = tide(time)
    state = run(time, demand, [PLAN])
    assert state.watch.wave.kind[0] == ANNOUNCED
    now = float(time[-1]) + STEP
    state = METHOD.learn(state, Batch(np.array([now]), np.array([100.0])), ((),))
    assert state.watch.wave.kind[0] == IDLE


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("peak_multiple", [30.0, 2.0, None])
def test_a_launch_that_is_corrected_before_it_begins_counts_as_corrected(peak_multiple: float | None, at_once: bool) -> None:
    """At once: when it is said; else with the next observation."""
    time = times(5.5)
    demand = tide(time)
    now = float(time[-1])
    corrected = replace(PLAN, peak_multiple=peak_multiple)
    state, alone = run(time, demand, [PLAN]), run(time, demand, [corrected], announced=now)
    if at_once:
        said = METHOD.forecast(state, now, ((corrected,),), announced=True)
        wanted = METHOD.forecast(run(time, demand), now, ((corrected,),), announced=True)
    else:
        later = Batch(np.array([now + STEP]), np.array([demand[-1]]))
        said = METHOD.forecast(METHOD.learn(state, later, ((corrected,),)), now + STEP, ((corrected,),))
        wanted = METHOD.forecast(METHOD.learn(alone, later, ((corrected,),)), now + STEP, ((corrected,),))
    assert np.allclose(said.demand[0, :, 1], wanted.demand[0, :, 1], rtol=0.1)


def test_fifty_times_the_tide_for_two_days_is_detected_within_minutes_and_covered() -> None:
    time = times(8.0)
    demand = tide(time)
    factor = 1.0 + 49.0 * np.clip((time - BEGINS) / 2700.0, 0.0, 1.0) * (time < BEGINS + 2 * DAY)
    surge = demand * factor
    three = int(np.searchsorted(time, BEGINS)) + 4
    state = run(time[:three], surge[:three])
    assert state.watch.wave.kind[0] == DETECTED
    said = METHOD.forecast(state, float(time[three - 1])).demand[0]
    path = np.interp(np.arange(STEP, DAY + 1, STEP), HORIZONS, said[:, 2])
    came = surge[three : three + len(path)]
    assert (came <= path).mean() >= 0.85


def test_the_tide_is_the_same_after_a_wave_as_without_it() -> None:
    time = times(14.0)
    demand = tide(time)
    wave = LaunchPlan("surprise", BEGINS, 20.0, HOUR, 6 * HOUR)
    clean, surged = run(time, demand), run(time, demand * (1.0 + excess(wave, time)))
    assert surged.watch.wave.kind[0] == IDLE, "it is over"
    now = float(time[-1])
    left, right = METHOD.forecast(clean, now).demand[0], METHOD.forecast(surged, now).demand[0]
    assert np.allclose(left[:, 1], right[:, 1], rtol=0.15)
    assert np.allclose(left[:, 2], right[:, 2], rtol=0.35)
    shape = [state.pool.methods["harmonic"].theta[0] for state in (clean, surged)]
    assert np.abs(shape[0][1:] - shape[1][1:]).max() < 0.1


def test_a_month_of_ordinary_tide_raises_no_alarm() -> None:
    time = times(30.0)
    state = METHOD.start(1)
    seen = 0.0
    for when, what in zip(time, tide(time, seed=11), strict=True):
        state = METHOD.learn(state, Batch(np.array([when]), np.array([what])))
        seen += float(state.watch.wave.kind[0] != IDLE)
    assert seen == 0.0


def test_a_restart_in_the_middle_of_a_wave_forecasts_the_same() -> None:
    time = times(6.3)
    wave = LaunchPlan("surprise", BEGINS, 20.0, HOUR, 6 * HOUR)
    state = run(time, tide(time) * (1.0 + excess(wave, time)))
    assert state.watch.wave.kind[0] == DETECTED
    now = float(time[-1])
    again = METHOD.load(METHOD.dump(state))
    for asked in (now, now + 300.0):
        assert np.array_equal(METHOD.forecast(state, asked).demand, METHOD.forecast(again, asked).demand)


def test_inside_a_wave_the_next_minutes_go_by_the_last_value() -> None:
    noise = np.random.default_rng(4)
    horizons = np.array([300.0, 600.0, 3600.0, 86400.0])
    method = Combination(ForecastSettings(), horizons, np.array([0.1, 0.5, 0.9]))
    state, now = method.start(1), 1.7e9
    for number in range(4 * 288):
        wave = 20.0 if number >= 4 * 288 - 24 else 1.0
        now += 300.0
        state = method.learn(state, Batch(np.array([now]), np.array([10.0 * wave * np.exp(0.4 * noise.standard_normal())])))
    assert method.forecast(state, now).demand[0, 0, 1] == pytest.approx(200.0, rel=0.5)
    # One sample as before the wave, which is not over by that: soon means now, a day ahead does not.
    now += 300.0
    state = method.learn(state, Batch(np.array([now]), np.array([10.0])))
    assert not state.is_calm(0)
    assert method.forecast(state, now).demand[0, 0, 1] < 40.0


def test_inside_a_wave_one_noisy_minute_is_not_taken_for_the_next_ones() -> None:
    method = Combination(ForecastSettings(), np.array([300.0, 600.0, 3600.0, 86400.0]), np.array([0.1, 0.5, 0.9]))
    state, now = method.start(1), 1.7e9
    for number in range(2 * 1440):
        now += 60.0
        state = method.learn(state, Batch(np.array([now]), np.array([200.0 if number >= 2 * 1440 - 60 else 10.0])))
    assert not state.is_calm(0)
    before = method.forecast(state, now).demand[0, 1, 1]
    state = method.learn(state, Batch(np.array([now + 60.0]), np.array([260.0])))
    after = method.forecast(state, now + 60.0).demand[0, 1, 1]
    assert before == pytest.approx(200.0, rel=0.1)
    assert after - before < 0.5 * (260.0 - 200.0)


@pytest.mark.parametrize(
    ("plan", "days", "followed", "past"),
    [
        (PLAN, 15.9, True, False),
        (PLAN, 16.1, True, True),
        (replace(PLAN, half_life_seconds=400 * HOUR), 16.1, False, False),
        (replace(PLAN, half_life_seconds=HOUR), 15.9, False, False),
        (replace(PLAN, half_life_seconds=HOUR), 16.1, False, True),
    ],
    ids=["over, and may be told again", "over", "lasts for weeks, as it was told", "may be followed yet", "faded away"],
)
def test_a_launch_that_is_past_changes_no_forecast(plan: LaunchPlan, days: float, followed: bool, past: bool) -> None:
    """It begins on the sixth day; what is told late was never followed."""
    time = times(days)
    demand = tide(time)
    state, now = run(time, demand, [PLAN] if followed else []), float(time[-1])
    assert is_past(state.watch, 0, now, plan) is past
    if past:
        again = METHOD.load(METHOD.dump(state))
        batch = Batch(np.array([now + STEP]), np.array([demand[-1]]))
        told, forgotten = METHOD.learn(state, batch, ((plan,),)), METHOD.learn(again, batch, ((),))
        for asked in (now + STEP, now + 2 * DAY):
            with_plan, without = METHOD.forecast(told, asked, ((plan,),)), METHOD.forecast(forgotten, asked, ((),))
            assert np.array_equal(with_plan.demand, without.demand)
