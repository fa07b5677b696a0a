"""The forecast that the pipeline uses: the policy's methods combined, launches multiplied in, quantiles by horizon.

Owns the choice of methods (persistence and seasonal-naive always in), the launches around the tide, and the snapshot.
It must not score or calibrate; `pool` does. The pipeline calls `learn`, then `forecast`, for every observation.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from controlplane.contracts.fleet import ForecastSettings
from forecasters.api import Array, Batch
from forecasters.intake import Index
from forecasters.launch import Waves, multiples
from forecasters.pool import Multiples, Pool, PoolState
from forecasters.registry import METHODS
from forecasters.snapshot import pack, read_header, unpack

ALWAYS = ("persistence", "smoothed", "seasonal-naive", "working-week")
CombinationState = PoolState


@dataclass(frozen=True, slots=True)
class CombinedForecast:
    """Quantiles f64[n, H, Q] of demand at each horizon and of the maximum up to it; `weights` f64[n], mean over horizons."""

    demand: Array
    peak: Array
    weights: dict[str, Array]


class Combination:
    """Configuration only: it holds no fleet's data, and its methods are deterministic."""

    def __init__(self, settings: ForecastSettings, horizons_seconds: Array, quantiles: Array) -> None:
        names = (*ALWAYS, *(name for name in settings.methods if name not in ALWAYS))
        unknown = [name for name in names if name not in METHODS]
        if unknown:
            raise ValueError(f"no forecaster is named {unknown[0]!r}; there are {', '.join(sorted(METHODS))}")
        self.horizons_seconds = np.asarray(horizons_seconds, dtype=np.float64)
        self.quantiles = np.asarray(quantiles, dtype=np.float64)
        if not _rises(self.horizons_seconds) or not _rises(self.quantiles):
            raise ValueError("horizons and quantiles must be positive and strictly rising")
        self._pool = Pool([METHODS[name](settings) for name in names], self.horizons_seconds, self.quantiles)
        shape = [list(names), settings.time_zone, settings.season_seconds, list(self.horizons_seconds), list(self.quantiles)]
        self._settings = repr(shape)

    def start(self, fleets: int) -> CombinationState:
        """Return the state that has seen nothing."""
        return self._pool.start(fleets)

    def learn(self, state: CombinationState, batch: Batch, waves: Waves = ()) -> CombinationState:
        """Take in one observation per fleet; `waves` are each fleet's announced launches. The state passed in is used up."""
        return self._pool.learn(state, batch, _multiples(waves))

    def forecast(self, state: CombinationState, now_unix: float, waves: Waves = ()) -> CombinedForecast:
        """Return the forecast at `now_unix` + each horizon, given only what was learnt and announced."""
        demand, peak = self._pool.forecast(state, now_unix, _multiples(waves))
        fleets = len(state.intake.time_unix)
        shares = state.weight.reshape(fleets, len(self.horizons_seconds), -1).mean(axis=1)
        return CombinedForecast(demand, peak, {name: shares[:, i] for i, name in enumerate(self._pool.names)})

    def dump(self, state: CombinationState) -> bytes:
        """Return a versioned snapshot; `load` of it forecasts as if nothing had happened."""
        return pack("combination", self._settings, len(state.intake.time_unix), state)

    def load(self, snapshot: bytes) -> CombinationState:
        """Return the state of a snapshot; SnapshotError for another version, other settings or anything else."""
        fleets, header, data = read_header(snapshot, "combination", self._settings)
        state = self.start(fleets)
        unpack(header, data, state)
        return state


def _rises(values: Array) -> bool:
    return bool(len(values) and values[0] > 0.0 and np.all(np.diff(values) > 0.0) and np.isfinite(values).all())


def _multiples(waves: Sequence[object]) -> Multiples | None:
    if not any(waves):
        return None

    def of(fleet: Index, time_unix: Array) -> Array:
        return multiples(waves, fleet, time_unix)  # type: ignore[arg-type]

    return of
