"""What keeps a fleet calm: minimum holds, cooldowns, tolerance, stabilization windows and step limits, in the HPA's words.

Owns each rule as a function (targets, view, memory) -> targets plus the reason; none of them may raise a target above what the
layers asked for and what is held. Bounds, budgets and stale data come after, in `policies.guard`.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import ceil, floor

from controlplane.contracts.events import Reason
from controlplane.contracts.fleet import Direction, Select, StepKind
from policies.moves import ask_less, held_of, keep_more, lots_down, lots_up, move_less, total
from policies.view import Change, Cohort, Extent, Memory, OfferView, Staged, Targets, View

NO_LIMIT = 10**9


def hold(targets: Targets, view: View, memory: Memory) -> Staged:
    """Keep replicas that are within their minimum hold, and offers that are within their cooldown, where they are.

    Where an offer is, is what it holds or the last target, whichever is further: a purchase may not be seen yet.
    """
    result, reasons = dict(targets), []
    for seen in view.offers:
        name, offer, held = seen.offer.name, seen.offer, seen.held
        least = min(young(seen, view.now_unix, memory), held)
        if result[name] < least:
            result[name] = least
            reasons.append(Reason.MINIMUM_HOLD)
        if not (offer.scale_up_cooldown_seconds or offer.scale_down_cooldown_seconds):
            continue
        last = memory.targets.get(name, held)
        low, high = min(last, held), max(last, held)
        if result[name] < low and _cooling(memory.lowered_unix, name, view.now_unix, offer.scale_down_cooldown_seconds):
            result[name] = low
            reasons.append(Reason.COOLDOWN)
        elif result[name] > high and _cooling(memory.raised_unix, name, view.now_unix, offer.scale_up_cooldown_seconds):
            result[name] = high
            reasons.append(Reason.COOLDOWN)
    return result, tuple(dict.fromkeys(reasons))


def _cooling(since_unix: Mapping[str, float], name: str, now: float, cooldown: float) -> bool:
    since = since_unix.get(name)
    return since is not None and now - since < cooldown


def young(seen: OfferView, now: float, memory: Memory) -> int:
    """Return how many of an offer's replicas are within their minimum hold."""
    hold_seconds = seen.offer.hold_seconds
    if hold_seconds <= 0.0:
        return 0
    return sum(cohort.replicas for cohort in memory.cohorts.get(seen.offer.name, ()) if now - cohort.since_unix < hold_seconds)


def tolerate(targets: Targets, view: View) -> Staged:
    """Leave a fleet alone whose total would change by no more than the tolerance of that direction."""
    behavior = view.fleet.behavior
    if behavior.scale_up.tolerance <= 0.0 and behavior.scale_down.tolerance <= 0.0:
        return targets, ()
    held = held_of(view.offers)
    have, wanted = total(held), total(targets)
    side = behavior.scale_up if wanted > have else behavior.scale_down
    if have in (0, wanted) or abs(wanted - have) > side.tolerance * have:
        return targets, ()
    return held, (Reason.WITHIN_TOLERANCE,)


def stabilize(targets: Targets, view: View, memory: Memory, asked: int | None = None) -> Staged:
    """Shrink only to the highest, grow only to the lowest total recommended within each direction's window.

    `asked` is what is recommended now, before holds, and counts as the window's newest; None: the targets' total.
    """
    behavior, held, wanted = view.fleet.behavior, sum(seen.held for seen in view.offers), total(targets)
    if wanted < held:
        since = view.now_unix - behavior.scale_down.stabilization_window_seconds
        highest = max((extent.high for extent in memory.recommendations if extent.last_unix > since), default=wanted)
        if highest > wanted:
            return keep_more(targets, view.offers, min(highest, held)), (Reason.STABILIZED,)
    if wanted > held:
        since = view.now_unix - behavior.scale_up.stabilization_window_seconds
        now = asked if asked is not None and since < view.now_unix else wanted
        lowest = min((extent.low for extent in memory.recommendations if extent.last_unix > since), default=wanted)
        lowest = min(lowest, now)
        if lowest < wanted:
            return ask_less(targets, view.offers, max(lowest, held)), (Reason.STABILIZED,)
    return targets, ()


