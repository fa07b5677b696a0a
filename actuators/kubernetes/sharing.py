"""One cluster for all offers of this process that name the same kubeconfig context.

Owns the table of clusters in use, per event loop; the last actuator that is closed ends the watches.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from actuators.api import IntentStore
from actuators.kubernetes.actuator import KubernetesActuator
from actuators.kubernetes.cluster import Cluster


@dataclass(slots=True)
class _Shared:
    cluster: Cluster
    users: int = 0


_CLUSTERS: dict[tuple[asyncio.AbstractEventLoop, str], _Shared] = {}


class SharedActuator(KubernetesActuator):
    """An actuator that lets go of its share of a cluster when it is closed."""

    def __init__(self, context: str, store: IntentStore) -> None:
        self._key = (asyncio.get_running_loop(), context)
        shared = _CLUSTERS.get(self._key)
        if shared is None:
            shared = _CLUSTERS[self._key] = _Shared(Cluster(context or None))
        shared.users += 1
        self._is_closed = False
        super().__init__(shared.cluster, store)

    async def close(self) -> None:
        """Listen no more and let go; the last one ends the watches. Closing twice is closing once."""
        await super().close()
        shared = _CLUSTERS.get(self._key)
        if shared is None or self._is_closed:
            return
        self._is_closed = True
        shared.users -= 1
        if shared.users <= 0:
            del _CLUSTERS[self._key]
            await shared.cluster.close()


def shared_actuator(options: Mapping[str, object], store: IntentStore) -> SharedActuator:
    """Return the actuator of an offer with these options; must be called in a running loop."""
    return SharedActuator(str(options.get("context") or ""), store)
