"""The tide, vectorised: daily and weekly harmonics of the log of demand, by recursive least squares with forgetting.

Owns the features and the recursion, the same code for one fleet and for ten thousand; what is left over decays with lead time.
It must not see a wave: the caller hands it demand with the wave taken out. The structural fit is in `structural`.
"""

from dataclasses import dataclass
from math import expm1, inf, log
from typing import ClassVar

import numpy as np

from forecasters.api import Array
from forecasters.intake import FIRST, OFFSET_FLOOR, OFFSET_SHARE, Index, Intake, Seen, offset
from forecasters.zone import Zone

BIN_SECONDS = 900.0
TABLE_SLOTS = 2016
MEMORY_SECONDS = 21 * 86400.0
INDEPENDENT_SECONDS = 3600.0
RESIDUAL_SECONDS = 600.0
RESIDUAL_DECAY_SECONDS = 4 * 3600.0
PRIOR_NOISE = 0.1
HUBER = 2.5
DAILY, WEEKLY, SIDE = (1, 2, 3, 4, 5, 6), (1, 2, 3), (-1, 1)
PRIOR_LEVEL, PRIOR_DAILY, PRIOR_WEEKLY, PRIOR_SIDE = 3.0, 0.5, 0.1, 0.05
LOG_LIMIT = 40.0
REFIT_CHUNK = 500


def _frequencies() -> tuple[Array, Array]:
    """Return cycles per day and prior standard deviations: the day, the week, and the day's change over the week."""
    cycles = [float(k) for k in DAILY] + [k / 7.0 for k in WEEKLY] + [k + side / 7.0 for k in (1, 2) for side in SIDE]
    prior = [PRIOR_DAILY / k for k in DAILY] + [PRIOR_WEEKLY / k for k in WEEKLY] + [PRIOR_SIDE] * 4
    return np.array(cycles), np.array(prior)


CYCLES, PRIOR = _frequencies()
FEATURES = 1 + 2 * len(CYCLES)


@dataclass(slots=True)
class Tide:
    """Coefficients f64[n, p] and their covariance f64[n, p, p]; noise, smoothed residual, and the bin being filled, f64[n]."""

    theta: Array
    covariance: Array
    noise: Array
    residual: Array
    bins: Array
    bin_start: Array
    bin_total: Array
    bin_seconds: Array


def features(phase_days: Array) -> Array:
    """Return f64[..., p] for local time in days: 1, then sines and cosines of every frequency."""
    angle = phase_days[..., None] * (2.0 * np.pi * CYCLES)
    out = np.empty((*phase_days.shape, FEATURES))
    out[..., 0] = 1.0
    np.sin(angle, out=out[..., 1 : 1 + len(CYCLES)])
    np.cos(angle, out=out[..., 1 + len(CYCLES) :])
    return out


TABLE = features(np.linspace(0.0, 7.0, TABLE_SLOTS, endpoint=False))


