"""The suite that every forecaster passes: each entry of the registry, and the combination that the pipeline uses."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from controlplane.contracts.errors import SnapshotError
from controlplane.contracts.fleet import ForecastSettings
from forecasters.api import Array, Batch, Quantiles
from forecasters.combine import Combination
from forecasters.registry import REGISTRY

HORIZONS = np.array([60.0, 600.0, 3600.0, 21600.0, 86400.0, 172800.0])
QUANTILES = np.array([0.05, 0.1, 0.5, 0.9, 0.99, 0.999])
START = 1_700_000_000.0
SETTINGS = ForecastSettings()


@dataclass(frozen=True)
class Subject:
    """One forecaster behind the same four calls."""

    start: Callable[[int], Any]
    learn: Callable[[Any, Batch], Any]
    forecast: Callable[[Any, float], Quantiles]
    dump: Callable[[Any], bytes]
    load: Callable[[bytes], Any]


def _from_registry(name: str) -> Subject:
    one = REGISTRY[name](SETTINGS)
    return Subject(one.start, one.learn, lambda state, now: one.forecast(state, now, HORIZONS, QUANTILES), one.dump, one.load)


def _combination() -> Subject:
    both = Combination(SETTINGS, HORIZONS, QUANTILES)

    def forecast(state: Any, now: float) -> Quantiles:
        said = both.forecast(state, now)
        return Quantiles(said.demand, said.peak)

    return Subject(both.start, both.learn, forecast, both.dump, both.load)


@pytest.fixture(params=[*sorted(REGISTRY), "combination"])
def subject(request: pytest.FixtureRequest) -> Subject:
    """Every registry entry, then the combination."""
    return _combination() if request.param == "combination" else _from_registry(request.param)


def _series(kind: str, count: int, step: float) -> tuple[Array, Array]:
    time = np.asarray(START + step * np.arange(count), dtype=np.float64)
    shape = 100.0 * np.exp(0.8 * np.sin(2 * np.pi * time / 86400.0) + 0.2 * np.sin(1.7 * np.arange(count) ** 1.1))
    values = {
        "ordinary": shape,
        "constant": np.full(count, 42.0),
        "zero": np.zeros(count),
        "huge": np.where(np.arange(count) % 37 == 5, 1e12, shape),
        "tiny": shape * 1e-9,
        "level-shift": shape * np.where(np.arange(count) > count // 2, 30.0, 1.0),
        "from-nothing": np.where(np.arange(count) > count // 2, shape, 0.0),
        "bad": np.where(np.arange(count) % 7 == 2, np.nan, np.where(np.arange(count) % 11 == 3, np.inf, -shape + 150.0)),
        "gappy": np.where((np.arange(count) // 40) % 2 == 1, np.nan, shape),
    }
    return time, values[kind]


KINDS = ("ordinary", "constant", "zero", "huge", "tiny", "level-shift", "from-nothing", "bad", "gappy")


def _feed(subject: Subject, time: Array, value: Array) -> Iterator[tuple[float, Any]]:
    state = subject.start(1)
    for when, what in zip(time, value, strict=True):
        state = subject.learn(state, Batch(np.array([when]), np.array([what])))
        yield float(when), state


def _check(said: Quantiles, fleets: int = 1) -> None:
    for part in (said.demand, said.peak):
        assert part.shape == (fleets, len(HORIZONS), len(QUANTILES))
        assert np.isfinite(part).all()
        assert (part >= 0.0).all()
        assert (np.diff(part, axis=2) >= -1e-9 * np.abs(part[:, :, 1:])).all(), "quantiles rise"
    assert (np.diff(said.peak, axis=1) >= -1e-9 * said.peak[:, 1:]).all(), "the peak rises with the horizon"
    assert (said.peak >= said.demand - 1e-9 * said.demand).all(), "the peak is at least the demand"


def test_answers_before_it_has_seen_anything(subject: Subject) -> None:
    _check(subject.forecast(subject.start(3), START), fleets=3)


def test_first_observation_is_enough_for_a_wide_forecast(subject: Subject) -> None:
    (now, state), *_ = _feed(subject, np.array([START]), np.array([50.0]))
    said = subject.forecast(state, now)
    _check(said)
    assert said.demand[0, 0, 0] < 50.0 < said.demand[0, 0, -1]
    assert said.demand[0, -1, -1] > 100.0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [15.0, 600.0, 3600.0])
def test_any_series_gives_finite_rising_quantiles(subject: Subject, kind: str, step: float) -> None:
    for number, (now, state) in enumerate(_feed(subject, *_series(kind, 120, step))):
        if number % 10 == 9:
            _check(subject.forecast(state, now))
            _check(subject.forecast(state, now + 7200.0))


def test_repeated_and_backwards_times_change_nothing(subject: Subject) -> None:
    time, value = _series("ordinary", 60, 300.0)
    *_, (now, state) = _feed(subject, time, value)
    before = subject.forecast(state, now)
    for when in (now, now - 1.0, START, float("nan"), -float("inf"), float("inf")):
        state = subject.learn(state, Batch(np.array([when]), np.array([1e6])))
    after = subject.forecast(state, now)
    assert np.array_equal(before.demand, after.demand)
    assert np.array_equal(before.peak, after.peak)


def test_forecasting_changes_nothing_and_is_deterministic(subject: Subject) -> None:
    time, value = _series("ordinary", 150, 600.0)
    quiet = [state for _, state in _feed(subject, time, value)][-1]
    for now, asked in _feed(subject, time, value):
        subject.forecast(asked, now)
        subject.forecast(asked, now + 1234.0)
    now = float(time[-1])
    assert np.array_equal(subject.forecast(quiet, now).demand, subject.forecast(asked, now).demand)
    assert np.array_equal(subject.forecast(asked, now).demand, subject.forecast(asked, now).demand)


def test_a_fleet_forecasts_alike_alone_and_in_company(subject: Subject) -> None:
    first, second = _series("ordinary", 100, 600.0), _series("gappy", 100, 600.0)
    together = subject.start(2)
    for row in range(100):
        batch = Batch(np.array([first[0][row], second[0][row]]), np.array([first[1][row], second[1][row]]))
        together = subject.learn(together, batch)
    now = float(first[0][-1])
    both = subject.forecast(together, now)
    for fleet, (time, value) in enumerate((first, second)):
        *_, (_, alone) = _feed(subject, time, value)
        assert np.allclose(subject.forecast(alone, now).demand[0], both.demand[fleet], rtol=1e-7)
        assert np.allclose(subject.forecast(alone, now).peak[0], both.peak[fleet], rtol=1e-7)


def test_a_restart_resumes_as_if_it_had_never_stopped(subject: Subject) -> None:
    time, value = _series("ordinary", 200, 600.0)
    straight = subject.start(1)
    stopped = subject.start(1)
    for row, (when, what) in enumerate(zip(time, value, strict=True)):
        batch = Batch(np.array([when]), np.array([what]))
        straight = subject.learn(straight, batch)
        stopped = subject.learn(stopped, batch)
        if row in (0, 3, 77, 144):
            stopped = subject.load(subject.dump(stopped))
            assert np.array_equal(subject.forecast(stopped, float(when)).peak, subject.forecast(straight, float(when)).peak)
    now = float(time[-1])
    assert np.array_equal(subject.forecast(straight, now).demand, subject.forecast(stopped, now).demand)
    assert subject.dump(straight) == subject.dump(stopped)


def test_a_foreign_or_damaged_snapshot_is_refused(subject: Subject) -> None:
    good = subject.dump(subject.start(1))
    damaged = bytearray(good)
    damaged[len(good) // 2] ^= 1
    for bad in (b"", b"not a snapshot", good[:-1], good[: len(good) // 2], bytes(damaged), b"x" + good):
        with pytest.raises(SnapshotError):
            subject.load(bad)


def test_memory_is_flat(subject: Subject) -> None:
    state = subject.start(1)
    size = len(subject.dump(state))
    for row in range(500):
        state = subject.learn(state, Batch(np.array([START + row]), np.array([float(row % 13)])))
    assert abs(len(subject.dump(state)) - size) < 100
