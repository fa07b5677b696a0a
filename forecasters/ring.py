"""The past on a clock: a ring of slots of local time, each the mean demand of its moment, older moments overwritten.

Owns the writing of observations of any length into slots of one length. It must not know seasons or forecasts;
`seasonal_naive` and `working_week` read it.
"""

from dataclasses import dataclass

import numpy as np

from forecasters.api import Array
from forecasters.intake import Seen


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


def fill(ring: Ring, seen: Seen, local: Array, span: Array, width: float) -> None:
    """Write demand into every slot of `width` seconds that the span up to local time covers; a finer span adds to the mean."""
    value = ring.value
    last = np.ceil(local / width) - 1.0
    first = np.ceil((local - span) / width)
    same = last == ring.slot[seen.sel]
    gathered = np.where(same, ring.total[seen.sel], 0.0) + seen.demand * span
    covered = np.where(same, ring.seconds[seen.sel], 0.0) + span
    ring.slot[seen.sel], ring.total[seen.sel], ring.seconds[seen.sel] = last, gathered, covered
    length = value.shape[1]
    slots = int((last - first).max()) + 1
    if slots > 1:
        back = np.arange(1, slots)
        within = last[:, None] - back >= first[:, None]
        row = np.broadcast_to(seen.fleet[:, None], within.shape)[within]
        place = ((last[:, None] - back) % length)[within].astype(np.int64)
        value[row, place] = np.broadcast_to(seen.demand[:, None], within.shape)[within]
    value[seen.fleet, (last % length).astype(np.int64)] = gathered / covered
