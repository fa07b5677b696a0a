"""PodDisruptionBudgets: how many ready replicas may go at once.

Pure. Kubernetes itself asks no budget when a workload is scaled down, so tidegate does before it lowers a number.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actuators.kubernetes.pods import Pod, PodState
from actuators.kubernetes.selectors import Selector, selector_of


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


def parse_budget(raw: Mapping[str, Any]) -> Budget:
    """Return what is kept of a budget; one whose status is not there yet allows nothing."""
    meta, status = raw["metadata"], raw.get("status") or {}
    selector = selector_of((raw.get("spec") or {}).get("selector"))
    healthy = status.get("currentHealthy")
    left = int(status.get("disruptionsAllowed") or 0)
    return Budget(meta["uid"], meta["namespace"], meta["name"], selector, left, int(healthy) if healthy is not None else None)


def allowed(budgets: Iterable[Budget], pods: Sequence[Pod], known: Collection[Pod] = (), leaving: int = 0) -> tuple[int | None, str]:
    """Return how many of these ready pods may go now, None for any number, and the name of the budget that says so.

    A budget's status comes after the fact, and our own write wakes us before it: what it counted as healthy and is not among `known`,
    all pods of the namespace, as ready any more has used it up already, and so have the `leaving` that are still there.
    With 1 allowed of 4 healthy, 3 ready now and none leaving, 0 may go.
    """
    tight = [budget for budget in budgets if any(budget.selector.matches(each.labels) for each in pods)]
    lefts = [(max(budget.allowed - _used_up(budget, known) - leaving, 0), budget.name) for budget in tight]
    return min(lefts, default=(None, ""), key=lambda left: left[0] or 0)


def _used_up(budget: Budget, known: Iterable[Pod]) -> int:
    ready = sum(pod.state is PodState.READY and budget.selector.matches(pod.labels) for pod in known)
    return max(budget.healthy - ready, 0) if budget.healthy is not None else 0
