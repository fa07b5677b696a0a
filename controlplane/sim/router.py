"""The gateway of a simulated fleet: one fine step of a fluid queue in front of capacity, with spill or shedding.

Owns who is on time, late, spilled or still waiting within one step, exactly, by the step's straight-line pieces; it must not know
replicas or prices. `controlplane.sim.world` calls it once a step.
"""

from typing import NamedTuple


class Routed(NamedTuple):
    """Work of one step by what became of it, and the backlog at its end. Work is judged when it arrives, by the wait ahead of it."""

    on_time: float
    late: float
    spilled: float
    backlog: float


def route(
    backlog: float, offered: float, capacity: float, patience_seconds: float, spill_per_second: float, step_seconds: float, shed: bool
) -> Routed:
    """Serve `offered` work per second for one step from `capacity` work per second, first in, first out.

    Work that would wait longer than `patience_seconds` (the TTFT of the SLO) misses the SLO. As much of it as the allowance lets is
    spilled at once; the rest joins the queue and is served late (a queueing world) or is lost at once (a shedding world).
    For example 12/s offered to 10/s with an empty queue, 1 s of patience and no allowance is late from second 5 on.
    """
    barrier = capacity * patience_seconds
    left, late, spilled = step_seconds, 0.0, 0.0
    if backlog > barrier + 1e-9:
        spill = min(offered, spill_per_second)
        missed = offered - spill
        drain = capacity - (0.0 if shed else missed)
        lasts = left if drain <= 0 else min(left, (backlog - barrier) / drain)
        spilled, late = spill * lasts, missed * lasts
        backlog -= drain * lasts
        left -= lasts
    if left > 0:
        growth = offered - capacity
        if growth <= 0:
            backlog = max(0.0, backlog + growth * left)
        else:
            until_full = min(left, max(0.0, barrier - backlog) / growth)
            backlog += growth * until_full
            left -= until_full
            excess = growth * left
            spill = min(excess, spill_per_second * left)
            spilled += spill
            if excess - spill > 1e-12:
                # Once the queue is full every arrival that joins it is late, not only the excess: that is what a queue does.
                late += excess - spill if shed else offered * left - spill
                backlog += 0.0 if shed else excess - spill
    return Routed(max(0.0, offered * step_seconds - late - spilled), late, spilled, backlog)
