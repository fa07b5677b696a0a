"""Hard limits on money: what is rented and what is spilled stay within USD per hour, day and window, and never fail open.

Owns what a decision commits to, which replicas give way, and the spill allowance that is left. What is paid counts, not what is wished
for: everything held until it is gone, machines that serve nothing too, and purchases that are on their way. Prices are never guessed
low: an unknown one counts as its ceiling, and without one as more than any budget. Go on to `policies.guard` for the other bounds.
"""

from collections.abc import Callable, Mapping
from functools import partial
from math import ceil, inf

from controlplane.contracts.events import Reason
from controlplane.contracts.fleet import Tier
from policies.guard import is_frozen
from policies.moves import by_price, lots_up
from policies.stabilize import young
from policies.view import Asked, Memory, OfferView, Staged, Targets, View, expiry_seconds
from policies.windows import limits

SECONDS_PER_HOUR = 3600.0
SECONDS_PER_DAY = 86400.0
ROUNDING_USD = 1e-9
WAVE_MULTIPLE = 100.0
# What a replica counts for that nobody can price: more than any budget, and still a number that a snapshot can carry.
UNKNOWN_USD_PER_HOUR = 1e9
# How long a purchase may be under way before a pool tells of it: longer than an actuator is given for one.
IN_FLIGHT_SECONDS = 30.0


def rented(view: View) -> list[OfferView]:
    """Return the offers that budgets cover."""
    return [seen for seen in view.offers if seen.offer.tier is Tier.BURST]


def price_of(seen: OfferView) -> float:
    """Return an offer's USD per replica-hour: the live price or the policy's, else its ceiling, else `UNKNOWN_USD_PER_HOUR`."""
    for price in (seen.usd_per_replica_hour, seen.offer.ceiling_usd_per_replica_hour, seen.offer.usd_per_replica_hour):
        if price is not None:
            return price
    return UNKNOWN_USD_PER_HOUR


def highest_price_of(seen: OfferView) -> float:
    """Return what a replica of an offer may come to cost before the next decision: a spot price may rise to its ceiling."""
    price, ceiling = price_of(seen), seen.offer.ceiling_usd_per_replica_hour
    return max(price, ceiling) if ceiling is not None and seen.offer.has_floating_price else price


Price = Callable[[OfferView], float]


def paid_usd_per_hour(seen: OfferView, price: Price = price_of) -> float:
    """Return what is held of an offer costs per hour, machines included that drain or have failed: as told, else at its price.

    What was told of a floating price may be over by now, so that counts at the price too.
    """
    told, count = seen.paid_usd_per_hour, seen.held + seen.unserving
    at_price = price(seen) * count if count and (told is None or seen.offer.has_floating_price) else 0.0
    return at_price if told is None else max(told, at_price)


def held_usd_per_hour(seen: OfferView, price: Price = price_of) -> float:
    """Return the most that what is held of an offer costs per hour: of one that nobody has told of yet, all that it may hold."""
    return price(seen) * seen.offer.max_replicas if seen.untold else paid_usd_per_hour(seen, price)


def _in_flight(seen: OfferView, view: View, memory: Memory) -> Asked | None:
    """Return the purchase that may be on its way without the pool telling of it: after a refusal there is none."""
    asked = memory.asked.get(seen.offer.name)
    if asked is None or asked.replicas <= seen.held:
        return None
    told_after = min(seen.told_unix, view.now_unix) - asked.since_unix
    return None if told_after >= IN_FLIGHT_SECONDS or (seen.unavailable and told_after > 0.0) else asked


def charged_usd_per_hour(seen: OfferView, target: int, view: View, memory: Memory, price: Price = price_of) -> float:
    """Return the most that an offer can cost per hour until the next decision.

    That is everything held, as what is given back is paid until it is gone, and what is asked for now or on its way beyond it. Of an
    offer that nobody has told of yet all that it may hold counts.
    """
    if seen.untold:
        return max(held_usd_per_hour(seen, price), price(seen) * target)
    usd, held = paid_usd_per_hour(seen, price), seen.ready + seen.pending
    if target > held:
        usd += (target - held) * price(seen)
    asked = _in_flight(seen, view, memory) if memory.asked else None
    if asked is not None and asked.replicas > target:
        usd += (asked.replicas - max(target, held)) * max(asked.usd_per_replica_hour, price(seen))
    return usd


