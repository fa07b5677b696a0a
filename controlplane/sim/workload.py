"""What a simulated world is offered: a trace made fine, with minute noise, ready to be served step by step.

Owns the law by which an interval's mean becomes fine steps; it must not know capacity, prices or decisions.
`controlplane.sim.world` serves it; `controlplane.traces.waves` multiplies launches onto a trace before it comes here.
"""

from dataclasses import dataclass

import numpy as np

from controlplane.traces.library import Array, Trace

NOISE_SHARE = 0.10
NOISE_MEMORY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Workload:
    """Offered work by fine step: `offered_per_second[i]` holds over the step that starts at `start_unix + i * step_seconds`.

    Where the trace has a gap the world still has work to serve, drawn through the gap; `known[i]` is False: nobody is told.
    """

    name: str
    start_unix: float
    step_seconds: float
    offered_per_second: Array
    known: np.ndarray[tuple[int], np.dtype[np.bool_]]
    synthetic: bool = False

    @property
    def steps(self) -> int:
        """Number of fine steps."""
        return len(self.offered_per_second)

    @property
    def span_seconds(self) -> float:
        """Length of the whole workload."""
        return self.steps * self.step_seconds

    def mean(self, from_unix: float, to_unix: float) -> tuple[float, bool]:
        """Return the mean work per second between two moments, and whether anybody is told; (0, False) outside the workload."""
        first = max(round((from_unix - self.start_unix) / self.step_seconds), 0)
        last = min(round((to_unix - self.start_unix) / self.step_seconds), self.steps)
        if first >= last:
            return 0.0, False
        return float(self.offered_per_second[first:last].mean()), bool(self.known[first:last].any())

    @property
    def offered(self) -> float:
        """All the work there is."""
        return float(self.offered_per_second.sum()) * self.step_seconds


def workload_of(
    trace: Trace,
    rng: np.random.Generator,
    *,
    step_seconds: float = 15.0,
    noise_share: float = NOISE_SHARE,
    noise_memory_seconds: float = NOISE_MEMORY_SECONDS,
    scale: float = 1.0,
) -> Workload:
    """Return a trace as fine steps, each trace interval keeping its exact total.

    A trace coarser than the step is drawn linearly between the middles of its intervals and multiplied by lognormal noise of standard
    deviation `noise_share` whose memory fades by 1/e in `noise_memory_seconds`; a finer one is averaged. The default noise is what minute
    counts of production chat traces show beside their ten-minute trend: 9 %, a third of it carried into the next minute.
    """
    known = np.isfinite(trace.demand_per_second)
    at = np.arange(len(known), dtype=np.float64)
    filled = np.interp(at, at[known], trace.demand_per_second[known]) * scale
    ratio = trace.step_seconds / step_seconds
    steps = max(1, int(np.floor(len(filled) * ratio + 1e-9)))
    if ratio <= 1.0:
        rate = _mean_over_steps(filled, ratio, steps)
        share_known = _mean_over_steps(known.astype(np.float64), ratio, steps)
        return Workload(trace.name, trace.start_unix, step_seconds, rate, share_known > 0.5, trace.synthetic)
    middle = (np.arange(steps) + 0.5) / ratio
    interval = np.minimum(middle.astype(np.int64), len(filled) - 1)
    rate = np.interp(middle - 0.5, at, filled) * _noise(rng, steps, step_seconds, noise_share, noise_memory_seconds)
    made = np.bincount(interval, weights=rate, minlength=len(filled))
    count = np.bincount(interval, minlength=len(filled))
    keep = np.divide(filled * count, made, out=np.zeros_like(made), where=made > 0)
    return Workload(trace.name, trace.start_unix, step_seconds, rate * keep[interval], known[interval], trace.synthetic)


def _mean_over_steps(values: Array, ratio: float, steps: int) -> Array:
    """Average a finer grid over coarser steps, by differences of its integral."""
    integral = np.concatenate(([0.0], np.cumsum(values)))
    edges = np.interp(np.arange(steps + 1) / ratio, np.arange(len(integral)), integral)
    return np.diff(edges) * ratio


def _noise(rng: np.random.Generator, steps: int, step_seconds: float, share: float, memory_seconds: float) -> Array:
    """Return mean-one lognormal noise with an exponentially fading memory."""
    if share <= 0:
        return np.ones(steps)
    keep = float(np.exp(-step_seconds / memory_seconds))
    shocks = rng.standard_normal(steps)
    shocks[1:] *= np.sqrt(1.0 - keep * keep)
    wander = shocks.tolist()
    for step in range(1, steps):
        wander[step] += keep * wander[step - 1]
    sigma = float(np.sqrt(np.log1p(share * share)))
    return np.exp(sigma * np.array(wander) - 0.5 * sigma * sigma)
