"""The actuator of a workload on Kubernetes: makes the number in its scale subresource be the target, and says what its pods amount to.

Owns the order of the steps: what is there, who else writes it, how much may change now, which replicas go, then one write.
It decides no number; where it does less than it was told it says why. `lookout` gathers what is there,
`scaling` writes the number, `drain` marks pods; which pods go is `shrink`'s choice.

     target ─▶ lots ─▶ contested? ─ yield ─▶ Skipped(who)
                          │ nobody, warn, takeOver
              grow ◀──────┴──────▶ shrink
       no more than the pool         no more than disruption budgets let go
                │                    cheapest replicas marked, waited for while they work, as long as the grace lasts
                └────────▶ write ◀───┘   409: read again, from the top
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import structlog

from actuators.api import Applied, Failed, IntentConflict, IntentStore, Result, Skipped, failed
from actuators.kubernetes.cluster import Cluster
from actuators.kubernetes.disruption import allowed
from actuators.kubernetes.drain import Drain
from actuators.kubernetes.errors import Conflict, NotFound, Refused, changed_nothing
from actuators.kubernetes.in_flight import with_in_flight
from actuators.kubernetes.lookout import Lookout
from actuators.kubernetes.notices import Notices
from actuators.kubernetes.pods import PodState
from actuators.kubernetes.shrink import dropped, goes_by_ordinal, is_rollout, leaving, serving_lost
from actuators.kubernetes.sight import Sight
from actuators.kubernetes.status import pool_status
from controlplane.contracts.errors import SupplierError
from controlplane.contracts.events import PoolStatus, Quote
from controlplane.contracts.fleet import Offer

TRIES = 5
# For so long nobody counts on more from where a write was refused; then it is asked for again, as somebody may have bound the role.
DENIED_SECONDS = 120.0
# A tug-of-war is not won by pulling more often.
CONTEST_SECONDS = {"warn": 30.0, "takeOver": 5.0}

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Limit:
    """The fewest replicas that may be asked for now, and why."""

    replicas: int
    reason: str


class KubernetesActuator:
    """Offers on one cluster, which is shared; what is remembered is by fleet and offer. `clock` should be the API server's, as ages are."""

    def __init__(self, cluster: Cluster, store: IntentStore, clock: Callable[[], float] = time.time) -> None:
        self._cluster, self._clock = cluster, clock
        self._lookout = Lookout(cluster, store)
        self._contested_unix: dict[tuple[str, str], float] = {}
        # Who is told to scale, and not only to look.
        self._acting: set[tuple[str, str]] = set()
        # What was not accepted, by role-based access control, admission or validation, and when.
        self._refused: dict[tuple[str, str], tuple[str, float]] = {}
        self._drain = Drain(cluster.server, clock)
        self._notices = Notices(cluster.server, clock)

    async def observe(self, fleet: str, offer: Offer) -> PoolStatus:
        """Return what the pods amount to, from what the watches said; asks the server only where the number itself changed."""
        sight = await self._lookout.see(fleet, offer)
        notes, unavailable = self._notes(fleet, offer, sight)
        return pool_status(fleet, offer, sight.counted, self._clock(), notes=notes, unavailable=unavailable)

    async def apply(self, fleet: str, offer: Offer, target: int) -> Result:
        """Make the number be the target, as far as pool, budgets and others allow."""
        self._acting.add((fleet, offer.name))
        try:
            for _ in range(TRIES):
                try:
                    return await self._apply(fleet, offer, target)
                except Conflict as conflict:
                    last = conflict
                    await self._lookout.read_again(fleet, offer)
            return failed(last)
        except Refused as error:
            if not isinstance(error, NotFound):
                self._refused[fleet, offer.name] = (str(error), self._clock())
            return Failed(str(error), retryable=False, unavailable=changed_nothing(error))
        except IntentConflict:
            return Skipped("somebody else is scaling for this offer: observe again")
        except SupplierError as error:
            result = failed(error)
            # What was surely not written is on its way nowhere: somebody else should be asked at once.
            return replace(result, unavailable=result.unavailable or self._lookout.scaling(fleet, offer).is_sure)

    def on_change(self, fleet: str, offer: Offer, wake: Callable[[], None]) -> None:
        """Call `wake` when the object or one of its pods changed; the watches are joined as soon as they are there."""
        self._lookout.tell(fleet, offer, wake)

    async def quote(self, offer: Offer) -> Quote | None:
        """Return None: what a replica costs the policy says."""
        return None

    async def close(self) -> None:
        """Listen no more. The cluster stays open, as others look through it; who made it closes it."""
        self._lookout.close()

    async def _apply(self, fleet: str, offer: Offer, target: int) -> Result:
        sight = await self._lookout.see(fleet, offer)
        await self._lookout.scaling(fleet, offer).settle()
        wanted = in_lots(sight.asked, target, offer.replicas_per_lot)
        if sight.asked - sight.counted.stuck <= target < sight.asked:
            # The planner counts what is placed, and may have counted before another was lost: nothing that serves is too much.
            await self._stay(sight, sight.asked)
            return Skipped(f"{sight.counted.stuck} that cannot serve now stay asked for: {'; '.join(sight.counted.reasons)}")
        if wanted == sight.asked:
            await self._stay(sight, sight.asked)
            missing = f"{abs(target - wanted)} are less than a lot of {offer.replicas_per_lot}" if target != wanted else "already there"
            return Skipped(missing)
        if sight.workload.controller:
            return Failed(_controlled(sight), retryable=False, unavailable=True)
        if sight.contested and (refusal := self._contest(fleet, offer, sight)):
            return refusal
        if wanted > sight.asked:
            return await self._grow(fleet, offer, sight, wanted)
        return await self._shrink(fleet, offer, sight, wanted)

    async def _grow(self, fleet: str, offer: Offer, sight: Sight, wanted: int) -> Result:
        reason = sight.written_over
        if sight.pool is not None and sight.pool.room < wanted - sight.asked:
            room = sight.pool.room // offer.replicas_per_lot * offer.replicas_per_lot
            short = f"{wanted - sight.asked - room} fewer than asked for: the pool has {sight.pool}"
            if room <= 0:
                return Failed(short, retryable=False, unavailable=True)
            wanted, reason = sight.asked + room, "; ".join(filter(None, (reason, short)))
        applied = await self._write(fleet, offer, sight, wanted, reason)
        await self._stay(sight, wanted)
        return applied

    async def _stay(self, sight: Sight, wanted: int) -> None:
        """Let nobody be marked as leaving where nobody leaves; while more are there than wanted their controller reads the marks yet."""
        if sum(pod.is_counted for pod in sight.pods) <= wanted:
            await self._drain.call_off(sight.pods, sight.target)

    async def _shrink(self, fleet: str, offer: Offer, sight: Sight, wanted: int) -> Result:
        reason, limit = sight.written_over, await self._limit(sight, wanted, offer.replicas_per_lot)
        if limit is not None and limit.replicas > wanted:
            if limit.replicas >= sight.asked:
                await self._stay(sight, sight.asked)
                return Skipped(limit.reason)
            wanted, reason = limit.replicas, "; ".join(filter(None, (reason, limit.reason)))
        waits = await self._drained(sight, wanted)
        if waits:
            return Skipped(waits)
        if limit is None:
            return await self._write(fleet, offer, sight, wanted, reason)
        async with self._cluster.claims.letting_go(sight.target.namespace):
            # Since it was asked, another workload under the same budget may have let its replicas go, or one of ours may have come up.
            limit = await self._limit(sight, wanted, offer.replicas_per_lot)
            if limit is not None and limit.replicas > wanted:
                return Skipped(limit.reason)
            return await self._write(fleet, offer, sight, wanted, reason)

    async def _drained(self, sight: Sight, wanted: int) -> str:
        """Choose the replicas that go and begin to drain them; return what is waited for, "" once they may go."""
        pods = self._drain.recalled(await with_in_flight(sight.pods, sight.target.metrics_port))
        if goes_by_ordinal(pods):
            going = dropped(pods, sight.workload.first_ordinal + wanted)
        else:
            # What has no pod yet goes without one.
            count = max(sum(pod.is_counted for pod in pods) - wanted, 0)
            going = leaving(pods, count, await self._lookout.gpus_held(sight))
            if is_rollout(pods):
                # From which of its ReplicaSets the Deployment takes them nobody knows: whatever serves may go, and has its grace.
                going = replace(going, pods=tuple(pod for pod in pods if pod.state is PodState.READY))
        return await self._drain.begin(going, pods, sight.target)

    async def _limit(self, sight: Sight, wanted: int, lot: int) -> Limit | None:
        """Return the lowest number from `wanted` up that disruption budgets allow now, None where there is none over the offer's pods."""
        namespace = sight.target.namespace
        budgets = await self._cluster.budgets(namespace)
        if budgets is None or sight.claim is None:
            return None
        known = tuple((await self._cluster.pods(namespace)).find(namespace))
        pods = [pod for pod in known if sight.claim.selector.matches(pod.labels)]
        ready = [pod for pod in pods if pod.state is PodState.READY]
        most, name = allowed(budgets.find(namespace), ready, known, self._cluster.numbers(namespace))
        if most is None:
            return None
        first = sight.workload.first_ordinal
        numbers = (number for number in range(wanted, sight.asked, lot) if serving_lost(pods, sight.asked, number, first) <= most)
        number = next(numbers, sight.asked)
        return Limit(number, f"{number - wanted} kept for now: PodDisruptionBudget {name} lets {most} go")

    async def _write(self, fleet: str, offer: Offer, sight: Sight, wanted: int, reason: str) -> Applied:
        self._refused.pop((fleet, offer.name), None)
        await self._claimed(sight, wanted, self._lookout.scaling(fleet, offer).write(sight.resource, sight.workload, wanted, self._clock()))
        if sight.contested:
            self._contested_unix[fleet, offer.name] = self._clock()
            log.warning("somebody else scales this too", fleet=fleet, offer=offer.name, object=str(sight.target), who=sight.contested)
        said = f"scaled from {sight.asked} to {wanted} for fleet {fleet}, offer {offer.name}" + (f"; {reason}" if reason else "")
        await self._notices.say(sight.resource, sight.target, sight.workload, "Scaled", said)
        return Applied(wanted - sight.asked, reason=reason)

    async def _claimed(self, sight: Sight, wanted: int, writing: Awaitable[None]) -> None:
        """Write with the number counted as asked for before it is, by all who share nodes or budgets; a refusal takes it back."""
        if sight.claim is not None:
            self._cluster.claims.put(replace(sight.claim, asked=wanted))
        try:
            await writing
        except SupplierError as error:
            if sight.claim is not None and changed_nothing(error):
                self._cluster.claims.put(sight.claim)
            raise

    def _notes(self, fleet: str, offer: Offer, sight: Sight) -> tuple[list[str], bool]:
        """Return what there is to say beside the count, and whether nobody should count on more from here.

        Who only looks has nothing to yield: beside an autoscaler, recommendations count on the pool as if it were ours.
        """
        refusal, at = self._refused.get((fleet, offer.name), ("", 0.0))
        is_refused = bool(refusal) and self._is_recent(at, DENIED_SECONDS)
        notes = [refusal] if is_refused else []
        yields = bool(sight.contested) and sight.target.on_conflict == "yield"
        if sight.workload.controller:
            notes.append(_controlled(sight))
        elif sight.contested:
            over = f" over our {sight.ours}" if sight.ours is not None else ""
            notes.append(f"{'yields to' if yields else 'contested by'} {sight.contested}, who wrote {sight.asked}{over}")
        full = sight.pool is not None and sight.pool.room <= 0 and sight.asked < offer.max_replicas
        unavailable = full or is_refused or bool(sight.workload.controller)
        if sight.pool is not None and (full or sight.counted.unschedulable):
            notes.append(f"pool: {sight.pool}")
        return notes, unavailable or (yields and (fleet, offer.name) in self._acting)

    def _contest(self, fleet: str, offer: Offer, sight: Sight) -> Result | None:
        """Return what to answer instead of writing, None where the policy says to write over the other."""
        who = f"{sight.contested} wrote {sight.asked}"
        if sight.target.on_conflict == "yield":
            return Skipped(f"yields: {who}")
        pause = CONTEST_SECONDS[sight.target.on_conflict]
        if self._is_recent(self._contested_unix.get((fleet, offer.name), float("-inf")), pause):
            return Skipped(f"{who}; it is written over every {pause:g} s at most")
        return None

    def _is_recent(self, at_unix: float, seconds: float) -> bool:
        """Return whether something was less than so long ago; what is still to come was before the clock went back."""
        return 0.0 <= self._clock() - at_unix < seconds


def _controlled(sight: Sight) -> str:
    return f"{sight.target} is controlled by {sight.workload.controller}: scale that instead"


def in_lots(asked: int, target: int, lot: int) -> int:
    """Return the number nearest to the target, not beyond it, that is whole lots away from what is asked for; 10 from 0 in fours is 8."""
    steps = abs(target - asked) // lot * lot
    return asked + steps if target > asked else asked - steps
