"""Properties of the combined forecast: causal, sane on any series, the same whatever the pace of asking."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.contracts.fleet import ForecastSettings, LaunchPlan
from forecasters.api import Array, Batch
from forecasters.combine import Combination, CombinedForecast

HORIZONS = np.array([60.0, 600.0, 3600.0, 86400.0, 172800.0])
QUANTILES = np.array([0.1, 0.5, 0.9, 0.99])
START = 1_700_000_000.0
METHOD = Combination(ForecastSettings(time_zone="America/New_York"), HORIZONS, QUANTILES)

any_demand = st.one_of(
    st.floats(0.0, 1e4),
    st.sampled_from([0.0, 1e12, 1e300, -1.0, float("nan"), float("inf"), -float("inf"), 5e-324]),
)
any_gap = st.one_of(st.sampled_from([1.0, 15.0, 60.0, 600.0, 3600.0]), st.floats(-3600.0, 1e6), st.sampled_from([0.0, float("nan")]))
any_series = st.lists(st.tuples(any_gap, any_demand), min_size=0, max_size=60)
plans = st.lists(
    st.builds(
        LaunchPlan,
        name=st.just("v"),
        starts_unix=st.floats(START - 1e6, START + 1e6),
        peak_multiple=st.one_of(st.none(), st.floats(1.0, 1000.0)),
        ramp_seconds=st.one_of(st.none(), st.floats(0.0, 1e5)),
        half_life_seconds=st.one_of(st.none(), st.floats(1e-3, 1e6)),
    ),
    max_size=2,
)


def _run(series: list[tuple[float, float]], waves: tuple[tuple[LaunchPlan, ...], ...] = ()) -> list[CombinedForecast]:
    state, now, said = METHOD.start(1), START, []
    for gap, demand in series:
        now = now + gap if np.isfinite(gap) else now
        state = METHOD.learn(state, Batch(np.array([now if np.isfinite(gap) else gap]), np.array([demand])), waves)
        said.append(METHOD.forecast(state, now, waves))
    return said


def _sane(part: Array) -> None:
    assert np.isfinite(part).all()
    assert (part >= 0.0).all()
    assert (np.diff(part, axis=2) >= -1e-9 * np.abs(part[:, :, 1:])).all()


@given(any_series, plans)
def test_no_series_and_no_launch_yields_nan_or_a_negative_forecast(series: list[tuple[float, float]], launches: list[LaunchPlan]) -> None:
    for made in _run(series, (tuple(launches),)):
        _sane(made.demand)
        _sane(made.peak)
        assert (made.peak >= made.demand * (1.0 - 1e-9)).all()
        assert np.isclose(sum(share[0] for share in made.weights.values()), 1.0)


@given(any_series, st.lists(st.tuples(any_gap, any_demand), max_size=10), st.lists(st.tuples(any_gap, any_demand), max_size=10))
def test_the_future_changes_no_earlier_forecast(
    past: list[tuple[float, float]], one: list[tuple[float, float]], other: list[tuple[float, float]]
) -> None:
    first, second = _run(past + one)[: len(past)], _run(past + other)[: len(past)]
    for left, right in zip(first, second, strict=True):
        assert np.array_equal(left.demand, right.demand)
        assert np.array_equal(left.peak, right.peak)


@settings(max_examples=6)
@given(st.integers(0, 2**32 - 1), st.sampled_from([15.0, 300.0, 600.0, 3600.0]), st.integers(0, 199))
def test_the_future_of_a_long_series_changes_no_earlier_forecast(seed: int, step: float, cut: int) -> None:
    noise = np.random.default_rng(seed)
    time = START + step * np.arange(200)
    demand = 50.0 * np.exp(0.7 * np.sin(2 * np.pi * time / 86400.0) + 0.3 * noise.standard_normal(200))
    changed = demand.copy()
    changed[cut:] = changed[cut:] * 40.0 + 1.0
    outcomes = []
    for values in (demand, changed):
        state, said = METHOD.start(1), []
        for when, what in zip(time, values, strict=True):
            state = METHOD.learn(state, Batch(np.array([when]), np.array([what])))
            said.append(METHOD.forecast(state, float(when)))
        outcomes.append(said)
    for left, right in zip(outcomes[0][:cut], outcomes[1][:cut], strict=True):
        assert np.array_equal(left.demand, right.demand)
        assert np.array_equal(left.peak, right.peak)


@settings(max_examples=6)
@given(st.floats(1e-6, 1e6), st.integers(0, 2**32 - 1))
def test_the_unit_of_work_does_not_matter(scale: float, seed: int) -> None:
    noise = np.random.default_rng(seed)
    time = START + 600.0 * np.arange(150)
    demand = 50.0 * np.exp(0.7 * np.sin(2 * np.pi * time / 86400.0) + 0.2 * noise.standard_normal(150))
    said = []
    for factor in (1.0, scale):
        state = METHOD.start(1)
        for when, what in zip(time, demand * factor, strict=True):
            state = METHOD.learn(state, Batch(np.array([when]), np.array([what])))
        said.append(METHOD.forecast(state, float(time[-1])).demand / factor)
    assert np.allclose(said[0], said[1], rtol=1e-2)
