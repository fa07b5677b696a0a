"""The door of every method: which observations count, how far apart they come, and how large they are.

Owns the cleaning of a batch (missing, repeated, backwards, absurd values) and the running step and level of each fleet.
It must not know any method; go on to `persistence`, the simplest reader of what is admitted here.
"""

from dataclasses import dataclass
from math import copysign, exp, floor, inf

import numpy as np
from numpy.typing import NDArray

from forecasters.api import Array, Batch

Index = NDArray[np.int64]
Mask = NDArray[np.bool_]
GOLDEN = 0.6180339887498949
DEMAND_CEILING = 1e15
TIME_LIMIT = 1e12
FIRST_SPAN_SECONDS = 60.0
LEVEL_MEMORY = 500.0
LEVEL_CLIP = 10.0
YOUNG_COUNT = 5.0
OFFSET_SHARE = 0.02
BURSTS_FROM = 0.25
OFFSET_FLOOR = 1e-9
COARSE_SECONDS = 119.0
STRIDE_SECONDS, STRIDE_MOST, EVERY_SECONDS = 240.0, 8.0, 840.0
SCARCE_SECONDS, SCARCE_COUNT, FEW_COUNT = 450.0, 3024.0, 600.0
LONGEST_GAP, LONGEST_STEP = 1e9, 1e7
EVERY = slice(None)
FIRST = np.zeros(1, dtype=np.int64)
FIRST.flags.writeable = False
NONE = np.zeros(0, dtype=np.int64)
NOBODY = np.zeros(1, dtype=np.bool_)


@dataclass(slots=True)
class Intake:
    """Per fleet, f64[n]: newest time (-inf: none) and demand, typical step, long-run level,
    mean absolute change between observations, how many were admitted, what is added before a logarithm, and the work
    and seconds gathered for those who look only every `COARSE_SECONDS`.
    """

    time_unix: Array
    demand: Array
    step_seconds: Array
    level: Array
    noise: Array
    count: Array
    base: Array
    held: Array
    held_seconds: Array


@dataclass(slots=True)
class Seen:
    """The admitted part of a batch. `sel` picks the fleets' rows (a slice when all were admitted), `fleet` are their numbers.

    `time_unix`, `demand`, `span_seconds` are f64[k]: the demand is the mean over the `span_seconds` that end at the time.
    `calm` bool[k] says where no wave lies over the tide; None = everywhere. `has_new_step`: the typical step of some changed.
    """

    sel: slice | Index
    fleet: Index
    time_unix: Array
    demand: Array
    span_seconds: Array
    gap_seconds: Array
    calm: NDArray[np.bool_] | None = None
    has_new_step: bool = True


def start_intake(fleets: int) -> Intake:
    """Return the intake that has admitted nothing."""
    zero = np.zeros(fleets)
    step = np.full(fleets, FIRST_SPAN_SECONDS)
    base = np.full(fleets, OFFSET_FLOOR)
    never = np.full(fleets, -np.inf)
    return Intake(never, zero.copy(), step, zero.copy(), zero.copy(), zero.copy(), base, zero.copy(), zero.copy())


def offset(intake: Intake, sel: Index | slice = slice(None)) -> Array:
    """Return what is added before a logarithm, f64[k]: 2 % of the level, up to all of it where demand comes in bursts.

    So a quiet night stays a ratio, while zeros between batches do not become minus infinity.
    """
    return intake.base[sel]


