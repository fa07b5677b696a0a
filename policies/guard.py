"""What keeps a decision safe: bounds, stock, budgets, stale data, alerts and the freeze, in the documented order.

Owns who wins when bounds conflict: freeze > stock and quota > budget > ceiling > floor > stale-hold > alert lift (> step limit >
stabilization, which ran before). Each function returns the targets and why it moved them. Prices are never guessed low.
"""

from controlplane.contracts.events import Reason
from controlplane.contracts.fleet import Tier
from policies.moves import add_new, ask_less, by_price, most_of, total
from policies.view import Memory, OfferView, Targets, View

SECONDS_PER_DAY = 86400.0
Staged = tuple[Targets, tuple[Reason, ...]]


def lift(targets: Targets, view: View) -> Staged:
    """Raise the total by what firing alerts lift, above what is needed without them; never an absolute target."""
    if view.lift_replicas <= 0:
        return targets, ()
    lifted = add_new(targets, view.offers, total(targets) + view.lift_replicas)
    return lifted, ((Reason.ALERT_LIFT,) if lifted != targets else ())


def hold_on_doubt(targets: Targets, view: View) -> Staged:
    """Never shrink on stale, missing or implausible demand, nor on a poke: an early tick is there to grow."""
    stale = view.demand_age_seconds > view.fleet.guard.stale_after_seconds
    if not (stale or view.implausible or view.poke):
        return targets, ()
    result = {seen.offer.name: max(targets[seen.offer.name], seen.held) for seen in view.offers}
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
        if result[name] < offer.min_replicas:
            result[name] = offer.min_replicas
            reasons.append(Reason.RAISED_TO_FLOOR)
        if result[name] > offer.max_replicas:
            result[name] = offer.max_replicas
            reasons.append(Reason.CLAMPED_TO_CEILING)
    most = view.fleet.guard.max_total_replicas
    if most is not None and total(result) > most:
        result = _cut(ask_less(result, view.offers, most), view, most)
        reasons.append(Reason.CLAMPED_TO_CEILING)
    return result, tuple(dict.fromkeys(reasons))


def _cut(targets: Targets, view: View, most: int) -> Targets:
    """Drop replicas, dearest first, held ones too, until the total is `most`."""
    result, excess = dict(targets), total(targets) - most
    for seen in reversed(by_price(view.offers)):
        less = min(max(excess, 0), result[seen.offer.name])
        result[seen.offer.name] -= less
        excess -= less
    return result


def within_budget(targets: Targets, view: View, memory: Memory) -> Staged:
    """Keep what is rented within USD/h and USD/day: new replicas go first, then held ones past their hold, dearest first.

    A replica that is asked for is charged its minimum hold at once. Replicas within their hold are paid for already.
    """
    budget = view.fleet.guard.budget
    if budget.usd_per_hour is None and budget.usd_per_day is None:
        return targets, ()
    result = dict(targets)
    for seen in reversed(by_price(rented(view))):
        name = seen.offer.name
        while result[name] > 0 and _over(result, view, memory):
            if result[name] <= min(seen.held, _young(seen, view, memory)):
                break
            result[name] -= 1
    return result, ((Reason.CLAMPED_TO_BUDGET,) if result != targets else ())


def _over(targets: Targets, view: View, memory: Memory) -> bool:
    budget = view.fleet.guard.budget
    if budget.usd_per_hour is not None and burst_usd_per_hour(targets, view) > budget.usd_per_hour + 1e-9:
        return True
    if budget.usd_per_day is None:
        return False
    return memory.spent_usd_today + _committed_usd(targets, view) > budget.usd_per_day + 1e-9


def _committed_usd(targets: Targets, view: View) -> float:
    """Return what the targets will certainly cost: a tick of everything held, and the minimum hold of everything new."""
    usd = 0.0
    for seen in rented(view):
        price, wanted = price_of(seen), targets[seen.offer.name]
        new = max(wanted - seen.held, 0)
        usd += price * (min(wanted, seen.held) * view.fleet.tick_seconds + new * max(seen.offer.hold_seconds, view.fleet.tick_seconds))
    return usd / 3600.0


def _young(seen: OfferView, view: View, memory: Memory) -> int:
    cohorts = memory.cohorts.get(seen.offer.name, ())
    return sum(c.count for c in cohorts if view.now_unix - c.since_unix < seen.offer.hold_seconds)


def rented(view: View) -> list[OfferView]:
    """Return the offers that budgets cover."""
    return [seen for seen in view.offers if seen.offer.tier is Tier.BURST]


def price_of(seen: OfferView) -> float:
    """Return an offer's USD per replica-hour for the budget: the live price, else the ceiling, else the policy's; never zero by ignorance."""
    for price in (seen.usd_per_replica_hour, seen.offer.ceiling_usd_per_replica_hour, seen.offer.usd_per_replica_hour):
        if price is not None:
            return price
    return float("inf")


def burst_usd_per_hour(targets: Targets, view: View) -> float:
    """Return what the rented replicas of the targets cost per hour."""
    return sum(price_of(seen) * targets[seen.offer.name] for seen in rented(view) if targets[seen.offer.name])


def within_stock(targets: Targets, view: View) -> Staged:
    """Ask no offer for more than it has, or for anything while it refuses."""
    result, reasons = dict(targets), []
    for seen in view.offers:
        name, most = seen.offer.name, max(most_of(seen), seen.held)
        if result[name] > most:
            result[name] = most
            unknown = seen.usd_per_replica_hour is None
            reasons.append(Reason.OFFER_UNAVAILABLE if seen.unavailable else Reason.PRICE_UNKNOWN if unknown else Reason.CLAMPED_TO_STOCK)
    return result, tuple(dict.fromkeys(reasons))


def freeze(targets: Targets, view: View) -> Staged:
    """Change nothing while frozen."""
    if not (view.frozen or view.fleet.guard.frozen):
        return targets, ()
    held = {seen.offer.name: seen.held for seen in view.offers}
    return held, (Reason.FROZEN,)


def spill_allowance(targets: Targets, view: View, memory: Memory) -> tuple[float, Reason]:
    """Return the highest rate the gateway may spill, work per second: the offer's limit and what the budgets leave after burst.

    Without a limit or a budget it is wide enough for a wave of x100, and still finite.
    """
    spill, budget = view.fleet.spill, view.fleet.guard.budget
    if spill is None or view.frozen or view.fleet.guard.frozen:
        return 0.0, Reason.SPILL_CLOSED
    capacity = sum(seen.offer.capacity_per_second * max(targets[seen.offer.name], 1) for seen in view.offers)
    top = float(view.outlook.peak.max()) if view.outlook is not None else 0.0
    rate = 100.0 * max(capacity, top, view.demand_per_second or 0.0)
    if spill.max_per_second is not None:
        rate = min(rate, spill.max_per_second)
    if spill.usd_per_unit > 0.0:
        if budget.usd_per_hour is not None:
            left = max(budget.usd_per_hour - burst_usd_per_hour(targets, view), 0.0)
            rate = min(rate, left / (spill.usd_per_unit * 3600.0))
        if budget.usd_per_day is not None:
            left = max(budget.usd_per_day - memory.spent_usd_today - _committed_usd(targets, view), 0.0)
            rate = min(rate, left / (spill.usd_per_unit * view.fleet.tick_seconds))
    return rate, Reason.SPILL_OPEN if rate > 0.0 else Reason.SPILL_CLOSED
