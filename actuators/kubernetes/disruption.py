"""PodDisruptionBudgets: how many ready replicas may go at once.

Pure. Kubernetes itself asks no budget when a workload is scaled down, so tidegate does before it lowers a number.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from actuators.kubernetes.pods import Pod
from actuators.kubernetes.selectors import Selector, selector_of


@dataclass(frozen=True, slots=True)
class Budget:
    """What is kept of a PodDisruptionBudget. `allowed` is how many of its pods may go now."""

    uid: str
    namespace: str
    name: str
    selector: Selector
    allowed: int

    @property
    def keys(self) -> frozenset[str]:
        """By namespace."""
        return frozenset((self.namespace,))


def parse_budget(raw: Mapping[str, Any]) -> Budget:
    """Return what is kept of a budget; one whose status is not there yet allows nothing."""
    meta, status = raw["metadata"], raw.get("status") or {}
    selector = selector_of((raw.get("spec") or {}).get("selector"))
    return Budget(meta["uid"], meta["namespace"], meta["name"], selector, int(status.get("disruptionsAllowed") or 0))


def allowed(budgets: Iterable[Budget], pods: Iterable[Pod]) -> tuple[int | None, str]:
    """Return how many of these ready pods may go now, None for any number, and the name of the budget that says so."""
    labels = [pod.labels for pod in pods]
    tight = [budget for budget in budgets if any(budget.selector.matches(each) for each in labels)]
    tightest = min(tight, key=lambda budget: budget.allowed, default=None)
    return (None, "") if tightest is None else (tightest.allowed, tightest.name)