def limit_steps(targets: Targets, view: View, memory: Memory) -> Staged:
    """Move at most as far as the step limits allow, counted over their periods from the totals that were; one lot may always move.

    A total is what it will be: what was told to go or to come counts as gone or come, seen or not.
    """
    behavior, now = view.fleet.behavior, view.now_unix
    have, wanted = sum(_within_limit(seen) for seen in view.offers), total(targets)
    if wanted > have and _limits(behavior.scale_up):
        last = sum(max(memory.targets.get(seen.offer.name, 0), _within_limit(seen)) for seen in view.offers)
        going = sum(max(_within_limit(seen) - memory.targets.get(seen.offer.name, seen.held), 0) for seen in view.offers)
        last -= min(going, sum(change.removed for change in memory.changes))
        held, (whole, _) = held_of(view.offers), round_to_lots(targets, view)
        most = _furthest(behavior.scale_up, now, last, memory.changes, +1, _smallest_lot(whole, held, view.offers, +1))
        excess = total(whole) - max(most, have)
        if excess > 0:
            return move_less(whole, held, view.offers, excess, +1), (Reason.STEP_LIMITED,)
    if wanted < have and _limits(behavior.scale_down):
        last = sum(min(memory.targets.get(seen.offer.name, seen.held), _within_limit(seen)) for seen in view.offers)
        last = last if any(change.removed for change in memory.changes) else have
        coming = sum(max(memory.targets.get(seen.offer.name, 0) - _within_limit(seen), 0) for seen in view.offers)
        last += min(coming, sum(change.added for change in memory.changes))
        held, (whole, _) = held_of(view.offers), round_to_lots(targets, view)
        least = _furthest(behavior.scale_down, now, last, memory.changes, -1, _smallest_lot(whole, held, view.offers, -1))
        excess = least - total(whole)
        if excess > 0:
            return move_less(whole, held, view.offers, excess, -1), (Reason.STEP_LIMITED,)
    return targets, ()


def limit_removals(targets: Targets, view: View, memory: Memory) -> Staged:
    """Take no more replicas away in a period than the fleet's scale-down budget, whatever offer they are of and whatever replaces them.

    Steps count the change of the total, which a move from one offer to another leaves as it is; this counts every replica that goes.
    One lot may go where none went in the period: the smallest of those that are to go.
    """
    budget = view.fleet.behavior.scale_down.budget
    if budget is None:
        return targets, ()
    held = {seen.offer.name: min(memory.targets.get(seen.offer.name, seen.held), _within_limit(seen)) for seen in view.offers}
    whole, _ = round_to_lots(targets, view)
    going = sum(max(held[name] - target, 0) for name, target in whole.items())
    gone = sum(change.removed for change in memory.changes if view.now_unix - change.last_unix < budget.period_seconds)
    most = budget.value if budget.kind is StepKind.REPLICAS else floor((total(held) + gone) * budget.value / 100.0)
    most = max(most, _smallest_lot(whole, held, view.offers, -1)) if gone == 0 else most
    excess = going - max(most - gone, 0)
    if going == 0 or excess <= 0:
        return targets, ()
    return move_less(whole, held, view.offers, excess, -1), (Reason.REMOVALS_LIMITED,)


def _within_limit(seen: OfferView) -> int:
    """Return what is held of an offer and may be: what is above its limit goes anyway, and is no step."""
    return min(seen.held, seen.offer.max_replicas)


def _limits(side: Direction) -> bool:
    return bool(side.steps) or side.select is Select.DISABLED


def _smallest_lot(targets: Targets, held: Targets, offers: Iterable[OfferView], sign: int) -> int:
    """Return the smallest lot of the offers that are to grow (sign +1) or shrink (-1): another's says nothing of what may move."""
    moving = (seen.offer for seen in offers if sign * (targets[seen.offer.name] - held[seen.offer.name]) > 0)
    return min((offer.replicas_per_lot for offer in moving), default=1)