def admit(intake: Intake, batch: Batch) -> Seen | None:
    """Take in what counts and return it; None when nothing does. An admitted demand is finite and in [0, 1e15]."""
    time, demand = batch.time_unix, batch.demand_per_second
    if len(time) == 1:
        return _admit_one(intake, float(time[0]), float(demand[0]))
    good = (demand >= 0.0) & (demand < np.inf) & (time > intake.time_unix) & (time < TIME_LIMIT) & (time > -TIME_LIMIT)
    sel: slice | Index
    if good.all():
        if not len(good):
            return None
        sel, fleet = slice(None), np.arange(len(time))
    else:
        sel = fleet = np.flatnonzero(good)
        if not len(fleet):
            return None
    when = np.array(time[sel], dtype=np.float64)
    value = np.minimum(demand[sel], DEMAND_CEILING).astype(np.float64)
    count = intake.count[sel] + 1.0
    gap = when - intake.time_unix[sel]
    step = intake.step_seconds[sel]
    if (gap != step).any():
        step = intake.step_seconds[sel] = _typical_step(step, gap, count)
    _follow_level(intake, sel, value, count)
    intake.time_unix[sel] = when
    intake.demand[sel] = value
    intake.count[sel] = count
    gap = np.minimum(gap, LONGEST_GAP)
    span = np.minimum(np.where(count < 2.0, FIRST_SPAN_SECONDS, gap), 3.0 * step)
    return Seen(sel, fleet, when, value, span, gap)


def _admit_one(intake: Intake, when: float, value: float) -> Seen | None:
    """Do the same for a single fleet, in plain numbers: the pipeline forecasts one fleet at a time."""
    before, step = float(intake.time_unix[0]), float(intake.step_seconds[0])
    if not (0.0 <= value < inf and before < when and -TIME_LIMIT < when < TIME_LIMIT):
        return None
    value, gap, count = min(value, DEMAND_CEILING), when - before, float(intake.count[0]) + 1.0
    has_new_step = gap != step
    if has_new_step and count >= 2.0:
        moved = step * exp(max(0.1, 1.0 / count) * copysign(1.0, gap - step))
        moved = gap if (moved - gap) * (step - gap) < 0.0 else moved
        intake.step_seconds[0] = step = min(gap if count == 2.0 else moved, LONGEST_STEP)
    _follow_one(intake, value, count)
    intake.time_unix[0], intake.demand[0], intake.count[0] = when, value, count
    gap = min(gap, LONGEST_GAP)
    span = min(FIRST_SPAN_SECONDS if count < 2.0 else gap, 3.0 * step)
    return Seen(EVERY, FIRST, np.array([when]), np.array([value]), np.array([span]), np.array([gap]), None, has_new_step)


def gather(intake: Intake, seen: Seen) -> Seen | None:
    """Return what is seen at the coarse pace: the mean over at least two minutes, for the fleets where that much has passed.

    Where observations are further apart it is the observation itself. None when no fleet's time has come.
    """
    if len(intake.held) == 1:
        return _gather_one(intake, seen)
    seconds = intake.held_seconds[seen.sel] + seen.span_seconds
    work = intake.held[seen.sel] + seen.demand * seen.span_seconds
    ready = (seconds >= COARSE_SECONDS) | (intake.count[seen.sel] == 1.0)
    if ready.all():
        intake.held[seen.sel] = 0.0
        intake.held_seconds[seen.sel] = 0.0
        return Seen(seen.sel, seen.fleet, seen.time_unix, work / seconds, seconds, seen.gap_seconds, seen.calm)
    intake.held[seen.sel], intake.held_seconds[seen.sel] = np.where(ready, 0.0, work), np.where(ready, 0.0, seconds)
    if not ready.any():
        return None
    fleet = seen.fleet[ready]
    calm = None if seen.calm is None else seen.calm[ready]
    return Seen(fleet, fleet, seen.time_unix[ready], (work / seconds)[ready], seconds[ready], seen.gap_seconds[ready], calm)


def _gather_one(intake: Intake, seen: Seen) -> Seen | None:
    span = float(seen.span_seconds[0])
    seconds = float(intake.held_seconds[0]) + span
    work = float(intake.held[0]) + float(seen.demand[0]) * span
    if seconds < COARSE_SECONDS and intake.count[0] != 1.0:
        intake.held[0], intake.held_seconds[0] = work, seconds
        return None
    intake.held[0] = intake.held_seconds[0] = 0.0
    mean = np.array([work / seconds])
    return Seen(EVERY, FIRST, seen.time_unix, mean, np.array([seconds]), seen.gap_seconds, seen.calm, seen.has_new_step)


