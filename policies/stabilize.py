"""What keeps a fleet calm: minimum holds, cooldowns, tolerance, stabilization windows and step limits, in the HPA's words.

Owns each rule as a function (targets, view, memory) -> targets plus the reason; none of them may raise a target above what the
layers asked for and what is held. Bounds, budgets and stale data come after, in `policies.guard`.
"""

from collections.abc import Sequence
from math import ceil, floor

from controlplane.contracts.events import Reason
from controlplane.contracts.fleet import Direction, Select, StepKind
from policies.moves import ask_less, keep_more, total
from policies.view import Cohort, Memory, Targets, View

Staged = tuple[Targets, tuple[Reason, ...]]


def hold(targets: Targets, view: View, memory: Memory) -> Staged:
    """Keep replicas that are within their minimum hold, and offers that are within their cooldown, where they are."""
    result, reasons = dict(targets), []
    for seen in view.offers:
        name, offer = seen.offer.name, seen.offer
        young = sum(c.count for c in memory.cohorts.get(name, ()) if view.now_unix - c.since_unix < offer.hold_seconds)
        least = min(young, seen.held)
        if result[name] < least:
            result[name] = least
            reasons.append(Reason.MINIMUM_HOLD)
        cooling_down = view.now_unix - memory.lowered_unix.get(name, float("-inf")) < offer.scale_down_cooldown_seconds
        cooling_up = view.now_unix - memory.raised_unix.get(name, float("-inf")) < offer.scale_up_cooldown_seconds
        if (cooling_down and result[name] < seen.held) or (cooling_up and result[name] > seen.held):
            result[name] = seen.held
            reasons.append(Reason.COOLDOWN)
    return result, tuple(dict.fromkeys(reasons))


def stabilize(targets: Targets, view: View, memory: Memory) -> Staged:
    """Shrink only to the highest, grow only to the lowest total recommended within each direction's window."""
    behavior, held = view.fleet.behavior, sum(seen.held for seen in view.offers)
    wanted = total(targets)
    highest = max([wanted, *_within(memory.recommendations, view.now_unix, behavior.scale_down.stabilization_window_seconds)])
    lowest = min([wanted, *_within(memory.recommendations, view.now_unix, behavior.scale_up.stabilization_window_seconds)])
    if wanted < held and highest > wanted:
        return keep_more(targets, view.offers, min(highest, held)), (Reason.STABILIZED,)
    if wanted > held and lowest < wanted:
        return ask_less(targets, view.offers, max(lowest, held)), (Reason.STABILIZED,)
    return targets, ()


def _within(recommendations: Sequence[tuple[float, int]], now: float, window: float) -> list[int]:
    return [wanted for at, wanted in recommendations if now - at < window]


def tolerate(targets: Targets, view: View) -> Staged:
    """Leave a fleet alone whose total would change by no more than the tolerance of that direction."""
    held, wanted = sum(seen.held for seen in view.offers), total(targets)
    behavior = view.fleet.behavior
    side = behavior.scale_up if wanted > held else behavior.scale_down
    if held == 0 or wanted == held or abs(wanted - held) > side.tolerance * held:
        return targets, ()
    return {seen.offer.name: seen.held for seen in view.offers}, (Reason.WITHIN_TOLERANCE,)


def limit_steps(targets: Targets, view: View, memory: Memory) -> Staged:
    """Move at most as far as the step limits allow, counted over their periods from the totals that were."""
    held, wanted = sum(seen.held for seen in view.offers), total(targets)
    behavior = view.fleet.behavior
    if wanted > held:
        most = _furthest(behavior.scale_up, view.now_unix, held, memory.changes, +1)
        if wanted > most:
            return ask_less(targets, view.offers, most), (Reason.STEP_LIMITED,)
    if wanted < held:
        least = _furthest(behavior.scale_down, view.now_unix, held, memory.changes, -1)
        if wanted < least:
            return keep_more(targets, view.offers, least), (Reason.STEP_LIMITED,)
    return targets, ()


def _furthest(side: Direction, now: float, held: int, changes: Sequence[tuple[float, int]], sign: int) -> int:
    """Return the furthest total in one direction: per limit, period start ± value (or percent of it), then Max or Min of them."""
    if side.select is Select.DISABLED:
        return held
    if not side.steps:
        return 10**9 if sign > 0 else 0
    reached = []
    for step in side.steps:
        moved = sum(delta for at, delta in changes if now - at < step.period_seconds and delta * sign > 0)
        start = held - moved
        if step.kind is StepKind.REPLICAS:
            limit = start + sign * step.value
        elif sign > 0:
            limit = ceil(start * (1.0 + step.value / 100.0))
        else:
            limit = floor(start * (1.0 - step.value / 100.0))
        reached.append(max(limit, held) if sign > 0 else max(min(limit, held), 0))
    widest = max(reached) if sign > 0 else min(reached)
    narrowest = min(reached) if sign > 0 else max(reached)
    return widest if side.select is Select.MAX else narrowest


def round_to_lots(targets: Targets, view: View) -> Staged:
    """Buy and give back whole lots only: a target is rounded up to a multiple of the offer's `replicas_per_lot`, within its limit."""
    result = dict(targets)
    for seen in view.offers:
        lot = seen.offer.replicas_per_lot
        rounded = -(-result[seen.offer.name] // lot) * lot
        result[seen.offer.name] = rounded if rounded <= seen.offer.max_replicas else seen.offer.max_replicas // lot * lot
    return result, ((Reason.ROUNDED_TO_LOT,) if result != targets else ())


def age_cohorts(cohorts: tuple[Cohort, ...], held: int, now: float, hold_seconds: float) -> tuple[Cohort, ...]:
    """Return the cohorts that `held` replicas form now: new ones start at `now`, missing ones are taken from the oldest.

    Cohorts past their hold are merged, since only the age against the hold is ever asked for.
    """
    known = sum(cohort.count for cohort in cohorts)
    if held > known:
        cohorts = (*cohorts, Cohort(now, held - known))
    missing = known - held
    result: list[Cohort] = []
    for cohort in cohorts:
        gone = min(max(missing, 0), cohort.count)
        missing -= gone
        if cohort.count > gone:
            result.append(Cohort(cohort.since_unix, cohort.count - gone))
    old = [cohort for cohort in result if now - cohort.since_unix >= hold_seconds]
    if len(old) > 1:
        merged = Cohort(old[-1].since_unix, sum(cohort.count for cohort in old))
        result = [merged, *(cohort for cohort in result if now - cohort.since_unix < hold_seconds)]
    return tuple(result)
