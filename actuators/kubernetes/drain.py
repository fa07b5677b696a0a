"""Replicas that are to go, made to go in the right order and not before their work is done, or their grace is over.

Owns the annotations: what a pod's deletion costs, which a ReplicaSet follows, and since when it drains, which outlives a restart of ours.
It must not choose them: `shrink` does. `in_flight` says how many requests a replica works on. Where the policy names no port and no
annotation tells, it counts as idle, and its own termination grace is all it has.
"""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import structlog

from actuators.kubernetes.api_server import MERGE, PODS, ApiServer
from actuators.kubernetes.errors import Forbidden, NotFound
from actuators.kubernetes.options import Target
from actuators.kubernetes.pods import DELETION_COST, DRAINING_SINCE, Pod
from actuators.kubernetes.shrink import Leaving, is_ours
from controlplane.contracts.errors import SupplierError

FORGOTTEN_SECONDS = 86_400.0
# Marks are in whole seconds, rounded up.
ROUNDING_SECONDS = 1.0

log = structlog.get_logger(__name__)


class Drain:
    """Marks leaving replicas and waits for them; one per actuator."""

    def __init__(self, server: ApiServer, clock: Callable[[], float]) -> None:
        self._server, self._clock = server, clock
        self._said_denied = False
        # Since when pods drain, by uid, for as long as the watch does not tell, or never where we may not mark them.
        self._begun: dict[str, float] = {}

    def recalled(self, pods: Sequence[Pod]) -> tuple[Pod, ...]:
        """Return the pods with when they began to drain, also where the mark is not there, or is later than what we remember."""
        found = []
        for pod in pods:
            times = [at for at in (self._begun.get(pod.uid), pod.draining_since_unix) if at is not None]
            found.append(replace(pod, draining_since_unix=min(times, default=None)))
        return tuple(found)

    async def begin(self, going: Leaving, pods: Sequence[Pod], target: Target) -> str:
        """Mark those of the pods that should go, and those alone; return what is waited for, "" once they may go."""
        now = self._clock()
        waits = going.in_flight > 0 and target.drain_grace_seconds > 0.0
        fresh = {pod.name for pod in going.pods if pod.draining_since_unix != since(pod, now)} if waits else set()
        notes: dict[str, dict[str, str | None]] = {}
        for name, cost in going.costs.items():
            notes.setdefault(name, {})[DELETION_COST] = None if cost is None else str(cost)
        self._remember(going.pods if waits else (), pods, now)
        for name in fresh:
            # Rounded up: a grace may end late by what a mark leaves out, and not early.
            notes.setdefault(name, {})[DRAINING_SINCE] = f"{math.ceil(now)}"
        names = {pod.name for pod in going.pods}
        for pod in pods:
            if pod.is_counted and pod.name not in names and pod.draining_since_unix is not None:
                notes.setdefault(pod.name, {})[DRAINING_SINCE] = None
        await asyncio.gather(*(self._annotate(target.namespace, name, each) for name, each in notes.items()))
        if not waits:
            return ""
        left = max(target.drain_grace_seconds - (now - since(pod, now)) for pod in going.pods if pod.in_flight > 0)
        if left <= 0.0:
            return ""
        known = f"{going.in_flight:g}" if math.isfinite(going.in_flight) else "an unknown number of"
        return f"draining: {known} requests in flight on {len(going.pods)} replicas that are to go, for {left:.0f} s at most"

    async def call_off(self, pods: Sequence[Pod], target: Target) -> None:
        """Take the marks back from all of these: a grace that was begun and called off is not over when it is next needed."""
        self._remember((), pods, self._clock())
        notes: dict[str, dict[str, str | None]] = {}
        for pod in pods:
            if pod.is_counted and is_ours(pod.deletion_cost):
                notes.setdefault(pod.name, {})[DELETION_COST] = None
            if pod.is_counted and pod.draining_since_unix is not None:
                notes.setdefault(pod.name, {})[DRAINING_SINCE] = None
        try:
            await asyncio.gather(*(self._annotate(target.namespace, name, each) for name, each in notes.items()))
        except SupplierError as error:
            log.info("marks stay until the next look", reason=str(error))

    def _remember(self, going: Sequence[Pod], pods: Sequence[Pod], now_unix: float) -> None:
        """Keep since when those that go drain, and forget the others of these pods and what is long gone."""
        known = {pod.uid: since(pod, now_unix) for pod in self.recalled(going)}
        mine = {pod.uid for pod in pods}
        others = {uid: at for uid, at in self._begun.items() if uid not in mine and now_unix - at < FORGOTTEN_SECONDS}
        self._begun = others | known

    async def _annotate(self, namespace: str, name: str, notes: Mapping[str, str | None]) -> None:
        try:
            await self._server.patch(PODS, (namespace, name, ""), {"metadata": {"annotations": dict(notes)}}, MERGE)
        except NotFound:
            return
        except Forbidden as error:
            # The order is a kindness: without the right to it replicas go in the order that Kubernetes likes.
            if not self._said_denied:
                log.warning("replicas go in no particular order", reason=str(error))
            self._said_denied = True


def since(pod: Pod, now_unix: float) -> float:
    """Return when a pod began to drain, now where it just did, or where its mark is of a time to come: then the clock went back."""
    known = pod.draining_since_unix
    return known if known is not None and known <= now_unix + ROUNDING_SECONDS else now_unix
