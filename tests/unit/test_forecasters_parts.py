"""The parts of the forecasters on their own: zone, rings, scores, refits, snapshots, backtest."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.contracts.errors import SnapshotError
from controlplane.contracts.fleet import ForecastSettings
from forecasters.api import Array, Batch, Quantiles
from forecasters.backtest import replay, summarize, truth
from forecasters.combine import Combination
from forecasters.harmonic import FEATURES, Harmonic, refit
from forecasters.intake import Index, admit, start_intake
from forecasters.score import coverage, covered, grain_of, mase, pinball, width
from forecasters.seasonal_naive import SeasonalNaive
from forecasters.spread import Singles, Spread, learn_errors, learn_surprises, relieved, start_spread
from forecasters.structural import CANDIDATES, KEPT, fit_structural
from forecasters.working_week import DAYS_BACK, WorkingWeek
from forecasters.zone import Zone

HOUR, DAY = 3600.0, 86400.0
MONDAY = 1_699_833_600.0
SPRING_FORWARD = 1_710_054_000.0


def _one(time: float, demand: float) -> Batch:
    return Batch(np.array([time]), np.array([demand]))


def test_a_zone_follows_summer_time() -> None:
    zone = Zone("America/New_York")
    before, after = np.array([SPRING_FORWARD - 1.0]), np.array([SPRING_FORWARD + 1.0])
    assert zone.to_local(before)[0] - before[0] == -5 * HOUR
    assert zone.to_local(after)[0] - after[0] == -4 * HOUR
    both = zone.to_local(np.array([[before[0], after[0]]]))
    assert both[0, 1] - both[0, 0] == 2.0 + HOUR
    assert Zone("UTC").to_local(before)[0] == before[0]


def test_yesterday_is_yesterday_by_the_wall_clock_across_summer_time() -> None:
    method = SeasonalNaive(Zone("America/New_York"))
    state, intake = method.start(1), start_intake(1)
    for hour in range(49):
        when = SPRING_FORWARD - 30 * HOUR + hour * HOUR
        local = Zone("America/New_York").to_local(np.array([when]))[0]
        seen = admit(intake, _one(when, float((local // HOUR) % 24)))
        assert seen is not None
        method.learn(state, intake, seen)
    now = intake.time_unix
    for ahead in (3.0, 9.0, 20.0):
        said = method.centre(state, intake, slice(None), now, np.array([ahead * HOUR]))[0, 0]
        local = Zone("America/New_York").to_local(now + ahead * HOUR)[0]
        assert said == (local // HOUR) % 24


def test_monday_looks_like_friday_and_saturday_like_sunday() -> None:
    monday, saturday, sunday, wednesday = 0, 5, 6, 2
    assert DAYS_BACK[monday, 1] == 3
    assert DAYS_BACK[saturday, 1] == 6
    assert DAYS_BACK[sunday, 1] == 1
    assert DAYS_BACK[wednesday, 1] == 1
    method = WorkingWeek(Zone("UTC"))
    state, intake = method.start(1), start_intake(1)
    for half_hour in range(1, 7 * 48 + 1):
        seen = admit(intake, _one(MONDAY + half_hour * 1800.0, float((half_hour - 1) // 48)))
        assert seen is not None
        method.learn(state, intake, seen)
    said = method.centre(state, intake, slice(None), intake.time_unix, np.array([12 * HOUR, 36 * HOUR]))
    assert said.tolist() == [[4.0, 4.0]], "on Sunday night, Monday and Tuesday are taken to be like Friday (day 4)"


def test_pinball_coverage_mase_and_width_on_worked_numbers() -> None:
    levels = np.array([0.1, 0.5, 0.9])
    assert np.allclose(pinball(np.array([10.0]), np.array([[8.0, 10.0, 13.0]]), levels), [[0.2, 0.0, 0.3]])
    assert covered(np.array([10.0]), np.array([[8.0, 10.0, 13.0]]), np.array([0.1, 0.5, 0.9])).tolist() == [[0.0, 1.0, 1.0]]
    share = coverage(np.array([1.0] * 90 + [0.0] * 10))
    assert share.value == 0.9
    assert 0.82 < share.low < 0.9 < share.high < 0.95
    assert coverage(np.array([1.0] * 90 + [0.0] * 10), overlap=10.0).low < share.low
    assert mase(np.array([1.0, 3.0]), np.array([2.0, 3.0]), np.array([1.0, -1.0])) == 0.5
    assert width(np.array([[8.0, 10.0, 13.0]]), levels)[0] == 5.0


def test_a_median_of_nothing_is_right_when_two_seconds_in_three_are_empty() -> None:
    levels = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    came = np.array([0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 3.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 4.0, 5.0, 1.0, 2.0, 0.0])
    said = np.tile([0.0, 0.0, 0.0, 0.1, 0.2, 0.3, 1.5, 2.5, 4.5], (20, 1))
    shares = covered(came, said, levels, grain_of(came)).mean(axis=0)
    assert shares[4] == pytest.approx(0.5)
    assert (np.diff(shares) > 0.0).all()
    assert (came <= said[:, 4]).mean() == 0.65


def test_truth_finds_what_came_and_the_maximum_until_then() -> None:
    time = np.array([0.0, 60.0, 120.0, 180.0, 1000.0])
    value = np.array([1.0, 5.0, 2.0, 3.0, 9.0])
    came = truth(time, value, np.array([60.0, 120.0, 30.0]))
    assert came.demand[0].tolist() == [5.0, 2.0, 5.0]
    assert came.peak[0].tolist() == [5.0, 5.0, 5.0]
    assert np.isnan(came.demand[3, 0]), "nothing was observed near then"


def test_a_replay_predicts_before_it_learns_and_scores_by_horizon() -> None:
    time = np.asarray(1.7e9 + 600.0 * np.arange(300), dtype=np.float64)
    value = 10.0 + np.sin(np.arange(300))
    horizons, levels = np.array([600.0, HOUR]), np.array([0.1, 0.5, 0.9])
    method = Combination(ForecastSettings(), horizons, levels)
    state = [method.start(1)]

    def step(when: float, what: float) -> Quantiles:
        state[0] = method.learn(state[0], _one(when, what))
        made = method.forecast(state[0], when)
        return Quantiles(made.demand, made.peak)

    outcome = replay(step, time, value)
    figures = summarize(outcome, truth(time, value, horizons), horizons, levels, time > time[50])
    assert [figure.horizon_seconds for figure in figures] == [600.0, HOUR]
    assert figures[0].scored == 248
    assert 0.75 < figures[0].coverage[2].value <= 1.0
    assert figures[0].pinball < 0.5


def test_a_refit_finds_the_shape_despite_outliers_and_gaps() -> None:
    time = np.asarray(1.7e9 + 1800.0 * np.arange(28 * 48), dtype=np.float64)
    shape = np.exp(0.6 * np.sin(2 * np.pi * time / DAY) + 0.2 * np.cos(4 * np.pi * time / DAY))
    demand = np.stack((100.0 * shape, 3.0 * shape))
    demand[0, 100:140] = np.nan
    demand[0, ::97] *= 30.0
    theta = refit(time, demand, Zone("UTC"))
    assert theta.shape == (2, FEATURES)
    tide = Harmonic(Zone("UTC"))
    state = tide.start(2)
    tide.adopt(state, np.arange(2), theta)
    for hour in (3, 9, 15, 21):
        when = np.full(2, time[-1] + hour * HOUR)
        true = 0.6 * np.sin(2 * np.pi * when / DAY) + 0.2 * np.cos(4 * np.pi * when / DAY) + np.log([100.0, 3.0])
        assert np.abs(tide.log_shape(state, np.arange(2), when) - true).max() < 0.08


@pytest.mark.filterwarnings("ignore:Maximum Likelihood", "ignore:Optimization failed")
def test_a_structural_fit_stands_only_where_it_foresees_clearly_better_than_what_was_learnt_by_the_hour() -> None:
    noise = np.random.default_rng(5)
    time = np.asarray(1.7e9 + 1800.0 * np.arange(10 * 48), dtype=np.float64)
    steady = 50.0 * np.exp(0.7 * np.sin(2 * np.pi * time / DAY) + 0.05 * noise.standard_normal(len(time)))
    found = fit_structural(time, steady, Zone("UTC"))
    assert found.chosen == KEPT
    assert set(found.errors) == {KEPT, "harmonic", *CANDIDATES}
    assert found.errors[KEPT] < 0.1
    assert fit_structural(time[: 6 * 48], steady[: 6 * 48], Zone("UTC")).chosen == KEPT
    # Six days ago the busy hours moved by eight hours, and the recursion remembers three weeks.
    moved = np.where(time < time[-1] - 6 * DAY, steady, np.roll(steady, 16))
    moved[100:104] = np.nan
    found = fit_structural(time, moved, Zone("UTC"))
    assert found.chosen in CANDIDATES
    assert found.errors[found.chosen] < 0.8 * found.errors[KEPT]
    method = Combination(ForecastSettings(), np.array([HOUR, 6 * HOUR]), np.array([0.1, 0.5, 0.9]))
    state = method.learn(method.start(1), _one(float(time[-1]), float(moved[-1])))
    state = method.adopt(state, np.array([0]), found.theta[None, :])
    assert np.isfinite(method.forecast(state, float(time[-1])).demand).all()
    with pytest.raises(ValueError, match="finite coefficients"):
        method.adopt(state, np.array([0]), np.full((1, FEATURES), np.nan))


def test_settings_that_cannot_work_are_refused() -> None:
    levels = np.array([0.5])
    with pytest.raises(ValueError, match="no forecaster is named 'prophet'"):
        Combination(ForecastSettings(methods=("prophet",)), np.array([60.0]), levels)
    with pytest.raises(ValueError, match="rising"):
        Combination(ForecastSettings(), np.array([60.0, 60.0]), levels)


def test_a_snapshot_of_other_settings_is_refused_and_names_them() -> None:
    levels = np.array([0.5])
    one = Combination(ForecastSettings(), np.array([60.0]), levels)
    other = Combination(ForecastSettings(time_zone="Asia/Tokyo"), np.array([60.0]), levels)
    with pytest.raises(SnapshotError, match="settings"):
        other.load(one.dump(one.start(1)))


LEVELS = np.array([0.5, 0.9, 0.99])


def as_they_stand(spread: Spread, row: Index) -> Singles:
    """Return the quantiles of rows as a forecast made now says them."""
    return spread.quantile[row].reshape(len(row), -1).astype(np.float32)


def _with_waves(share: float, errors: int, spread: Spread, noise: np.random.Generator) -> Array:
    """Score log errors an hour ahead, every ten minutes: normal ones of 0.1, and of a `share` of them waves of ten times as much.

    Return the mean quantiles [L] over the last half.
    """
    row, one, memory = np.zeros(1, dtype=np.int64), np.ones(1), np.full(1, 500.0)
    said = []
    for error in 0.1 * noise.standard_normal(errors):
        if noise.random() < share:
            learn_surprises(spread, row, np.full((1, 2), 1.0), memory)
        else:
            learn_errors(spread, row, row, np.full((1, 2), error), as_they_stand(spread, row), memory, one, LEVELS)
        said.append(spread.quantile[0, 0].copy())
    out: Array = np.mean(said[errors // 2 :], axis=0)
    return out


def test_a_quantile_leaves_room_for_the_waves_that_nobody_foresees_and_forgets_them() -> None:
    spread, noise = start_spread(1, np.array([HOUR]), 2, LEVELS), np.random.default_rng(3)
    calm = _with_waves(0.0, 3000, spread, noise)
    assert calm == pytest.approx(0.1 * np.array([0.0, 1.28, 2.33]), abs=0.015)
    # With one in twenty a wave, the 0.9 quantile is what 0.95 of calm stays under.
    wary = _with_waves(0.05, 3000, spread, noise)
    assert wary[1] == pytest.approx(0.1 * 1.64, abs=0.015)
    said = spread.quantile.reshape(1, 1, 2, 3)
    inside = relieved(spread, said, np.array([True]))
    assert (inside[..., 1:] < said[..., 1:]).all()
    assert (relieved(spread, said, np.array([False])) == said).all()
    again = _with_waves(0.0, 9000, spread, noise)
    assert not spread.missed.any()
    assert again == pytest.approx(calm, abs=0.015)
    assert not spread.relief.any(), "who fears no wave is relieved of none"


@given(st.sets(st.integers(0, 30), max_size=4), st.sets(st.integers(0, 119), max_size=8))
def test_waves_of_another_fleet_change_nothing_of_ones_own(own: set[int], others: set[int]) -> None:
    """Waves that are forgotten after some 26 steps: what one fleet knows is the same to the bit beside another that has had waves, too."""
    alone, both = (start_spread(fleets, np.array([HOUR]), 2, LEVELS) for fleets in (1, 2))
    noise = 0.1 * np.random.default_rng(7).standard_normal((120, 2))
    for step in range(120):
        waves = [step in own, step in others]
        for spread in (alone, both):
            rows = np.arange(spread.count.size)
            for is_wave in (True, False):
                row = np.array([number for number in rows if waves[number] == is_wave], dtype=np.int64)
                error, memory = np.repeat(noise[step, row, None], 2, axis=1), np.full(row.size, 3.0)
                if is_wave and row.size:
                    learn_surprises(spread, row, error + 1.0, memory)
                elif row.size:
                    learn_errors(spread, row, np.zeros_like(row), error, as_they_stand(spread, row), memory, np.ones(row.size), LEVELS)
    for name in ("scale", "count", "histogram", "shape", "shift", "quantile", "missed", "relief"):
        assert (getattr(alone, name)[0] == getattr(both, name)[0]).all(), name
