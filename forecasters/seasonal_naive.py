"""Seasonal-naive: what was at this time yesterday. Hard to beat a day ahead, and always in the pool.

Owns a ring of the last two seasons at a bounded resolution (720 slots a season: two minutes of a day), local time of day.
It must not smooth or model; `harmonic` does.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from forecasters.api import Array
from forecasters.intake import Index, Intake, Seen
from forecasters.zone import Zone

SLOTS_PER_SEASON = 720
RING = 2 * SLOTS_PER_SEASON


@dataclass(slots=True)
class Ring:
    """`value` f64[n, RING], NaN = never seen; the slot being filled f64[n], and the sum and seconds gathered in it."""

    value: Array
    slot: Array
    total: Array
    seconds: Array


class SeasonalNaive:
    """The newest known value a whole number of seasons before; persistence until a season has passed."""

    name: ClassVar[str] = "seasonal-naive"

    def __init__(self, zone: Zone, season_seconds: float = 86400.0) -> None:
        self._zone = zone
        self._season = season_seconds
        self._slot = season_seconds / SLOTS_PER_SEASON

    def start(self, fleets: int) -> Ring:
        """Return a ring that knows nothing."""
        zero = np.zeros(fleets)
        return Ring(np.full((fleets, RING), np.nan), np.full(fleets, -1.0), zero.copy(), zero.copy())

    def learn(self, state: Ring, intake: Intake, seen: Seen) -> None:
        """Write the demand into every slot that its span covers; a slot finer than the span keeps the mean."""
        local = self._zone.to_local(seen.time_unix)
        last = np.ceil(local / self._slot) - 1.0
        span = np.minimum(seen.span_seconds, 0.5 * self._season)
        first = np.ceil((local - span) / self._slot)
        same = last == state.slot[seen.sel]
        total = np.where(same, state.total[seen.sel], 0.0) + seen.demand * span
        seconds = np.where(same, state.seconds[seen.sel], 0.0) + span
        state.slot[seen.sel], state.total[seen.sel], state.seconds[seen.sel] = last, total, seconds
        slots = int((last - first).max()) + 1
        if slots > 1:
            back = np.arange(1, slots)
            within = last[:, None] - back >= first[:, None]
            row = np.broadcast_to(seen.fleet[:, None], within.shape)[within]
            slot = ((last[:, None] - back) % RING)[within].astype(np.int64)
            state.value[row, slot] = np.broadcast_to(seen.demand[:, None], within.shape)[within]
        state.value[seen.fleet, (last % RING).astype(np.int64)] = total / seconds

    def centre(self, state: Ring, intake: Intake, fleet: Index | slice, now_unix: Array, horizons_seconds: Array) -> Array:
        """Return the value one season before each target, or as many as it takes to be in the past."""
        newest = np.minimum(intake.time_unix[fleet], now_unix)
        target = now_unix[:, None] + horizons_seconds
        seasons = np.maximum(np.ceil((target - newest[:, None]) / self._season), 1.0)
        seasons[~np.isfinite(seasons)] = 1.0
        before = self._zone.to_local(target) - seasons * self._season
        slot = ((np.ceil(before / self._slot) - 1.0) % RING).astype(np.int64)
        value = np.take_along_axis(state.value[fleet], slot, axis=1)
        out: Array = np.where(np.isnan(value), intake.demand[fleet][:, None], value)
        return out
