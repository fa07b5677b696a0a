"""What keeps a decision safe: bounds, stale data, alerts, stock and the freeze, in the documented order.

Owns who wins when bounds conflict: freeze > drain > stock and quota > budget > ceiling > floor > stale-hold > alert lift (> step limit >
stabilization, which ran before). Each function returns the targets and why it moved them. Budgets are in `policies.budget`.
"""

from controlplane.contracts.events import Reason
from controlplane.contracts.fleet import Drain, Select, Tier
from policies.moves import add_new, by_price, cut, held_of, lots_down, lots_up, most_of, total
from policies.stabilize import limit_removals, limit_steps, young
from policies.view import Memory, OfferView, Staged, Targets, View


def lift(targets: Targets, view: View, lift_floor: int) -> Staged:
    """Hold the total up to what firing alerts lift it to; `raise_lift` says how far that is."""
    if lift_floor <= total(targets):
        return targets, ()
    lifted = add_new(targets, view.offers, lift_floor)
    return lifted, ((Reason.ALERT_LIFT,) if lifted != targets else ())


def raise_lift(memory: Memory, lift_replicas: int, wanted: int) -> int:
    """Return the total that firing alerts hold up: what was wanted when each fired, plus its lift.

    A lift is never counted from a total that it raised itself, so that repeating it, tick after tick, adds nothing.
    """
    if lift_replicas <= 0:
        return 0
    rise = lift_replicas - memory.lift_replicas
    if rise > 0:
        return max(memory.lift_floor, wanted) + rise if memory.lift_replicas else wanted + rise
    return max(memory.lift_floor + rise, 0)


def is_stale(view: View) -> bool:
    """Whether the newest demand is too old to shrink on."""
    return view.demand_age_seconds > view.fleet.guard.stale_after_seconds


def hold_on_doubt(targets: Targets, view: View) -> Staged:
    """Never shrink on stale, missing or implausible demand, nor on a poke: an early tick is there to grow."""
    stale = is_stale(view)
    if not (stale or view.implausible or view.poke):
        return targets, ()
    result = {seen.offer.name: max(targets[seen.offer.name], lots_up(seen.held, seen.offer)) for seen in view.offers}
    if result == targets:
        return targets, ()
    if stale:
        return result, (Reason.STALE_HOLD,)
    return result, (Reason.IMPLAUSIBLE_HOLD if view.implausible else Reason.POKE_NEVER_SHRINKS,)


def bound(targets: Targets, view: View) -> Staged:
    """Keep every offer between its min and max, and the fleet under its ceiling; the ceiling beats the floor."""
    result, reasons = dict(targets), []
    for seen in view.offers:
        name, offer = seen.offer.name, seen.offer
        least, most = lots_up(offer.min_replicas, offer), lots_down(offer.max_replicas, offer)
        if result[name] < least:
            result[name] = least
            reasons.append(Reason.RAISED_TO_FLOOR)
        if result[name] > most:
            result[name] = most
            reasons.append(Reason.CLAMPED_TO_CEILING)
    ceiling = view.fleet.guard.max_total_replicas
    if ceiling is not None and total(result) > ceiling:
        result = cut(result, view.offers, ceiling)
        reasons.append(Reason.CLAMPED_TO_CEILING)
    return result, tuple(dict.fromkeys(reasons))


def within_stock(targets: Targets, view: View) -> Staged:
    """Ask no offer for more than it has, or for anything while it refuses, costs more than its ceiling or nobody knows what it costs."""
    result, reasons = dict(targets), []
    for seen in view.offers:
        name, most = seen.offer.name, most_of(seen)
        if result[name] > most:
            result[name] = most
            reasons.append(_why_no_more(seen))
    return result, tuple(dict.fromkeys(reasons))


def _why_no_more(seen: OfferView) -> Reason:
    if seen.unavailable:
        return Reason.OFFER_UNAVAILABLE
    if seen.is_too_dear:
        return Reason.PRICE_ABOVE_CEILING
    unknown = seen.usd_per_replica_hour is None and seen.offer.tier is not Tier.FLOOR
    return Reason.PRICE_UNKNOWN if unknown else Reason.CLAMPED_TO_STOCK


def drain(targets: Targets, view: View, memory: Memory) -> Staged:
    """Give back what the drain switch says, as fast as the step limits and the scale-down budget let it, and buy nothing of it.

    What is within its minimum hold is paid for and serves until that ends. Bounds and alerts do not hold back what an operator empties,
    nor does `selectPolicy: Disabled`. What was decided to go anyway in the same tick counts against the pace first.
    """
    emptied = [seen for seen in view.offers if view.fleet.guard.drain is Drain.FLEET or seen.offer.tier is Tier.BURST]
    least = {seen.offer.name: min(lots_up(young(seen, view.now_unix, memory), seen.offer), seen.held) for seen in emptied}
    paced: Targets = {**targets, **least}
    stepped: tuple[Reason, ...] = ()
    if view.fleet.behavior.scale_down.select is not Select.DISABLED:
        paced, stepped = limit_steps(paced, view, memory)
    paced, limited = limit_removals(paced, view, memory)
    result = {**targets, **{seen.offer.name: min(targets[seen.offer.name], paced[seen.offer.name], seen.held) for seen in emptied}}
    excess = sum(max(paced[name] - target, 0) for name, target in result.items())
    for seen in by_price(emptied):
        name = seen.offer.name
        back = max(min(lots_up(excess, seen.offer), min(targets[name], seen.held) - result[name]), 0)
        result[name] += back
        excess -= back
    if any(result[name] > count for name, count in least.items()):
        return result, (Reason.DRAINED, *stepped, *limited)
    return result, ((Reason.DRAINED,) if result != targets else ())


def is_frozen(view: View) -> bool:
    """Whether the kill switch is on, by policy or by alert."""
    return view.frozen or view.fleet.guard.frozen


def freeze(targets: Targets, view: View) -> Staged:
    """Change nothing while frozen: targets are what is held."""
    return (held_of(view.offers), (Reason.FROZEN,)) if is_frozen(view) else (targets, ())
