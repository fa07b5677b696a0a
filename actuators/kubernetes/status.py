"""What the pods of a workload amount to: ready, pending, unschedulable, draining, the measured start-up time, and a sentence for a person.

Pure. Owns the counting and the wording of `PoolStatus`; what to do about it the planner decides.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from actuators.kubernetes.pods import Pod, PodState
from actuators.kubernetes.shrink import is_rollout
from controlplane.contracts.events import PoolStatus
from controlplane.contracts.fleet import Offer
from controlplane.contracts.units import from_unix

SAID_AT_MOST = 300


@dataclass(frozen=True, slots=True)
class Census:
    """A workload's replicas by state. `asked` is the number in its scale; what is asked for and has no pod yet is pending.

    `failed_on_nodes` are those of the failed that hold a node, so that they are paid.
    """

    asked: int
    ready: int
    unschedulable: int
    failed: int
    draining: int
    lead_time_seconds: float | None
    reasons: tuple[str, ...] = ()
    failed_on_nodes: int = 0

    @property
    def pending(self) -> int:
        """On their way, those that the scheduler cannot place included, those that fail left out."""
        return max(self.asked - self.ready - self.failed, self.unschedulable, 0)

    @property
    def stuck(self) -> int:
        """Asked for, and not going to serve as things are."""
        return self.unschedulable + self.failed


def census(asked: int, pods: Sequence[Pod], nodes: frozenset[str] | None = None, refusal: str = "") -> Census:
    """Count. `nodes` are the names of all nodes, None where they cannot be seen: a pod on a node that is gone has failed.

    So have those that are asked for and that `refusal` keeps from being created.
    """
    counts: Counter[PodState] = Counter()
    reasons: Counter[str] = Counter()
    since: dict[str, float] = {}
    failed_on_nodes = 0
    for pod in pods:
        state, reason = pod.state, pod.reason
        if pod.is_counted and pod.node and nodes is not None and pod.node not in nodes:
            state, reason = PodState.FAILED, f"node {pod.node} is gone"
        elif state is PodState.FAILED:
            failed_on_nodes += 1
        counts[state] += 1
        if state in (PodState.UNSCHEDULABLE, PodState.FAILED, PodState.STARTING):
            served = state is PodState.STARTING and pod.ready_unix is not None
            said = "served, and is not ready now" if served else _said(state, reason)
            reasons[said] += 1
            if state is PodState.STARTING and not served:
                since[said] = min(since.get(said, math.inf), _begun(pod))
    ready = counts[PodState.READY]
    absent = max(asked - sum(pod.is_counted for pod in pods), 0) if refusal else 0
    if absent:
        counts[PodState.FAILED] += absent
        reasons[f"not created: {refusal}"] += absent
    if is_rollout(pods):
        # Its surge goes by itself, and counted as held it would be asked for and stay.
        ready = min(ready, asked)
    newest = max((pod for pod in pods if pod.ready_unix is not None), key=lambda pod: (pod.created_unix, pod.uid), default=None)
    lead = None if newest is None or newest.ready_unix is None else max(newest.ready_unix - newest.created_unix, 0.0)
    return Census(
        asked=asked,
        ready=ready,
        unschedulable=counts[PodState.UNSCHEDULABLE],
        failed=counts[PodState.FAILED],
        failed_on_nodes=failed_on_nodes,
        draining=counts[PodState.DRAINING],
        lead_time_seconds=lead,
        reasons=(
            *(f"{count} {reason}{_at(since.get(reason))}" for reason, count in sorted(reasons.items())),
            *((_took(newest),) if since and newest is not None else ()),
        ),
    )


def census_of_status(asked: int, ready: int) -> Census:
    """Return what a kind's own status says, where its scale names no pods."""
    return Census(asked, ready, 0, 0, 0, None)


def _said(state: PodState, reason: str) -> str:
    if state is PodState.STARTING:
        return "pulling the image" if reason == "image" else "loading weights"
    return f"{state.value}: {reason}"


def _begun(pod: Pod) -> float:
    """Return since when a pod does what it does to start: loads since its containers run, pulls since it has a node."""
    known = (pod.running_unix, pod.placed_unix)
    return next((at for at in known if at is not None), pod.created_unix)


def _at(unix: float | None) -> str:
    return f" since {from_unix(unix):%H:%M:%SZ}" if unix is not None else ""


def _took(pod: Pod) -> str:
    """Return how long the newest replica took to start, and with what: what those that start now still have before them.

    As `the last took 312 s: 4 s for a node, 95 s for the image, 213 s for weights`; no parts where the pod ran anew since it was ready.
    """
    ready, total = pod.ready_unix or pod.created_unix, max((pod.ready_unix or pod.created_unix) - pod.created_unix, 0.0)
    placed, running = pod.placed_unix, pod.running_unix
    if placed is None or running is None or not pod.created_unix <= placed <= running <= ready:
        return f"the last took {total:.0f} s"
    node, image, weights = placed - pod.created_unix, running - placed, ready - running
    return f"the last took {total:.0f} s: {node:.0f} s for a node, {image:.0f} s for the image, {weights:.0f} s for weights"


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
        failed_replicas=counted.failed_on_nodes,
        unavailable=unavailable or counted.failed > 0,
        unschedulable=counted.unschedulable,
        lead_time_seconds=counted.lead_time_seconds,
        message="; ".join((*notes, *counted.reasons))[:SAID_AT_MOST],
    )
