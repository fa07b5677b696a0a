"""The past on a clock: a ring of slots of local time, each the mean demand of its moment, older moments overwritten.

Owns the writing of observations of any length into slots of one length. It must not know seasons or forecasts;
`seasonal_naive` and `working_week` read it.
"""

from dataclasses import dataclass
from math import ceil

import numpy as np

from forecasters.api import Array
from forecasters.intake import Index, Seen


@dataclass(slots=True)
class Ring:
    """`value` f64[n, slots], NaN = never seen; the slot being filled f64[n], and the sum and seconds gathered in it."""

    value: Array
    slot: Array
    total: Array
    seconds: Array


def start_ring(fleets: int, slots: int) -> Ring:
    """Return a ring that knows nothing."""
    zero = np.zeros(fleets)
    return Ring(np.full((fleets, slots), np.nan), np.full(fleets, -1.0), zero.copy(), zero.copy())


def look(ring: Ring, fleet: Index | slice, slot: Index) -> Array:
    """Return what slots i64[k, m] hold for k fleets, f64[k, m]."""
    if len(ring.value) == 1 and len(slot) == 1:
        only: Array = ring.value[0].take(slot)
        return only
    row = np.arange(len(slot)) if isinstance(fleet, slice) else fleet
    out: Array = ring.value[row[:, None], slot]
    return out


def fill(ring: Ring, seen: Seen, local: Array, span: Array, width: float) -> None:
    """Write demand into every slot of `width` seconds that the span up to local time covers.

    The newest slot holds its first observation until it is over, then its mean.
    """
    if len(seen.fleet) == 1:
        _fill_one(ring, int(seen.fleet[0]), float(seen.demand[0]), float(local[0]), float(span[0]), width)
        return
    last = np.ceil(local / width) - 1.0
    work = seen.demand * span
    held = ring.slot[seen.sel]
    same = last == held
    if same.all():
        ring.total[seen.sel] += work
        ring.seconds[seen.sel] += span
        return
    value, length = ring.value, ring.value.shape[1]
    total, seconds = ring.total[seen.sel], ring.seconds[seen.sel]
    ended = ~same & (seconds > 0.0)
    value[seen.fleet[ended], (held[ended] % length).astype(np.int64)] = total[ended] / seconds[ended]
    slots = int((last - np.ceil((local - span) / width)).max()) + 1
    if slots > 1:
        back = np.arange(1, slots)
        within = last[:, None] - back >= np.ceil((local - span) / width)[:, None]
        row = np.broadcast_to(seen.fleet[:, None], within.shape)[within]
        place = ((last[:, None] - back) % length)[within].astype(np.int64)
        value[row, place] = np.broadcast_to(seen.demand[:, None], within.shape)[within]
    value[seen.fleet, (last % length).astype(np.int64)] = np.where(same, (total + work) / (seconds + span), seen.demand)
    ring.slot[seen.sel] = last
    ring.total[seen.sel] = np.where(same, total, 0.0) + work
    ring.seconds[seen.sel] = np.where(same, seconds, 0.0) + span


def _fill_one(ring: Ring, fleet: int, demand: float, local: float, span: float, width: float) -> None:
    """Do the same for a single fleet, in plain numbers: the pipeline forecasts one fleet at a time."""
    last = ceil(local / width) - 1
    total, seconds = float(ring.total[fleet]), float(ring.seconds[fleet])
    held = float(ring.slot[fleet])
    if last == held:
        ring.total[fleet] = total + demand * span
        ring.seconds[fleet] = seconds + span
        return
    value, length = ring.value[fleet], ring.value.shape[1]
    if seconds > 0.0:
        value[int(held) % length] = total / seconds
    for slot in range(ceil((local - span) / width), last + 1):
        value[slot % length] = demand
    ring.slot[fleet], ring.total[fleet], ring.seconds[fleet] = last, demand * span, span
    value[last % length] = demand
