"""Forecasts that wait for their answer: a bounded ring per fleet and horizon, so that each is scored when its time comes.

Owns which forecasts are kept (at most `SLOTS` per horizon, evenly spaced), when one is due, and the highest demand since.
It must not score anything; `spread` learns from what `settle` hands out.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from forecasters.api import Array
from forecasters.intake import Index, Intake, Seen

SLOTS = 24
RING = SLOTS + 3


@dataclass(slots=True)
class Pending:
    """Rings by fleet and horizon. `due` inf = empty; `centre` [n, H, RING, T] is what was forecast, `high` the maximum since."""

    due: Array
    next_due: Array
    tail: Index
    head: Index
    next_issue: Array
    high: Array
    centre: Array


@dataclass(slots=True)
class Settled:
    """Forecasts that came due: flat rows (fleet x horizon), positions in the batch, actual and highest demand, what was said."""

    row: Index
    position: Index
    actual: Array
    high: Array
    centre: Array


def start_pending(fleets: int, horizons: int, tracks: int) -> Pending:
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
    )


def settle(pending: Pending, seen: Seen) -> Iterator[Settled]:
    """Yield the forecasts that this observation answers, a row at most once each time; expired ones are dropped."""
    horizons = pending.due.shape[1]
    pending.high[seen.sel] = np.maximum(pending.high[seen.sel], seen.demand[:, None, None])
    tail, next_due = pending.tail.ravel(), pending.next_due.ravel()
    due, high = pending.due.reshape(-1, RING), pending.high.reshape(-1, RING)
    centre = pending.centre.reshape(len(due), RING, -1)
    for _ in range(RING):
        flat = np.flatnonzero(pending.next_due[seen.sel] <= seen.time_unix[:, None])
        if not len(flat):
            return
        position = flat // horizons
        row = seen.fleet[position] * horizons + flat % horizons
        slot = tail[row]
        fresh = next_due[row] > (seen.time_unix - seen.span_seconds)[position]
        due[row, slot] = np.inf
        tail[row] = following = (slot + 1) % RING
        next_due[row] = due[row, following]
        if not fresh.all():
            row, position, slot = row[fresh], position[fresh], slot[fresh]
        if len(row):
            yield Settled(row, position, seen.demand[position], high[row, slot], centre[row, slot])


def issue(pending: Pending, intake: Intake, seen: Seen, horizons_seconds: Array, centre: Array, stand_in: Index) -> None:
    """Keep the forecasts made at the observation's time, f64[k, H, T], where the horizon's next slot is due.

    A horizon that another stands in for is not kept.
    """
    horizons = len(horizons_seconds)
    own = stand_in[seen.sel] == np.arange(horizons)
    flat = np.flatnonzero((pending.next_issue[seen.sel] <= seen.time_unix[:, None]) & own)
    if not len(flat):
        return
    position, column = flat // horizons, flat % horizons
    row = seen.fleet[position] * horizons + column
    head, due = pending.head.ravel(), pending.due.reshape(-1, RING)
    slot = head[row]
    free = due[row, slot] == np.inf
    if not free.all():
        row, position, column, slot = row[free], position[free], column[free], slot[free]
    when = seen.time_unix[position]
    ahead = horizons_seconds[column]
    due[row, slot] = when + ahead
    pending.high.reshape(-1, RING)[row, slot] = 0.0
    pending.centre.reshape(len(due), RING, -1)[row, slot] = centre[position, column]
    head[row] = (slot + 1) % RING
    next_due = pending.next_due.ravel()
    next_due[row] = np.minimum(next_due[row], when + ahead)
    spacing = ahead / SLOTS
    slack = 0.5 * np.minimum(intake.step_seconds[seen.fleet[position]], spacing)
    pending.next_issue.ravel()[row] = when + spacing - slack


def pick(settled: Settled, where: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Settled:
    """Return some of the forecasts that came due."""
    return Settled(settled.row[where], settled.position[where], settled.actual[where], settled.high[where], settled.centre[where])
