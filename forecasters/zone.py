"""Local time of day: how far a time zone is from UTC at any moment, summer time included.

Owns a small cache of offsets by hour, so that the hot path never asks the zone data base twice.
It must not know fleets or demand; `harmonic` and `seasonal_naive` measure their day with it.
"""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from forecasters.api import Array

SECONDS_PER_HOUR = 3600.0
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_HOUR, LAST_HOUR = 0, 1_750_000
CACHE_LIMIT = 20_000


class Zone:
    """Offsets of one IANA zone. Times outside 1970–2169 count as the nearest end."""

    def __init__(self, name: str) -> None:
        self._fixed = name in ("UTC", "Etc/UTC", "Z")
        self._zone = ZoneInfo(name)
        self._by_hour: dict[int, float] = {}

    @property
    def is_fixed(self) -> bool:
        """Whether local time is UTC."""
        return self._fixed

    def _at_hour(self, hour: int) -> float:
        hour = min(max(hour, FIRST_HOUR), LAST_HOUR)
        known = self._by_hour.get(hour)
        if known is None:
            moment = (EPOCH + timedelta(hours=hour)).astimezone(self._zone)
            shift = moment.utcoffset()
            known = shift.total_seconds() if shift is not None else 0.0
            if len(self._by_hour) >= CACHE_LIMIT:
                self._by_hour.clear()
            self._by_hour[hour] = known
        return known

    def to_local(self, time_unix: Array) -> Array:
        """Return local seconds (unix seconds plus the zone's offset), any shape."""
        if self._fixed:
            return time_unix
        low, high = float(time_unix.min(initial=np.inf)), float(time_unix.max(initial=-np.inf))
        if not low <= high:
            return time_unix
        first, last = self._at_hour(int(low // SECONDS_PER_HOUR)), self._at_hour(int(high // SECONDS_PER_HOUR))
        if first == last and high - low < 40 * 86400:
            return time_unix + first
        hours, inverse = np.unique((time_unix // SECONDS_PER_HOUR).astype(np.int64), return_inverse=True)
        offsets = np.array([self._at_hour(int(hour)) for hour in hours])
        out: Array = time_unix + offsets[inverse.reshape(time_unix.shape)]
        return out
