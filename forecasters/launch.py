"""Announced launches: how many times the ordinary tide is expected at any moment.

Owns the shape of a launch (ramp, peak, half-life) and the stated prior for what an announcement leaves out.
It must not look at demand; `combine` multiplies the tide by it and divides it out of what is learnt.
"""

from collections.abc import Sequence

import numpy as np

from controlplane.contracts.fleet import LaunchPlan
from forecasters.api import Array

PRIOR_PEAK_MULTIPLE = 5.0
PRIOR_RAMP_SECONDS = 3600.0
PRIOR_HALF_LIFE_SECONDS = 12 * 3600.0
SHORTEST_SECONDS = 1.0
FORGOTTEN_HALF_LIVES = 50.0

Waves = Sequence[Sequence[LaunchPlan]]


def excess(plan: LaunchPlan, time_unix: Array) -> Array:
    """Return the multiple minus one, any shape: 0 before the start, linear up over the ramp, then halving every half-life."""
    peak = PRIOR_PEAK_MULTIPLE if plan.peak_multiple is None else plan.peak_multiple
    ramp = max(PRIOR_RAMP_SECONDS if plan.ramp_seconds is None else plan.ramp_seconds, SHORTEST_SECONDS)
    half_life = max(PRIOR_HALF_LIFE_SECONDS if plan.half_life_seconds is None else plan.half_life_seconds, SHORTEST_SECONDS)
    since = time_unix - plan.starts_unix
    falling = np.exp2(-np.maximum(since - ramp, 0.0) / half_life)
    out: Array = max(peak - 1.0, 0.0) * np.clip(since / ramp, 0.0, 1.0) * falling
    return out


def is_beyond(plan: LaunchPlan, now_unix: float, horizon_seconds: float) -> bool:
    """Whether the launch neither begins within the horizon nor is remembered: fifty half-lives leave less than a float holds."""
    ramp = max(PRIOR_RAMP_SECONDS if plan.ramp_seconds is None else plan.ramp_seconds, SHORTEST_SECONDS)
    half_life = max(PRIOR_HALF_LIFE_SECONDS if plan.half_life_seconds is None else plan.half_life_seconds, SHORTEST_SECONDS)
    since = now_unix - plan.starts_unix
    return since + horizon_seconds <= 0.0 or since > ramp + FORGOTTEN_HALF_LIVES * half_life


def multiples(waves: Waves, fleet: Array, time_unix: Array) -> Array:
    """Return the multiple of the tide, the shape of `time_unix` [k, ...]; `fleet` f64[k] are the rows of `waves`."""
    out = np.ones_like(time_unix)
    for row, number in enumerate(fleet):
        for plan in waves[int(number)] if int(number) < len(waves) else ():
            out[row] += excess(plan, time_unix[row])
    return out
