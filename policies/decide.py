"""The decision: one economic choice over floor, burst and spill, then what keeps it calm, then what keeps it safe.

`decide(view, memory)` is pure: the same view and memory give the same verdict, and time is `view.now_unix`. Every stage records its
before, after and reasons. Read `policies.layers` for the economics, `policies.stabilize` and `policies.guard` for the rest.
"""

from dataclasses import dataclass
from typing import NamedTuple

from controlplane.contracts.events import Reason
from controlplane.contracts.fleet import Tier
from policies import guard, stabilize
from policies.budget import spill_allowance, spill_limit, within_budget
from policies.layers import Grid, Worth, grid_of, kept, started
from policies.memory import bring_to_now, miss_usd_per_unit, remember, start_memory
from policies.moves import by_price, held_of, lots_up, most_of, total
from policies.view import Memory, OfferView, Staged, Targets, View

__all__ = ["StageRecord", "Verdict", "decide", "desire", "start_memory"]

BACKLOG_DRAIN_SECONDS = 60.0


class StageRecord(NamedTuple):
    """One step of a decision: replicas per offer before and after, and why. `contracts.events.Stage` is the same for the wire."""

    name: str
    before: Targets
    after: Targets
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided: absolute targets, the spill allowance (work per second) and how each stage got there."""

    targets: Targets
    spill_per_second: float
    stages: tuple[StageRecord, ...]
    reasons: tuple[Reason, ...]


def decide(view: View, memory: Memory) -> tuple[Verdict, Memory]:
    """Return what to hold in every tier now, and what to remember for the next time."""
    memory = bring_to_now(memory, view)
    wanted, why = desire(view, memory)
    asked = total(wanted)
    lift_floor = guard.raise_lift(memory, view.lift_replicas, asked)

    trail = _Trail(held_of(view.offers), wanted, why)
    trail.record("hold", stabilize.hold(trail.targets, view, memory))
    trail.record("tolerate", stabilize.tolerate(trail.targets, view))
    trail.record("stabilize", stabilize.stabilize(trail.targets, view, memory))
    trail.record("step", stabilize.limit_steps(trail.targets, view, memory))
    trail.record("lot", stabilize.round_to_lots(trail.targets, view))
    trail.record("lift", guard.lift(trail.targets, view, lift_floor))
    trail.record("doubt", guard.hold_on_doubt(trail.targets, view))
    trail.record("bound", guard.bound(trail.targets, view))
    trail.record("budget", within_budget(trail.targets, view, memory))
    trail.record("stock", guard.within_stock(trail.targets, view))
    trail.record("freeze", guard.freeze(trail.targets, view))

    spill, spill_reason = spill_allowance(trail.targets, view, memory)
    if view.fleet.spill is not None:
        trail.reasons.append(spill_reason)
    verdict = Verdict(trail.targets, spill, tuple(trail.stages), tuple(dict.fromkeys(trail.reasons)) or (Reason.STEADY,))
    return verdict, remember(memory, view, verdict.targets, asked, lift_floor, spill)


def desire(view: View, memory: Memory) -> tuple[Targets, tuple[Reason, ...]]:
    """Return what the economics alone would hold: floor, then held layers that still pay, then new ones, cheapest first."""
    offers, held = by_price(view.offers), held_of(view.offers)
    if view.outlook is None:
        return {seen.offer.name: max(held[seen.offer.name], _due(seen)) for seen in view.offers}, (Reason.NO_DATA_YET,)
    grid = grid_of(view.outlook, view.demand_age_seconds, view.backlog, _drain_seconds(view))
    worth = _worth(view, memory, held)
    keep, base = _keep(offers, grid, worth)
    targets = _start(offers, grid, worth, keep, base)
    return targets, _why(view, held, keep, targets)


def _worth(view: View, memory: Memory, held: Targets) -> Worth:
    """Return what carried work is worth: spill's price as far as it may go, then the price of a miss; without spill, of a miss."""
    miss = miss_usd_per_unit(view, memory)
    if view.fleet.spill is None:
        return Worth(miss)
    price = view.fleet.spill.usd_per_unit
    return Worth(price, spill_limit(held, view, memory), max(miss, price))


def _drain_seconds(view: View) -> float:
    """Return until when waiting work is there to be carried: a while beyond the shortest lead time."""
    return BACKLOG_DRAIN_SECONDS + min((seen.offer.lead_time_seconds for seen in view.offers if not _sunk(seen)), default=0.0)


def _sunk(seen: OfferView) -> bool:
    return seen.offer.tier is Tier.FLOOR and seen.offer.opportunity_usd_per_replica_hour <= 0.0


def _due(seen: OfferView) -> int:
    """Return what is held of an offer whatever the demand: a sunk floor to its limit, anything else to its minimum."""
    return most_of(seen) if _sunk(seen) else min(lots_up(seen.offer.min_replicas, seen.offer), most_of(seen))


def _keep(offers: list[OfferView], grid: Grid, worth: Worth) -> tuple[Targets, float]:
    """Stack what is held, cheapest at the bottom, and keep each layer that pays."""
    targets: Targets = {}
    base = 0.0
    for seen in offers:
        count = _due(seen)
        if seen.held > count:
            count = max(count, kept(seen, grid, base, worth) * seen.offer.replicas_per_lot)
        targets[seen.offer.name] = count
        base += count * seen.offer.capacity_per_second
    return targets, base


def _start(offers: list[OfferView], grid: Grid, worth: Worth, keep: Targets, base: float) -> Targets:
    """Put new layers on top of what is kept, from the cheapest offer that is available, as long as each pays."""
    targets = dict(keep)
    for seen in offers:
        name, lot = seen.offer.name, seen.offer.replicas_per_lot
        room = (most_of(seen) - targets[name]) // lot
        if room <= 0 or targets[name] < seen.held:
            continue
        more = started(seen, grid, base, worth, room) * lot
        targets[name] += more
        base += more * seen.offer.capacity_per_second
    return targets


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


class _Trail:
    """Writes down what each stage did, one after the other."""

    def __init__(self, held: Targets, wanted: Targets, why: tuple[Reason, ...]) -> None:
        self.targets = wanted
        self.stages = [StageRecord("layers", held, wanted, why)]
        self.reasons: list[Reason] = list(why)

    def record(self, name: str, staged: Staged) -> None:
        after, reasons = staged
        self.stages.append(StageRecord(name, self.targets, after, reasons))
        self.targets = after
        self.reasons.extend(reasons)
