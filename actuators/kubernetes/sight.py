"""What is there for one offer now, as one look gathered it: the object, its number, its pods, who else writes it, and the pool.

Pure. Owns the record and what follows from it without asking anybody; `actuator` gathers it and acts on it.
"""

from dataclasses import dataclass

from actuators.kubernetes.api_server import Resource
from actuators.kubernetes.claims import Claim
from actuators.kubernetes.mirror import Mirror
from actuators.kubernetes.nodes import Demand, Inventory
from actuators.kubernetes.options import Target
from actuators.kubernetes.pods import Pod
from actuators.kubernetes.selectors import Selector
from actuators.kubernetes.status import Census
from actuators.kubernetes.workloads import Workload
from controlplane.contracts.fleet import Offer


@dataclass(frozen=True, slots=True)
class Sight:
    """`contested` names who else writes the number, "" where nobody does; `ours` is what we wrote last.

    `pool` is None where it may grow or cannot be seen, `claim` where the kind does not tell its pods.
    """

    target: Target
    resource: Resource
    workload: Workload
    asked: int
    pods: tuple[Pod, ...]
    counted: Census
    contested: str
    ours: int | None
    pool: Inventory | None
    claim: Claim | None

    @property
    def written_over(self) -> str:
        """What a write now is said to do to another's number, "" where it is nobody's."""
        return f"written over {self.contested}, who wrote {self.asked}" if self.contested else ""


def demand_of(offer: Offer, target: Target, workload: Workload) -> Demand:
    """Return what a replica asks of the nodes; no GPUs where neither the template nor the policy names any."""
    gpus = workload.gpus if workload.gpus is not None else offer.accelerators_per_replica
    labels = target.node_labels if target.node_labels is not None else workload.node_labels
    return Demand(labels or {}, workload.tolerations, gpus, max(-(-offer.accelerators_per_replica // gpus), 1) if gpus else 1)


def pods_key(target: Target, selector: Selector | None, pods: Mirror[Pod]) -> str:
    """Return what the offer's pods are looked up by: the rarest label that its selector wants, else the namespace."""
    labels = selector.labels if selector is not None else ()
    keys = [f"{target.namespace}/{label}" for label in labels] or [target.namespace]
    return min(keys, key=lambda key: (pods.count(key), target.name not in key))
