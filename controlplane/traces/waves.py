"""Made-up and multiplied demand: a seeded synthetic trace, and launch waves laid over a trace.

Owns the generator for when no real trace is at hand (labelled synthetic everywhere) and the shapes of launch waves; it must not
decide where a launch goes in a simulation. `controlplane.sim.workload` turns a trace into what a world is offered.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from controlplane.contracts.errors import TraceError
from controlplane.traces.library import UNDATED_START_UNIX, Array, Trace, read_trace

SIGNUPS = "mastodon_signups_2022_apr_1h"
ONSET_MULTIPLE = 2.0
WAVE_SECONDS = 9 * 86400.0
DEFAULT_RAMP_SECONDS = 1800.0
DEFAULT_HALF_LIFE_SECONDS = 36000.0
_DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Wave:
    """Demand as a multiple of its own baseline, by seconds since the onset; 1 before the first and after the last offset."""

    name: str
    offset_seconds: Array
    multiple: Array
    synthetic: bool

    def at(self, seconds: Array) -> Array:
        """Return the multiple at seconds since the onset, linear between the points."""
        return np.interp(seconds, self.offset_seconds, self.multiple, left=1.0, right=1.0)

    @property
    def peak_multiple(self) -> float:
        """The largest multiple."""
        return float(self.multiple.max())


def parametric_wave(
    peak_multiple: float, ramp_seconds: float = DEFAULT_RAMP_SECONDS, half_life_seconds: float = DEFAULT_HALF_LIFE_SECONDS
) -> Wave:
    """Return a wave that rises evenly to its peak in `ramp_seconds`, then loses half of its excess every `half_life_seconds`."""
    fall = np.linspace(0.0, 10.0 * half_life_seconds, 400)
    excess = (peak_multiple - 1.0) * 0.5 ** (fall / half_life_seconds)
    offsets = np.concatenate(([0.0], max(ramp_seconds, 1.0) + fall))
    return Wave(f"launch x{peak_multiple:g}", offsets, np.concatenate(([1.0], 1.0 + excess)), True)


def mastodon_wave(peak_multiple: float, folders: tuple[Path, ...] = ()) -> Wave:
    """Return the sign-up wave of April 2022 as a multiple of its own baseline, its excess scaled to `peak_multiple`.

    The baseline is the median of the fortnight that ends a day before the peak; the onset is where the climb to the peak leaves twice
    the baseline behind. Nine days long; the last hour fades out.
    Without the data file the wave is a parametric one, and says so (`synthetic`).
    """
    try:
        signups = read_trace(SIGNUPS, folders, column="new_users")
    except TraceError:
        return parametric_wave(peak_multiple)
    rate = signups.demand_per_second
    known = np.flatnonzero(np.isfinite(rate))
    rate = np.interp(np.arange(len(rate)), known, rate[known])
    peak = int(np.argmax(rate))
    week = round(7 * _DAY / signups.step_seconds)
    baseline = float(np.median(rate[max(0, peak - 2 * week) : peak - week // 7]))
    onset = peak - int(np.argmax(rate[peak::-1] < ONSET_MULTIPLE * baseline)) + 1
    hours = round(WAVE_SECONDS / signups.step_seconds)
    ratio = rate[onset : onset + hours] / baseline
    excess = np.maximum(ratio - 1.0, 0.0) * (peak_multiple - 1.0) / (float(ratio.max()) - 1.0)
    # A file row is an hour's mean: its middle is where the interpolated curve should have that value.
    offsets = signups.step_seconds * (np.arange(len(excess)) + 0.5)
    multiple = np.concatenate(([1.0], 1.0 + excess, [1.0]))
    return Wave(f"sign-ups x{peak_multiple:g}", np.concatenate(([0.0], offsets, [WAVE_SECONDS])), multiple, False)


def multiply_wave(trace: Trace, wave: Wave, starts_unix: float) -> Trace:
    """Lay a wave over a trace from `starts_unix` on: each interval is multiplied by the wave at its middle."""
    middles = trace.time_unix - trace.step_seconds / 2 - starts_unix
    demand = trace.demand_per_second * wave.at(middles)
    return replace(trace, name=f"{trace.name} * {wave.name}", demand_per_second=demand, synthetic=trace.synthetic or wave.synthetic)


def synthetic_trace(seed: int, days: float = 7.0, step_seconds: float = 600.0, mean_per_second: float = 100.0) -> Trace:
    """Return a made-up trace from a seed: a daily shape, level shifts every few days, slow noise, and bursts that fade within the hour."""
    rng = np.random.default_rng(seed)
    rows = max(2, round(days * _DAY / step_seconds))
    time_unix = UNDATED_START_UNIX + step_seconds * np.arange(1, rows + 1, dtype=np.float64)
    hour = (time_unix % _DAY) / 3600.0
    daily = 1.0 + 0.55 * np.sin((hour - 9.0) * np.pi / 12.0) + 0.15 * np.sin((hour - 4.0) * np.pi / 6.0)
    level = np.ones(rows)
    for start in np.flatnonzero(rng.random(rows) < step_seconds / (2.5 * _DAY)):
        level[start:] *= rng.uniform(0.75, 1.35)
    bursts = np.zeros(rows)
    for start in np.flatnonzero(rng.random(rows) < 6.0 * step_seconds / _DAY):
        bursts[start:] += rng.pareto(2.5) * 0.3 * np.exp(-np.arange(rows - start) * step_seconds / 1500.0)
    slow = np.exp(0.08 * _wander(rng, rows, step_seconds))
    demand = mean_per_second * np.clip(level, 0.3, 3.0) * slow * (daily + np.minimum(bursts, 4.0))
    return Trace(f"synthetic-{seed}", time_unix, step_seconds, np.maximum(demand, 0.0).astype(np.float64), True)


def _wander(rng: np.random.Generator, rows: int, step_seconds: float) -> Array:
    """Return unit-variance noise whose memory fades over half an hour."""
    keep = float(np.exp(-step_seconds / 1800.0))
    steps = rng.standard_normal(rows) * float(np.sqrt(1.0 - keep * keep))
    noise = np.empty(rows, dtype=np.float64)
    value = float(rng.standard_normal())
    for row in range(rows):
        value = keep * value + steps[row]
        noise[row] = value
    return noise
