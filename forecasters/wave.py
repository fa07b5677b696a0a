"""The wave: a posterior over start, ramp, peak and decay of a launch, announced or detected, on a fixed grid of shapes.

Owns the shapes, their priors, and the update with every observation: each shape carries a normal belief about the log of its
height (an extended Kalman step), the shapes share one weight vector with "nothing comes". It must not look for onsets; see
`onset`. Everything is in log ratios to the tide, so the tide's own error is the observation noise.
"""

from dataclasses import dataclass

import numpy as np

from forecasters.api import Array
from forecasters.intake import Index

IDLE, DETECTED, ANNOUNCED = 0.0, 1.0, 2.0
RAMPS = np.geomspace(300.0, 12 * 3600.0, 12)
HALF_LIVES = np.geomspace(900.0, 400 * 3600.0, 12)
DECAY_PER_RAMP, DECAY_SPREAD = 6.0, 1.6
DETECTED_LOG_EXCESS, DETECTED_SPREAD = float(np.log(6.0)), 1.2
DETECTED_NEVER = 0.02
LATE_SECONDS = np.array([-1800.0, 0.0, 900.0, 3600.0, 3 * 3600.0, 8 * 3600.0])
LATE_WEIGHT = np.array([0.05, 0.55, 0.18, 0.12, 0.06, 0.04])
KNOWN_STEPS, KNOWN_SPREAD, UNKNOWN_SPREAD = 4, 0.35, 0.9
HEIGHT_KNOWN_SPREAD, HEIGHT_UNKNOWN_SPREAD = 0.4, 1.0
ANNOUNCED_NEVER = 0.05
DRIFT_PER_SECOND = 0.03 / 3600.0
DRIFT_AHEAD_MOST = 0.1
MODEL_NOISE = 0.25
FREEDOM = 4.0
TEMPER_SECONDS = 1800.0
LEAST_EXCESS = 1e-9
HALF_LOG = float(np.log(2.0))
NODES, NODE_WEIGHT = np.array([-1.5, -0.5, 0.5, 1.5]), np.array([0.134, 0.366, 0.366, 0.134])

SHAPES = len(RAMPS) * len(HALF_LIVES)


@dataclass(slots=True)
class WaveState:
    """Per fleet: what the slot holds f64[n], its announced start (NaN: none), onset, last update; per shape f64[n, K] beliefs.

    `never` is the log weight of "nothing comes"; `start`, `ramp`, `half_life` in seconds, `mean` and `variance` of the log excess.
    `told` f64[n, 3] is the peak multiple, ramp and half-life that were announced, NaN where left out.
    """

    kind: Array
    plan_start: Array
    onset: Array
    updated: Array
    never: Array
    told: Array
    weight: Array
    start: Array
    ramp: Array
    half_life: Array
    mean: Array
    variance: Array


def start_wave(fleets: int) -> WaveState:
    """Return slots that hold nothing."""
    zero, grid = np.zeros(fleets), np.zeros((fleets, SHAPES))
    blank = np.full(fleets, np.nan)
    told = np.full((fleets, 3), np.nan)
    return WaveState(zero.copy(), blank.copy(), blank.copy(), blank.copy(), zero.copy(), told, *(grid.copy() for _ in range(6)))


def open_detected(state: WaveState, fleet: int, onset: float) -> None:
    """Begin a detected wave at its onset: ramps of 5 min to 12 h, half-lives of 15 min to 400 h, about six times the ramp."""
    ramp, half_life = (grid.ravel() for grid in np.meshgrid(RAMPS, HALF_LIVES, indexing="ij"))
    away = np.log(half_life / (DECAY_PER_RAMP * ramp)) / DECAY_SPREAD
    prior = -0.5 * away**2
    _fill(state, fleet, DETECTED, onset, np.full(SHAPES, onset), ramp, half_life, prior, DETECTED_NEVER)
    state.mean[fleet] = DETECTED_LOG_EXCESS
    state.variance[fleet] = DETECTED_SPREAD**2


