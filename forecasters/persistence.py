"""Persistence: what was is what will be. Hard to beat a minute ahead, and always in the pool.

Owns the two flat methods: the last value, and the mean over a span that grows with the horizon.
They must not know the day; `seasonal_naive` does.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from forecasters.api import Array
from forecasters.intake import Index, Intake, Seen

SHORTEST_MEMORY_SECONDS = 30.0
LONGEST_MEMORY_SECONDS = 86400.0


@dataclass(slots=True)
class Nothing:
    """The state of a method that needs none beyond the intake's."""

    fleets: Array


class Persistence:
    """The last admitted value at every horizon."""

    name: ClassVar[str] = "persistence"
    context_size: ClassVar[int] = 0
    is_coarse: ClassVar[bool] = False

    def start(self, fleets: int) -> Nothing:
        """Return an empty state."""
        return Nothing(np.zeros(fleets))

    def learn(self, state: Nothing, intake: Intake, seen: Seen) -> None:
        """Do nothing: the intake holds the last value."""

    def centre(self, state: Nothing, intake: Intake, fleet: Index | slice, now_unix: Array, horizons_seconds: Array) -> Array:
        """Return the last value."""
        return np.repeat(intake.demand[fleet][:, None], len(horizons_seconds), axis=1)

    def context(self, state: Nothing, intake: Intake, fleet: Index | slice, now_unix: Array, horizons_seconds: Array) -> Array:
        """Return nothing: the method's word is all there is."""
        return np.zeros((len(now_unix), len(horizons_seconds), 0))


@dataclass(slots=True)
class Levels:
    """Exponential means f64[n, G] over the memories of the grid."""

    mean: Array


class Smoothed:
    """The recent mean: to look far ahead it looks equally far back. It sees through minute noise where the last value cannot."""

    name: ClassVar[str] = "smoothed"
    context_size: ClassVar[int] = 0
    is_coarse: ClassVar[bool] = False
    memories = np.geomspace(SHORTEST_MEMORY_SECONDS, LONGEST_MEMORY_SECONDS, 12)

    def __init__(self) -> None:
        self._mix_for: tuple[Array | None, Array] = (None, np.zeros((0, 0)))
        self._rate_for: tuple[float, Array] = (0.0, np.zeros(0))

    def start(self, fleets: int) -> Levels:
        """Return means of nothing."""
        return Levels(np.zeros((fleets, len(self.memories))))

    def learn(self, state: Levels, intake: Intake, seen: Seen) -> None:
        """Move each mean towards the new value by the share of its memory that the span covers; plain average while young."""
        if len(state.mean) == 1:
            state.mean += self._rate(float(seen.span_seconds[0]), float(intake.count[0])) * (seen.demand - state.mean)
            return
        count = intake.count[seen.sel]
        rate = -np.expm1(-seen.span_seconds[:, None] / self.memories)
        rate = np.maximum(rate, (1.0 / count)[:, None])
        mean = state.mean[seen.sel]
        state.mean[seen.sel] = mean + rate * (seen.demand[:, None] - mean)

    def _rate(self, span: float, count: float) -> Array:
        """Return the share of each memory for a single fleet, whose spans are mostly one and the same."""
        known, rate = self._rate_for
        if known != span:
            rate = -np.expm1(-span / self.memories)
            self._rate_for = (span, rate)
        return rate if rate[-1] >= 1.0 / count else np.maximum(rate, 1.0 / count)

    def centre(self, state: Levels, intake: Intake, fleet: Index | slice, now_unix: Array, horizons_seconds: Array) -> Array:
        """Return the mean whose memory is half the horizon, interpolated between memories."""
        known, mix = self._mix_for
        if known is not horizons_seconds:
            mix = self._mix(horizons_seconds)
            self._mix_for = (horizons_seconds, mix)
        out: Array = state.mean[fleet] @ mix
        return out

    def _mix(self, horizons_seconds: Array) -> Array:
        """Return what share each memory has in each horizon, f64[G, H]."""
        wanted = np.log(np.clip(horizons_seconds * 0.5, SHORTEST_MEMORY_SECONDS, LONGEST_MEMORY_SECONDS))
        grid = np.log(self.memories)
        return np.array([np.interp(wanted, grid, unit) for unit in np.eye(len(grid))])

    def context(self, state: Levels, intake: Intake, fleet: Index | slice, now_unix: Array, horizons_seconds: Array) -> Array:
        """Return nothing: the method's word is all there is."""
        return np.zeros((len(now_unix), len(horizons_seconds), 0))
