"""The forecast that the pipeline uses: the policy's methods combined, waves over the tide, quantiles by horizon.

Owns the choice of methods (persistence and seasonal-naive always in), the order tide-then-wave, and the snapshot.
It must not score or calibrate; `pool` does, and `watch` follows waves. The pipeline calls `learn`, then `forecast`.
"""

from dataclasses import dataclass

import numpy as np

from controlplane.contracts.fleet import ForecastSettings
from forecasters.api import Array, Batch
from forecasters.harmonic import FEATURES, Harmonic
from forecasters.intake import Index
from forecasters.launch import Waves
from forecasters.over import CALM_MULTIPLE, Over
from forecasters.pool import Pool, PoolState
from forecasters.registry import METHODS
from forecasters.snapshot import pack, read_header, unpack
from forecasters.watch import Past, Watch, WatchState, start_watch
from forecasters.wave import IDLE

ALWAYS = ("persistence", "smoothed", "seasonal-naive", "working-week", "harmonic")
REFERENCES = ("seasonal-naive", "working-week")
AROUND = np.array([-3600.0, 0.0, 3600.0])
A_MOMENT_SECONDS = 1e-3


@dataclass(slots=True)
class CombinationState:
    """The tide's pool, the waves over it, and what they were said to be at the newest observation."""

    pool: PoolState
    watch: WatchState
    over_now: Array
    over_ahead: Array
    over_spread: Array

    @property
    def over(self) -> Over:
        """What lay over the tide at the newest observation."""
        return Over(self.over_now, self.over_ahead, self.over_spread)

    def is_calm(self, fleet: int) -> bool:
        """Whether no wave lay over a fleet's tide at its newest observation."""
        return bool(self.watch.wave.kind[fleet] == IDLE or self.over_now[fleet] < CALM_MULTIPLE)


@dataclass(frozen=True, slots=True)
class CombinedForecast:
    """Quantiles f64[n, H, Q] of demand at each horizon and of the maximum up to it; `share` f64[n, M] of each method over all horizons."""

    demand: Array
    peak: Array
    names: tuple[str, ...]
    share: Array

    @property
    def weights(self) -> dict[str, Array]:
        """The share of each method, f64[n]."""
        return {name: self.share[:, i] for i, name in enumerate(self.names)}


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
        methods = {name: METHODS[name](settings) for name in names}
        self._pool = Pool(list(methods.values()), self.horizons_seconds, self.quantiles)
        self._references = [methods[name] for name in REFERENCES]
        tide = methods["harmonic"]
        assert isinstance(tide, Harmonic)
        self._tide = tide
        self._watch = Watch(tide, self.horizons_seconds, self.quantiles)
        shape = [list(names), settings.time_zone, settings.season_seconds, list(self.horizons_seconds), list(self.quantiles)]
        self._settings = repr(shape)

    def start(self, fleets: int) -> CombinationState:
        """Return the state that has seen nothing."""
        shape = (fleets, len(self.horizons_seconds))
        spread = np.zeros((*shape, len(self.quantiles)))
        return CombinationState(self._pool.start(fleets), start_watch(fleets), np.ones(fleets), np.ones(shape), spread)

    def learn(self, state: CombinationState, batch: Batch, waves: Waves = ()) -> CombinationState:
        """Take in one observation per fleet; `waves` are each fleet's announced launches. The state passed in is used up."""
        pool = state.pool
        over = self._watch.learn(state.watch, pool.methods["harmonic"], pool.intake, batch, waves, self._past(pool))
        if over is not None:
            state.over_now[:], state.over_ahead[:], state.over_spread[:] = over.now, over.ahead, over.spread
        self._pool.learn(pool, batch, over)
        return state

    def _past(self, pool: PoolState) -> Past:
        def explained(fleet: Index, time_unix: Array) -> Array:
            words = [m.centre(pool.methods[m.name], pool.intake, fleet, time_unix, AROUND) for m in self._references]
            return np.nan_to_num(np.fmax.reduce(np.concatenate(words, axis=1), axis=1))

        return explained

    def forecast(self, state: CombinationState, now_unix: float, waves: Waves = (), *, announced: bool = False) -> CombinedForecast:
        """Return the forecast at `now_unix` + each horizon, given only what was learnt and announced.

        `announced`: the waves are others than those of the newest `learn`.
        """
        if announced:
            # A moment after what was learnt, where nothing stands that was said with the waves of then.
            now_unix += A_MOMENT_SECONDS
        over, now = None, np.full(len(state.pool.intake.time_unix), now_unix)
        if not self._watch.is_quiet(state.watch, now, waves):
            same = (state.pool.intake.time_unix == now_unix).all()
            over = state.over if same else self._watch.over(state.watch, now, waves)
        demand, peak = self._pool.forecast(state.pool, now_unix, over)
        return CombinedForecast(demand, peak, self._pool.names, state.pool.share.copy())

    def adopt(self, state: CombinationState, fleet: Index, theta: Array) -> CombinationState:
        """Take over the tides f64[k, p] that a refit off the hot path found for fleets i64[k]; record them as an input."""
        if theta.shape != (len(fleet), FEATURES) or not np.isfinite(theta).all():
            raise ValueError(f"a tide is {FEATURES} finite coefficients per fleet, not {theta.shape}")
        self._tide.adopt(state.pool.methods["harmonic"], fleet, theta)
        return state

    def dump(self, state: CombinationState) -> bytes:
        """Return a versioned snapshot; `load` of it forecasts as if nothing had happened."""
        return pack("combination", self._settings, len(state.pool.intake.time_unix), state)

    def load(self, snapshot: bytes) -> CombinationState:
        """Return the state of a snapshot; SnapshotError for another version, other settings or anything else."""
        fleets, header, data = read_header(snapshot, "combination", self._settings)
        state = self.start(fleets)
        unpack(header, data, state)
        return state


def _rises(values: Array) -> bool:
    return bool(len(values) and values[0] > 0.0 and np.all(np.diff(values) > 0.0) and np.isfinite(values).all())
