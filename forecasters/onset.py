"""The onset test: is demand above everything that the tide, yesterday and the last alike day would explain?

Owns the reference level (the tide and a slow residual), its noise, and the alarm. It must not forecast; `wave` does.
Stated false-alarm rate: at most one a month of ordinary tide (measured by `benchmarks/forecast_bars.py`).
"""

from dataclasses import dataclass
from math import expm1

import numpy as np

from forecasters.api import Array
from forecasters.intake import Index

SLOW_SECONDS = 12 * 3600.0
SLOW_CLIP = 2.0
NOISE_MEMORY = 500.0
PRIOR_NOISE = 0.4
LEAST_NOISE = 0.03
LEAST_RATIO = float(np.log(2.0))
ALARM_SIGMAS = 4.0
SUSPECT_SHARE = 0.6
SUSPECT_COUNT = 2.0
YOUNG_COUNT = 20.0
YOUNG_SECONDS = 1.5 * 86400.0


@dataclass(slots=True)
class Onset:
    """Per fleet f64[n]: slow residual of the tide, noise around it, how many suspect observations in a row, when they began,
    when the first came, how many; work and seconds gathered until there are two minutes of it.
    """

    slow: Array
    noise: Array
    suspects: Array
    since: Array
    began: Array
    seen: Array
    held: Array
    held_seconds: Array


def start_onset(fleets: int) -> Onset:
    """Return the prior: a log noise of `PRIOR_NOISE`, nothing suspect."""
    zero = np.zeros(fleets)
    noise, blank = np.full(fleets, PRIOR_NOISE), np.full(fleets, np.nan)
    return Onset(zero.copy(), noise, zero.copy(), zero.copy(), blank, *(zero.copy() for _ in range(3)))


def threshold(noise: Array) -> Array:
    """Return the log ratio that is suspect, f64[k]."""
    out: Array = np.maximum(LEAST_RATIO, ALARM_SIGMAS * noise)
    return out


def follow_one(onset: Onset, ratio: float, span: float) -> None:
    """Do what `follow` does, for a single fleet in plain numbers: the pipeline forecasts one fleet at a time."""
    noise, seen = float(onset.noise[0]), float(onset.seen[0]) + 1.0
    limit = SLOW_CLIP * noise
    onset.seen[0] = seen
    onset.slow[0] += max(-expm1(-span / SLOW_SECONDS), 1.0 / seen if seen < YOUNG_COUNT else 0.0) * min(max(ratio, -limit), limit)
    size = min(abs(ratio), 3.0 * noise)
    onset.noise[0] = max(noise + (1.25 * size - noise) / min(seen + 10.0, NOISE_MEMORY), LEAST_NOISE)


def follow(onset: Onset, fleet: Index, ratio: Array, span: Array) -> None:
    """Let the slow residual and the noise follow ordinary log ratios to the tide f64[k], outliers clipped."""
    noise = onset.noise[fleet]
    limit = SLOW_CLIP * noise
    clipped = np.minimum(np.maximum(ratio, -limit), limit)
    seen = onset.seen[fleet] + 1.0
    onset.seen[fleet] = seen
    onset.slow[fleet] += np.maximum(-np.expm1(-span / SLOW_SECONDS), np.where(seen < YOUNG_COUNT, 1.0 / seen, 0.0)) * clipped
    size = np.minimum(np.abs(ratio), 3.0 * noise)
    onset.noise[fleet] = np.maximum(noise + (1.25 * size - noise) / np.minimum(seen + 10.0, NOISE_MEMORY), LEAST_NOISE)