def _furthest(side: Direction, now: float, current: int, changes: Sequence[Change], sign: int, lot: int) -> int:
    """Return the furthest total in one direction: per limit, the period's start ± value (or percent of it), then Max or Min of them.

    The period's start is the current total without what the period added, as in the HPA's `calculateScaleUpLimit`.
    """
    if side.select is Select.DISABLED:
        return current
    reached = []
    for step in side.steps:
        recent = [change for change in changes if now - change.last_unix < step.period_seconds]
        added, removed = sum(change.added for change in recent), sum(change.removed for change in recent)
        start = current - added + removed
        if step.kind is StepKind.REPLICAS:
            limit = start + sign * step.value
        elif sign > 0:
            limit = ceil(start * (1.0 + step.value / 100.0))
        else:
            limit = floor(start * (1.0 - step.value / 100.0))
        if (added if sign > 0 else removed) == 0:
            limit = max(limit, current + lot) if sign > 0 else min(limit, current - lot)
        reached.append(max(limit, current) if sign > 0 else max(min(limit, current), 0))
    widest, narrowest = (max, min) if sign > 0 else (min, max)
    return widest(reached) if side.select is Select.MAX else narrowest(reached)


def round_to_lots(targets: Targets, view: View) -> Staged:
    """Buy and give back whole lots only: a target is rounded up to a multiple of the offer's `replicas_per_lot`, within its limit."""
    if all(seen.offer.replicas_per_lot == 1 for seen in view.offers):
        return targets, ()
    result = {
        seen.offer.name: min(lots_up(targets[seen.offer.name], seen.offer), lots_down(seen.offer.max_replicas, seen.offer))
        for seen in view.offers
    }
    return result, ((Reason.ROUNDED_TO_LOT,) if result != targets else ())


def age_cohorts(
    cohorts: tuple[Cohort, ...], held: int, now: float, hold_seconds: float, asked_unix: float | None = None
) -> tuple[Cohort, ...]:
    """Return the cohorts that `held` replicas form now: missing ones are taken from the oldest, new ones start at the last decision,
    `asked_unix`, since that is when they were asked for.

    Only the age against the hold is ever asked for, so those past it are one cohort, and of three that came within 1/32 of a hold
    the newer two are one, as young as its youngest: never more than 66 cohorts.
    """
    if hold_seconds <= 0.0:
        return ()
    if len(cohorts) == 1 and cohorts[0].replicas == held and now - cohorts[0].since_unix >= hold_seconds:
        return cohorts
    result: list[Cohort] = []
    for since, count in cohorts:
        if result and now - since >= hold_seconds:
            result[-1] = Cohort(since, result[-1].replicas + count)
        else:
            result.append(Cohort(since, count))
    missing = sum(cohort.replicas for cohort in result) - held
    if missing > 0:
        return _without_oldest(result, missing)
    since = asked_unix if asked_unix is not None else now
    if missing < 0 and len(result) > 1 and since - result[-2].since_unix < hold_seconds / 32.0:
        result[-1] = Cohort(max(since, result[-1].since_unix), result[-1].replicas - missing)
    elif missing < 0:
        result.append(Cohort(since, -missing))
    return tuple(result)


def _without_oldest(cohorts: list[Cohort], missing: int) -> tuple[Cohort, ...]:
    result: list[Cohort] = []
    for cohort in cohorts:
        gone = min(max(missing, 0), cohort.replicas)
        missing -= gone
        if cohort.replicas > gone:
            result.append(Cohort(cohort.since_unix, cohort.replicas - gone))
    return tuple(result)


def widen_extents(extents: tuple[Extent, ...], now: float, wanted: int, window_seconds: float) -> tuple[Extent, ...]:
    """Return the recommendations within the window with one more, at most 66: those close together become their extremes."""
    if window_seconds <= 0.0:
        return ()
    kept = tuple(extent for extent in extents if now - extent.last_unix < window_seconds)
    newest = Extent(now, wanted, wanted)
    if len(kept) > 1 and now - kept[-2].last_unix < window_seconds / 32.0:
        return (*kept[:-1], Extent(now, min(kept[-1].low, wanted), max(kept[-1].high, wanted)))
    return (*kept, newest)


def add_change(changes: tuple[Change, ...], now: float, added: int, removed: int, period_seconds: float) -> tuple[Change, ...]:
    """Return the changes within the longest period with one more, at most 66: those close together become one."""
    if period_seconds <= 0.0:
        return ()
    kept = tuple(change for change in changes if now - change.last_unix < period_seconds)
    if not (added or removed):
        return kept
    if len(kept) > 1 and now - kept[-2].last_unix < period_seconds / 32.0:
        return (*kept[:-1], Change(now, kept[-1].added + added, kept[-1].removed + removed))
    return (*kept, Change(now, added, removed))
