"""What ready replicas really carry, as a multiple of the capacity that was stated or measured: learnt while the fleet is saturated.

Owns the evidence and its bounds; one factor for the whole fleet, since a queue says nothing of the offer that was slow. It must not
decide: `controlplane.planning` folds observations through `see_work` and scales the capacities that a decision sees.

    work arrives - waits more - spills = is carried.   Waiting at both ends of an interval: replicas were busy all along, and what they
    carried is the most they can. Nothing waiting and the SLO kept: they can carry at least that.
"""

from math import exp
from typing import NamedTuple

FACTOR_RANGE = (0.5, 1.25)
# Evidence of a quarter of an hour outweighs all before it; what pulls down counts a third, since a queue may have been empty in between.
LEARN_SECONDS = 900.0
DOWN_SHARE = 1.0 / 3.0
# Without evidence the stated capacity is believed again within a few weeks.
FORGET_SECONDS = 14 * 86400.0
LONGEST_INTERVAL_SECONDS = 600.0
SATURATED_SECONDS = (1.0, 10.0)
IDLE_SECONDS = 0.5


class Work(NamedTuple):
    """Rates of one interval, work per second, and what waits at its end; None: not known."""

    demand: float | None
    backlog: float | None = None
    late: float | None = None
    spilled: float | None = None


class Carried(NamedTuple):
    """The factor learnt, and the picture at the end of the last interval: stated capacity of what was ready, and work that waited."""

    factor: float = 1.0
    seen_unix: float | None = None
    ready_per_second: float = 0.0
    backlog: float = 0.0


AS_STATED = Carried()


def see_work(
    known: Carried, work: Work, ready_per_second: float, now_unix: float, attainment: float, ttft_seconds: float | None
) -> Carried:
    """Return what is known after an interval that ends at `now_unix` with `ready_per_second` of stated capacity serving."""
    if known.seen_unix is not None and now_unix <= known.seen_unix:
        return known
    if work.demand is None or work.backlog is None:
        return known._replace(seen_unix=None)
    seconds = now_unix - known.seen_unix if known.seen_unix is not None else 0.0
    factor = 1.0 + (known.factor - 1.0) * exp(-seconds / FORGET_SECONDS)
    if 0.0 < seconds <= LONGEST_INTERVAL_SECONDS and ready_per_second > 0.0 and ready_per_second == known.ready_per_second:
        factor = _learn(factor, known, work, seconds, attainment, ttft_seconds)
    return Carried(min(max(factor, FACTOR_RANGE[0]), FACTOR_RANGE[1]), now_unix, ready_per_second, work.backlog)


def _learn(factor: float, known: Carried, work: Work, seconds: float, attainment: float, ttft_seconds: float | None) -> float:
    """Return the factor after one interval in which as much was ready at its end as at its beginning."""
    demand, backlog, ready = work.demand or 0.0, work.backlog or 0.0, known.ready_per_second
    carried = max(demand - (work.spilled or 0.0) - (backlog - known.backlog) / seconds, 0.0) / ready
    waits = min(max(0.5 * ttft_seconds, SATURATED_SECONDS[0]), SATURATED_SECONDS[1]) if ttft_seconds is not None else SATURATED_SECONDS[1]
    weight = 1.0 - exp(-seconds / LEARN_SECONDS)
    if min(backlog, known.backlog) >= waits * ready * factor:
        # A queue makes replicas carry more than they do within the SLO: no more than what was stated follows from that.
        target = min(carried, max(factor, 1.0))
        return factor + (target - factor) * weight * (1.0 if target >= factor else DOWN_SHARE)
    idle = max(backlog, known.backlog) <= IDLE_SECONDS * ready
    if idle and work.late is not None and work.late <= (1.0 - attainment) * demand and not work.spilled and carried > factor:
        return factor + (carried - factor) * weight
    return factor
