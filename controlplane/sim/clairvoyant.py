"""The cheapest plan that knows the future: what every autoscaler is measured against.

Owns an exact dynamic program per layer of capacity, under the same lead times, billing from the request and minimum holds as the world;
it must not be used to decide anything. `controlplane.sim.bench` divides by its cost.

Why layers. With the price of unserved work linear, the cost of holding n(t) replicas is the sum over layers k of the cost of having layer
k on while n(t) > k: its rent, one lead time of rent for each start, and the price of the work in its slice of demand while it is off.
A higher layer's slice never holds more work than a lower one's, so the layers' own best schedules are nested (a two-state chain with
switching costs is submodular), and together they are the best plan: a bound for any scaler. A minimum hold longer than the lead time is
where replicas could be paired better than layers are; then `bound_usd` leaves that hold away and `plan_usd` pays it.

The plan ignores lead-time jitter, failed starts, interruptions, lots and ticks, and serves a block's work (a minute) within the block. The
gateway's queue carries a little more, up to a TTFT's worth of capacity from one block to the next, so a run may come out below `plan_usd`;
`bound_usd` grants every block that much more capacity and is below anything that can be done. Between the two lies the true optimum.
Several burst offers are relaxed to the cheapest price and the shortest lead among them.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from controlplane.contracts.events import Launch
from controlplane.contracts.fleet import Fleet, Tier
from controlplane.contracts.frame import DecisionLine, Frame
from controlplane.contracts.units import SECONDS_PER_HOUR
from controlplane.sim.scaler import answer, naive_spill, usd_per_unit
from controlplane.sim.workload import Workload
from controlplane.traces.library import Array

BLOCK_SECONDS = 60.0
BOUND_BLOCKS_SECONDS = (120.0, 300.0)
DEFAULT_PATIENCE_SECONDS = 10.0
_LAYERS_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class Layered:
    """A problem: f64[blocks] of demand above the floor, and one burst offer. Rates are per second, `lead` and `hold` in seconds.

    `usd_per_unit_missed` is the price of work that no replica carries: spill, or the price put on a miss. `warm` replicas serve at once.
    """

    demand_per_second: Array
    block_seconds: float
    capacity_per_second: float
    rent_usd_per_second: float
    lead_seconds: float
    hold_seconds: float
    usd_per_unit_missed: float
    warm: int = 0
    max_replicas: int = 100_000


@dataclass(frozen=True, slots=True)
class Plan:
    """`replicas` i64[blocks] that serve; `missed` units of work that they do not carry; rent alone in `rent_usd`."""

    replicas: NDArray[np.int64]
    rent_usd: float
    missed: float
    cost_usd: float


@dataclass(frozen=True, slots=True)
class Clairvoyant:
    """A bound that nothing goes below and what the best plan costs, both with the floor's sunk cost; the plan's missed or spilled share."""

    bound_usd: float
    plan_usd: float
    floor_usd: float
    missed_share: float
    plan: Plan


def cheapest_plan(problem: Layered, *, pay_hold: bool = True) -> Plan:
    """Return the plan of least rent plus missed work, by layer."""
    blocks = len(problem.demand_per_second)
    top = float(problem.demand_per_second.max(initial=0.0))
    layers = min(problem.max_replicas, int(np.ceil(top / problem.capacity_per_second - 1e-9)))
    replicas = np.zeros(blocks, dtype=np.int64)
    rent = 0.0
    for first in range(0, layers, _LAYERS_AT_ONCE):
        numbers = np.arange(first, min(layers, first + _LAYERS_AT_ONCE))
        on, paid = _schedule(problem, numbers, pay_hold)
        replicas += on.sum(axis=1)
        rent += paid
    carried = np.minimum(problem.demand_per_second, replicas * problem.capacity_per_second)
    missed = float((problem.demand_per_second - carried).sum()) * problem.block_seconds
    return Plan(replicas, rent, missed, rent + missed * problem.usd_per_unit_missed)


def _schedule(problem: Layered, numbers: NDArray[np.int64], pay_hold: bool) -> tuple[NDArray[np.bool_], float]:
    """Return bool[blocks, layers] of when each layer serves, and the rent of all of them, by a two-state chain that remembers a run's age.

    State 0 is off, states 1..ages are on for so many blocks, the last for at least so many: younger ones pay to the end of the hold.
    """
    blocks, seconds = len(problem.demand_per_second), problem.block_seconds
    step_rent = problem.rent_usd_per_second * seconds
    boot = problem.rent_usd_per_second * problem.lead_seconds
    beyond = max(0.0, problem.hold_seconds - problem.lead_seconds) if pay_hold else 0.0
    if beyond == 0.0:
        return _schedule_without_hold(problem, numbers)
    ages = max(1, int(np.ceil(beyond / seconds - 1e-9)))
    ending = np.array([max(0.0, beyond - age * seconds) for age in range(1, ages + 1)]) * problem.rent_usd_per_second
    lead_blocks = int(np.ceil(problem.lead_seconds / seconds - 1e-9))
    low = numbers * problem.capacity_per_second
    cost = np.full((ages + 1, len(numbers)), np.inf)
    cost[0] = 0.0
    cost[ages, numbers < problem.warm] = 0.0
    columns = np.arange(len(numbers))
    oldest_stayed = np.zeros((blocks, len(numbers)), dtype=bool)
    ended = np.zeros((blocks, len(numbers)), dtype=np.int16)
    for block in range(blocks):
        work = np.clip(problem.demand_per_second[block] - low, 0.0, problem.capacity_per_second) * seconds
        running = step_rent - work * problem.usd_per_unit_missed
        closing = cost[1:] + ending[:, None]
        best = closing.argmin(axis=0)
        off = np.minimum(cost[0], closing[best, columns])
        ended[block] = np.where(closing[best, columns] < cost[0], best + 1, 0)
        start = cost[0] + boot if block >= lead_blocks else np.full(len(numbers), np.inf)
        grown = np.empty_like(cost[1:])
        grown[0] = start
        grown[1:] = cost[1:-1]
        stayed = cost[ages] < grown[ages - 1]
        grown[ages - 1] = np.where(stayed, cost[ages], grown[ages - 1])
        oldest_stayed[block] = stayed
        cost[0] = off
        cost[1:] = grown + running
    return _walk_back(cost, ended, oldest_stayed, ages, boot, step_rent, ending)


def _schedule_without_hold(problem: Layered, numbers: NDArray[np.int64]) -> tuple[NDArray[np.bool_], float]:
    """Return the same for a two-state chain, by what being on costs more than being off: it never exceeds a boot nor falls below 0."""
    blocks, seconds = len(problem.demand_per_second), problem.block_seconds
    boot = problem.rent_usd_per_second * problem.lead_seconds
    above = problem.demand_per_second[:, None] - numbers * problem.capacity_per_second
    work = np.clip(above, 0.0, problem.capacity_per_second, out=above)
    running = seconds * (problem.rent_usd_per_second - work * problem.usd_per_unit_missed)
    first = int(np.ceil(problem.lead_seconds / seconds - 1e-9))
    before = np.empty((blocks + 1, len(numbers)))
    before[0] = np.where(numbers < problem.warm, 0.0, np.inf)
    for block in range(blocks):
        np.clip(before[block], 0.0, boot if block >= first else np.inf, out=before[block + 1])
        before[block + 1] += running[block]
    on = np.zeros((blocks + 1, len(numbers)), dtype=bool)
    on[blocks] = before[blocks] < 0.0
    for block in range(blocks - 1, -1, -1):
        on[block] = before[block] < np.where(on[block + 1], boot if block >= first else np.inf, 0.0)
    # Row b + 1 is block b; row 0 is before the first, where a warm layer that stays on was on already.
    serving, starts = on[1:], on[1:] & ~on[:-1]
    return serving, problem.rent_usd_per_second * seconds * int(serving.sum()) + boot * int(starts.sum())


def _walk_back(
    cost: Array, ended: NDArray[np.int16], stayed: NDArray[np.bool_], ages: int, boot: float, step_rent: float, ending: Array
) -> tuple[NDArray[np.bool_], float]:
    """Follow each layer's best chain from its end and add up its rent. A run still on at the end pays no rest of a hold."""
    blocks, layers = ended.shape
    state = cost.argmin(axis=0)
    on = np.zeros((blocks, layers), dtype=bool)
    rent = 0.0
    for block in range(blocks - 1, -1, -1):
        serving = state > 0
        on[block] = serving
        rent += step_rent * int(serving.sum())
        begun = serving & (state == 1) & ~((ages == 1) & stayed[block])
        rent += boot * int(begun.sum())
        closed = np.where(serving, 0, ended[block])
        rent += float(ending[closed[closed > 0] - 1].sum())
        kept = serving & (state == ages) & stayed[block]
        state = np.where(serving, np.where(kept, ages, state - 1), closed)
    return on, rent


