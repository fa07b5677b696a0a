"""What the economics alone would hold: floor, then held layers that still pay, then new ones, from the cheapest offer up.

Owns what carried work is worth, in a fleet with spill (its price, by layers of the forecast) and in one without (the price of a miss
or a level to cover, as rehearsed), and how offers are stacked. It must not know bounds or calm: `policies.decide` calls those after.
"""

from dataclasses import dataclass
from math import exp

import numpy as np

from controlplane.contracts.events import Reason
from controlplane.contracts.fleet import Tier
from policies.budget import spill_limit
from policies.headroom import level_to_cover, start_headroom
from policies.layers import Grid, Priced, Worth, grid_of, kept, lay_out, priced, scaled, started, with_backlog
from policies.memory import cheapest_usd_per_unit
from policies.moves import by_price, held_of, lots_up, most_of
from policies.rehearsal import BACKLOG_DRAIN_SECONDS, KEEP_MARGIN, LEAST_OF_A_LOT, rule_in_use
from policies.view import Memory, OfferView, Outlook, Targets, View

BACKLOG_MARGIN_SECONDS = 120.0
# Without spill a level is covered whose worth nobody states: a layer of which a tenth is below the level is held,
# and what is held is let go only once it is a fifth above.
COVER_MULTIPLE = 1.0 / LEAST_OF_A_LOT
SMALLEST_MISS = 1e-4
LEAST_ADVANTAGE = 0.1
# A fleet sleeps where nothing is there, nothing waits, and less than a hundredth of a replica is foreseen ten minutes beyond a boot.
AWAKE_SECONDS = 600.0
AWAKE_SHARE = 0.01
_CERTAIN = np.ones(1)


@dataclass(frozen=True, slots=True)
class Outlay:
    """The demand that layers are held against (`keep`) and bought for (`start`), with what carrying it is worth."""

    keep: Priced
    start: Priced


def desire(view: View, memory: Memory) -> tuple[Targets, tuple[Reason, ...]]:
    """Return what the economics alone would hold, and why."""
    offers, held = by_price(view.offers), held_of(view.offers)
    if view.outlook is None:
        return {seen.offer.name: max(held[seen.offer.name], _due(seen)) for seen in view.offers}, (Reason.NO_DATA_YET,)
    outlay = _spilling(view, view.outlook, memory, held) if view.fleet.spill is not None else _covering(view, view.outlook, memory)
    keep, needed = _keep(offers, outlay.keep)
    targets = _start(offers, outlay.start, keep, needed)
    if targets == keep and len(offers) > 1:
        targets = _return(offers, outlay.start.grid, targets, needed)
    if not any(targets.values()):
        targets = _wake(view, offers, outlay, targets)
    return targets, _why(view, held, keep, targets)


def unserved_usd_per_unit(view: View) -> float:
    """Return what a unit of work costs that no replica carries: spill's price, without spill that of a level not covered."""
    return view.fleet.spill.usd_per_unit if view.fleet.spill is not None else COVER_MULTIPLE * cheapest_usd_per_unit(view)


def _spilling(view: View, outlook: Outlook, memory: Memory, held: Targets) -> Outlay:
    """With spill: the whole forecast, at spill's price as far as spill may go, then at the price of a miss."""
    grid = _with_waiting(grid_of(outlook, view.demand_age_seconds), view)
    price = view.fleet.spill.usd_per_unit if view.fleet.spill is not None else 0.0
    miss = cheapest_usd_per_unit(view) / max(1.0 - view.fleet.slo.attainment, SMALLEST_MISS)
    outlay = priced(grid, Worth(price, spill_limit(held, view, memory), max(miss, price)))
    return Outlay(outlay, outlay)


def _covering(view: View, outlook: Outlook, memory: Memory) -> Outlay:
    """Without spill: layers to the learnt price of a miss, or one level that is covered as if it were certain, whichever is cheaper."""
    rent = cheapest_usd_per_unit(view)
    headroom = memory.headroom or start_headroom(view.fleet.slo.attainment, view.demand_per_second or 0.0)
    rule = rule_in_use(memory.rehearsal, headroom)
    if rule.is_price:
        outlay = priced(_with_waiting(grid_of(outlook, view.demand_age_seconds), view), Worth(exp(rule.log_factor) * rent))
        return Outlay(outlay, outlay)
    level = level_to_cover(outlook, headroom._replace(log_factor=rule.log_factor))
    grid = _with_waiting(lay_out(outlook.horizons_seconds, level, _CERTAIN, view.demand_age_seconds), view)
    worth = Worth(COVER_MULTIPLE * rent, boots_repaid=1.0, kept_times=1.0)
    return Outlay(priced(scaled(grid, KEEP_MARGIN), worth), priced(grid, worth))


def _with_waiting(grid: Grid, view: View) -> Grid:
    return with_backlog(grid, _overdue(view), BACKLOG_DRAIN_SECONDS, _backlog_until(view))


def _overdue(view: View) -> float:
    """Return the waiting work that will be late: more than what is ready serves within the TTFT of the SLO."""
    if view.backlog <= 0.0 or view.fleet.slo.ttft_seconds is None:
        return view.backlog
    ready = sum(seen.ready * seen.offer.capacity_per_second for seen in view.offers)
    return max(view.backlog - view.fleet.slo.ttft_seconds * ready, 0.0)


def _backlog_until(view: View) -> float:
    lead = min((seen.offer.lead_time_seconds for seen in view.offers if not _sunk(seen)), default=0.0)
    return lead + BACKLOG_MARGIN_SECONDS


