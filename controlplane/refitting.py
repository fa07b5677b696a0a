"""When a fleet's tide is due to be fitted anew, and the history that it is fitted to: demand by the hour, waves left out.

Owns four weeks of hourly sums of a fixed size. It must not fit anything: `forecasters.structural` does, in a process beside the
forecaster (`controlplane.services.refitter`), and the result comes back as a Tide event. Time is the event's.
"""

from dataclasses import dataclass
from math import ceil

import numpy as np

from forecasters.api import Array

HOUR_SECONDS = 3600.0
KEPT_HOURS = 4 * 7 * 24
LEAST_HOURS = 7 * 24
REFIT_SECONDS = 86400.0


@dataclass(slots=True)
class Hours:
    """Work and the seconds it came in, f64[`KEPT_HOURS`], by number of the hour since 1970 modulo the size; `newest`: its number."""

    work: Array
    seconds: Array
    newest: int = -1

    def add(self, until_unix: float, span_seconds: float, demand_per_second: float) -> None:
        """Count demand over at most the hour that ends it; what is older than the newest hour by four weeks is forgotten."""
        hour = ceil(until_unix / HOUR_SECONDS)
        if self.newest < 0 or hour - self.newest >= KEPT_HOURS:
            self.work[:] = self.seconds[:] = 0.0
        else:
            passed = np.arange(self.newest + 1, hour + 1) % KEPT_HOURS
            self.work[passed] = self.seconds[passed] = 0.0
        self.newest = max(self.newest, hour)
        span = min(span_seconds, HOUR_SECONDS)
        self.work[hour % KEPT_HOURS] += demand_per_second * span
        self.seconds[hour % KEPT_HOURS] += span

    @property
    def known(self) -> int:
        """How many hours hold anything."""
        return int(np.count_nonzero(self.seconds))

    def series(self) -> tuple[Array, Array]:
        """Return the ends of whole hours (unix) and the mean demand in each, NaN where nothing is known, from the first known one on."""
        numbers = np.arange(self.newest - KEPT_HOURS + 1, self.newest)
        seconds = self.seconds[numbers % KEPT_HOURS]
        mean = np.where(seconds > 0.0, self.work[numbers % KEPT_HOURS] / np.maximum(seconds, 1e-9), np.nan)
        first = int(np.argmax(seconds > 0.0))
        ends = np.asarray(numbers[first:] * HOUR_SECONDS, dtype=np.float64)
        return ends, mean[first:]


def start_hours() -> Hours:
    """Return hours that hold nothing."""
    return Hours(np.zeros(KEPT_HOURS), np.zeros(KEPT_HOURS))


def is_due(hours: Hours, refitted_unix: float | None, observed_unix: float | None) -> bool:
    """Whether a refit is due: a week is known, and the last one was a day ago."""
    if observed_unix is None or hours.known <= LEAST_HOURS:
        return False
    return refitted_unix is None or observed_unix - refitted_unix >= REFIT_SECONDS
