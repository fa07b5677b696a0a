"""The Kubernetes actuator's rig: a Deployment in a namespace of its own on a real control plane, and one node with as many GPUs as told."""

import asyncio
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

from actuators.api import Actuator
from actuators.kubernetes.actuator import KubernetesActuator
from actuators.kubernetes.cluster import Cluster
from controlplane.contracts.fleet import Offer
from tests.fakes import MemoryIntentStore
from tests.kube.control_plane import ControlPlane
from tests.kube.kubelet import Kubelets
from tests.kube.objects import deployment
from tests.kube.proxy import Proxy

LEAD_SECONDS = 480.0
STOCK = 40
_NUMBERS = count(1)


@dataclass
class KubernetesRig:
    """Each instance of the actuator has its own watches, as after a restart; all go through one proxy."""

    plane: ControlPlane
    offer: Offer
    store: MemoryIntentStore = field(default_factory=MemoryIntentStore)
    # What a replica costs the policy says.
    quotes = False

    def __post_init__(self) -> None:
        self.namespace = f"rig-{next(_NUMBERS)}"
        self.plane.call("POST", "/api/v1/namespaces", {"metadata": {"name": self.namespace}})
        self.kubelets = Kubelets(self.plane, self.namespace, LEAD_SECONDS)
        self.node = f"{self.namespace}-node"
        self.kubelets.add_node(self.node, STOCK, pool=self.namespace)
        body = deployment(self.namespace, "r1", gpus=1, node_selector={"pool": self.namespace})
        self.plane.call("POST", f"/apis/apps/v1/namespaces/{self.namespace}/deployments", body)
        options = {"name": "r1", "namespace": self.namespace, "nodes": "fixed", **self.offer.actuator_options}
        self.offer = replace(self.offer, actuator="kubernetes", actuator_options=options)
        self.proxy = Proxy(self.plane.url).__enter__()
        self._clusters: list[Cluster] = []
        self._asked = 0

    def actuator(self, **seconds: float) -> Actuator:
        """Return an actuator with a cluster of its own; `seconds` are its waits, such as `blind_seconds`."""
        config = self.plane.kubeconfig(server=self.proxy.url)
        self._clusters.append(Cluster(kubeconfig=config, **{"patience_seconds": 0.5, **seconds}))
        return KubernetesActuator(self._clusters[-1], self.store)

    @property
    def cluster(self) -> Cluster:
        """The cluster of the newest actuator."""
        return self._clusters[-1]

    def advance(self, seconds: float) -> None:
        self.kubelets.settle("r1")
        self.kubelets.ahead_seconds += seconds
        self.kubelets.settle("r1")

    def limit_stock(self, replicas: int) -> None:
        self.kubelets.resize_node(self.node, replicas)

    def cut(self, is_cut: bool) -> None:
        self.proxy.cut(is_cut)

    def held(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for pod in self.kubelets.settle("r1"):
            is_ready = any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", ()))
            state = "ready" if is_ready else "pending"
            counts[state] = counts.get(state, 0) + 1
        return counts

    def purchases(self) -> int:
        """Each change of the number is one generation of the object; the first is its creation."""
        path = f"/apis/apps/v1/namespaces/{self.namespace}/deployments/r1"
        return int(self.plane.call("GET", path)["metadata"]["generation"]) - 1

    def calls(self) -> int:
        return self.proxy.requests.total()

    def lose_purchase_replies(self, is_lost: bool) -> None:
        raise AssertionError("a number is set here and nothing is bought: the suite of those that buy leaves this kind out")

    def check(self) -> None:
        assert self.purchases() <= len(self.store.history), "every write was recorded before it was made"

    async def close(self) -> None:
        await asyncio.gather(*(cluster.close() for cluster in self._clusters))
        self.proxy.__exit__()
        self.plane.call("DELETE", f"/api/v1/nodes/{self.node}")
        self.plane.call("DELETE", f"/apis/apps/v1/namespaces/{self.namespace}/deployments/r1")


def kubernetes_rig(folder: Path, offer: Offer, *, plane: ControlPlane, start_failure_share: float = 0.0) -> KubernetesRig:
    assert start_failure_share == 0.0, "Kubernetes restarts what fails by itself"
    return KubernetesRig(plane, offer)
