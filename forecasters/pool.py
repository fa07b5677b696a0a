"""A pool of point methods with quantiles around them: weighted by recent pinball loss, calibrated by horizon.

Owns the one loop that every method goes through: score what came due, learn, forecast, keep what will come due.
It must not know which methods there are nor what a launch is; `combine` puts those in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from forecasters.api import Array, Batch
from forecasters.blend import Blend, learn_blend, say_blend, start_blend
from forecasters.intake import Index, Intake, Seen, admit, offset, start_intake
from forecasters.pending import SLOTS, Pending, Settled, issue, pick, settle, start_pending
from forecasters.point import PointMethod
from forecasters.spread import SHAPED, Spread, learn_errors, method_quantiles, prior_scale, start_spread

MEMORY_SECONDS = 14 * 86400.0
LEAST_MEMORY, MOST_MEMORY = 150.0, 2000.0
LOSS_MEMORY = 150.0
SHARPNESS, FLATTER, LEAST_SHARPNESS = 8.0, 0.25, 4.0
LOG_LIMIT = 40.0
NEWCOMER_LOSS = 2.0
BLEND_LOSS = 1.3
STEP_SLACK = 1.05
CALM_MULTIPLE, CALM_SPREAD = 1.15, 0.15
UNFORESEEN_MULTIPLE = 2.0
FAVOUR = {"working-week": 4.0, "blend": 2.0}
LEVEL, BLEND = "smoothed", "blend"
TRUSTED_AT_ONCE = ("persistence", "smoothed", "seasonal-naive", "working-week")


@dataclass(frozen=True, slots=True)
class Over:
    """What lies over the tide: multiples now f64[n] and at each horizon f64[n, H], and the log spread f64[n, H, Q] of the latter."""

    now: Array
    ahead: Array
    spread: Array


@dataclass(slots=True)
class PoolState:
    """All arrays; `centre` f64[n, H, T] is the point forecast of every track made at the newest observation.

    `stand_in` i64[n, H]: horizons inside one step all mean the next observation, so the longest of them answers for the rest.
    """

    intake: Intake
    methods: dict[str, Any]
    pending: Pending
    spread: Spread
    loss: Array
    weight: Array
    centre: Array
    stand_in: Index
    blend: Blend


class Pool:
    """Methods, horizons and quantiles, fixed. Tracks: one per method, then the combination, then its running maximum."""

    def __init__(self, methods: Sequence[PointMethod[Any]], horizons_seconds: Array, quantiles: Array) -> None:
        self.methods = tuple(methods)
        self.horizons_seconds = np.asarray(horizons_seconds, dtype=np.float64)
        self.quantiles = np.asarray(quantiles, dtype=np.float64)
        self._blends = len(self.methods) > 1
        self._count = len(self.methods) + self._blends
        self._tracks = self._count + 2
        self._prior = self._blend_prior()
        self._columns = self._tracks + 1 + len(self._prior) * self._blends
        self._favour = np.array([FAVOUR.get(name, 1.0) for name in self.names])
        others = [i for i, method in enumerate(self.methods) if method.name != LEVEL]
        self._others = np.array(others, dtype=np.int64)
        self._level = next((i for i, method in enumerate(self.methods) if method.name == LEVEL), 0)
        self._middle = int(np.argmin(np.abs(self.quantiles - 0.5)))
        self._order = np.arange(len(self.horizons_seconds))
        self._first_loss = prior_scale(self.horizons_seconds)[:, None] * np.array(
            [1.0 if method.name in TRUSTED_AT_ONCE else NEWCOMER_LOSS for method in self.methods] + [BLEND_LOSS] * self._blends
        )

    def _blend_prior(self) -> Array:
        share = {"persistence": 0.3, "seasonal-naive": 0.1, "working-week": 0.2, "harmonic": 0.2}
        extra = sum(method.context_size for method in self.methods)
        return np.array([share.get(method.name, 0.1) for method in self.methods if method.name != LEVEL] + [0.0] * (extra + 1))

    @property
    def names(self) -> tuple[str, ...]:
        """What the weights are of: the methods, and the blend where there are several."""
        return tuple(method.name for method in self.methods) + (BLEND,) * self._blends

    def start(self, fleets: int) -> PoolState:
        """Return the state that has seen nothing."""
        horizons = len(self.horizons_seconds)
        state = PoolState(
            intake=start_intake(fleets),
            methods={method.name: method.start(fleets) for method in self.methods},
            pending=start_pending(fleets, horizons, self._columns),
            spread=start_spread(fleets, self.horizons_seconds, self._tracks, self.quantiles),
            loss=np.tile(self._first_loss, (fleets, 1)),
            weight=np.tile(_weigh(self._first_loss, np.full(horizons, LEAST_SHARPNESS), self._favour), (fleets, 1)),
            centre=np.zeros((fleets, horizons, self._tracks)),
            stand_in=np.tile(np.arange(horizons), (fleets, 1)),
            blend=start_blend(fleets * horizons * self._blends, self._prior),
        )
        return state

    def learn(self, state: PoolState, batch: Batch, over: Over | None = None) -> PoolState:
        """Score, learn and forecast ahead; what lies `over` the tide is taken out before and put back after."""
        if over is not None:
            batch = Batch(batch.time_unix, batch.demand_per_second / over.now)
        seen = admit(state.intake, batch)
        if seen is None:
            return state
        tide = seen.demand
        if over is not None:
            seen.demand = tide * over.now[seen.sel]
            seen.calm = over.now[seen.sel] < CALM_MULTIPLE
        for settled in settle(state.pending, seen):
            calm = settled.centre[:, self._tracks] == 0.0
            if over is not None:
                calm &= over.now[seen.fleet[settled.position]] < UNFORESEEN_MULTIPLE
            if calm.all():
                self._score(state, seen, settled)
            elif calm.any():
                self._score(state, seen, pick(settled, calm))
        seen.demand = tide
        for method in self.methods:
            method.learn(state.methods[method.name], state.intake, seen)
        self._stand_in(state, seen)
        centre = self._centres(state, seen.sel, seen.fleet, seen.time_unix, over)
        state.centre[seen.sel] = centre[:, :, : self._tracks]
        issue(state.pending, state.intake, seen, self.horizons_seconds, centre, state.stand_in)
        return state

    def _stand_in(self, state: PoolState, seen: Seen) -> None:
        inside = np.searchsorted(self.horizons_seconds, state.intake.step_seconds[seen.sel] * STEP_SLACK, side="right") - 1
        state.stand_in[seen.sel] = np.maximum(self._order, inside[:, None])

    def _score(self, state: PoolState, seen: Seen, settled: Settled) -> None:
        row = settled.row
        column = row % len(self.horizons_seconds)
        horizon = self.horizons_seconds[column]
        spacing = np.maximum(horizon / SLOTS, state.intake.step_seconds[seen.fleet[settled.position]])
        overlap = np.maximum(horizon / spacing, 1.0)
        base = offset(state.intake)[seen.fleet[settled.position]][:, None]
        said_then = settled.centre[:, : self._tracks]
        actual = np.empty_like(said_then)
        actual[:, :-1] = settled.actual[:, None]
        actual[:, -1] = settled.high
        error = np.log((actual + base) / (said_then + base))
        count = self._count
        if count > 1:
            log = np.minimum(method_quantiles(state.spread, row, count), LOG_LIMIT)
            learn_blend(state.blend, row, settled.centre[:, self._tracks + 1 :], error[:, self._level], overlap)
            said = (said_then[:, :count, None] + base[:, :, None]) * np.exp(log) - base[:, :, None]
            miss = settled.actual[:, None, None] - said
            pinball = np.maximum(self.quantiles * miss, (self.quantiles - 1.0) * miss).mean(axis=2)
            pinball /= state.intake.level[seen.fleet[settled.position]][:, None] + base
            rate = 1.0 / np.minimum(state.spread.count[row] + 2.0, LOSS_MEMORY)
            loss = state.loss[row]
            loss += rate[:, None] * (np.minimum(pinball, 50.0) - loss)
            state.loss[row] = loss
            state.weight[row] = _weigh(loss, SHARPNESS / overlap**FLATTER, self._favour)
        memory = np.minimum(np.maximum(MEMORY_SECONDS / spacing, LEAST_MEMORY), MOST_MEMORY)
        learn_errors(state.spread, row, column, error, memory, overlap, self.quantiles)

    def _centres(self, state: PoolState, sel: slice | Index, fleet: Index, now_unix: Array, over: Over | None) -> Array:
        horizons = self.horizons_seconds
        count = self._count
        methods = len(self.methods)
        out = np.zeros((len(fleet), len(horizons), self._columns))
        for track, method in enumerate(self.methods):
            out[:, :, track] = method.centre(state.methods[method.name], state.intake, sel, now_unix, horizons)
        known = out[:, :, self._level : self._level + 1] if self._blends else state.intake.demand[sel][:, None, None]
        unknown = np.isnan(out[:, :, :methods])
        if unknown.any():
            out[:, :, :methods] = np.where(unknown, known, out[:, :, :methods])
        if self._blends:
            base = offset(state.intake)[sel][:, None]
            log = np.log(out[:, :, :methods] + base[:, :, None])
            level = log[:, :, self._level]
            design = out[:, :, self._tracks + 1 :]
            design[:, :, : methods - 1] = log[:, :, self._others] - level[:, :, None]
            place = methods - 1
            for method in self.methods:
                if method.context_size:
                    following = place + method.context_size
                    design[:, :, place:following] = method.context(state.methods[method.name], state.intake, sel, now_unix, horizons, level)
                    place = following
            design[:, :, -1] = 1.0
            np.minimum(np.maximum(design, -4.0, out=design), 4.0, out=design)
            said = level + say_blend(state.blend, fleet, len(horizons), design)
            out[:, :, methods] = np.maximum(np.exp(said) - base, 0.0)
        if over is not None:
            out[:, :, :count] *= over.ahead[fleet][:, :, None]
            wavy = (over.now[fleet][:, None] > CALM_MULTIPLE) | (over.ahead[fleet] > CALM_MULTIPLE)
            out[:, :, self._tracks] = wavy | (np.abs(over.spread[fleet]).max(axis=2) > CALM_SPREAD)
        if count > 1:
            weight = state.weight.reshape(-1, len(horizons), count)[sel]
            mean = np.einsum("khm,khm->kh", np.log(out[:, :, :count] + base[:, :, None]), weight)
            out[:, :, count] = np.maximum(np.exp(mean) - base, 0.0)
        else:
            out[:, :, count] = out[:, :, 0]
        out = out[np.arange(len(fleet))[:, None], state.stand_in[sel]]
        np.maximum.accumulate(out[:, :, count], axis=1, out=out[:, :, count + 1])
        return out

    def forecast(self, state: PoolState, now_unix: float, over: Over | None = None) -> tuple[Array, Array]:
        """Return (demand, peak) f64[n, H, Q] at `now_unix` + each horizon."""
        intake = state.intake
        fleets, horizons = len(intake.time_unix), len(self.horizons_seconds)
        count = self._count
        centre = state.centre
        late = now_unix - intake.time_unix
        if not (late == 0.0).all():
            now = np.full(fleets, now_unix)
            centre = self._centres(state, slice(None), np.arange(fleets), now, over)[:, :, : self._tracks]
        base = offset(intake)[:, None, None]
        quantile = state.spread.quantile.reshape(fleets, horizons, SHAPED, -1)[np.arange(fleets)[:, None], state.stand_in]
        if over is not None:
            middle = quantile[..., self._middle : self._middle + 1]
            quantile = middle + np.sign(self.quantiles - 0.5) * np.hypot(quantile - middle, over.spread[:, :, None, :])
        if (late > 1.5 * intake.step_seconds).any():
            quantile = self._widened(quantile, late)
        said = (centre[:, :, count : count + 2] + base)[..., None] * np.exp(np.minimum(quantile, LOG_LIMIT)) - base[..., None]
        np.maximum(said, 0.0, out=said)
        demand = said[:, :, 0]
        peak = np.maximum(demand, said[:, :, 1])
        np.maximum.accumulate(peak, axis=1, out=peak)
        return demand, peak

    def _widened(self, quantile: Array, late: Array) -> Array:
        """Read the error quantiles at the lead since the newest observation, where that is longer than the horizon."""
        finite = np.where(np.isfinite(late), np.maximum(late, 0.0), self.horizons_seconds[-1])
        lead = np.log(finite[:, None] + self.horizons_seconds)
        grid = np.log(self.horizons_seconds)
        right = np.clip(np.searchsorted(grid, lead.ravel()).reshape(lead.shape), 1, len(grid) - 1)
        share = np.clip((lead - grid[right - 1]) / (grid[right] - grid[right - 1]), 0.0, 1.0)[:, :, None, None]
        fleet = np.arange(len(late))[:, None]
        out: Array = quantile[fleet, right - 1] * (1.0 - share) + quantile[fleet, right] * share
        return out


def _weigh(loss: Array, sharpness: Array, favour: Array) -> Array:
    """Return weights along the last axis, falling with a power of the loss: at 4, one that is 20 % worse has half the weight."""
    power = (loss.min(axis=-1, keepdims=True) + 1e-9) / (loss + 1e-9)
    power **= sharpness[:, None]
    power *= favour
    out: Array = power / power.sum(axis=-1, keepdims=True)
    return out
