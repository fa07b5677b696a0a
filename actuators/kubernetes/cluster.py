"""One cluster as all fleets of this process see it: one connection, and one watch per kind, whoever asks.

Owns which mirrors run. A kind is watched in the whole cluster; where that is not allowed, in each namespace that is asked for.
It must not know an offer; `actuator` reads it.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from actuators.kubernetes.api_server import (
    NODES,
    PATIENCE_SECONDS,
    PODS,
    SILENT_SECONDS,
    TIMEOUT_SECONDS,
    ApiServer,
    Json,
    Resource,
)
from actuators.kubernetes.claims import Claims
from actuators.kubernetes.disruption import Asked, Budget, parse_budget
from actuators.kubernetes.errors import Forbidden, NotFound
from actuators.kubernetes.mirror import BLIND_SECONDS, Kept, Mirror
from actuators.kubernetes.nodes import ALL, Demand, Inventory, Node, inventory, parse_node, takes
from actuators.kubernetes.pods import Pod, parse_pod, remembered
from actuators.kubernetes.workloads import Workload, parse_workload
from controlplane.contracts.errors import SupplierError

# A server that has just restarted refuses what it grants a moment later, and somebody may bind a role at any time.
DENIED_SECONDS = 120.0

log = structlog.get_logger(__name__)


class Cluster:
    """Make it in a running loop; `close` ends its watches. `blind_seconds`: how long without the server before that is said.

    `denied_seconds` is how long it does without what it may not see, or sees by namespace only, before it asks again; patience, time-out
    and silence are the API server's.
    """

    def __init__(
        self,
        context: str | None = None,
        kubeconfig: Path | None = None,
        *,
        blind_seconds: float = BLIND_SECONDS,
        patience_seconds: float = PATIENCE_SECONDS,
        timeout_seconds: float = TIMEOUT_SECONDS,
        silent_seconds: float = SILENT_SECONDS,
        denied_seconds: float = DENIED_SECONDS,
    ) -> None:
        self.server = ApiServer(context, kubeconfig, patience_seconds, timeout_seconds=timeout_seconds, silent_seconds=silent_seconds)
        self._blind_seconds, self._denied_seconds = blind_seconds, denied_seconds
        self._mirrors: dict[tuple[Resource, str], Mirror[Any]] = {}
        # When a kind was last refused in the whole cluster, and when in a namespace too.
        self._narrow: dict[Resource, float] = {}
        self._denied: dict[tuple[Resource, str], float] = {}
        self._budgets: Resource | None = None
        self._pools: dict[str, Inventory] = {}
        self._pools_state = (-1, -1, -1)
        self._scaled: set[Resource] = set()
        self.claims = Claims()

    async def workloads(self, resource: Resource, namespace: str) -> Mirror[Workload]:
        """Return the mirror of a scalable kind."""
        self._scaled.add(resource)
        return await self._mirror(resource, namespace, parse_workload)

    async def pods(self, namespace: str) -> Mirror[Pod]:
        """Return the mirror of pods."""
        return await self._mirror(PODS, namespace, parse_pod, remembered)

    async def nodes(self) -> Mirror[Node] | None:
        """Return the mirror of nodes, None where we may not see them."""
        return await self._optional(NODES, "", parse_node)

    async def budgets(self, namespace: str) -> Mirror[Budget] | None:
        """Return the mirror of PodDisruptionBudgets, None where we may not see them."""
        if self._budgets is None:
            try:
                self._budgets = await self.server.resource("policy/v1", "PodDisruptionBudget")
            except NotFound:
                self._budgets = await self.server.resource("policy/v1beta1", "PodDisruptionBudget")
        return await self._optional(self._budgets, namespace, parse_budget)

    def sees_all_pods(self) -> bool:
        """Return whether pods are watched in the whole cluster, so that what else holds a node's GPUs is known."""
        return PODS not in self._narrow

    def pool(self, nodes: Mirror[Node], pods: Mirror[Pod], demand: Demand) -> Inventory:
        """Return what the nodes that may take such a replica hold, worked out once for all fleets that ask for the same."""
        state = (nodes.changes, pods.changes, self.claims.changes)
        if state != self._pools_state:
            self._pools.clear()
            self._pools_state = state
        found = self._pools.get(demand.key)
        if found is None:
            mine = [node for node in nodes.find(ALL) if takes(node, demand.labels, demand.tolerations)]
            held = {node.name: tuple(pods.find(f"node/{node.name}")) for node in mine}
            waiting = tuple(pods.find("node/")), self.claims.coming(pods)
            found = self._pools[demand.key] = inventory(mine, held, demand.gpus_per_pod, demand.pods_per_replica, *waiting)
        return found

    def numbers(self, namespace: str) -> list[Asked]:
        """Return how many replicas the workloads of a namespace ask for, of all the kinds that somebody here scales."""
        mirrors = [mirror for (resource, _), mirror in self._mirrors.items() if resource in self._scaled]
        return self.claims.numbers(namespace, [each for mirror in mirrors for each in mirror.find(namespace)])

    async def close(self) -> None:
        """End the watches and the connection."""
        await asyncio.gather(*(mirror.stop() for mirror in self._mirrors.values()))
        self._mirrors.clear()
        await self.server.close()

    async def _optional[T: Kept](self, resource: Resource, namespace: str, parse: Callable[[Json], T]) -> Mirror[T] | None:
        key = (resource, namespace)
        if self._is_recent(self._denied.get(key)):
            return None
        try:
            mirror = await self._mirror(resource, namespace, parse)
        except Forbidden as error:
            if key not in self._denied:
                log.warning("done without", resource=resource.name, namespace=namespace, reason=str(error))
            self._denied[key] = time.monotonic()
            return None
        if self._denied.pop(key, None) is not None:
            log.info("seen again", resource=resource.name, namespace=namespace)
        return mirror

    async def _mirror[T: Kept](
        self, resource: Resource, namespace: str, parse: Callable[[Json], T], remember: Callable[[T, T], T] | None = None
    ) -> Mirror[T]:
        refused = self._narrow.get(resource)
        if not self._is_recent(refused):
            if refused is not None:
                # Whoever asks meanwhile sees its namespace.
                self._narrow[resource] = time.monotonic()
            try:
                mirror = await self._opened(resource, "", parse, remember)
            except SupplierError as error:
                if not namespace or not resource.is_namespaced or (refused is None and not isinstance(error, Forbidden)):
                    raise
                if refused is None:
                    log.info("watched by namespace", resource=resource.name, reason=str(error))
                self._narrow[resource] = time.monotonic()
            else:
                await self._widen(resource)
                return mirror
        return await self._opened(resource, namespace, parse, remember)

    async def _widen(self, resource: Resource) -> None:
        """End the watches by namespace of a kind that is seen in the whole cluster by now."""
        if self._narrow.pop(resource, None) is not None:
            narrow = [key for key in self._mirrors if key[0] == resource and key[1]]
            await asyncio.gather(*(self._mirrors.pop(key).stop() for key in narrow))

    def _is_recent(self, refused: float | None) -> bool:
        return refused is not None and time.monotonic() - refused < self._denied_seconds

    async def _opened[T: Kept](
        self, resource: Resource, namespace: str, parse: Callable[[Json], T], remember: Callable[[T, T], T] | None
    ) -> Mirror[T]:
        key = (resource, namespace)
        if key not in self._mirrors:
            self._mirrors[key] = Mirror(self.server, resource, parse, namespace, remember=remember, blind_seconds=self._blind_seconds)
            self._mirrors[key].start()
        mirror: Mirror[T] = self._mirrors[key]
        try:
            await mirror.ready()
        except Forbidden:
            # Tried anew when it is next asked for: somebody may have bound the role meanwhile.
            if self._mirrors.get(key) is mirror:
                del self._mirrors[key]
            await mirror.stop()
            raise
        return mirror
