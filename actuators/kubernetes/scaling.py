"""The scale subresource of one object: reading it seldom, writing it by server-side apply, and remembering what we wrote.

Owns the calls for one number, and the record of the last write in the store of intents, so that after a restart our own number is
told from another's. It must not choose a number, nor what to do about a conflict: `actuator` does.
"""

from dataclasses import replace

from actuators.api import Intent, IntentStore
from actuators.kubernetes.api_server import APPLY, MERGE, ApiServer, Json, Resource
from actuators.kubernetes.errors import changed_nothing
from actuators.kubernetes.selectors import Selector, parse_selector
from actuators.kubernetes.workloads import Owner, Workload, Written
from controlplane.contracts.errors import SupplierError

ASKED, WRITTEN = "asked", "written"
# Servers before 1.22 drop the connection when a custom resource's scale is applied to.
APPLIES_TO_CUSTOM_SCALE = (1, 22)


class Scaling:
    """One fleet's offer on one object. What is remembered here only saves calls."""

    def __init__(self, server: ApiServer, store: IntentStore, fleet: str, offer: str) -> None:
        self._server, self._store, self._fleet, self._offer = server, store, fleet, offer
        # The object that the number was read from: its uid, its generation, and its version.
        self._uid, self._generation, self._version = "", -1, ""
        self._replicas = 0
        self._selector: Selector | None = None
        self._intent: Intent | None = None
        self._is_known = False
        self._owners: tuple[Owner, ...] = ()

    async def replicas(self, resource: Resource, workload: Workload) -> int:
        """Return the number that the scale asks for; read from the server when the object's spec has changed since."""
        if not self._is_fresh(workload):
            self._take(workload, await self._server.get(resource, workload.namespace, workload.name, "scale"))
        return self._replicas

    @property
    def selector(self) -> Selector | None:
        """What the replicas' pods are found by, None where the kind does not say."""
        return self._selector

    @property
    def is_sure(self) -> bool:
        """Whether what was written last is known: not before the store was asked, nor while a number was sent and no answer came."""
        return self._is_known and (self._intent is None or self._intent.state == WRITTEN)

    def forget(self) -> None:
        """Read the scale anew when it is next asked for."""
        self._uid = ""

    async def written(self, *, again: bool = False) -> Written | None:
        """Return what we wrote last, None if we never did; the store is asked once, unless `again`."""
        if not self._is_known or again:
            self._intent, self._is_known = await self._store.latest(self._fleet, self._offer), True
        last = self._intent
        if last is None or last.before is None or not last.replicas:
            return None
        return Written(last.replicas[0], last.before, last.count, last.state == WRITTEN, last.opened_unix, self._owners)

    async def settle(self) -> None:
        """Record that a number is there whose write nobody was sure of: from now on the one before it is somebody else's again."""
        last = self._intent
        if last is not None and last.state == ASKED and self._uid in last.replicas and self._replicas == last.count:
            await self._record(replace(last, state=WRITTEN))

    async def write(self, resource: Resource, workload: Workload, replicas: int, now_unix: float) -> None:
        """Set the number; Conflict where the object is no longer the one that was read. Recorded before it is asked, and after.

        A server that hangs is found by reading: a number that it was sent would be written when it wakes up, after newer decisions.
        """
        if not self._server.is_awake():
            await self._server.get(resource, workload.namespace, workload.name, "scale")
        before = self._replicas
        last = self._intent
        number, revision = (last.number + 1, last.revision) if last is not None else (1, 0)
        asked = Intent(
            self._fleet, self._offer, number, replicas, ASKED, revision, opened_unix=now_unix, replicas=(workload.uid,), before=before
        )
        current = await self._record(asked)
        try:
            scale = await self._patched(resource, workload, replicas)
        except SupplierError as error:
            if changed_nothing(error):
                # What we wrote last is what it was.
                undone = last if last is not None else replace(asked, before=None, state=WRITTEN)
                await self._record(replace(undone, number=number, revision=current.revision, reason=str(error)))
            else:
                self.forget()
            raise
        # It was written to this very version, so that the spec's next generation is ours.
        self._uid, self._generation, self._owners = workload.uid, workload.generation + 1, workload.owners
        self._replicas = int((scale.get("spec") or {}).get("replicas") or 0)
        await self._record(replace(current, state=WRITTEN))

    async def _record(self, intent: Intent) -> Intent:
        # Until it is stored nobody knows which is the last.
        self._is_known = False
        stored = await self._store.put(intent)
        self._intent, self._is_known = stored, True
        return stored

    async def _patched(self, resource: Resource, workload: Workload, replicas: int) -> Json:
        meta = {"name": workload.name, "namespace": workload.namespace, "resourceVersion": workload.version}
        body: Json = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": meta, "spec": {"replicas": replicas}}
        target = (workload.namespace, workload.name, "scale")
        is_built_in = resource.group in ("apps", "")
        if is_built_in or await self._server.version() >= APPLIES_TO_CUSTOM_SCALE:
            # Forced, as the policy has been asked already, and nobody can have come between: the resource version says so.
            return await self._server.patch(resource, target, body, APPLY, force="true")
        return await self._server.patch(resource, target, {"metadata": {"resourceVersion": workload.version}, "spec": body["spec"]}, MERGE)

    def _take(self, workload: Workload, scale: Json) -> None:
        self._replicas = int((scale.get("spec") or {}).get("replicas") or 0)
        text = (scale.get("status") or {}).get("selector") or ""
        self._selector = parse_selector(text) if text else None
        self._uid, self._generation, self._version = workload.uid, workload.generation, workload.version

    def _is_fresh(self, workload: Workload) -> bool:
        """Return whether the number is still good: the spec is no newer, and nothing is where the kind has not told of its pods yet."""
        if workload.uid != self._uid or workload.generation > self._generation:
            return False
        return self._selector is not None or workload.version == self._version