def cheapest_plan_for(problem: Layered, missed_share: float) -> tuple[Plan, float]:
    """Return the cheapest plan that misses no more than a share of the work, and a bound on the rent of any such plan.

    The price of a miss that just reaches the share is found by intersecting the lines rent + price x missed of the plans on either side;
    the bound is the Lagrangian's value there (weak duality), the plan the cheaper side's that keeps the share.
    """
    total = float(problem.demand_per_second.sum()) * problem.block_seconds
    allowed = missed_share * total
    loose = _at_price(problem, 0.0)
    price = 1e3 * problem.rent_usd_per_second / problem.capacity_per_second
    tight = _at_price(problem, price)
    if loose.missed <= allowed or tight.missed > allowed:
        plan = loose if loose.missed <= allowed else tight
        return replace(plan, cost_usd=plan.rent_usd), plan.rent_usd
    for _ in range(40):
        price = (tight.rent_usd - loose.rent_usd) / (loose.missed - tight.missed)
        middle = _at_price(problem, price)
        reached = min(side.rent_usd + price * side.missed for side in (loose, tight))
        if middle.rent_usd + price * middle.missed >= reached * (1 - 1e-9):
            break
        if middle.missed > allowed:
            loose = middle
        else:
            tight = middle
    # A plan's cost is its rent here: what it misses is within what the attainment lets be missed.
    tight = replace(tight, cost_usd=tight.rent_usd)
    return tight, max(0.0, min(side.rent_usd + price * (side.missed - allowed) for side in (loose, tight)))


