"""Forecasts that wait for their answer: a bounded ring per fleet and horizon, so that each is scored when its time comes.

Owns which forecasts are kept (at most `SLOTS` per horizon, evenly spaced), when one is due, and the highest demand since.
It must not score anything; `spread` learns from what `settle` hands out.
"""

from dataclasses import dataclass

import numpy as np

from forecasters.api import Array
from forecasters.intake import Index, Seen
from forecasters.spread import Singles

SLOTS = 24
RING = SLOTS + 3


Mask = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


@dataclass(slots=True)
class Pending:
    """Rings by fleet and horizon. `due` inf = empty; `centre` [n, H, RING, T] is what was forecast, `high` the maximum since.

    `quantile` f32[n, H, RING, L] is how far above and below the centre the quantiles were put then.
    `held` i64[n, H] is the slot that came due and was not yet scored, -1 = none, with what was observed for it.
    """

    due: Array
    next_due: Array
    tail: Index
    head: Index
    next_issue: Array
    high: Array
    centre: Array
    quantile: Singles
    held: Index
    held_actual: Array
    held_high: Array


@dataclass(slots=True)
class Settled:
    """Forecasts that came due: flat rows (fleet x horizon), fleets, actual and highest demand, centres and quantiles as they were said."""

    row: Index
    fleet: Index
    actual: Array
    high: Array
    centre: Array
    quantile: Singles


def start_pending(fleets: int, horizons: int, tracks: int, levels: int) -> Pending:
    """Return empty rings."""
    shape = (fleets, horizons)
    return Pending(
        due=np.full((*shape, RING), np.inf),
        next_due=np.full(shape, np.inf),
        tail=np.zeros(shape, dtype=np.int64),
        head=np.zeros(shape, dtype=np.int64),
        next_issue=np.full(shape, -np.inf),
        high=np.zeros((*shape, RING)),
        centre=np.zeros((*shape, RING, tracks)),
        quantile=np.zeros((*shape, RING, levels), dtype=np.float32),
        held=np.full(shape, -1, dtype=np.int64),
        held_actual=np.zeros(shape),
        held_high=np.zeros(shape),
    )


def settle(pending: Pending, seen: Seen) -> None:
    """Hold what this observation answers, for `collect`; expired forecasts are dropped. A row holds its newest answer."""
    horizons = pending.due.shape[1]
    if isinstance(seen.sel, slice):
        np.maximum(pending.high, seen.demand[:, None, None], out=pending.high)
    else:
        pending.high[seen.sel] = np.maximum(pending.high[seen.sel], seen.demand[:, None, None])
    if len(pending.due) == 1:
        _settle_one(pending, seen)
        return
    tail, next_due = pending.tail.ravel(), pending.next_due.ravel()
    due, high = pending.due.ravel(), pending.high.ravel()
    flat = (pending.next_due[seen.sel] <= seen.time_unix[:, None]).ravel().nonzero()[0]
    if not len(flat):
        return
    position = flat // horizons
    row = seen.fleet[position] * horizons + flat % horizons
    now, demand = seen.time_unix[position], seen.demand[position]
    since = now - seen.span_seconds[position]
    for _ in range(RING):
        slot = tail[row]
        fresh = next_due[row] > since
        due[row * RING + slot] = np.inf
        tail[row] = following = (slot + 1) % RING
        next_due[row] = coming = due[row * RING + following]
        answered, at = (row, slot) if fresh.all() else (row[fresh], slot[fresh])
        pending.held.ravel()[answered] = at
        pending.held_actual.ravel()[answered] = demand if fresh.all() else demand[fresh]
        pending.held_high.ravel()[answered] = high[answered * RING + at]
        more = coming <= now
        if not more.any():
            return
        row, now, since, demand = row[more], now[more], since[more], demand[more]


def _settle_one(pending: Pending, seen: Seen) -> None:
    """Do the same for a single fleet, in plain numbers: the pipeline forecasts one fleet at a time."""
    now, demand = float(seen.time_unix[0]), float(seen.demand[0])
    since = now - float(seen.span_seconds[0])
    coming = pending.next_due[0]
    for row in (coming <= now).nonzero()[0].tolist():
        due, slot, when = pending.due[0, row], int(pending.tail[0, row]), float(coming[row])
        for _ in range(RING):
            due[slot] = np.inf
            if when > since:
                pending.held[0, row], pending.held_actual[0, row] = slot, demand
                pending.held_high[0, row] = pending.high[0, row, slot]
            slot = (slot + 1) % RING
            when = float(due[slot])
            if when > now:
                break
        pending.tail[0, row], coming[row] = slot, when


def collect(pending: Pending, fleet: Index) -> Settled | None:
    """Return what is held for fleets i64[k], each row once, and hold it no more; None when there is nothing."""
    horizons = pending.due.shape[1]
    held = pending.held.ravel()
    if len(fleet) == len(pending.held):
        row = (held >= 0).nonzero()[0]
    else:
        flat = (pending.held[fleet] >= 0).ravel().nonzero()[0]
        row = fleet[flat // horizons] * horizons + flat % horizons
    if not len(row):
        return None
    place = row * RING + held[row]
    held[row] = -1
    centre = pending.centre.reshape(pending.due.size, -1).take(place, axis=0)
    quantile = pending.quantile.reshape(pending.due.size, -1).take(place, axis=0)
    return Settled(row, row // horizons, pending.held_actual.ravel()[row], pending.held_high.ravel()[row], centre, quantile)


def issue(
    pending: Pending, time_unix: Array, fleet: Index, step: Array, horizons_seconds: Array, centre: Array, quantile: Array, own: Mask
) -> None:
    """Keep forecasts made by fleets i64[k] at a time f64[k], f64[k, H, T], where the horizon's next slot is due.

    `quantile` f64[n * H, L] are the quantiles of every row as they stand.
    `own` bool[k, H] is False for a horizon that another stands in for: it is not kept. `step` f64[k], seconds.
    """
    horizons = len(horizons_seconds)
    flat = ((pending.next_issue[fleet] <= time_unix[:, None]) & own).ravel().nonzero()[0]
    if not len(flat):
        return
    position, column = flat // horizons, flat % horizons
    row = fleet[position] * horizons + column
    head, due = pending.head.ravel(), pending.due.ravel()
    slot = head[row]
    place = row * RING + slot
    free = due[place] == np.inf
    if not free.all():
        row, position, column, slot, place, flat = row[free], position[free], column[free], slot[free], place[free], flat[free]
    when, ahead = time_unix[position], horizons_seconds[column]
    due[place] = until = when + ahead
    pending.high.ravel()[place] = 0.0
    pending.centre.reshape(due.size, -1)[place] = centre.reshape(-1, centre.shape[2]).take(flat, axis=0)
    pending.quantile.reshape(due.size, -1)[place] = quantile.take(row, axis=0)
    head[row] = (slot + 1) % RING
    next_due = pending.next_due.ravel()
    next_due[row] = np.minimum(next_due[row], until)
    spacing = ahead / SLOTS
    pending.next_issue.ravel()[row] = when + spacing - 0.5 * np.minimum(step[position], spacing)


def pick(settled: Settled, where: Mask) -> Settled:
    """Return some of the forecasts that came due."""
    high, centre, quantile = settled.high[where], settled.centre[where], settled.quantile[where]
    return Settled(settled.row[where], settled.fleet[where], settled.actual[where], high, centre, quantile)
