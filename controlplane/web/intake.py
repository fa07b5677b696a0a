"""What comes in by HTTP, made into events: alerts once each, then one early Tick per fleet; launches; notes on what is not acted on.

Owns the memory of what was taken already, and that nothing counts as taken before the stream has it: BusError means try again.
It must not know NATS; `Outlet` is the port. `mapping` says what an alert becomes.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from controlplane.clocks import Clock
from controlplane.contracts.events import Alert, Event, Launch, Tick
from controlplane.contracts.fleet import Fleet
from controlplane.contracts.units import from_unix
from controlplane.web.mapping import OLDEST_SECONDS, Note, group_identity_of, mapped
from controlplane.web.payload import Notification

REMEMBERED = 100_000
# Beyond the age from which alerts are not acted on, so that there is no gap between the two.
REMEMBERED_SECONDS = OLDEST_SECONDS + 3600.0


class Outlet(Protocol):
    """Where events go. Both raise BusError when the stream does not have it."""

    async def publish(self, event: Event, identity: str) -> bool:
        """Publish an event; False when the stream had one of this identity already."""
        ...

    async def note(self, note: Note, identity: str) -> bool:
        """Record what is not acted on; False when it was recorded already."""
        ...


@dataclass(slots=True)
class Seen:
    """Identities that were taken, the newest `REMEMBERED` of them, each for `REMEMBERED_SECONDS` of wall time."""

    _until: OrderedDict[str, float] = field(default_factory=OrderedDict)

    def has(self, identity: str, wall_unix: float) -> bool:
        """Whether it was taken."""
        return self._until.get(identity, 0.0) > wall_unix

    def add(self, identity: str, wall_unix: float) -> None:
        """Remember it."""
        self._until[identity] = wall_unix + REMEMBERED_SECONDS
        self._until.move_to_end(identity)
        while len(self._until) > REMEMBERED:
            self._until.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Taken:
    """How many alerts of one request were acted on, came before, or were only recorded."""

    accepted: int = 0
    duplicates: int = 0
    recorded: int = 0
    truncated: int = 0


class Intake:
    """Takes notifications and launches for these fleets. `wall` is the wall clock, `clock` the pipeline's."""

    def __init__(self, fleets: Mapping[str, Fleet], outlet: Outlet, clock: Clock, wall: Callable[[], float]) -> None:
        self.fleets = fleets
        self._outlet, self._clock, self._wall = outlet, clock, wall
        self._seen = Seen()
        self._owed: dict[str, str] = {}

    def now(self) -> float:
        """Return pipeline time, unix seconds."""
        return self._clock.now()

    def remember(self, identity: str) -> None:
        """Take an alert for known, from the stream's history, so that a restart acts on nothing twice."""
        self._seen.add(identity, self._wall())

    async def take(self, notification: Notification) -> Taken:
        """Publish what is new, then poke each fleet that has something to act on; BusError where the stream did not take it all."""
        wall = self._wall()
        counts: Counter[str] = Counter()
        for item in mapped(notification, self.fleets, self._clock.now(), wall):
            if self._seen.has(item.identity, wall):
                counts["duplicates"] += 1
                continue
            if isinstance(item.event, Alert):
                counts["accepted" if await self._publish(item.event, item.identity) else "duplicates"] += 1
            else:
                counts["recorded" if await self._outlet.note(item.event, item.identity) else "duplicates"] += 1
            self._seen.add(item.identity, wall)
        await self._pay()
        await self._note_truncated(notification)
        return Taken(counts["accepted"], counts["duplicates"], counts["recorded"], notification.truncated_alerts)

    async def _publish(self, alert: Alert, identity: str) -> bool:
        """Publish an alert and owe its fleet a poke; a BusError on the way leaves the debt to the sender's next attempt."""
        owed_before = alert.fleet in self._owed
        self._owed[alert.fleet] = identity
        is_new = await self._outlet.publish(alert, identity)
        if not is_new and not owed_before:
            self._owed.pop(alert.fleet, None)
        return is_new

    async def _pay(self) -> None:
        """Poke every fleet that is owed one."""
        for fleet, identity in list(self._owed.items()):
            await self._poke(fleet, "alert", identity)
            self._owed.pop(fleet, None)

    async def announce(self, launch: Launch) -> None:
        """Publish a launch and poke its fleet."""
        await self._outlet.publish(launch, launch.event_id)
        await self._poke(launch.fleet, "launch", launch.event_id)

    async def _poke(self, fleet: str, cause: str, identity: str) -> None:
        await self._outlet.publish(Tick(time=from_unix(self._clock.now()), cause=cause, fleet=fleet), f"poke-{identity}")

    async def _note_truncated(self, notification: Notification) -> None:
        """Record that the sender left alerts out: what they said is not known here."""
        if notification.truncated_alerts == 0:
            return
        reason = f"the sender left {notification.truncated_alerts} alerts out; raise max_alerts"
        note = Note(reason, sender=notification.sender, receiver=notification.receiver, status=notification.status)
        await self._outlet.note(note, f"truncated-{group_identity_of(notification)}")
