"""How memory moves from one decision to the next: windows, changes, cohorts, the day's spend and the head-room.

Owns every update of `Memory`, and nothing else writes it. It must not decide; `policies.decide` calls it before and after.
"""

from collections.abc import Mapping

from controlplane.contracts.fleet import Drain, Tier
from policies.budget import SECONDS_PER_DAY, SECONDS_PER_HOUR, held_usd_per_hour, purchases_asked, rented
from policies.experience import learn_offers
from policies.guard import is_stale
from policies.headroom import learn_headroom
from policies.layers import marginal_usd_per_second
from policies.rehearsal import foreseen, rehearse, watch
from policies.stabilize import add_change, age_cohorts, widen_extents
from policies.view import Cohort, Headroom, Memory, OfferView, Rehearsal, Targets, View
from policies.windows import open_windows


def start_memory(now_unix: float) -> Memory:
    """Return the memory of a fleet that has never been decided for."""
    return Memory(metered_unix=now_unix, day=int(now_unix // SECONDS_PER_DAY))


def bring_to_now(memory: Memory, view: View) -> Memory:
    """Return memory brought to now: replicas seen joined to cohorts, money spent since the last time, head-room learnt."""
    now, since = view.now_unix, memory.metered_unix if memory.metered_unix is not None else view.now_unix
    day = int(now // SECONDS_PER_DAY)
    today = min(max(now - since, 0.0), now - day * SECONDS_PER_DAY)
    spent = memory.spent_usd_today if day == memory.day else 0.0
    usd_per_hour = _usd_per_hour(view, memory) if now > since else 0.0
    if today > 0.0:
        spent += usd_per_hour * today / SECONDS_PER_HOUR
    budget = view.fleet.guard.budget
    headroom, rehearsal = _headroom(memory, view, max(now - since, 0.0))
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
        headroom=headroom,
        rehearsal=rehearsal,
        offers=learn_offers(memory, view),
        windows=open_windows(memory.windows, budget, now, since, usd_per_hour) if budget.windows else (),
        asked=memory.asked,
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
    usd = sum(held_usd_per_hour(seen) for seen in rented(view) if not seen.untold or _may_have_cost(seen, memory))
    if view.fleet.spill is None:
        return usd
    spilled = view.spilled_per_second
    if spilled is None:
        ready = sum(seen.ready * seen.offer.capacity_per_second for seen in view.offers)
        spilled = min(max((view.demand_per_second or 0.0) - ready, 0.0), memory.spill_per_second)
    return usd + spilled * view.fleet.spill.usd_per_unit * SECONDS_PER_HOUR


def _may_have_cost(seen: OfferView, memory: Memory) -> bool:
    """Return whether what an untold offer may hold is charged to the day: not before it was decided for, nor while nobody can price it.

    Money that is counted as spent stays so: a price that is made up would close the budget until midnight.
    """
    return seen.offer.name in memory.targets and seen.usd_per_replica_hour is not None


def _headroom(memory: Memory, view: View, seconds: float) -> tuple[Headroom | None, Rehearsal | None]:
    """Return what is learnt of head-room; nothing from demand that is not there or not believed, nor from a fleet that is drained."""
    if view.fleet.spill is not None or view.demand_per_second is None or view.implausible or is_stale(view):
        return memory.headroom, memory.rehearsal
    if view.fleet.guard.drain is not Drain.NONE:
        return memory.headroom, memory.rehearsal
    lead = min((seen.offer.lead_time_seconds for seen in rented(view)), default=0.0)
    attainment = view.fleet.slo.attainment
    rehearsal = watch(memory.rehearsal, view, memory.headroom, seconds)
    headroom = learn_headroom(memory.headroom, seconds, view.demand_per_second, view.late_share, attainment, lead, foreseen(rehearsal))
    return headroom, rehearse(rehearsal, view, headroom)


def cheapest_usd_per_unit(view: View) -> float:
    """Return the rent of a unit of work at the cheapest offer that costs anything (a floor where nothing is rented), USD."""
    prices = [seen.usd_per_unit for seen in rented(view) if seen.usd_per_replica_hour is not None and seen.usd_per_unit > 0.0]
    if not prices:
        floors = [seen for seen in view.offers if seen.offer.tier is Tier.FLOOR]
        prices = [marginal_usd_per_second(seen) / seen.offer.capacity_per_second for seen in floors]
    return min((price for price in prices if price > 0.0), default=0.0)


def remember(memory: Memory, view: View, targets: Targets, wanted: int, lift_floor: int, spill_per_second: float) -> Memory:
    """Return memory after a decision: the recommendation for the windows, the change for the step limits, the moment per offer."""
    behavior, now = view.fleet.behavior, view.now_unix
    window = max(behavior.scale_up.stabilization_window_seconds, behavior.scale_down.stabilization_window_seconds)
    period = max((step.period_seconds for side in (behavior.scale_up, behavior.scale_down) for step in side.steps), default=0.0)
    if behavior.scale_down.budget is not None:
        period = max(period, behavior.scale_down.budget.period_seconds)
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
        headroom=memory.headroom,
        rehearsal=memory.rehearsal,
        offers=memory.offers,
        windows=memory.windows,
        asked=purchases_asked(targets, view, memory),
    )
