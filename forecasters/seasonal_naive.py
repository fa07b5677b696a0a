"""Seasonal-naive: what was at this time yesterday. Hard to beat a day ahead, and always in the pool.

Owns a ring of the last two seasons at a bounded resolution (720 slots a season: two minutes of a day), local time of day.
It must not smooth or model; `harmonic` does.
"""

from typing import ClassVar

import numpy as np

from forecasters.api import Array
from forecasters.intake import Index, Intake, Seen, offset
from forecasters.ring import Ring, fill, look, start_ring
from forecasters.zone import Zone

SLOTS_PER_SEASON = 720
RING = 2 * SLOTS_PER_SEASON


class SeasonalNaive:
    """The newest known value a whole number of seasons before; NaN until a season has passed."""

    name: ClassVar[str] = "seasonal-naive"
    context_size: ClassVar[int] = 1
    is_coarse: ClassVar[bool] = True

    def __init__(self, zone: Zone, season_seconds: float = 86400.0) -> None:
        self._zone = zone
        self._season = season_seconds
        self._slot = season_seconds / SLOTS_PER_SEASON
        self._back_for: tuple[Array | None, Array] = (None, np.zeros(0))

    def start(self, fleets: int) -> Ring:
        """Return a ring that knows nothing."""
        return start_ring(fleets, RING)

    def learn(self, state: Ring, intake: Intake, seen: Seen) -> None:
        """Write the demand into every slot that its span covers; a slot finer than the span keeps the mean."""
        local = self._zone.to_local(seen.time_unix)
        span = np.minimum(seen.span_seconds, 0.5 * self._season)
        fill(state, seen, local, span, self._slot)

    def centre(self, state: Ring, intake: Intake, fleet: Index | slice, now_unix: Array, horizons_seconds: Array) -> Array:
        """Return the value one season before each target, or as many as it takes to be in the past."""
        newest = intake.time_unix[fleet]
        target = now_unix[:, None] + horizons_seconds
        if len(newest) == 1 and newest[0] == now_unix[0]:
            back = self._back(horizons_seconds)
        else:
            back = self._seasons_back(target - np.minimum(newest, now_unix)[:, None])
        before = self._zone.to_local(target) - back
        slot = ((np.ceil(before / self._slot) - 1.0) % RING).astype(np.int64)
        return look(state, fleet, slot)

    def _back(self, horizons_seconds: Array) -> Array:
        """Return how far back to look from each target when nothing is late; asked twice about the same ones, from memory."""
        known, back = self._back_for
        if known is not horizons_seconds:
            back = self._seasons_back(horizons_seconds)
            self._back_for = (horizons_seconds, back)
        return back

    def _seasons_back(self, lead_seconds: Array) -> Array:
        seasons = np.maximum(np.ceil(lead_seconds / self._season), 1.0)
        seasons[~np.isfinite(seasons)] = 1.0
        return seasons * self._season

    def context(self, state: Ring, intake: Intake, fleet: Index | slice, now_unix: Array, horizons_seconds: Array) -> Array:
        """Return yesterday's value now: how the day has moved since."""
        base = offset(intake, fleet)
        local = self._zone.to_local(now_unix) - self._season
        slot = ((np.ceil(local / self._slot) - 1.0) % RING).astype(np.int64)
        before = look(state, fleet, slot[:, None])
        out: Array = np.log(before + base[:, None])[:, :, None]
        return out
