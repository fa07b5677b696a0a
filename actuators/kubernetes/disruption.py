"""PodDisruptionBudgets: how many ready replicas may go at once.

Pure. Kubernetes itself asks no budget when a workload is scaled down, so tidegate does before it lowers a number.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actuators.kubernetes.pods import Pod, PodState
from actuators.kubernetes.selectors import NOTHING, Selector, selector_of


@dataclass(frozen=True, slots=True)
class Budget:
    """What is kept of a PodDisruptionBudget. `allowed` is how many of its pods may go now, by its status.

    `healthy` is how many the status counted as ready then, None where it does not say.
    """

    uid: str
    namespace: str
    name: str
    selector: Selector
    allowed: int
    healthy: int | None = None

    @property
    def keys(self) -> frozenset[str]:
        """By namespace."""
        return frozenset((self.namespace,))


@dataclass(frozen=True, slots=True)
class Asked:
    """How many replicas a workload asks for, and what its pods are found by."""

    selector: Selector
    replicas: int


def parse_budget(raw: Mapping[str, Any]) -> Budget:
    """Return what is kept of a budget; one whose status is not there yet, or is from before its last edit, allows nothing."""
    meta, status = raw["metadata"], raw.get("status") or {}
    labels = (raw.get("spec") or {}).get("selector")
    selector = selector_of(labels) if labels is not None else NOTHING
    healthy = status.get("currentHealthy")
    is_current = int(status.get("observedGeneration") or 0) >= int(meta.get("generation") or 0)
    left = int(status.get("disruptionsAllowed") or 0) if is_current else 0
    return Budget(meta["uid"], meta["namespace"], meta["name"], selector, left, int(healthy) if healthy is not None else None)


def allowed(
    budgets: Iterable[Budget], pods: Sequence[Pod], known: Iterable[Pod] = (), numbers: Sequence[Asked] = ()
) -> tuple[int | None, str]:
    """Return how many of these ready pods may go now, None for any number, and the name of the budget that says so.

    A budget's status comes after the fact, and our own write wakes us before it: what it counted as healthy and is not among `known`,
    all pods of the namespace, as ready any more has used it up already. So have those that are ready still and more than their workload
    asks for, by the `numbers` of all of the namespace's workloads: one budget may be over several.
    With 1 allowed of 4 healthy, and 3 ready now, 0 may go; or with 4 ready now of a workload that asks for 3.
    """
    ready = [pod for pod in known if pod.state is PodState.READY]
    tight = [budget for budget in budgets if any(budget.selector.matches(each.labels) for each in pods)]
    lefts = [(max(budget.allowed - _used_up(budget, ready, numbers), 0), budget.name) for budget in tight]
    return min(lefts, default=(None, ""), key=lambda left: left[0] or 0)


def _used_up(budget: Budget, ready: Sequence[Pod], numbers: Sequence[Asked]) -> int:
    covered = [pod for pod in ready if budget.selector.matches(pod.labels)]
    gone = max(budget.healthy - len(covered), 0) if budget.healthy is not None else 0
    return gone + sum(_leaving(number, covered, ready) for number in numbers)


def _leaving(number: Asked, covered: Iterable[Pod], ready: Iterable[Pod]) -> int:
    """Return how many of the covered pods are told to go: whose of a workload's they are is not known, so as many as it can be."""
    mine = sum(number.selector.matches(pod.labels) for pod in covered)
    if mine == 0:
        return 0
    return min(max(sum(number.selector.matches(pod.labels) for pod in ready) - number.replicas, 0), mine)
