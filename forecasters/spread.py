"""How wrong forecasts were, by horizon: a forgetting histogram of log errors, and the quantiles read off it.

Owns the error distributions: errors are log ratios over a running scale, counted in bins that are fine near zero and wide
far out, so one update is O(bins) and no window is ever sorted. It must not know where a forecast came from; see `track`.
"""

from dataclasses import dataclass

import numpy as np

from forecasters.api import Array
from forecasters.intake import Index, Mask

Singles = np.ndarray[tuple[int, ...], np.dtype[np.float32]]

BINS = 72
SHAPED = 2
REACH = 30.0
FINENESS = 0.25
ERROR_CLIP = 12.0
SCALE_FLOOR = 1e-4
SCALE_COUNT = 6.0
PRIOR_COUNT = 15.0
PRIOR_SCALE = 0.2
SCALE_MEMORY = 400.0
AGEING = 0.5
MEMORY_SECONDS = 14 * 86400.0
LEAST_MEMORY, MOST_MEMORY = 150.0, 2000.0
NUDGE = 0.08
PEAK_DOUBT, PEAK_COUNT = 5.0, 3.0
EAGER_COUNT, REFRESH_EVERY = 40.0, 4.0
LEAST_ROOM, FORGOTTEN = 0.25, 1e-5
_TOP = float(np.arcsinh(REACH / FINENESS))
_WIDTH = 2.0 * _TOP / BINS
_EDGES = np.linspace(-_TOP, _TOP, BINS + 1)


@dataclass(slots=True)
class Spread:
    """Per row (fleet x horizon): count f64[R], scale of every track f64[R, T], and for the last `SHAPED` tracks the shape.

    The shape is a histogram f32[R, SHAPED, B] and the quantiles read off it, f64[R, SHAPED, Q], in log units:
    a forecast quantile is (centre + offset) * exp(quantile) - offset.
    `missed` f64[R, SHAPED, Q] is the share of all scored that were waves nobody foresaw, above each quantile; `relief`, of the same
    shape and at most zero, is what a forecast made inside a wave leaves out of the shape, since it need not fear another.
    """

    scale: Array
    count: Array
    histogram: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
    shape: Array
    shift: Array
    quantile: Array
    missed: Array
    relief: Array


def prior_scale(horizons_seconds: Array) -> Array:
    """Return the mean absolute log error that is assumed before any was seen: 0.26 a minute ahead, 0.9 two days ahead."""
    out: Array = PRIOR_SCALE * (1.0 + np.log10(1.0 + horizons_seconds / 60.0))
    return out


def start_spread(fleets: int, horizons_seconds: Array, tracks: int, quantiles: Array) -> Spread:
    """Return the stated prior: two-sided exponential errors of the prior scale, worth `PRIOR_COUNT` observations."""
    cells = 0.5 * np.sign(np.sinh(_EDGES)) * -np.expm1(-np.abs(FINENESS * np.sinh(_EDGES))) + 0.5
    histogram = np.diff(cells) / (cells[-1] - cells[0]) * PRIOR_COUNT
    scale = np.tile(prior_scale(horizons_seconds), fleets)
    rows = len(scale)
    start = Spread(
        scale=np.repeat(scale[:, None], tracks, axis=1),
        count=np.zeros(rows),
        histogram=np.tile(histogram.astype(np.float32), (rows, SHAPED, 1)),
        shape=np.zeros((rows, SHAPED, len(quantiles))),
        shift=np.zeros((rows, SHAPED, len(quantiles))),
        quantile=np.zeros((rows, SHAPED, len(quantiles))),
        missed=np.zeros((rows, SHAPED, len(quantiles))),
        relief=np.zeros((rows, SHAPED, len(quantiles))),
    )
    if rows:
        first = _invert(start.histogram[:1], quantiles)
        start.shape[:] = first
        start.quantile[:] = start.scale[:, -SHAPED:, None] * first
    return start


def memory_of(spacing_seconds: Array) -> Array:
    """Return over how many scored errors a row forgets, f64[k], given the time between them."""
    out: Array = np.minimum(np.maximum(MEMORY_SECONDS / spacing_seconds, LEAST_MEMORY), MOST_MEMORY)
    return out


def log_errors(actual: Array, high: Array, centre: Array, base: Array) -> Array:
    """Return log errors f64[k, T] of every track's centre (`base` f64[k, 1] added); the last is of the maximum, `high` f64[k]."""
    error = np.empty(centre.shape)
    error[:] = actual[:, None]
    error[:, -1] = high
    error += base
    error /= centre
    return np.log(error, out=error)