def clairvoyant(fleet: Fleet, workload: Workload, *, warm: int = 0, patience_seconds: float | None = None) -> Clairvoyant:
    """Return what serving a workload costs who knows the future; without a spill tier, at the attainment of the fleet's SLO.

    `warm` burst replicas serve from the start; `patience_seconds` None is the SLO's TTFT.
    """
    patience = patience_seconds if patience_seconds is not None else fleet.slo.ttft_seconds or DEFAULT_PATIENCE_SECONDS
    floor = fleet.tier(Tier.FLOOR)
    floor_usd = sum((o.usd_per_replica_hour or 0.0) * o.max_replicas for o in floor) * workload.span_seconds / SECONDS_PER_HOUR
    plan, _ = _solve(fleet, workload, warm, BLOCK_SECONDS, 1.0)
    bound = max(_solve(fleet, workload, warm, block, 1.0 + patience / block)[1] for block in BOUND_BLOCKS_SECONDS)
    return Clairvoyant(floor_usd + bound, floor_usd + plan.cost_usd, floor_usd, plan.missed / workload.offered, plan)


def _solve(fleet: Fleet, workload: Workload, warm: int, block_seconds: float, stretch: float) -> tuple[Plan, float]:
    """Return the best plan above the floor on blocks of a workload, and a bound on the cost of any; `stretch` multiplies all capacity."""
    width = max(1, round(block_seconds / workload.step_seconds))
    blocks = len(workload.offered_per_second) // width
    demand = workload.offered_per_second[: blocks * width].reshape(blocks, width).mean(axis=1)
    carried = sum(offer.capacity_per_second * offer.max_replicas for offer in fleet.tier(Tier.FLOOR)) * stretch
    above = np.maximum(demand - carried, 0.0)
    seconds = width * workload.step_seconds
    burst = fleet.tier(Tier.BURST)
    if not burst:
        missed = float(above.sum()) * seconds
        cost = missed * (fleet.spill.usd_per_unit if fleet.spill else 0.0)
        return Plan(np.zeros(blocks, np.int64), 0.0, missed, cost), cost
    best = min(burst, key=usd_per_unit)
    problem = Layered(
        demand_per_second=above,
        block_seconds=seconds,
        capacity_per_second=best.capacity_per_second * stretch,
        rent_usd_per_second=usd_per_unit(best) * best.capacity_per_second / SECONDS_PER_HOUR,
        lead_seconds=min(offer.lead_time_seconds for offer in burst),
        hold_seconds=min(offer.hold_seconds for offer in burst),
        usd_per_unit_missed=fleet.spill.usd_per_unit if fleet.spill else 0.0,
        warm=warm,
        max_replicas=math.ceil(sum(o.max_replicas * o.capacity_per_second for o in burst) / best.capacity_per_second),
    )
    if fleet.spill is not None:
        return cheapest_plan(problem), cheapest_plan(problem, pay_hold=False).cost_usd
    # The share that may be missed is of all work, what the floor carries included.
    share = (1.0 - fleet.slo.attainment) * float(demand.sum()) / max(1e-12, float(above.sum()))
    return cheapest_plan_for(problem, min(1.0, share))


class PlannedScaler:
    """Carries a plan out in the world: what is held is what will serve at any time within a lead time from now. For judging the bound.

    A layer's plan never lets go for less than a lead time, since the boot costs more, so the window's maximum is the plan exactly.
    """

    def __init__(self, fleet: Fleet, workload: Workload, plan: Plan, block_seconds: float = BLOCK_SECONDS) -> None:
        self._offer = min(fleet.tier(Tier.BURST), key=usd_per_unit)
        self._floor = {offer.name: offer.max_replicas for offer in fleet.tier(Tier.FLOOR)}
        self._spill = naive_spill(fleet)
        self._begin, self._seconds, self._replicas = workload.start_unix, block_seconds, plan.replicas

    def decide(self, frame: Frame) -> DecisionLine:
        """Answer one frame."""
        now = frame.time.timestamp() - self._begin
        first = int(now // self._seconds)
        window = self._replicas[first : int((now + self._offer.lead_time_seconds) // self._seconds) + 2]
        return answer(frame, {**self._floor, self._offer.name: int(window.max(initial=0))}, self._spill)

    def announce(self, launch: Launch) -> None:
        """Know it already."""


def _at_price(problem: Layered, usd_per_unit_missed: float) -> Plan:
    return cheapest_plan(replace(problem, usd_per_unit_missed=usd_per_unit_missed), pay_hold=False)
