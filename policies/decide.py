"""The decision: one economic choice over floor, burst and spill, then what keeps it calm, then what keeps it safe.

`decide(view, memory)` is pure: the same view and memory give the same verdict, and time is `view.now_unix`. Every stage records its
before, after and reasons. Read `policies.layers` for the economics, `policies.stabilize` and `policies.guard` for the rest.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from controlplane.contracts.events import Reason, Stage
from controlplane.contracts.fleet import Tier
from policies import guard, stabilize
from policies.layers import Grid, grid_of, kept, started
from policies.memory import forget_and_meter, learn_miss_price, miss_usd_per_unit, remember
from policies.moves import by_price, most_of, total
from policies.view import Memory, Targets, View

BACKLOG_DRAIN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided: absolute targets, the spill allowance (work per second) and how each stage got there."""

    targets: Targets
    spill_per_second: float
    stages: tuple[Stage, ...]
    reasons: tuple[Reason, ...]


def decide(view: View, memory: Memory) -> tuple[Verdict, Memory]:
    """Return what to hold in every tier now, and what to remember for the next time."""
    memory = learn_miss_price(forget_and_meter(memory, view), view)
    held = {seen.offer.name: seen.held for seen in view.offers}
    wanted, why = desire(view, memory)
    trail = _Trail(held, wanted, why)

    trail.stage("hold", lambda targets: stabilize.hold(targets, view, memory))
    trail.stage("stabilize", lambda targets: stabilize.stabilize(targets, view, memory))
    trail.stage("tolerate", lambda targets: stabilize.tolerate(targets, view))
    trail.stage("step", lambda targets: stabilize.limit_steps(targets, view, memory))
    trail.stage("lot", lambda targets: stabilize.round_to_lots(targets, view))
    trail.stage("lift", lambda targets: guard.lift(targets, view))
    trail.stage("doubt", lambda targets: guard.hold_on_doubt(targets, view))
    trail.stage("bound", lambda targets: guard.bound(targets, view))
    trail.stage("budget", lambda targets: guard.within_budget(targets, view, memory))
    trail.stage("stock", lambda targets: guard.within_stock(targets, view))
    trail.stage("freeze", lambda targets: guard.freeze(targets, view))

    spill, spill_reason = guard.spill_allowance(trail.targets, view, memory)
    reasons = tuple(dict.fromkeys([*trail.reasons, *([spill_reason] if view.fleet.spill else [])]))
    verdict = Verdict(trail.targets, spill, tuple(trail.stages), reasons or (Reason.STEADY,))
    return verdict, remember(memory, view, verdict.targets, total(wanted))


def desire(view: View, memory: Memory) -> tuple[Targets, tuple[Reason, ...]]:
    """Return what the economics alone would hold: floor, then held layers that still pay, then new ones, cheapest first."""
    held = {seen.offer.name: seen.held for seen in view.offers}
    if view.outlook is None:
        floor = {seen.offer.name: most_of(seen) for seen in view.offers if seen.offer.tier is Tier.FLOOR}
        return {**held, **floor}, (Reason.NO_DATA_YET,)
    grid = grid_of(view.outlook, view.backlog / BACKLOG_DRAIN_SECONDS)
    value = view.fleet.spill.usd_per_unit if view.fleet.spill else miss_usd_per_unit(view, memory)
    keep, base = _keep(view, grid, value)
    targets, base = _start(view, grid, value, keep, base)
    return targets, _why(view, held, keep, targets)


def _keep(view: View, grid: Grid, value: float) -> tuple[Targets, float]:
    """Stack what is held, cheapest at the bottom, and keep each layer that pays; a sunk floor is filled to its limit."""
    targets: Targets = {}
    base = 0.0
    for seen in by_price(view.offers):
        sunk = seen.offer.tier is Tier.FLOOR and seen.offer.opportunity_usd_per_replica_hour <= 0.0
        targets[seen.offer.name] = most_of(seen) if sunk else kept(seen, grid, base, value)
        base += targets[seen.offer.name] * seen.offer.capacity_per_second
    return targets, base


def _start(view: View, grid: Grid, value: float, kept_targets: Targets, base: float) -> tuple[Targets, float]:
    """Put new layers on top of what is kept, from the cheapest offer that is available, as long as each pays."""
    targets = dict(kept_targets)
    for seen in by_price(view.offers):
        room = most_of(seen) - targets[seen.offer.name]
        if room <= 0 or targets[seen.offer.name] < seen.held:
            continue
        more = started(seen, grid, base, value, room)
        targets[seen.offer.name] += more
        base += more * seen.offer.capacity_per_second
    return targets, base


def _why(view: View, held: Targets, keep: Targets, targets: Targets) -> tuple[Reason, ...]:
    reasons = []
    if any(seen.offer.tier is Tier.FLOOR and targets[seen.offer.name] > 0 for seen in view.offers):
        reasons.append(Reason.FLOOR_IS_SUNK)
    rented = [seen.offer.name for seen in view.offers if seen.offer.tier is Tier.BURST]
    if any(targets[name] > keep[name] for name in rented):
        reasons.append(Reason.LAYER_PAYS)
    if any(keep[name] < held[name] for name in rented):
        reasons.append(Reason.LAYER_RELEASED)
    elif any(held[name] > 0 for name in rented):
        reasons.append(Reason.LAYER_HELD)
    if view.backlog > 0.0:
        reasons.append(Reason.BACKLOG)
    return tuple(reasons)


class _Trail:
    """Runs the stages one after the other and writes down what each did."""

    def __init__(self, held: Targets, wanted: Targets, why: tuple[Reason, ...]) -> None:
        self.targets = dict(wanted)
        self.stages = [Stage.model_construct(name="layers", before=held, after=dict(wanted), reasons=why)]
        self.reasons: list[Reason] = list(why)

    def stage(self, name: str, rule: Callable[[Targets], stabilize.Staged]) -> None:
        before = self.targets
        after, reasons = rule(before)
        self.stages.append(Stage.model_construct(name=name, before=before, after=after, reasons=reasons))
        self.targets = after
        self.reasons.extend(reasons)


def start_memory(now_unix: float) -> Memory:
    """Return the memory of a fleet that has never been decided for."""
    return replace(Memory(), metered_unix=now_unix)
