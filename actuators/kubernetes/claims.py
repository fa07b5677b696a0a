"""What workloads ask for and the watches do not show yet: replicas whose pods are still to come, and pods that are still to go.

Owns the newest number known of each workload, by who read or wrote it last in this process, so that fleets which share nodes or a
disruption budget do not each count on the same room. It must not decide anything: `nodes` and `disruption` count, `actuator` acts.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from actuators.kubernetes.disruption import Asked
from actuators.kubernetes.mirror import Mirror
from actuators.kubernetes.nodes import Demand, Waiting
from actuators.kubernetes.pods import Pod
from actuators.kubernetes.selectors import Selector
from actuators.kubernetes.workloads import Workload

# Every fleet is looked at more often than that. What nobody looks at any more, as it is another process's now or gone, claims nothing.
STALE_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class Claim:
    """The number that a workload asks for, as of a generation of the object. `pods_key` and `selector` find its pods."""

    uid: str
    namespace: str
    generation: int
    asked: int
    pods_key: str
    selector: Selector
    demand: Demand


class Claims:
    """One per cluster. `changes` counts what was news; `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._claims: dict[str, tuple[Claim, float]] = {}
        self._letting_go: dict[str, asyncio.Lock] = {}
        self.changes = 0

    def put(self, claim: Claim) -> None:
        """Take a number over; say it again at every look, as it goes stale."""
        known = self._claims.get(claim.uid)
        if known is None or known[0] != claim:
            self.changes += 1
        self._claims[claim.uid] = (claim, self._clock())

    def letting_go(self, namespace: str) -> asyncio.Lock:
        """Return what is held from asking the namespace's disruption budgets until the lower number is written."""
        return self._letting_go.setdefault(namespace, asyncio.Lock())

    def coming(self, pods: Mirror[Pod]) -> list[Waiting]:
        """Return the pods that are asked for and are not there yet, which will take their places when they come."""
        found = []
        for claim in self._fresh():
            there = sum(pod.is_counted and claim.selector.matches(pod.labels) for pod in pods.find(claim.pods_key))
            if claim.asked > there and claim.demand.gpus_per_pod > 0:
                demand = claim.demand
                missing = (claim.asked - there) * demand.pods_per_replica
                found.append(Waiting(demand.gpus_per_pod, demand.labels, demand.tolerations, missing))
        return found

    def numbers(self, namespace: str, workloads: Iterable[Workload]) -> list[Asked]:
        """Return the numbers of a namespace's workloads: those that somebody here wrote or read, and of the others what the watch says."""
        asked = {claim.uid: claim for claim in self._fresh() if claim.namespace == namespace}
        numbers = {uid: Asked(claim.selector, claim.asked) for uid, claim in asked.items()}
        for each in workloads:
            is_newer = each.uid not in asked or each.generation > asked[each.uid].generation
            if is_newer and each.replicas is not None and each.selector is not None:
                numbers[each.uid] = Asked(each.selector, each.replicas)
        return list(numbers.values())

    def _fresh(self) -> list[Claim]:
        now = self._clock()
        return [claim for claim, seen in self._claims.values() if now - seen <= STALE_SECONDS]
