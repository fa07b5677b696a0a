"""A pool of point methods with quantiles around them: weighted by recent pinball loss, calibrated by horizon.

Owns the one loop that every method goes through: score what came due, learn, forecast, keep what will come due.
It must not know which methods there are nor what a launch is; `combine` puts those in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

import numpy as np

from forecasters.api import Array, Batch
from forecasters.blend import Blend, learn_blend, say_blend, start_blend
from forecasters.intake import COARSE_SECONDS, EVERY, Index, Intake, Mask, Seen, admit, gather, offset, start_intake, stride, turns
from forecasters.over import CALM_MULTIPLE, CALM_SPREAD, Over
from forecasters.pending import SLOTS, Pending, Settled, collect, issue, pick, settle, start_pending
from forecasters.point import PointMethod
from forecasters.spread import (
    SHAPED,
    Spread,
    learn_errors,
    learn_surprises,
    log_errors,
    memory_of,
    method_quantiles,
    relieved,
    start_spread,
)
from forecasters.weights import FIRST_SHARPNESS, SHARPNESS, favours, first_losses, follow_losses, weigh

LOG_LIMIT = 40.0
FEATURE_LIMIT = 4.0
STEP_SLACK = 1.05
UNFORESEEN_MULTIPLE = 2.0
# What came last is the last value, and of observations closer than two minutes the mean that looks as far back as five minutes need.
RECENT_SECONDS = 300.0
LEVEL, BLEND, LAST = "smoothed", "blend", "persistence"
PRIOR_SHARE = {"persistence": 0.3, "seasonal-naive": 0.1, "working-week": 0.2, "harmonic": 0.2}


@dataclass(slots=True)
class PoolState:
    """All arrays; `words` f64[n, H, M + C] is what the methods (and their contexts) said at the newest observation.

    `centre` f64[n, H, 2] is the combination's point forecast and its running maximum, made then too.
    `share` f64[n, M] is the mean weight over horizons.
    `stand_in` i64[n, H]: horizons inside one step all mean the next observation, so the longest of them answers for the rest.
    """

    intake: Intake
    methods: dict[str, Any]
    pending: Pending
    spread: Spread
    loss: Array
    weight: Array
    share: Array
    blend: Blend
    words: Array
    centre: Array
    stand_in: Index


class Pool:
    """Methods, horizons and quantiles, fixed. Tracks: one per method, the blend, the combination, its running maximum."""

    def __init__(self, methods: Sequence[PointMethod[Any]], horizons_seconds: Array, quantiles: Array) -> None:
        self.methods = tuple(methods)
        self.horizons_seconds = np.asarray(horizons_seconds, dtype=np.float64)
        self.quantiles = np.asarray(quantiles, dtype=np.float64)
        names = [method.name for method in self.methods]
        self._blends = len(names) > 1
        self.names = (*names, BLEND) if self._blends else tuple(names)
        self._count = len(self.names)
        self._tracks = self._count + 2
        self._level = names.index(LEVEL) if self._blends else 0
        self._last = names.index(LAST) if self._blends else 0
        self._recent = int(np.argmin(np.abs(self.horizons_seconds - RECENT_SECONDS)))
        self._others = np.array([i for i in range(len(names)) if i != self._level], dtype=np.int64)
        self._contexts = sum(method.context_size for method in self.methods) if self._blends else 0
        before = [sum(other.context_size for other in self.methods[:place]) for place in range(len(names))]
        self._places = {name: (place, len(names) + before[place]) for place, name in enumerate(names)}
        shares = [PRIOR_SHARE.get(names[i], 0.1) for i in self._others]
        self._prior = np.array([*shares, *[0.0] * (self._contexts + 2)])
        self._columns = self._tracks + 1 + len(self._prior) * self._blends
        self._favour = favours(self.names)
        self._first_loss = first_losses(self.names, self.horizons_seconds)
        self._middle = int(np.argmin(np.abs(self.quantiles - 0.5)))
        self._side = np.sign(self.quantiles - 0.5)
        self._order = np.arange(len(self.horizons_seconds))

    def start(self, fleets: int) -> PoolState:
        """Return the state that has seen nothing."""
        horizons = len(self.horizons_seconds)
        first = weigh(self._first_loss, self._favour, (SHARPNESS / FIRST_SHARPNESS) ** 4)
        return PoolState(
            intake=start_intake(fleets),
            methods={method.name: method.start(fleets) for method in self.methods},
            pending=start_pending(fleets, horizons, self._columns, SHAPED * len(self.quantiles)),
            spread=start_spread(fleets, self.horizons_seconds, self._tracks, self.quantiles),
            loss=np.tile(self._first_loss, (fleets, 1)),
            weight=np.tile(first, (fleets, 1)),
            share=np.tile(first.mean(axis=0), (fleets, 1)),
            blend=start_blend(fleets * horizons * self._blends, self._prior),
            words=np.full((fleets, horizons, len(self.methods) + self._contexts), np.nan),
            centre=np.zeros((fleets, horizons, 2)),
            stand_in=np.tile(self._order, (fleets, 1)),
        )

    def learn(self, state: PoolState, batch: Batch, over: Over | None = None) -> PoolState:
        """Score, learn and forecast ahead; what lies `over` the tide is taken out before and put back after."""
        if over is not None:
            batch = Batch(batch.time_unix, batch.demand_per_second / over.now)
        intake = state.intake
        seen = admit(intake, batch)
        if seen is None:
            return state
        tide = seen.demand
        if over is not None:
            seen.demand = tide * over.now[seen.sel]
            seen.calm = over.now[seen.sel] < CALM_MULTIPLE
        settle(state.pending, seen)
        seen.demand = tide
        turn = turns(intake, seen.sel)
        scored = seen.fleet if turn is None else seen.fleet[turn]
        if len(scored):
            settled = collect(state.pending, scored)
            if settled is not None:
                self._score(state, settled, over)
        coarse = gather(intake, seen)
        self._teach(state, seen, coarse)
        if seen.has_new_step:
            self._stand_in(state, seen)
        said = self._say(state, seen.sel, seen.fleet, seen.time_unix, over)
        state.centre[seen.sel] = said[:, :, self._count : self._tracks]
        if len(scored):
            where = slice(None) if turn is None else turn
            own = state.stand_in[scored] == self._order
            step = intake.step_seconds[scored]
            quantile = state.spread.quantile.reshape(len(state.spread.count), -1)
            issue(state.pending, seen.time_unix[where], scored, step, self.horizons_seconds, said[where], quantile, own)
        return state

    def _teach(self, state: PoolState, seen: Seen, coarse: Seen | None) -> None:
        """Let the methods learn, the coarse ones at their pace, and refresh what they say ahead."""
        for method in self.methods:
            told = coarse if method.is_coarse else seen
            if told is not None:
                method.learn(state.methods[method.name], state.intake, told)
                self._listen(state.words, state, told.sel, told.time_unix, method)

    def _listen(self, words: Array, state: PoolState, sel: slice | Index, now_unix: Array, method: PointMethod[Any]) -> None:
        """Write one method's words (and contexts) at the horizons into `words` f64[n, H, M + C]."""
        own = state.methods[method.name]
        place, first = self._places[method.name]
        words[sel, :, place] = method.centre(own, state.intake, sel, now_unix, self.horizons_seconds)
        if self._contexts and method.context_size:
            context = method.context(own, state.intake, sel, now_unix, self.horizons_seconds)
            words[sel, :, first : first + method.context_size] = context

    def _stand_in(self, state: PoolState, seen: Seen) -> None:
        inside = self.horizons_seconds.searchsorted(state.intake.step_seconds[seen.sel] * STEP_SLACK, side="right") - 1
        state.stand_in[seen.sel] = np.maximum(self._order, inside[:, None])

    def _score(self, state: PoolState, settled: Settled, over: Over | None) -> None:
        """Learn from forecasts that came due, but not from those made in a wave; where one came that nobody foresaw, how often."""
        calm = settled.centre[:, self._tracks] == 0.0
        if over is not None:
            foreseen = over.now[settled.fleet] < UNFORESEEN_MULTIPLE
            if not foreseen.all():
                self._surprise(state, pick(settled, calm & ~foreseen))
                calm &= foreseen
        if not calm.all():
            settled = pick(settled, calm)
            if not len(settled.row):
                return
        row, fleet, intake, count = settled.row, settled.fleet, state.intake, self._count
        column = row % len(self.horizons_seconds)
        horizon = self.horizons_seconds[column]
        spacing = np.maximum(horizon / SLOTS, intake.step_seconds[fleet] * stride(intake, fleet))
        overlap = np.maximum(horizon / spacing, 1.0)
        base = offset(intake, fleet)[:, None]
        centre = settled.centre[:, : self._tracks] + base
        error = log_errors(settled.actual, settled.high, centre, base)
        if self._blends:
            learn_blend(state.blend, row, settled.centre[:, self._tracks + 1 :], error[:, self._level], overlap)
            log = np.minimum(method_quantiles(state.spread, row, count), LOG_LIMIT)
            said = centre[:, :count, None] * np.exp(log, out=log)
            said -= base[:, :, None]
            level = intake.level[fleet] + base[:, 0]
            past = state.loss.take(row, axis=0)
            loss = follow_losses(past, settled.actual, said, self.quantiles, level, state.spread.count[row])
            state.loss[row] = loss
            state.weight[row] = weigh(loss, self._favour, overlap)
            weight = state.weight.reshape(len(state.share), -1, count)
            touched = fleet if len(weight) > 1 else EVERY
            state.share[touched] = np.add.reduce(weight[touched], axis=1) / len(self.horizons_seconds)
        learn_errors(state.spread, row, column, error, settled.quantile, memory_of(spacing), overlap, self.quantiles)

    def _surprise(self, state: PoolState, settled: Settled) -> None:
        """Count forecasts made in calm that a wave nobody foresaw then met."""
        fleet, intake = settled.fleet, state.intake
        horizon = self.horizons_seconds[settled.row % len(self.horizons_seconds)]
        spacing = np.maximum(horizon / SLOTS, intake.step_seconds[fleet] * stride(intake, fleet))
        base = offset(intake, fleet)[:, None]
        error = log_errors(settled.actual, settled.high, settled.centre[:, : self._tracks] + base, base)
        learn_surprises(state.spread, settled.row, error, memory_of(spacing))

    def _say(
        self, state: PoolState, sel: slice | Index, fleet: Index, now_unix: Array, over: Over | None, words: Array | None = None
    ) -> Array:
        """Return f64[k, H, columns]: every track's point forecast, whether a wave is about, and the blend's features."""
        count, methods = self._count, len(self.methods)
        out = np.zeros((len(fleet), len(self.horizons_seconds), self._columns))
        word = (state.words if words is None else words)[sel]
        said = word[:, :, :methods]
        missing = np.isnan(word) if isnan(np.add.reduce(word, axis=None)) else None
        if missing is not None:
            known = said[:, :, self._level : self._level + 1] if self._blends else state.intake.demand[sel][:, None, None]
            said = np.where(missing[:, :, :methods], known, said)
        out[:, :, :methods] = said
        if self._blends:
            self._mix(state, sel, out, word, missing)
        else:
            out[:, :, count] = out[:, :, 0]
        if over is not None:
            ahead = over.ahead[sel]
            if self._blends:
                noisy = state.intake.step_seconds[sel] < COARSE_SECONDS
                recent = np.where(noisy, out[:, self._recent, self._level], out[:, 0, self._last])[:, None]
                out[:, :, count] += over.nearness(self.horizons_seconds)[sel] * (recent - out[:, :, count])
            out[:, :, : count + 1] *= ahead[:, :, None]
            wavy = (over.now[sel][:, None] > CALM_MULTIPLE) | (ahead > CALM_MULTIPLE)
            out[:, :, self._tracks] = wavy | (np.abs(over.spread[sel]).max(axis=2) > CALM_SPREAD)
        if np.count_nonzero(state.stand_in[sel, 0]):
            out = out.take(state.stand_in[0], axis=1) if len(out) == 1 else out[np.arange(len(fleet))[:, None], state.stand_in[sel]]
        np.maximum.accumulate(out[:, :, count], axis=1, out=out[:, :, count + 1])
        return out

    def _mix(self, state: PoolState, sel: slice | Index, out: Array, word: Array, missing: Mask | None) -> None:
        """Fill in the blend, the combination and the blend's features, given what the methods say in the first columns of `out`."""
        methods, horizons = len(self.methods), len(self.horizons_seconds)
        base = offset(state.intake, sel)[:, None, None]
        log = out[:, :, : self._count] + base
        np.log(log, out=log)
        level = log[:, :, self._level]
        design = np.ones((len(out), horizons, len(self._prior)))
        np.subtract(log.take(self._others, axis=2), level[:, :, None], out=design[:, :, : methods - 1])
        context = np.subtract(word[:, :, methods:], level[:, :, None], out=design[:, :, methods - 1 : -2])
        design[:, :, -2] = state.blend.newest.reshape(-1, horizons)[sel]
        if missing is not None:
            context[missing[:, :, methods:]] = 0.0
        np.minimum(np.maximum(design, -FEATURE_LIMIT, out=design), FEATURE_LIMIT, out=design)
        out[:, :, self._tracks + 1 :] = design
        log[:, :, methods] = level + say_blend(state.blend, sel, horizons, design)
        weight = state.weight.reshape(-1, horizons, self._count)[sel]
        if missing is not None:
            weight = weight.copy()
            weight[:, :, :methods][missing[:, :, :methods]] = 0.0
            weight /= weight.sum(axis=2, keepdims=True)
        mixed = out[:, :, methods : self._count + 1]
        mixed[:, :, 0] = log[:, :, methods]
        np.vecdot(log, weight, out=mixed[:, :, 1])
        np.exp(mixed, out=mixed)
        mixed -= base
        np.maximum(mixed, 0.0, out=mixed)

    def forecast(self, state: PoolState, now_unix: float, over: Over | None = None) -> tuple[Array, Array]:
        """Return (demand, peak) f64[n, H, Q] at `now_unix` + each horizon."""
        intake = state.intake
        fleets, horizons = len(intake.time_unix), len(self.horizons_seconds)
        centre, late = state.centre, now_unix - intake.time_unix
        quantile = state.spread.quantile.reshape(fleets, horizons, SHAPED, -1)
        if over is not None:
            quantile = relieved(state.spread, quantile, over.now > CALM_MULTIPLE)
        if np.count_nonzero(state.stand_in[:, 0]):
            one = fleets == 1
            quantile = quantile.take(state.stand_in[0], axis=1) if one else quantile[np.arange(fleets)[:, None], state.stand_in]
        if np.count_nonzero(late):
            words, now = state.words.copy(), np.full(fleets, now_unix)
            for method in self.methods:
                self._listen(words, state, slice(None), now, method)
            centre = self._say(state, slice(None), np.arange(fleets), now, over, words)[:, :, self._count : self._tracks]
            if (late > 1.5 * intake.step_seconds).any():
                quantile = self._widened(quantile, late)
        if over is not None:
            # Unless it rises, what a wave will be soon is as sure as what it is.
            unsure = 1.0 - over.nearness(self.horizons_seconds) * (over.ahead <= over.now[:, None])
            middle = quantile[..., self._middle : self._middle + 1]
            quantile = middle + self._side * np.hypot(quantile - middle, (over.spread * unsure[:, :, None])[:, :, None, :])
        base = offset(intake)[:, None, None]
        said = np.minimum(quantile, LOG_LIMIT)
        np.exp(said, out=said)
        said *= (centre + base)[..., None]
        said -= base[..., None]
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
