"""What was done, as a Kubernetes Event on the workload, so that `kubectl describe` and `kubectl get events` tell of it.

Owns the wording's place only. An Event is a courtesy: one that cannot be written soon is logged and forgotten.
"""

import asyncio
from collections.abc import Callable
from uuid import uuid4

import structlog

from actuators.kubernetes.api_server import EVENTS, FIELD_MANAGER, ApiServer, Json, Resource
from actuators.kubernetes.errors import Forbidden
from actuators.kubernetes.options import Target
from actuators.kubernetes.workloads import Workload
from controlplane.contracts.errors import SupplierError
from controlplane.contracts.units import from_unix

SAID_AT_MOST = 1000
WAIT_SECONDS = 2.0
# Names have 253 characters at most.
NAME_AT_MOST = 253 - 17

log = structlog.get_logger(__name__)


class Notices:
    """Writes Events. `wait_seconds` is how long what was done may wait for being said."""

    def __init__(self, server: ApiServer, clock: Callable[[], float], wait_seconds: float = WAIT_SECONDS) -> None:
        self._server, self._clock, self._wait_seconds = server, clock, wait_seconds
        self._is_denied = False

    async def say(self, resource: Resource, target: Target, workload: Workload, reason: str, message: str, kind: str = "Normal") -> None:
        """Write one Event on the workload."""
        if self._is_denied:
            return
        at = from_unix(self._clock()).isoformat(timespec="seconds").replace("+00:00", "Z")
        body: Json = {
            "metadata": {"name": f"{target.name[:NAME_AT_MOST]}.{uuid4().hex[:16]}", "namespace": target.namespace},
            "involvedObject": {
                "apiVersion": target.api_version,
                "kind": resource.kind,
                "name": target.name,
                "namespace": target.namespace,
                "uid": workload.uid,
                "resourceVersion": workload.version,
            },
            "reason": reason,
            "message": message[:SAID_AT_MOST],
            "type": kind,
            "source": {"component": FIELD_MANAGER},
            "firstTimestamp": at,
            "lastTimestamp": at,
            "count": 1,
        }
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._server.create(EVENTS, target.namespace, body)
        except SupplierError as error:
            self._is_denied = isinstance(error, Forbidden)
            log.info("no Event was written", reason=str(error))
        except TimeoutError:
            log.info("no Event was written", reason=f"it took longer than {self._wait_seconds:g} s")
