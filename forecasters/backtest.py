"""Forward evaluation: at every observation predict first, learn after; then score what came, by horizon.

Owns the loop and the table of figures. It must not read files or draw; `controlplane.studies.backtest` does that around it.
Start at `replay`, which turns a forecaster and a series into an `Outcome`, then `summarize`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from forecasters.api import Array, Quantiles
from forecasters.score import Share, coverage, covered, grain_of, mase, pinball, width

WEEK_SECONDS = 7 * 86400.0
LEAST_SCORED_PER_WEEK = 100

Mask = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
Step = Callable[[float, float], Quantiles]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One forecaster on one series: origins f64[N], quantiles f64[N, H, Q] of demand and peak, as forecast then."""

    time_unix: Array
    demand: Array
    peak: Array


@dataclass(frozen=True, slots=True)
class Truth:
    """What came: demand at each horizon after each origin, and the maximum until then, f64[N, H]; NaN = not observed."""

    time_unix: Array
    demand: Array
    peak: Array


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one horizon; `weekly` is each week's coverage f64[W, Q], NaN where too few were scored."""

    horizon_seconds: float
    scored: int
    pinball: float
    mase: float
    width: float
    coverage: tuple[Share, ...]
    weekly: Array
    peak_pinball: float
    peak_coverage: tuple[Share, ...]


def replay(step: Step, time_unix: Array, value: Array) -> Outcome:
    """Hand each observation to `step(time, value)`, which learns it and answers with the forecast made at that moment."""
    said = [step(float(when), float(what)) for when, what in zip(time_unix, value, strict=True)]
    return Outcome(time_unix, np.concatenate([one.demand for one in said]), np.concatenate([one.peak for one in said]))


def truth(time_unix: Array, value: Array, horizons_seconds: Array) -> Truth:
    """Find what was observed at each horizon: the first observation at or after it, unless that is more than 1.5 steps late."""
    count = len(time_unix)
    step = float(np.median(np.diff(time_unix))) if count > 1 else 1.0
    target = time_unix[:, None] + horizons_seconds
    place = np.searchsorted(time_unix, target - 1e-6 * step)
    place = np.maximum(place, np.arange(count)[:, None] + 1)
    inside = np.minimum(place, count - 1)
    known = (place < count) & (time_unix[inside] - target < 1.5 * step)
    demand = np.where(known, value[inside], np.nan)
    peak = np.where(known, _range_maximum(value, np.arange(count)[:, None] + 1, inside), np.nan)
    return Truth(time_unix, demand, peak)


def _range_maximum(
    value: Array, first: np.ndarray[tuple[int, ...], np.dtype[np.int64]], last: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
) -> Array:
    """Return the maximum of value[first..last] by a table of powers of two; NaN counts as nothing."""
    table = [np.where(np.isnan(value), -np.inf, value)]
    while 2 ** len(table) <= len(value):
        half = 2 ** (len(table) - 1)
        longer = table[-1].copy()
        longer[:-half] = np.maximum(longer[:-half], table[-1][half:])
        table.append(longer)
    stacked = np.stack(table)
    last = np.maximum(last, np.minimum(first, len(value) - 1))
    first = np.minimum(first, last)
    level = np.floor(np.log2(last - first + 1.0)).astype(np.int64)
    out: Array = np.maximum(stacked[level, first], stacked[level, last - 2**level + 1])
    return out


def summarize(
    outcome: Outcome, actual: Truth, horizons_seconds: Array, quantiles: Array, scored: Mask, naive_error: Array | None = None
) -> list[Figures]:
    """Return the figures by horizon over the origins where `scored` bool[N]; `naive_error` f64[N, H] is seasonal-naive's."""
    step = float(np.median(np.diff(outcome.time_unix))) if len(outcome.time_unix) > 1 else 1.0
    middle = int(np.argmin(np.abs(quantiles - 0.5)))
    week = ((outcome.time_unix - outcome.time_unix[0]) // WEEK_SECONDS).astype(np.int64)
    grain = grain_of(actual.demand)
    figures = []
    for column, horizon in enumerate(horizons_seconds):
        use = scored & ~np.isnan(actual.demand[:, column])
        came, said = actual.demand[use, column], outcome.demand[use, column]
        hits = covered(came, said, quantiles, grain)
        overlap = max(float(horizon) / step, 1.0)
        highs, peak_said = actual.peak[use, column], outcome.peak[use, column]
        peak_hits = covered(highs, peak_said, quantiles, grain)
        naive = naive_error[use, column] if naive_error is not None else np.full(len(came), np.nan)
        figures.append(
            Figures(
                horizon_seconds=float(horizon),
                scored=len(came),
                pinball=float(pinball(came, said, quantiles).mean()) if len(came) else float("nan"),
                mase=mase(came, said[:, middle], naive) if naive_error is not None and len(came) else float("nan"),
                width=float(width(said, quantiles).mean()) if len(came) else float("nan"),
                coverage=tuple(coverage(hits[:, q], overlap) for q in range(len(quantiles))),
                weekly=_weekly(hits, week[use], int(week[-1]) + 1),
                peak_pinball=float(pinball(highs, peak_said, quantiles).mean()) if len(came) else float("nan"),
                peak_coverage=tuple(coverage(peak_hits[:, q], overlap) for q in range(len(quantiles))),
            )
        )
    return figures


def _weekly(hits: Array, week: np.ndarray[tuple[int, ...], np.dtype[np.int64]], weeks: int) -> Array:
    out = np.full((weeks, hits.shape[1]), np.nan)
    for number in range(weeks):
        mine = hits[week == number]
        if len(mine) >= LEAST_SCORED_PER_WEEK:
            out[number] = mine.mean(axis=0)
    return out
