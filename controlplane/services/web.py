"""The web service: HTTP joined with NATS. What comes in is published, what is said on the bus is shown and counted.

Owns the way of alerts, launches and notes onto the streams, and the watches that feed board and meter. It decides nothing, holds no
lease (any number of servers may run), and keeps nothing: a restart reads the newest events, and which alerts came lately, back.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version

import nats.errors
import structlog
from nats.aio.client import Client

from controlplane.bus.publish import MESSAGE_ID, Publisher
from controlplane.bus.reader import OrderedReader
from controlplane.bus.watch import newest, watch
from controlplane.clocks import Clock
from controlplane.contracts.errors import BusError
from controlplane.contracts.events import Event, Observation
from controlplane.contracts.fleet import Fleet
from controlplane.contracts.subjects import (
    ACTUATION,
    ALERT,
    AUDIT,
    CE_SPECVERSION,
    DECISION,
    FORECAST,
    INPUTS_STREAM,
    LAUNCH,
    OBSERVATION,
    OUTPUTS_STREAM,
    POOL,
)
from controlplane.contracts.units import from_unix
from controlplane.services.roster import Roster
from controlplane.web.board import Board
from controlplane.web.intake import REMEMBERED_SECONDS, Intake
from controlplane.web.mapping import Note
from controlplane.web.metrics import Meter
from controlplane.web.routes import Web, application
from controlplane.web.server import serving
from controlplane.web.settings import WebSettings

SERVICE = "web"
# A sender waits for its answer; one that gets a 503 tries again.
PUBLISH_SECONDS = 3.0
HISTORY_SECONDS = 10.0
PAUSE_SECONDS = 1.0

log = structlog.get_logger(__name__)


class NatsOutlet:
    """Publishes with identities that JetStream deduplicates on, so that two servers given one alert say it once."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._publisher = Publisher(client, f"tidegate/{SERVICE}", wait_seconds=PUBLISH_SECONDS)
        self._clock = clock

    async def publish(self, event: Event, identity: str) -> bool:
        """Publish an event."""
        ack = await self._publisher.publish(event, headers={MESSAGE_ID: identity})
        return not ack.duplicate

    async def note(self, note: Note, identity: str) -> bool:
        """Record a note as a CloudEvent on the audit subject."""
        at = from_unix(self._clock.now()).isoformat().replace("+00:00", "Z")
        headers = {
            "ce-id": identity,
            "ce-type": "dev.tidegate.audit.v1",
            "ce-source": self._publisher.source,
            "ce-time": at,
            "ce-specversion": CE_SPECVERSION,
            "content-type": "application/json",
            MESSAGE_ID: identity,
        }
        body = json.dumps({"time": at, "kind": "alert-not-acted-on", **asdict(note)}).encode()
        ack = await self._publisher.publish_raw(AUDIT, body, headers)
        return not ack.duplicate


class Readiness:
    """Ready: NATS is there, and nothing that this process does is still folding history."""

    def __init__(self, client: Client, roster: Roster) -> None:
        self._client, self._roster = client, roster

    def missing(self) -> tuple[str, ...]:
        """Return what keeps it from being ready."""
        if not self._client.is_connected:
            return ("nats",)
        return self._roster.catching_up()


@contextlib.asynccontextmanager
async def web_service(
    client: Client, fleets: Sequence[Fleet], clock: Clock, settings: WebSettings, roster: Roster, plans_here: bool = False
) -> AsyncIterator[str]:
    """Serve HTTP for as long as the block lasts; hands out the address.

    Where this process plans (`plans_here`), observations, which are many, are heard from its planners and not read a second time.
    """
    by_name = {fleet.name: fleet for fleet in fleets}
    board, meter = Board(by_name), Meter(_version(), roster.figures, lambda: client.is_connected)
    intake = Intake(by_name, NatsOutlet(client, clock), clock, time.time)
    await _recall(client, intake)

    def hear(event: Event) -> None:
        board.hear(event)
        meter.hear(event)

    async def forecast(fleet: str) -> Event | None:
        return await newest(client, INPUTS_STREAM, FORECAST.format(fleet=fleet))

    def hear_observation(event: Event) -> None:
        if isinstance(event, Observation):
            hear(event)

    wanted = _wanted(fleets, observations=not plans_here)
    if plans_here:
        roster.listeners.append(hear_observation)
    listening = [asyncio.ensure_future(_listen(client, stream, subjects, first, hear)) for stream, subjects, first in wanted]
    web = Web(settings, intake, board, meter, Readiness(client, roster), time.time, forecast)
    try:
        async with serving(application(web), settings) as url:
            yield url
    finally:
        for task in listening:
            task.cancel()
        await asyncio.gather(*listening, return_exceptions=True)


def _wanted(fleets: Sequence[Fleet], *, observations: bool) -> list[tuple[str, list[str], list[str]]]:
    """Return (stream, subjects to follow, subjects whose newest event comes first). Forecasts are many and large: only the newest."""
    seen = [OBSERVATION.format(fleet=fleet.name) for fleet in fleets]
    pools = [POOL.format(fleet=fleet.name, offer=offer.name) for fleet in fleets for offer in fleet.offers]
    quotes = [f"tidegate.quote.{offer.name}" for fleet in fleets for offer in fleet.offers]
    decisions = [DECISION.format(fleet=fleet.name) for fleet in fleets]
    told = [name.format(fleet=fleet.name) for fleet in fleets for name in (LAUNCH, ALERT)]
    # Of every fleet: what is held for one that is gone is told of nowhere else.
    actuations = [ACTUATION.format(fleet="*", offer="*")]
    inputs = [*(seen if observations else ()), *pools, *quotes, *told, "tidegate.tick"]
    return [
        (INPUTS_STREAM, inputs, [*seen, *pools, *quotes, *told]),
        (OUTPUTS_STREAM, [*decisions, *actuations], decisions),
    ]


async def _listen(client: Client, stream: str, subjects: list[str], first: list[str], hear: Callable[[Event], None]) -> None:
    """Watch for as long as it takes; trouble on the way costs a pause, not the view."""
    while True:
        try:
            await watch(client, stream, subjects, hear, first=first)
        except (BusError, nats.errors.Error, OSError, TimeoutError) as error:
            if client.is_closed:
                return
            log.warning("the view waits for NATS", stream=stream, error=type(error).__name__)
            await asyncio.sleep(PAUSE_SECONDS)


async def _recall(client: Client, intake: Intake) -> None:
    """Read back which alerts came lately, so that their repeats are known after a restart."""
    reader = OrderedReader(client, INPUTS_STREAM, [ALERT.format(fleet="*")], 0, "tidegate-web")
    now, deadline = time.time(), time.monotonic() + HISTORY_SECONDS
    try:
        while time.monotonic() < deadline:
            for message in await reader.next_batch(wait_seconds=0.05):
                identity = (message.headers or {}).get(MESSAGE_ID)
                if identity and now - message.metadata.timestamp.timestamp() < REMEMBERED_SECONDS:
                    intake.remember(identity)
            if reader.pending == 0:
                return
        log.warning("not all earlier alerts could be read back: a repeat of one may count as new")
    finally:
        await reader.close()


def _version() -> str:
    try:
        return version("tidegate")
    except PackageNotFoundError:
        return "0"