def burst_usd_per_hour(targets: Targets, view: View, memory: Memory, price: Price = price_of) -> float:
    """Return the most that all rented offers together can cost per hour until the next decision."""
    return sum(charged_usd_per_hour(seen, targets[seen.offer.name], view, memory, price) for seen in rented(view))


def usd_limits(targets: Targets, view: View, memory: Memory) -> dict[str, float]:
    """Return the most that everything held of each rented offer may cost per hour by these targets; nothing without an hourly budget.

    Whoever buys keeps to it, so that a machine which was lost is not made up for by a dearer one that nobody reckoned with.
    """
    hourly, _ = limits(view.fleet.guard.budget, memory.windows, memory.spent_usd_today)
    if hourly is None:
        return {}
    return {seen.offer.name: charged_usd_per_hour(seen, targets[seen.offer.name], view, memory) for seen in rented(view)}


def purchases_asked(targets: Targets, view: View, memory: Memory) -> Mapping[str, Asked]:
    """Return what is on its way after a decision, for the next one to reckon with; nothing without a budget."""
    budget = view.fleet.guard.budget
    if budget.usd_per_hour is None and budget.usd_per_day is None and not budget.windows:
        return memory.asked
    asked = {}
    for seen in rented(view):
        name, before = seen.offer.name, _in_flight(seen, view, memory)
        if targets[name] > seen.held and (before is None or targets[name] >= before.replicas):
            asked[name] = Asked(view.now_unix, targets[name], price_of(seen))
        elif before is not None:
            asked[name] = before
    return asked


def within_budget(targets: Targets, view: View, memory: Memory) -> Staged:
    """Keep what is rented within USD/h, USD/day and open windows: new replicas go first, then held ones past their hold, dearest first.

    New ones must fit beside all that is paid now, what is given back too. A replica that is asked for is charged its minimum hold at
    once. Replicas within their hold are paid for already, so they stay.
    """
    budget = view.fleet.guard.budget
    hourly, left = limits(budget, memory.windows, memory.spent_usd_today)
    if hourly is None and left is None:
        return targets, ()
    result, offers = dict(targets), rented(view)
    if hourly is not None:
        _ask_less(result, offers, lambda: burst_usd_per_hour(result, view, memory) - hourly, price_of)
        _keep_less(result, view, memory, lambda: _kept_usd_per_hour(result, offers) - hourly, _usd_each)
    if left is not None:
        lasts = _lasts(view, memory)
        _ask_less(result, offers, lambda: committed_usd(result, view, memory) - left, partial(_usd_when_asked, lasts=lasts))
        _keep_less(result, view, memory, lambda: kept_usd(result, view, memory) - left, partial(_usd_when_held, lasts=lasts))
    return result, ((Reason.CLAMPED_TO_BUDGET,) if result != targets else ())


UsdEach = Callable[[OfferView], float]


def _ask_less(result: Targets, offers: list[OfferView], over: Callable[[], float], usd_each: UsdEach) -> None:
    """Take replicas that are asked for off `result` until `over()` USD are gone, dearest first."""
    if over() <= ROUNDING_USD:
        return
    for seen in by_price(offers)[::-1]:
        _give_way(result, seen, seen.held, usd_each(seen), over())


def _keep_less(result: Targets, view: View, memory: Memory, over: Callable[[], float], usd_each: UsdEach) -> None:
    """Take held replicas off `result` until `over()` USD are gone, dearest first, down to the ones within their hold."""
    if over() <= ROUNDING_USD:
        return
    for seen in by_price(rented(view))[::-1]:
        _give_way(result, seen, young(seen, view.now_unix, memory), usd_each(seen), over())


def _give_way(result: Targets, seen: OfferView, least: int, usd_each: float, over_usd: float) -> None:
    """Take replicas of one offer off, in lots and down to `least`, as many as `over_usd` needs."""
    name, count = seen.offer.name, result[seen.offer.name]
    if over_usd <= ROUNDING_USD or count <= least or usd_each <= 0.0:
        return
    needed = min(ceil((over_usd - ROUNDING_USD) / usd_each), count)
    result[name] = count - min(lots_up(needed, seen.offer), count - least)


def _usd_each(seen: OfferView) -> float:
    """Return what a held replica costs per hour; nothing told of what is held: what the next one costs."""
    count = seen.held + seen.unserving
    return paid_usd_per_hour(seen) / count if count else price_of(seen)


def _kept_usd_per_hour(targets: Targets, offers: list[OfferView]) -> float:
    """Return what rented replicas cost per hour once what is given back is gone, and what serves nothing."""
    usd = 0.0
    for seen in offers:
        target = targets[seen.offer.name]
        if target:
            kept = min(target, seen.held)
            usd += kept * _usd_each(seen) + (target - kept) * price_of(seen)
    return usd


