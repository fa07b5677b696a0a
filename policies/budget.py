"""Hard limits on money: what is rented and what is spilled stay within USD per hour, day and window, and never fail open.

Owns what a target commits to, which replicas give way, and the spill allowance that is left. Prices are never guessed low: an unknown
price counts as its ceiling, and without one as more than any budget. Go on to `policies.guard` for the other bounds.
"""

from collections.abc import Callable
from functools import partial
from math import ceil, inf

from controlplane.contracts.events import Reason
from controlplane.contracts.fleet import Tier
from policies.guard import is_frozen
from policies.moves import by_price, lots_up
from policies.stabilize import young
from policies.view import Memory, OfferView, Staged, Targets, View, expiry_seconds
from policies.windows import limits

SECONDS_PER_HOUR = 3600.0
SECONDS_PER_DAY = 86400.0
ROUNDING_USD = 1e-9
WAVE_MULTIPLE = 100.0
# What a replica counts for that nobody can price: more than any budget, and still a number that a snapshot can carry.
UNKNOWN_USD_PER_HOUR = 1e9


def rented(view: View) -> list[OfferView]:
    """Return the offers that budgets cover."""
    return [seen for seen in view.offers if seen.offer.tier is Tier.BURST]


def price_of(seen: OfferView) -> float:
    """Return an offer's USD per replica-hour: the live price or the policy's, else its ceiling, else `UNKNOWN_USD_PER_HOUR`."""
    for price in (seen.usd_per_replica_hour, seen.offer.ceiling_usd_per_replica_hour, seen.offer.usd_per_replica_hour):
        if price is not None:
            return price
    return UNKNOWN_USD_PER_HOUR


def burst_usd_per_hour(targets: Targets, view: View) -> float:
    """Return what the rented replicas of the targets cost per hour."""
    return sum(price_of(seen) * targets[seen.offer.name] for seen in rented(view) if targets[seen.offer.name])


def within_budget(targets: Targets, view: View, memory: Memory) -> Staged:
    """Keep what is rented within USD/h, USD/day and open windows: new replicas go first, then held ones past their hold, dearest first.

    A replica that is asked for is charged its minimum hold at once. Replicas within their hold are paid for already, so they stay.
    """
    budget = view.fleet.guard.budget
    hourly, left = limits(budget, memory.windows, memory.spent_usd_today)
    result = dict(targets)
    if hourly is not None:
        _fit(result, view, memory, lambda: burst_usd_per_hour(result, view) - hourly, price_of, price_of)
    if left is not None:
        lasts = _lasts(view, memory)
        asked, kept = partial(_usd_when_asked, lasts=lasts), partial(_usd_when_held, lasts=lasts)
        _fit(result, view, memory, lambda: committed_usd(result, view, memory) - left, asked, kept)
    return result, ((Reason.CLAMPED_TO_BUDGET,) if result != targets else ())


UsdEach = Callable[[OfferView], float]


def _fit(result: Targets, view: View, memory: Memory, over: Callable[[], float], asked: UsdEach, held: UsdEach) -> None:
    """Take replicas off `result` until `over()` USD are gone: those asked for, then those held, down to the ones within their hold."""
    if over() <= ROUNDING_USD:
        return
    dearest_first = by_price(rented(view))[::-1]
    for seen in dearest_first:
        _give_way(result, seen, seen.held, asked(seen), over())
    for seen in dearest_first:
        _give_way(result, seen, young(seen, view.now_unix, memory), held(seen), over())


def _give_way(result: Targets, seen: OfferView, least: int, usd_each: float, over_usd: float) -> None:
    """Take replicas of one offer off, in lots and down to `least`, as many as `over_usd` needs."""
    name, count = seen.offer.name, result[seen.offer.name]
    if over_usd <= ROUNDING_USD or count <= least or usd_each <= 0.0:
        return
    needed = min(ceil((over_usd - ROUNDING_USD) / usd_each), count)
    result[name] = count - min(lots_up(needed, seen.offer), count - least)


def committed_usd(targets: Targets, view: View, memory: Memory) -> float:
    """Return what the targets will certainly cost: everything held until the next decision, and what is left of every minimum hold."""
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
    return price_of(seen) * lasts / SECONDS_PER_HOUR


def _usd_of_holds(seen: OfferView, view: View, memory: Memory) -> float:
    """Return what replicas within their hold will cost beyond the next decision."""
    lasts, usd = _lasts(view, memory), 0.0
    for cohort in memory.cohorts.get(seen.offer.name, ()):
        seconds = seen.offer.hold_seconds - (view.now_unix - cohort.since_unix) - lasts
        if seconds > 0.0:
            usd += cohort.replicas * price_of(seen) * seconds / SECONDS_PER_HOUR
    return usd


def spill_limit(targets: Targets, view: View, memory: Memory) -> float:
    """Return the highest rate that spill may have, work per second: the offer's limit and what the budgets leave beside the targets."""
    spill = view.fleet.spill
    if spill is None:
        return 0.0
    rate = spill.max_per_second if spill.max_per_second is not None else inf
    if spill.usd_per_unit <= 0.0:
        return rate
    hourly, left = limits(view.fleet.guard.budget, memory.windows, memory.spent_usd_today)
    if hourly is not None:
        rate = min(rate, max(hourly - burst_usd_per_hour(targets, view), 0.0) / (spill.usd_per_unit * SECONDS_PER_HOUR))
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
