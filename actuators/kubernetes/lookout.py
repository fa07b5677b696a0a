"""One look at an offer: its object, the number in its scale, its pods, who else writes it and the pool, from what the watches said.

Owns the gathering of a `Sight`, and who is woken when it would be another. It asks the server only where the number itself changed, and
changes nothing; `actuator` acts on what was seen.
"""

from collections.abc import Callable
from typing import Any

from actuators.api import IntentStore
from actuators.kubernetes.api_server import Resource
from actuators.kubernetes.claims import Claim
from actuators.kubernetes.cluster import Cluster
from actuators.kubernetes.errors import NotFound
from actuators.kubernetes.mirror import Mirror
from actuators.kubernetes.nodes import ALL, Demand, Inventory
from actuators.kubernetes.options import Target, target_of
from actuators.kubernetes.pods import Pod, PodState
from actuators.kubernetes.scaling import Scaling
from actuators.kubernetes.selectors import Selector
from actuators.kubernetes.sight import Sight, demand_of, pods_key
from actuators.kubernetes.status import Census, census, census_of_status
from actuators.kubernetes.workloads import Workload, contest
from controlplane.contracts.fleet import Offer


class Lookout:
    """Looks at the offers of one actuator, through the cluster that all share."""

    def __init__(self, cluster: Cluster, store: IntentStore) -> None:
        self._cluster, self._store = cluster, store
        self._scalings: dict[tuple[str, str], Scaling] = {}
        self._wakes: dict[tuple[str, str], Callable[[], None]] = {}
        self._heard: set[Mirror[Any]] = set()

    def scaling(self, fleet: str, offer: Offer) -> Scaling:
        """Return what reads and writes an offer's number."""
        return self._scalings.setdefault((fleet, offer.name), Scaling(self._cluster.server, self._store, fleet, offer.name))

    def tell(self, fleet: str, offer: Offer, wake: Callable[[], None]) -> None:
        """Call `wake`, in place of who was told before, when the object, one of its pods or a node changed; from the next look on."""
        before = self._wakes.get((fleet, offer.name))
        if before is not None:
            self._ignore(before)
        self._wakes[fleet, offer.name] = wake

    def close(self) -> None:
        """Wake nobody any more."""
        for wake in self._wakes.values():
            self._ignore(wake)
        self._heard.clear()
        self._wakes.clear()

    async def see(self, fleet: str, offer: Offer) -> Sight:
        """Return what is there; NotFound where the kind has no scale or the object is not there."""
        target, scaling = target_of(offer), self.scaling(fleet, offer)
        resource = await self._cluster.server.resource(target.api_version, target.kind)
        if not resource.has_scale:
            raise NotFound(f"{target.api_version} {target.kind} has no scale subresource", 404)
        workload = await self._workload(resource, target)
        asked = await scaling.replicas(resource, workload)
        pods, claim, counted = await self._counted(offer, target, workload, asked, scaling.selector)
        await self._listen(fleet, offer, resource, target)
        written = await scaling.written()
        if contest(workload, asked, written):
            # Another process of ours may have written it while it held the lease.
            written = await scaling.written(again=True)
        contested, ours = contest(workload, asked, written), written.after if written is not None else None
        pool = await self._pool(target, demand_of(offer, target, workload))
        return Sight(target, resource, workload, asked, pods, counted, contested, ours, pool, claim)

    async def read_again(self, fleet: str, offer: Offer) -> None:
        """Read the object itself, as the watch may lag behind."""
        target = target_of(offer)
        resource = await self._cluster.server.resource(target.api_version, target.kind)
        raw = await self._cluster.server.get(resource, target.namespace, target.name)
        (await self._cluster.workloads(resource, target.namespace)).keep(raw)
        self.scaling(fleet, offer).forget()

    async def gpus_held(self, sight: Sight) -> dict[str, int]:
        """Return the GPUs in use, whosever they are, by node, of the nodes that the offer's pods are on."""
        mirror = await self._cluster.pods(sight.target.namespace)
        nodes = {pod.node for pod in sight.pods if pod.node}
        return {node: sum(pod.gpus for pod in mirror.find(f"node/{node}") if pod.state is not PodState.FINISHED) for node in nodes}

    def _ignore(self, wake: Callable[[], None]) -> None:
        for mirror in self._heard:
            mirror.ignore(wake)

    async def _counted(
        self, offer: Offer, target: Target, workload: Workload, asked: int, selector: Selector | None
    ) -> tuple[tuple[Pod, ...], Claim | None, Census]:
        """Return the pods and what they amount to, and say to all who share nodes or budgets what is asked for here.

        A kind that does not tell its pods has none, claims nothing, and is counted by its own status.
        """
        if selector is None:
            return (), None, census_of_status(asked, workload.ready_replicas or 0)
        mirror, nodes = await self._cluster.pods(target.namespace), await self._cluster.nodes()
        key = pods_key(target, selector, mirror)
        pods = tuple(pod for pod in mirror.find(key) if selector.matches(pod.labels))
        # What may not be created takes no place: it does not come.
        coming = min(asked, sum(pod.is_counted for pod in pods)) if workload.refusal else asked
        claim = Claim(workload.uid, target.namespace, workload.generation, coming, key, selector, demand_of(offer, target, workload))
        self._cluster.claims.put(claim)
        names = frozenset(node.name for node in nodes.all()) if nodes is not None else None
        return pods, claim, census(asked, pods, names, workload.refusal)

    async def _listen(self, fleet: str, offer: Offer, resource: Resource, target: Target) -> None:
        wake = self._wakes.get((fleet, offer.name))
        if wake is None:
            return
        workloads, pods = await self._cluster.workloads(resource, target.namespace), await self._cluster.pods(target.namespace)
        workloads.listen(f"{target.namespace}/{target.name}", wake)
        pods.listen(pods_key(target, self.scaling(fleet, offer).selector, pods), wake)
        self._heard |= {workloads, pods}
        nodes = await self._cluster.nodes()
        if nodes is not None:
            nodes.listen(ALL, wake)
            self._heard.add(nodes)

    async def _workload(self, resource: Resource, target: Target) -> Workload:
        mirror = await self._cluster.workloads(resource, target.namespace)
        found = next(iter(mirror.find(f"{target.namespace}/{target.name}")), None)
        if found is None:
            raise NotFound(f"there is no {target}", 404)
        return found

    async def _pool(self, target: Target, demand: Demand) -> Inventory | None:
        """Return what the offer's nodes hold; None where its pool grows, or where nodes or other namespaces' pods cannot be seen."""
        nodes = await self._cluster.nodes() if target.is_fixed_pool else None
        if nodes is None or not demand.gpus_per_pod or not self._cluster.sees_all_pods():
            return None
        return self._cluster.pool(nodes, await self._cluster.pods(target.namespace), demand)
