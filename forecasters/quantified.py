"""A point method as a forecaster on its own: empirical quantiles at any horizon and level, and a snapshot.

Owns the fixed grid on which errors are tracked and the interpolation to what is asked for.
It must not know the method; `pool` does the learning and `registry` names the methods.
"""

from typing import Any

import numpy as np

from forecasters.api import Array, Batch, Quantiles
from forecasters.point import PointMethod
from forecasters.pool import Pool, PoolState
from forecasters.snapshot import pack, read_header, unpack

HORIZONS_SECONDS = np.array([60.0, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800])
QUANTILES = np.array([0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999])


class Quantified:
    """One point method with its own empirical quantiles, as `forecasters.api.Forecaster` asks.

    `settings` is whatever makes two instances differ (the time zone): a snapshot of other settings is refused.
    """

    def __init__(self, method: PointMethod[Any], settings: str = "") -> None:
        self.name = method.name
        self._settings = settings
        self._method = method
        self._pool = Pool([method], HORIZONS_SECONDS, QUANTILES)

    def start(self, fleets: int) -> PoolState:
        """Return the state that has seen nothing."""
        return self._pool.start(fleets)

    def learn(self, state: PoolState, batch: Batch) -> PoolState:
        """Take in one observation per fleet."""
        return self._pool.learn(state, batch)

    def forecast(self, state: PoolState, now_unix: float, horizons_seconds: Array, quantiles: Array) -> Quantiles:
        """Return quantiles at any horizons and levels, between those tracked; beyond them the nearest counts."""
        demand, peak = self._pool.forecast(state, now_unix)
        place = np.interp(np.log(np.maximum(horizons_seconds, 1.0)), np.log(HORIZONS_SECONDS), np.arange(len(HORIZONS_SECONDS)))
        level = np.interp(_logit(quantiles), _logit(QUANTILES), np.arange(len(QUANTILES)))
        demand = _between(_between(demand, place, 1), level, 2)
        peak = np.maximum(demand, _between(_between(peak, place, 1), level, 2))
        return Quantiles(demand, peak)

    def dump(self, state: PoolState) -> bytes:
        """Return a versioned snapshot."""
        return pack(f"method/{self.name}", self._settings, len(state.intake.time_unix), state)

    def load(self, snapshot: bytes) -> PoolState:
        """Return the state of a snapshot; SnapshotError for anything else."""
        fleets, header, data = read_header(snapshot, f"method/{self.name}", self._settings)
        state = self.start(fleets)
        unpack(header, data, state)
        return state


def _logit(share: Array) -> Array:
    inside = np.clip(share, 1e-6, 1.0 - 1e-6)
    out: Array = np.log(inside / (1.0 - inside))
    return out


def _between(values: Array, place: Array, axis: int) -> Array:
    """Interpolate along an axis at fractional positions."""
    left = np.minimum(place.astype(np.int64), values.shape[axis] - 2)
    shape = [1] * values.ndim
    shape[axis] = -1
    share = (place - left).reshape(shape)
    out: Array = np.take(values, left, axis) * (1.0 - share) + np.take(values, left + 1, axis) * share
    return out