class Harmonic:
    """Multiplicative daily and weekly shape, plus what is left over, fading over hours."""

    name: ClassVar[str] = "harmonic"
    context_size: ClassVar[int] = 1
    is_coarse: ClassVar[bool] = True

    def __init__(self, zone: Zone, season_seconds: float = 86400.0) -> None:
        self._zone = zone
        self._season = season_seconds

    def start(self, fleets: int) -> Tide:
        """Return the prior: no shape, level unknown."""
        prior = np.concatenate(([PRIOR_LEVEL], PRIOR, PRIOR)) ** 2
        zero = np.zeros(fleets)
        return Tide(
            theta=np.zeros((fleets, FEATURES)),
            covariance=np.tile(np.diag(prior), (fleets, 1, 1)),
            noise=np.full(fleets, PRIOR_NOISE),
            residual=zero.copy(),
            bins=zero.copy(),
            bin_start=np.full(fleets, -np.inf),
            bin_total=zero.copy(),
            bin_seconds=zero.copy(),
        )

    def features_at(self, time_unix: Array) -> Array:
        """Return f64[..., p] at unix times, to the nearest five minutes of local time."""
        slot = self._zone.to_local(time_unix) * (TABLE_SLOTS / (7.0 * self._season))
        np.rint(slot, out=slot)
        slot %= TABLE_SLOTS
        return TABLE.take(slot.astype(np.int64), axis=0)

    def learn(self, state: Tide, intake: Intake, seen: Seen) -> None:
        """Gather a quarter of an hour, then update the fit; follow the residual with every observation."""
        if len(state.bins) == 1:
            self._learn_one(state, intake, seen)
            return
        total = state.bin_total[seen.sel] + seen.demand * seen.span_seconds
        seconds = state.bin_seconds[seen.sel] + seen.span_seconds
        start = state.bin_start[seen.sel]
        state.bin_total[seen.sel], state.bin_seconds[seen.sel] = total, seconds
        state.bin_start[seen.sel] = np.where(start == -np.inf, seen.time_unix - seen.span_seconds, start)
        full = (seconds >= BIN_SECONDS) | (state.bins[seen.sel] == 0.0)
        if seen.calm is not None and not seen.calm.all():
            wavy = seen.fleet[~seen.calm]
            state.bin_total[wavy] = state.bin_seconds[wavy] = 0.0
            full &= seen.calm
        closed = np.flatnonzero(full)
        if len(closed):
            self._fit(state, intake, seen, closed)
        design = self.features_at(seen.time_unix - 0.5 * seen.span_seconds)
        base = offset(intake, seen.sel)
        left = np.log(seen.demand + base) - np.einsum("kp,kp->k", design, state.theta[seen.sel])
        rate = -np.expm1(-seen.span_seconds / RESIDUAL_SECONDS)
        residual = state.residual[seen.sel]
        state.residual[seen.sel] = residual + rate * (left - residual)

    def _learn_one(self, state: Tide, intake: Intake, seen: Seen) -> None:
        """Do the same for a single fleet, in plain numbers: the pipeline forecasts one fleet at a time."""
        demand, span, now = float(seen.demand[0]), float(seen.span_seconds[0]), float(seen.time_unix[0])
        seconds = float(state.bin_seconds[0]) + span
        state.bin_total[0] += demand * span
        state.bin_seconds[0] = seconds
        if state.bin_start[0] == -inf:
            state.bin_start[0] = now - span
        if seen.calm is not None and not seen.calm[0]:
            state.bin_total[0] = state.bin_seconds[0] = 0.0
        elif seconds >= BIN_SECONDS or state.bins[0] == 0.0:
            self._fit(state, intake, seen, FIRST)
        left = log(demand + float(intake.base[0])) - self.log_shape_one(state, np.array([now - 0.5 * span]))
        state.residual[0] += -expm1(-span / RESIDUAL_SECONDS) * (left - float(state.residual[0]))

    def _fit(self, state: Tide, intake: Intake, seen: Seen, closed: Index) -> None:
        fleet, seconds = seen.fleet[closed], state.bin_seconds[seen.fleet[closed]]
        mean = state.bin_total[fleet] / seconds
        design = self.features_at(seen.time_unix[closed] - 0.5 * np.minimum(seconds, 86400.0))
        base = offset(intake, fleet)
        value = np.log(mean + base)
        young = state.bins[fleet] == 0.0
        theta = state.theta[fleet]
        theta[:, 0] = np.where(young, value, theta[:, 0])
        covariance = state.covariance[fleet]
        gain = np.vecdot(covariance, design[:, None, :])
        noise = state.noise[fleet]
        spread = np.maximum(INDEPENDENT_SECONDS / seconds, 1.0) * noise + np.vecdot(gain, design)
        error = value - np.vecdot(theta, design)
        limit = HUBER * np.sqrt(spread)
        clipped = np.minimum(np.maximum(error, -limit), limit)
        state.theta[fleet] = theta + gain * (clipped / spread)[:, None]
        covariance -= gain[:, :, None] * (gain / spread[:, None])[:, None, :]
        growing = np.trace(covariance, axis1=1, axis2=2) < PRIOR_LEVEL**2
        covariance *= np.where(growing, np.exp(np.minimum(seconds, 86400.0) / MEMORY_SECONDS), 1.0)[:, None, None]
        state.covariance[fleet] = covariance
        rate = 1.0 / np.minimum(state.bins[fleet] + 10.0, 500.0)
        state.noise[fleet] = np.maximum(noise + rate * (np.where(young, noise, clipped**2) - noise), 1e-6)
        state.bins[fleet] += 1.0
        state.bin_total[fleet] = 0.0
        state.bin_seconds[fleet] = 0.0
        state.bin_start[fleet] = seen.time_unix[closed]

    def adopt(self, state: Tide, fleet: Index, theta: Array) -> None:
        """Take over coefficients f64[k, p] of a refit; what the recursion was sure of it stays sure of."""
        state.theta[fleet] = theta
        state.bins[fleet] = np.maximum(state.bins[fleet], 1.0)

    def log_shape_one(self, state: Tide, time_unix: Array) -> float:
        """Return the log of the tide of the first fleet at one time f64[1]."""
        slot = round(float(self._zone.to_local(time_unix)[0]) * (TABLE_SLOTS / (7.0 * self._season)))
        return float(TABLE[slot % TABLE_SLOTS].dot(state.theta[0]))

    def log_shape(self, state: Tide, fleet: Index | slice, time_unix: Array) -> Array:
        """Return the log of the tide alone at one time per fleet, f64[k]."""
        out: Array = np.vecdot(self.features_at(time_unix), state.theta[fleet])
        return out

    def centre(self, state: Tide, intake: Intake, fleet: Index | slice, now_unix: Array, horizons_seconds: Array) -> Array:
        """Return exp(shape at the target + residual fading with the horizon)."""
        design = self.features_at(now_unix[:, None] + horizons_seconds)
        out: Array = np.matvec(design, state.theta[fleet])
        out += state.residual[fleet][:, None] * np.exp(horizons_seconds / -RESIDUAL_DECAY_SECONDS)
        np.exp(np.minimum(out, LOG_LIMIT, out=out), out=out)
        out -= offset(intake, fleet)[:, None]
        return np.maximum(out, 0.0, out=out)

    def context(self, state: Tide, intake: Intake, fleet: Index | slice, now_unix: Array, horizons_seconds: Array) -> Array:
        """Return the tide now, so that how fast a deviation from it fades can be learnt."""
        if len(state.bins) == 1:
            return np.array([[[self.log_shape_one(state, now_unix)]]])
        return self.log_shape(state, fleet, now_unix)[:, None, None]