def open_announced(
    state: WaveState, fleet: int, starts: float, peak: tuple[float, bool], ramp: tuple[float, bool], half_life: tuple[float, bool]
) -> None:
    """Begin an announced launch; each of the three is (value, whether it was stated or is the prior)."""
    ramps = ramp[0] * np.exp(_steps(ramp[1], 4))
    lives = half_life[0] * np.exp(_steps(half_life[1], 6))
    late, ramp_grid, life_grid = (grid.ravel() for grid in np.meshgrid(LATE_SECONDS, ramps, lives, indexing="ij"))
    prior = np.log(np.repeat(LATE_WEIGHT, len(ramps) * len(lives)))
    _fill(state, fleet, ANNOUNCED, starts, starts + late, ramp_grid, life_grid, prior, ANNOUNCED_NEVER)
    state.plan_start[fleet] = starts
    state.told[fleet] = [value if known else np.nan for value, known in (peak, ramp, half_life)]
    state.mean[fleet] = np.log(max(peak[0] - 1.0, 0.1))
    state.variance[fleet] = (HEIGHT_KNOWN_SPREAD if peak[1] else HEIGHT_UNKNOWN_SPREAD) ** 2


def _steps(known: bool, count: int) -> Array:
    out: Array = np.linspace(-1.2, 1.2, count) * (KNOWN_SPREAD if known else UNKNOWN_SPREAD)
    return out


def _fill(
    state: WaveState, fleet: int, kind: float, onset: float, start: Array, ramp: Array, half_life: Array, prior: Array, never: float
) -> None:
    state.kind[fleet], state.onset[fleet], state.updated[fleet] = kind, onset, np.nan
    state.plan_start[fleet] = np.nan
    state.start[fleet], state.ramp[fleet], state.half_life[fleet] = start, np.maximum(ramp, 1.0), np.maximum(half_life, 1.0)
    top = prior.max()
    state.weight[fleet] = prior - top - np.log(np.exp(prior - top).sum()) + np.log1p(-never)
    state.never[fleet] = np.log(never)


def close_wave(state: WaveState, fleet: Index) -> None:
    """Empty the slots."""
    state.kind[fleet] = IDLE


def _log_shape(state: WaveState, fleet: Index, time_unix: Array) -> Array:
    """Return the log of each shape, 0 at its peak and very low before its start, f64[k, ..., K] for times f64[k, ...]."""
    spread = (len(fleet), *([1] * (time_unix.ndim - 1)), SHAPES)
    since = time_unix[..., None] - state.start[fleet].reshape(spread)
    ramp = state.ramp[fleet].reshape(spread)
    rising = np.log(np.maximum(since / ramp, 1e-7))
    falling = (ramp - since) * (HALF_LOG / state.half_life[fleet].reshape(spread))
    out: Array = np.minimum(np.minimum(rising, 0.0), np.minimum(falling, 0.0) + np.where(since < ramp, 1e-12, 0.0))
    return out


def learn_wave(state: WaveState, fleet: Index, time_unix: Array, ratio: Array, noise: Array) -> None:
    """Update the active slots `fleet` with log ratios to the tide f64[k]; `noise` f64[k] is the tide's own standard error."""
    before = state.updated[fleet]
    elapsed = np.where(np.isnan(before), 600.0, np.maximum(time_unix - before, 1.0))
    state.updated[fleet] = time_unix
    mean = state.mean[fleet]
    variance = np.minimum(state.variance[fleet] + DRIFT_PER_SECOND * np.minimum(elapsed, 86400.0)[:, None], 4.0)
    log_excess = mean + _log_shape(state, fleet, time_unix)
    said = _log_multiple(log_excess)
    slope = np.exp(log_excess - said)
    floor = (noise**2 + MODEL_NOISE**2)[:, None]
    total = floor + slope**2 * variance
    error = ratio[:, None] - said
    temper = np.minimum(elapsed / TEMPER_SECONDS, 1.0)[:, None] ** 0.5
    weight = state.weight[fleet] + temper * _log_likelihood(error, total)
    never = state.never[fleet] + temper[:, 0] * _log_likelihood(ratio, floor[:, 0])
    top = np.maximum(weight.max(axis=1), never)
    norm = top + np.log(np.exp(weight - top[:, None]).sum(axis=1) + np.exp(never - top))
    state.weight[fleet] = np.maximum(weight - norm[:, None], -60.0)
    state.never[fleet] = np.maximum(never - norm, -12.0)
    gain = variance * slope / total
    error = np.clip(error, -4.0 * np.sqrt(total), 4.0 * np.sqrt(total))
    state.mean[fleet] = mean + gain * error
    state.variance[fleet] = np.maximum(variance * (1.0 - gain * slope), 1e-4)