def stride(intake: Intake, fleet: Index | slice) -> Array:
    """Return after how many observations errors are scored, f64[k]: every one while there are few, then up to every eighth.

    A quarter of an hour apart: always every one. Ten minutes apart: every second after three weeks. A minute: every sixth after
    ten hours.
    """
    if len(intake.count) == 1:
        return np.full(1 if isinstance(fleet, slice) else len(fleet), _stride_one(float(intake.step_seconds[0]), float(intake.count[0])))
    step, count = intake.step_seconds[fleet], intake.count[fleet]
    pace = np.minimum(np.floor(STRIDE_SECONDS / step) + 2.0, STRIDE_MOST) - (step > EVERY_SECONDS)
    out: Array = np.where(count < np.where(step > SCARCE_SECONDS, SCARCE_COUNT, FEW_COUNT), 1.0, pace)
    return out


def _stride_one(step: float, count: float) -> float:
    if count < (SCARCE_COUNT if step > SCARCE_SECONDS else FEW_COUNT):
        return 1.0
    return min(floor(STRIDE_SECONDS / step) + 2.0, STRIDE_MOST) - (step > EVERY_SECONDS)


def turns(intake: Intake, fleet: Index | slice) -> Mask | None:
    """Return whose turn to be scored it is, bool[k]; None: everybody's."""
    if len(intake.count) == 1 and isinstance(fleet, slice):
        count = float(intake.count[0])
        return None if (count * GOLDEN) % 1.0 < 1.0 / _stride_one(float(intake.step_seconds[0]), count) else NOBODY
    turn = is_turn(intake.count[fleet], stride(intake, fleet))
    return None if turn.all() else turn


def is_turn(count: Array, pace: Array) -> Mask:
    """Return where it is an observation's turn to be scored: one in `pace`, in a pattern that never repeats.

    A fixed phase would see only every other half-hour of a trace that beats at that pace, and calibrate to it.
    """
    out: Mask = (count * GOLDEN) % 1.0 < 1.0 / pace
    return out


def _typical_step(step: Array, gap: Array, count: Array) -> Array:
    """Follow the median gap: a step up or down of 10 % (more while young) towards each gap."""
    rate = np.maximum(0.1, 1.0 / count)
    moved = step * np.exp(rate * np.sign(gap - step))
    moved = np.where((moved - gap) * (step - gap) < 0.0, gap, moved)
    out: Array = np.where(count == 2.0, gap, np.where(count < 2.0, step, moved))
    return np.minimum(out, LONGEST_STEP)


def _follow_level(intake: Intake, sel: slice | Index, value: Array, count: Array) -> None:
    """Follow the mean and the mean change, an outlier counting as at most ten times what is usual."""
    level, noise = intake.level[sel], intake.noise[sel]
    young = count <= YOUNG_COUNT
    most = LEVEL_CLIP * level
    clipped = np.where(young | (most <= 0.0), value, np.minimum(value, most))
    share = 1.0 / np.minimum(count, LEVEL_MEMORY)
    level = level + share * (clipped - level)
    change = np.minimum(np.abs(value - intake.demand[sel]), LEVEL_CLIP * level)
    noise = noise + share * (np.where(count == 1.0, 0.0, change) - noise)
    intake.level[sel], intake.noise[sel] = level, noise
    bursts = np.minimum(np.maximum(noise - BURSTS_FROM * level, 0.0), level)
    intake.base[sel] = level * OFFSET_SHARE + bursts + OFFSET_FLOOR


def _follow_one(intake: Intake, value: float, count: float) -> None:
    level, noise = float(intake.level[0]), float(intake.noise[0])
    most = LEVEL_CLIP * level
    clipped = value if count <= YOUNG_COUNT or most <= 0.0 else min(value, most)
    share = 1.0 / min(count, LEVEL_MEMORY)
    level += share * (clipped - level)
    change = min(abs(value - float(intake.demand[0])), LEVEL_CLIP * level) if count > 1.0 else 0.0
    noise += share * (change - noise)
    intake.level[0], intake.noise[0] = level, noise
    intake.base[0] = level * OFFSET_SHARE + min(max(noise - BURSTS_FROM * level, 0.0), level) + OFFSET_FLOOR
