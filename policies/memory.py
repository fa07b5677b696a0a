"""How memory moves from one decision to the next: windows, changes, cohorts, the day's spend and the price of a miss.

Owns every update of `Memory`, and nothing else writes it. It must not decide; `policies.decide` calls it before and after.
"""

from collections.abc import Mapping
from math import exp

from policies.budget import SECONDS_PER_DAY, SECONDS_PER_HOUR, price_of, rented
from policies.layers import marginal_usd_per_second
from policies.stabilize import add_change, age_cohorts, widen_extents
from policies.view import Cohort, Memory, Targets, View

MISS_GAIN = 4.0
MISS_MULTIPLE_RANGE = (1.5, 2000.0)


def start_memory(now_unix: float) -> Memory:
    """Return the memory of a fleet that has never been decided for."""
    return Memory(metered_unix=now_unix, day=int(now_unix // SECONDS_PER_DAY))


def bring_to_now(memory: Memory, view: View) -> Memory:
    """Return memory brought to now: replicas seen joined to cohorts, money spent since the last time, the price of a miss corrected."""
    now, since = view.now_unix, memory.metered_unix if memory.metered_unix is not None else view.now_unix
    day = int(now // SECONDS_PER_DAY)
    today = min(max(now - since, 0.0), now - day * SECONDS_PER_DAY)
    spent = memory.spent_usd_today if day == memory.day else 0.0
    if today > 0.0:
        spent += _usd_per_hour(view, memory) * today / SECONDS_PER_HOUR
    return Memory(
        recommendations=memory.recommendations,
        changes=memory.changes,
        cohorts=_cohorts(memory, view),
        raised_unix=memory.raised_unix,
        lowered_unix=memory.lowered_unix,
        targets=memory.targets,
        lift_replicas=memory.lift_replicas,
        lift_floor=memory.lift_floor,
        spill_per_second=memory.spill_per_second,
        day=day,
        spent_usd_today=spent,
        metered_unix=now,
        interval_seconds=max(now - since, 0.0),
        miss_multiple=learn_miss_multiple(memory.miss_multiple, view.late_share, view.fleet.slo.attainment),
    )


def _cohorts(memory: Memory, view: View) -> Mapping[str, tuple[Cohort, ...]]:
    now, asked = view.now_unix, memory.metered_unix
    return {
        seen.offer.name: age_cohorts(memory.cohorts.get(seen.offer.name, ()), seen.held, now, seen.offer.hold_seconds, asked)
        for seen in view.offers
        if seen.offer.hold_seconds > 0.0
    }


def _usd_per_hour(view: View, memory: Memory) -> float:
    """Return what burst and spill have cost since the last decision, per hour.

    Where nobody says how much was spilled, it is taken to be all the work above what was ready, as far as it was allowed.
    """
    usd = sum(price_of(seen) * seen.held for seen in rented(view) if seen.held)
    if view.fleet.spill is None:
        return usd
    spilled = view.spilled_per_second
    if spilled is None:
        ready = sum(seen.ready * seen.offer.capacity_per_second for seen in view.offers)
        spilled = min(max((view.demand_per_second or 0.0) - ready, 0.0), memory.spill_per_second)
    return usd + spilled * view.fleet.spill.usd_per_unit * SECONDS_PER_HOUR


def learn_miss_multiple(multiple: float | None, late_share: float | None, attainment: float) -> float:
    """Return the price of a miss, as a multiple of the cheapest rent per unit, moved towards the one that keeps the attainment.

    It starts at the newsvendor's 1 / (1 - attainment) and moves by the log-gradient rule of adaptive conformal inference (Gibbs and
    Candes 2021): up while more is missed than allowed, slowly down while less is.
    """
    allowed = max(1.0 - attainment, 1e-4)
    multiple = multiple if multiple is not None else 1.0 / allowed
    if late_share is not None:
        multiple *= exp(max(min(MISS_GAIN * (late_share - allowed), 0.5), -0.5))
    low, high = MISS_MULTIPLE_RANGE
    return min(max(multiple, low), high)


def miss_usd_per_unit(view: View, memory: Memory) -> float:
    """Return what a missed unit of work counts for, USD, where nothing else can serve it."""
    prices = [seen.usd_per_unit for seen in rented(view) if seen.usd_per_replica_hour is not None]
    prices += [marginal_usd_per_second(seen) / seen.offer.capacity_per_second for seen in view.offers if seen.offer.tier == "floor"]
    return min((price for price in prices if price > 0.0), default=0.0) * (memory.miss_multiple or 1.0)


def remember(memory: Memory, view: View, targets: Targets, wanted: int, lift_floor: int, spill_per_second: float) -> Memory:
    """Return memory after a decision: the recommendation for the windows, the change for the step limits, the moment per offer."""
    behavior, now = view.fleet.behavior, view.now_unix
    window = max(behavior.scale_up.stabilization_window_seconds, behavior.scale_down.stabilization_window_seconds)
    period = max((step.period_seconds for side in (behavior.scale_up, behavior.scale_down) for step in side.steps), default=0.0)
    raised, lowered, added, removed = memory.raised_unix, memory.lowered_unix, 0, 0
    for seen in view.offers:
        name, held = seen.offer.name, seen.held
        last, target = memory.targets.get(name, held), targets[name]
        if target > max(last, held):
            raised = {**raised, name: now}
            added += target - max(last, held)
        elif target < min(last, held):
            lowered = {**lowered, name: now}
            removed += min(last, held) - target
    return Memory(
        recommendations=widen_extents(memory.recommendations, now, wanted, window),
        changes=add_change(memory.changes, now, added, removed, period),
        cohorts=memory.cohorts,
        raised_unix=raised,
        lowered_unix=lowered,
        targets=targets,
        lift_replicas=view.lift_replicas,
        lift_floor=lift_floor,
        spill_per_second=spill_per_second,
        day=memory.day,
        spent_usd_today=memory.spent_usd_today,
        metered_unix=memory.metered_unix,
        interval_seconds=memory.interval_seconds,
        miss_multiple=memory.miss_multiple,
    )