def refit(time_unix: Array, demand: Array, zone: Zone, season_seconds: float = 86400.0) -> Array:
    """Fit all tides at once to histories f64[n, T] on common times f64[T]; return coefficients f64[n, p] of the log of demand.

    NaN is missing. Two passes of weighted ridge regression with the same prior as the recursion: the second weighs residuals
    by Huber's function of the first, so outliers and short waves hardly count. Run it off the hot path.
    """
    slot = np.rint(zone.to_local(time_unix) * (TABLE_SLOTS / (7.0 * season_seconds)))
    design = TABLE[(slot % TABLE_SLOTS).astype(np.int64)]
    prior = np.concatenate(([PRIOR_LEVEL], PRIOR, PRIOR)) ** -2.0
    step = float(np.median(np.diff(time_unix))) if len(time_unix) > 1 else INDEPENDENT_SECONDS
    worth = min(step / INDEPENDENT_SECONDS, 1.0) / PRIOR_NOISE
    theta = np.zeros((len(demand), FEATURES))
    pairs = (design[:, :, None] * design[:, None, :]).reshape(len(design), -1)
    for start in range(0, len(demand), REFIT_CHUNK):
        part = demand[start : start + REFIT_CHUNK]
        level = np.nanmean(part, axis=1, keepdims=True) if part.size else part
        log = np.log(part + OFFSET_SHARE * np.nan_to_num(level) + OFFSET_FLOOR)
        known = np.isfinite(log)
        log = np.where(known, log, 0.0)
        weight = known.astype(np.float64)
        for _ in range(2):
            gram = (weight @ pairs).reshape(len(part), FEATURES, FEATURES) * worth + np.diag(prior)
            fitted = np.linalg.solve(gram, ((weight * log) @ design * worth)[:, :, None])[:, :, 0]
            size = np.abs(log - fitted @ design.T)
            scale = np.maximum(1.5 * (weight * size).sum(axis=1) / np.maximum(weight.sum(axis=1), 1.0), 1e-3)
            weight = known * np.minimum(1.0, HUBER * 0.6 * scale[:, None] / np.maximum(size, 1e-12))
        theta[start : start + REFIT_CHUNK] = fitted
    return theta