def learn_errors(
    spread: Spread, row: Index, column: Index, error: Array, said: Singles, memory: Array, overlap: Array, quantiles: Array
) -> None:
    """Count the log errors f64[k, T] of rows (each at most once), forgetting older ones over `memory` f64[k] counts.

    `said` f32[k, SHAPED * Q] are the quantiles as they were when the forecasts were made. Each quantile's `shift` goes one step out for
    a miss of those, and at every count back by the step's nominal share (Gibbs & Candes 2021). So over T counts the share of misses is
    off nominal by what the shift has moved over T steps, whatever came and however late it is known (Angelopoulos, Candes & Tibshirani
    2023): with a step of 0.08 scales, a 0.9 quantile that has moved by one scale in 500 counts has missed 10 % ± 2.5 points.
    `overlap` f64[k] is how many consecutive errors share their cause: the more, the less each moves the prior and the shift, and the
    further out the quantiles of the maximum are put above the middle. One burst lifts the maximum of every window that holds it, so
    after a week there are seven maxima of a day, however often one was made.
    `column` is each row's horizon: the quantiles of a row that is no longer young are read off every fourth time, in turns.
    """
    error = np.minimum(np.maximum(error, -ERROR_CLIP), ERROR_CLIP)
    share = 1.0 / np.sqrt(overlap)
    count = spread.count[row] + 1.0
    spread.count[row] = count
    scale = _follow_scale(spread, row, error, count, share)
    scale, error = scale[:, -SHAPED:], error[:, -SHAPED:]
    missed = error[:, :, None] > said.reshape(len(row), SHAPED, -1)
    histogram = _count(spread, row, error / scale, memory, share)
    shape, shift = spread.shape.take(row, axis=0), spread.shift.take(row, axis=0)
    # Who misses any level misses the lowest.
    wary = spread.missed[:, :, 0].any()
    level = _calm_level(spread, row, memory, quantiles) if wary else quantiles
    move = missed - (1.0 - level)
    move *= (NUDGE / overlap)[:, None, None]
    shift += move
    spread.shift[row] = shift
    due = (count <= EAGER_COUNT) | ((count + column) % REFRESH_EVERY == 0.0)
    if due.any():
        if wary:
            both = _invert(histogram[due], np.concatenate((level[due], np.broadcast_to(quantiles, level[due].shape)), axis=2))
            shape[due] = wary_of = both[:, :, : len(quantiles)]
            spread.relief[row[due]] = both[:, :, len(quantiles) :] - wary_of
        else:
            shape[due] = _invert(histogram[due], level)
        spread.shape[row] = shape
    shape += shift
    np.maximum.accumulate(shape, axis=2, out=shape)
    middle = min(int(quantiles.searchsorted(0.5)), len(quantiles) - 1)
    doubt = np.sqrt(1.0 + PEAK_DOUBT * (overlap - 1.0) / (count + PEAK_COUNT * overlap))[:, None]
    upper = shape[:, -1, middle:]
    upper += (doubt - 1.0) * (upper - upper[:, :1])
    spread.quantile[row] = scale[:, :, None] * shape


def _follow_scale(spread: Spread, row: Index, error: Array, count: Array, share: Array) -> Array:
    """Move the mean size of every track's errors towards the newest f64[k, T], outliers clipped, and return it.

    A method errs most while it is new, so older errors fade as if there were half as many. Not so the maximum's: few say the least of it.
    """
    scale = spread.scale.take(row, axis=0)
    size = np.minimum(np.abs(error), 6.0 * scale + 0.02)
    size -= scale
    ageing = np.full(error.shape[1], AGEING)
    ageing[-1] = 1.0
    size /= np.minimum(count[:, None] * ageing + (SCALE_COUNT / share)[:, None], SCALE_MEMORY)
    scale += size
    np.maximum(scale, SCALE_FLOOR, out=scale)
    spread.scale[row] = scale
    return scale