def committed_usd(targets: Targets, view: View, memory: Memory) -> float:
    """Return what is certain to be paid: all that is held until the next decision, what is asked for, what is left of minimum holds."""
    usd, lasts = 0.0, _lasts(view, memory)
    for seen in rented(view):
        if seen.untold:
            usd += held_usd_per_hour(seen) * lasts / SECONDS_PER_HOUR
            continue
        asked = _in_flight(seen, view, memory) if memory.asked else None
        new = max(targets[seen.offer.name], asked.replicas if asked is not None else 0) - seen.held
        if new > 0:
            usd += new * _usd_when_asked(seen, lasts)
        if seen.held + seen.unserving:
            usd += paid_usd_per_hour(seen) * lasts / SECONDS_PER_HOUR + _usd_of_holds(seen, view, memory)
    return usd


def kept_usd(targets: Targets, view: View, memory: Memory) -> float:
    """Return the same without what is given back: what targets go on to cost."""
    usd, lasts = 0.0, _lasts(view, memory)
    for seen in rented(view):
        wanted = targets[seen.offer.name]
        new = max(wanted - seen.held, 0)
        if new:
            usd += new * _usd_when_asked(seen, lasts)
        if wanted - new > 0:
            usd += (wanted - new) * _usd_when_held(seen, lasts) + _usd_of_holds(seen, view, memory)
    return usd


def _lasts(view: View, memory: Memory) -> float:
    """Return how long what is decided now may go on: until the decision expires, or as long as the last one did."""
    return max(expiry_seconds(view.fleet), memory.interval_seconds)


def _usd_when_asked(seen: OfferView, lasts: float) -> float:
    return price_of(seen) * max(seen.offer.hold_seconds, lasts) / SECONDS_PER_HOUR


def _usd_when_held(seen: OfferView, lasts: float) -> float:
    return _usd_each(seen) * lasts / SECONDS_PER_HOUR


def _usd_of_holds(seen: OfferView, view: View, memory: Memory) -> float:
    """Return what replicas within their hold will cost beyond the next decision."""
    lasts, usd = _lasts(view, memory), 0.0
    for cohort in memory.cohorts.get(seen.offer.name, ()):
        seconds = seen.offer.hold_seconds - (view.now_unix - cohort.since_unix) - lasts
        if seconds > 0.0:
            usd += cohort.replicas * price_of(seen) * seconds / SECONDS_PER_HOUR
    return usd


def spill_limit(targets: Targets, view: View, memory: Memory) -> float:
    """Return the highest rate that spill may have, work per second: the offer's limit, and what the budgets leave beside what is rented.

    An allowance holds until the next decision, so what is asked for with it counts too, and whatever may rise counts at its ceiling.
    """
    spill = view.fleet.spill
    if spill is None:
        return 0.0
    rate = spill.max_per_second if spill.max_per_second is not None else inf
    if spill.usd_per_unit <= 0.0:
        return rate
    hourly, left = limits(view.fleet.guard.budget, memory.windows, memory.spent_usd_today)
    if hourly is not None:
        usd = burst_usd_per_hour(targets, view, memory, highest_price_of)
        rate = min(rate, max(hourly - usd, 0.0) / (spill.usd_per_unit * SECONDS_PER_HOUR))
    if left is not None:
        rate = min(rate, max(left - committed_usd(targets, view, memory), 0.0) / (spill.usd_per_unit * _lasts(view, memory)))
    return rate


def spill_allowance(targets: Targets, view: View, memory: Memory) -> tuple[float, Reason]:
    """Return the highest rate the gateway may spill, work per second.

    Without a limit or a budget it is wide enough for a wave of x100, and still finite. Frozen, it stays what it was, within limits.
    """
    rate = spill_limit(targets, view, memory)
    if rate > 0.0:
        capacity = sum(seen.offer.capacity_per_second * max(targets[seen.offer.name], 1) for seen in view.offers)
        top = float(view.outlook.peak.max()) if view.outlook is not None else 0.0
        rate = min(rate, WAVE_MULTIPLE * max(capacity, top, view.demand_per_second or 0.0))
    if is_frozen(view):
        rate = min(rate, memory.spill_per_second)
    return rate, Reason.SPILL_OPEN if rate > 0.0 else Reason.SPILL_CLOSED
