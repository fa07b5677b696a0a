"""What the pods of a workload amount to: ready, pending, unschedulable, draining, the measured start-up time, and a sentence for a person.

Pure. Owns the counting and the wording of `PoolStatus`; what to do about it the planner decides.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from actuators.kubernetes.pods import Pod, PodState
from controlplane.contracts.events import PoolStatus
from controlplane.contracts.fleet import Offer
from controlplane.contracts.units import from_unix

SAID_AT_MOST = 300


@dataclass(frozen=True, slots=True)
class Census:
    """A workload's replicas by state. `asked` is the number in its scale; what is asked for and has no pod yet is pending."""

    asked: int
    ready: int
    starting: int
    unschedulable: int
    failed: int
    draining: int
    lead_time_seconds: float | None
    reasons: tuple[str, ...] = ()

    @property
    def pending(self) -> int:
        """On their way, those that the scheduler cannot place included, those that fail left out."""
        return max(self.asked - self.ready - self.failed, self.unschedulable, 0)

    @property
    def stuck(self) -> int:
        """Asked for, and not going to serve as things are."""
        return self.unschedulable + self.failed


def census(asked: int, pods: Sequence[Pod], nodes: frozenset[str] | None = None) -> Census:
    """Count. `nodes` are the names of all nodes, None where they cannot be seen: a pod on a node that is gone has failed."""
    counts: Counter[PodState] = Counter()
    reasons: Counter[str] = Counter()
    for pod in pods:
        state, reason = pod.state, pod.reason
        if pod.is_counted and pod.node and nodes is not None and pod.node not in nodes:
            state, reason = PodState.FAILED, f"node {pod.node} is gone"
        counts[state] += 1
        if state in (PodState.UNSCHEDULABLE, PodState.FAILED, PodState.STARTING):
            reasons[_said(state, reason)] += 1
    ready = counts[PodState.READY]
    if len({pod.owner for pod in pods if pod.is_counted}) > 1:
        # Two generations of pods are a rollout. Its surge goes by itself, and counted as held it would be asked for and stay.
        ready = min(ready, asked)
    newest = max((pod for pod in pods if pod.ready_unix is not None), key=lambda pod: (pod.created_unix, pod.uid), default=None)
    lead = None if newest is None or newest.ready_unix is None else max(newest.ready_unix - newest.created_unix, 0.0)
    return Census(
        asked=asked,
        ready=ready,
        starting=counts[PodState.STARTING] + counts[PodState.WAITING],
        unschedulable=counts[PodState.UNSCHEDULABLE],
        failed=counts[PodState.FAILED],
        draining=counts[PodState.DRAINING],
        lead_time_seconds=lead,
        reasons=tuple(f"{count} {reason}" for reason, count in sorted(reasons.items())),
    )


def census_of_status(asked: int, ready: int) -> Census:
    """Return what a kind's own status says, where its scale names no pods."""
    return Census(asked, ready, max(asked - ready, 0), 0, 0, 0, None)


def _said(state: PodState, reason: str) -> str:
    if state is PodState.STARTING:
        return "pulling the image" if reason == "image" else "loading weights"
    return f"{state.value}: {reason}"


def pool_status(
    fleet: str, offer: Offer, counted: Census, now_unix: float, *, notes: Sequence[str] = (), unavailable: bool = False
) -> PoolStatus:
    """Return the event. `notes` come before what the pods say."""
    return PoolStatus(
        time=from_unix(now_unix),
        fleet=fleet,
        offer=offer.name,
        ready=counted.ready,
        pending=counted.pending,
        draining=counted.draining,
        unavailable=unavailable or counted.failed > 0,
        unschedulable=counted.unschedulable,
        lead_time_seconds=counted.lead_time_seconds,
        message="; ".join((*notes, *counted.reasons))[:SAID_AT_MOST],
    )