def learn_surprises(spread: Spread, row: Index, error: Array, memory: Array) -> None:
    """Take in the log errors f64[k, T] of forecasts made in calm, of what a wave that nobody foresaw then brought.

    Of one cause and unlike the rest, they shape nothing: how often each quantile missed one is followed over `memory` f64[k] counts,
    and `learn_errors` lets the quantile miss so much less in calm. If 3 % of what comes is an unforeseen wave above the 0.9
    quantile, that quantile is the one that 0.93 of calm stays under.
    """
    missed = spread.missed.take(row, axis=0)
    missed += ((error[:, -SHAPED:, None] > spread.quantile.take(row, axis=0)) - missed) / memory[:, None, None]
    spread.missed[row] = missed


def _calm_level(spread: Spread, row: Index, memory: Array, quantiles: Array) -> Array:
    """Return which level of calm each quantile is to be, f64[k, SHAPED, Q], what was missed in waves fading.

    At least `LEAST_ROOM` of what a level may miss is left to calm: the far tail of calm says nothing about a wave's height.
    """
    missed = spread.missed.take(row, axis=0)
    missed *= (1.0 - 1.0 / memory)[:, None, None]
    missed[missed < FORGOTTEN] = 0.0
    spread.missed[row] = missed
    calm = ~missed[:, :, 0].any(axis=1)
    if calm.any():
        # Nothing is left to be relieved of, whether or not somebody else keeps us wary.
        spread.relief[row[calm]] = 0.0
    out: Array = quantiles + np.minimum(missed, (1.0 - LEAST_ROOM) * (1.0 - quantiles))
    return out


def relieved(spread: Spread, quantile: Array, inside: Mask) -> Array:
    """Return quantiles f64[n, H, SHAPED, Q] without the fear of a wave for the fleets that are inside of one, bool[n]."""
    if not spread.relief.any():
        return quantile
    lower = (spread.scale[:, -SHAPED:, None] * spread.relief).reshape(quantile.shape)
    lower *= inside[:, None, None, None]
    lower += quantile
    return np.maximum.accumulate(lower, axis=3, out=lower)


def _count(spread: Spread, row: Index, error: Array, memory: Array, share: Array) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Put scaled errors f64[k, SHAPED] into their bins and return the histograms, older counts fading.

    Each counts as its `share` f64[k]: of errors with one cause less than one, so that the prior is not drowned by the first of them.
    """
    place = np.arcsinh(error / FINENESS)
    place += _TOP
    place /= _WIDTH
    cell = np.minimum(np.maximum(place, 0.0, out=place), BINS - 1e-9, out=place).astype(np.int64).ravel()
    cell += np.arange(0, cell.size * BINS, BINS)
    histogram = spread.histogram.take(row, axis=0)
    histogram *= (1.0 - 1.0 / memory)[:, None, None].astype(np.float32)
    histogram.reshape(-1)[cell] += np.repeat(share, SHAPED).astype(np.float32)
    spread.histogram[row] = histogram
    return histogram


def method_quantiles(spread: Spread, row: Index, methods: int) -> Array:
    """Return log quantiles f64[k, M, Q] of single methods: the combination's shape at each method's own scale."""
    scale = spread.scale.take(row, axis=0)
    shape = spread.quantile[:, 0].take(row, axis=0) / scale[:, -SHAPED, None]
    out: Array = scale[:, :methods, None] * shape[:, None, :]
    return out


def _invert(histogram: np.ndarray[tuple[int, ...], np.dtype[np.float32]], quantiles: Array) -> Array:
    """Return the quantiles [k, T, Q] of histograms [k, T, B], linear within a bin (in the bins' own stretched scale).

    `quantiles` are the levels, [Q] or [k, T, Q].
    """
    rows = histogram.shape[0] * histogram.shape[1]
    cumulated = np.cumsum(histogram.reshape(rows, BINS), axis=1, dtype=np.float64)
    cumulated /= cumulated[:, -1:]
    base = np.arange(rows, dtype=np.float64)[:, None]
    flat = np.empty(rows * BINS + 1)
    flat[0] = 0.0
    np.add(cumulated, base, out=flat[1:].reshape(rows, BINS))
    wanted = quantiles.reshape(-1, quantiles.shape[-1]) + base
    found = flat[1:].searchsorted(wanted)
    np.minimum(found, flat.size - 2, out=found)
    lower = flat[found]
    share = np.minimum((wanted - lower) / np.maximum(flat[found + 1] - lower, 1e-12), 1.0)
    share += found - np.arange(0, flat.size - 1, BINS)[:, None]
    share *= _WIDTH
    share -= _TOP
    out: Array = np.sinh(share, out=share)
    out *= FINENESS
    return out.reshape(histogram.shape[0], histogram.shape[1], -1)
