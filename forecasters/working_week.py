"""The working week: what was at this time on the last day of the same kind, working day or weekend; and a week ago.

Owns nine days of half-hour slots and the table of which day a day resembles (Monday is like Friday, not like Sunday).
It must not learn: whether the week matters is what the weights and the blend find out.
"""

from math import isnan
from typing import ClassVar

import numpy as np

from forecasters.api import Array
from forecasters.intake import Index, Intake, Seen, offset
from forecasters.ring import Ring, fill, look, start_ring
from forecasters.zone import Zone

SLOTS_PER_DAY = 48
DAY_SECONDS, WEEK_SECONDS = 86400.0, 7 * 86400.0
SLOT_SECONDS = DAY_SECONDS / SLOTS_PER_DAY
RING = 9 * SLOTS_PER_DAY
MOST_DAYS_AHEAD = 8
SATURDAY = 5
EPOCH_WEEKDAY = 3


def _days_back() -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Return f64[7, 9]: for a target's weekday (Monday 0) that is at least so many days ahead, how many days back to look."""
    table = np.zeros((7, MOST_DAYS_AHEAD + 1))
    for weekday in range(7):
        for least in range(MOST_DAYS_AHEAD + 1):
            days = range(max(least, 1), MOST_DAYS_AHEAD + 1)
            alike = [day for day in days if ((weekday - day) % 7 >= SATURDAY) == (weekday >= SATURDAY)]
            table[weekday, least] = alike[0] if alike else least
    return table


DAYS_BACK = _days_back()
SECONDS_BACK = DAYS_BACK * DAY_SECONDS


class WorkingWeek:
    """The newest value at this time of day on a day of the same kind; yesterday's where there is none, then NaN."""

    name: ClassVar[str] = "working-week"
    context_size: ClassVar[int] = 1
    is_coarse: ClassVar[bool] = True

    def __init__(self, zone: Zone) -> None:
        self._zone = zone
        self._local_for: tuple[Array | None, Array | None, Array] = (None, None, np.zeros((0, 0)))
        self._least_for: tuple[Array | None, Index] = (None, np.zeros(0, dtype=np.int64))

    def start(self, fleets: int) -> Ring:
        """Return a ring that knows nothing."""
        return start_ring(fleets, RING)

    def learn(self, state: Ring, intake: Intake, seen: Seen) -> None:
        """Write the demand into its half-hours."""
        fill(state, seen, self._zone.to_local(seen.time_unix), np.minimum(seen.span_seconds, 0.5 * DAY_SECONDS), SLOT_SECONDS)

    def centre(self, state: Ring, intake: Intake, fleet: Index | slice, now_unix: Array, horizons_seconds: Array) -> Array:
        """Return what the most recent alike day had at each target's time of day."""
        newest = intake.time_unix[fleet]
        if len(newest) == 1 and newest[0] == now_unix[0]:
            least = self._least(horizons_seconds)
        else:
            late = now_unix - np.minimum(newest, now_unix)
            least = _days_ahead(late[:, None] + horizons_seconds)
        local = self._local(now_unix, horizons_seconds)
        day = np.floor((local - 0.5 * SLOT_SECONDS) / DAY_SECONDS).astype(np.int64)
        out = _look(state, fleet, local - SECONDS_BACK[(day + EPOCH_WEEKDAY) % 7, least])
        if isnan(np.add.reduce(out, axis=None)):
            missing = np.isnan(out)
            yesterday = _look(state, fleet, local - least * DAY_SECONDS)
            out = np.where(missing, yesterday, out)
        return out

    def _least(self, horizons_seconds: Array) -> Index:
        """Return the days to each target when nothing is late; asked twice about the same ones, from memory."""
        known, least = self._least_for
        if known is not horizons_seconds:
            least = _days_ahead(horizons_seconds)
            self._least_for = (horizons_seconds, least)
        return least

    def _local(self, now_unix: Array, horizons_seconds: Array) -> Array:
        """Return the local times of the targets; asked twice in a row about the same ones, answer from memory."""
        now, horizons, local = self._local_for
        if now is not now_unix or horizons is not horizons_seconds:
            local = self._zone.to_local(now_unix[:, None] + horizons_seconds)
            self._local_for = (now_unix, horizons_seconds, local)
        return local

    def context(self, state: Ring, intake: Intake, fleet: Index | slice, now_unix: Array, horizons_seconds: Array) -> Array:
        """Return last week's value at the target."""
        weekly = _look(state, fleet, self._local(now_unix, horizons_seconds) - WEEK_SECONDS)
        weekly += offset(intake, fleet)[:, None]
        return np.log(weekly, out=weekly)[:, :, None]


def _days_ahead(lead_seconds: Array) -> Index:
    return np.clip(np.ceil(lead_seconds / DAY_SECONDS), 1.0, float(MOST_DAYS_AHEAD)).astype(np.int64)


def _look(state: Ring, fleet: Index | slice, local: Array) -> Array:
    return look(state, fleet, ((np.ceil(local / SLOT_SECONDS) - 1.0) % RING).astype(np.int64))