def _sunk(seen: OfferView) -> bool:
    return seen.offer.tier is Tier.FLOOR and seen.offer.opportunity_usd_per_replica_hour <= 0.0


def _due(seen: OfferView) -> int:
    """Return what is held of an offer whatever the demand: a sunk floor to its limit, anything else to its minimum."""
    return most_of(seen) if _sunk(seen) else min(lots_up(seen.offer.min_replicas, seen.offer), most_of(seen))


def _keep(offers: list[OfferView], demand: Priced) -> tuple[Targets, Targets]:
    """Stack what is held, cheapest at the bottom; return what pays to keep, and what of it will still be needed once pending serves.

    What is ready is let go on account of what is ready below it, never of what is pending there: make before break.
    """
    keep: Targets = {}
    needed: Targets = {}
    base = ready_base = 0.0
    for seen in offers:
        offer, count = seen.offer, _due(seen)
        needed[offer.name] = keep[offer.name] = count
        if seen.held > count:
            lots = kept(seen, demand, base)
            needed[offer.name] = max(count, lots * offer.replicas_per_lot)
            if needed[offer.name] < seen.ready and ready_base < base:
                lots = kept(seen, demand, ready_base, seen.ready)
            keep[offer.name] = max(count, lots * offer.replicas_per_lot)
        base += needed[offer.name] * offer.capacity_per_second
        ready_base += min(keep[offer.name], seen.ready) * offer.capacity_per_second
    return keep, needed


def _start(offers: list[OfferView], demand: Priced, keep: Targets, needed: Targets) -> Targets:
    """Put new layers on top of what is needed, from the cheapest offer that is available, as long as each pays."""
    targets = dict(keep)
    base = sum(needed[seen.offer.name] * seen.offer.capacity_per_second for seen in offers)
    for seen in offers:
        name, lot = seen.offer.name, seen.offer.replicas_per_lot
        room = (most_of(seen) - targets[name]) // lot
        if room <= 0 or targets[name] < seen.held:
            continue
        more = started(seen, demand, base, room) * lot
        targets[name] += more
        base += more * seen.offer.capacity_per_second
    return targets


def _return(offers: list[OfferView], grid: Grid, targets: Targets, needed: Targets) -> Targets:
    """Ask the cheapest offer that has room for what a dearer one carries now, where that repays its boot at the prices of both.

    The dearer replicas go once the cheaper ones serve. An advantage of less than `LEAST_ADVANTAGE` is left alone.
    """
    rented = [seen for seen in offers if not _sunk(seen)]
    dear = next((seen for seen in reversed(rented) if needed[seen.offer.name] > 0), None)
    cheap = next((seen for seen in rented if targets[seen.offer.name] >= seen.held and _room(seen, targets) > 0), None)
    if dear is None or cheap is None or cheap.usd_per_unit > (1.0 - LEAST_ADVANTAGE) * dear.usd_per_unit:
        return targets
    below = sum(needed[seen.offer.name] * seen.offer.capacity_per_second for seen in offers if seen is not dear)
    carried_now = needed[dear.offer.name] * dear.offer.capacity_per_second
    lots = int(carried_now // (cheap.offer.capacity_per_second * cheap.offer.replicas_per_lot))
    more = started(cheap, priced(grid, Worth(dear.usd_per_unit, boots_repaid=1.0)), below, min(_room(cheap, targets), lots))
    if not more:
        return targets
    return {**targets, cheap.offer.name: targets[cheap.offer.name] + more * cheap.offer.replicas_per_lot}


def _wake(view: View, offers: list[OfferView], outlay: Outlay, targets: Targets) -> Targets:
    """Hold one lot where nothing would be held and nothing else serves what is there, waits, or is about to come.

    A layer used for less than a tenth pays for nobody, but without spill a first request would wait for ever.
    """
    if view.fleet.spill is not None and outlay.start.worth.limit_per_second > 0.0:
        return targets
    seen = next((seen for seen in offers if _room(seen, targets) > 0 or seen.held > 0), None)
    if seen is None:
        return targets
    soon = seen.offer.lead_time_seconds + AWAKE_SECONDS
    coming = max(level[-1] for time, level in zip(outlay.start.grid.times, outlay.start.grid.demand.tolist(), strict=True) if time <= soon)
    if view.backlog <= 0.0 and not view.demand_per_second and coming < AWAKE_SHARE * seen.offer.capacity_per_second:
        return targets
    return {**targets, seen.offer.name: min(seen.offer.replicas_per_lot, most_of(seen))}


def _room(seen: OfferView, targets: Targets) -> int:
    return (most_of(seen) - targets[seen.offer.name]) // seen.offer.replicas_per_lot


def _why(view: View, held: Targets, keep: Targets, targets: Targets) -> tuple[Reason, ...]:
    reasons = []
    if any(_sunk(seen) and targets[seen.offer.name] > 0 for seen in view.offers):
        reasons.append(Reason.FLOOR_IS_SUNK)
    priced = [seen.offer.name for seen in view.offers if not _sunk(seen)]
    if any(targets[name] > keep[name] for name in priced):
        reasons.append(Reason.LAYER_PAYS)
    if any(keep[name] < held[name] for name in priced):
        reasons.append(Reason.LAYER_RELEASED)
    elif any(held[name] > 0 for name in priced):
        reasons.append(Reason.LAYER_HELD)
    if view.backlog > 0.0:
        reasons.append(Reason.BACKLOG)
    return tuple(reasons)
