"""The decision: one economic choice over floor, burst and spill, then what keeps it calm, then what keeps it safe.

`decide(view, memory)` is pure: the same view and memory give the same verdict, and time is `view.now_unix`. Every stage records its
before, after and reasons. Read `policies.desire` for the economics, `policies.stabilize` and `policies.guard` for the rest.
"""

from dataclasses import dataclass
from typing import NamedTuple

from controlplane.contracts.events import Reason
from controlplane.contracts.fleet import Drain
from policies import guard, stabilize
from policies.budget import spill_allowance, within_budget
from policies.desire import desire, unserved_usd_per_unit
from policies.experience import with_experience
from policies.memory import bring_to_now, remember, start_memory
from policies.moves import held_of, total
from policies.view import Memory, Staged, Targets, View

__all__ = ["StageRecord", "Verdict", "decide", "start_memory"]


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
    view = with_experience(view, memory, unserved_usd_per_unit(view))
    wanted, why = desire(view, memory)
    asked = total(wanted)
    lift_floor = guard.raise_lift(memory, view.lift_replicas, asked)

    trail = _Trail(held_of(view.offers), wanted, why)
    trail.record("hold", stabilize.hold(trail.targets, view, memory))
    trail.record("tolerate", stabilize.tolerate(trail.targets, view))
    trail.record("stabilize", stabilize.stabilize(trail.targets, view, memory, asked))
    trail.record("step", stabilize.limit_steps(trail.targets, view, memory))
    if view.fleet.behavior.scale_down.budget is not None:
        trail.record("removals", stabilize.limit_removals(trail.targets, view, memory))
    trail.record("lot", stabilize.round_to_lots(trail.targets, view))
    trail.record("lift", guard.lift(trail.targets, view, lift_floor))
    trail.record("doubt", guard.hold_on_doubt(trail.targets, view))
    trail.record("bound", guard.bound(trail.targets, view))
    trail.record("budget", within_budget(trail.targets, view, memory))
    trail.record("stock", guard.within_stock(trail.targets, view))
    if view.fleet.guard.drain is not Drain.NONE:
        trail.record("drain", guard.drain(trail.targets, view, memory))
    trail.record("freeze", guard.freeze(trail.targets, view))

    spill, spill_reason = spill_allowance(trail.targets, view, memory)
    if view.fleet.spill is not None:
        trail.reasons.append(spill_reason)
    verdict = Verdict(trail.targets, spill, tuple(trail.stages), tuple(dict.fromkeys(trail.reasons)) or (Reason.STEADY,))
    return verdict, remember(memory, view, verdict.targets, asked, lift_floor, spill)


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