def _log_multiple(log_excess: Array) -> Array:
    """Return log(1 + excess) of the log of an excess."""
    return _to_log_multiple(log_excess.copy())


def _to_log_multiple(log: Array) -> Array:
    """Do so in place, without overflow; numpy's `logaddexp` is ten times slower."""
    least = np.abs(log)
    np.negative(least, out=least)
    np.exp(least, out=least)
    np.log1p(least, out=least)
    np.maximum(log, 0.0, out=log)
    log += least
    return log


def _log_likelihood(error: Array, variance: Array) -> Array:
    """Student's t, so that one odd observation does not decide."""
    out: Array = -0.5 * np.log(variance) - 0.5 * (FREEDOM + 1.0) * np.log1p(error**2 / (FREEDOM * variance))
    return out


def multiple_now(state: WaveState, fleet: Index, time_unix: Array) -> Array:
    """Return the posterior mean of the log multiple at a time per fleet, f64[k]."""
    log = _log_multiple(state.mean[fleet] + _log_shape(state, fleet, time_unix))
    out: Array = np.einsum("kj,kj->k", np.exp(state.weight[fleet]), log)
    return out


def multiple_quantiles(state: WaveState, fleet: Index, time_unix: Array, now_unix: Array, quantiles: Array) -> Array:
    """Return quantiles of the log multiple, f64[k, H, Q], at times f64[k, H]: the mixture of all shapes and of nothing."""
    fleets, horizons = time_unix.shape
    ahead = np.maximum(time_unix - now_unix[:, None], 0.0)
    drift = np.minimum(DRIFT_PER_SECOND * ahead, DRIFT_AHEAD_MOST)
    deviation = np.sqrt(state.variance[fleet][:, None, :] + drift[:, :, None])
    points = np.zeros((fleets, horizons, SHAPES * len(NODES) + 1))
    log = deviation[..., None] * NODES
    log += (state.mean[fleet][:, None, :] + _log_shape(state, fleet, time_unix))[..., None]
    points[:, :, :-1] = _to_log_multiple(log).reshape(fleets, horizons, -1)
    share = np.exp(state.weight[fleet])[:, :, None] * NODE_WEIGHT
    weight = np.concatenate((share.reshape(fleets, -1), np.exp(state.never[fleet])[:, None]), axis=1)
    rows, each = fleets * horizons, points.shape[2]
    order = points.reshape(rows, each).argsort(axis=1)
    mass = weight[0].take(order) if fleets == 1 else weight.repeat(horizons, axis=0)[np.arange(rows)[:, None], order]
    np.cumsum(mass, axis=1, out=mass)
    mass /= mass[:, -1:].copy()
    mass += np.arange(rows)[:, None]
    wanted = quantiles[None, :] + np.arange(rows)[:, None]
    found = np.minimum(np.searchsorted(mass.ravel(), wanted.ravel()), mass.size - 1)
    found = order.ravel()[found] + found // each * each
    out: Array = points.ravel()[found].reshape(fleets, horizons, len(quantiles))
    return out
