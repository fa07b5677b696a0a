"""The composition root: the only place that wires policies, NATS, clocks, actuators and services together.

`running(settings)` brings a control plane up and, at the end, down again in good order; everything it starts, it ends.
Read `Plane` for what a running one offers; the command line and the demo are its two callers.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog
from nats.aio.client import Client

from actuators import registry
from actuators.api import Actuator
from actuators.wrappers import Attempt, Recorded, TimeLimited
from controlplane.bus.connect import Credentials, Tls, connect, redacted
from controlplane.bus.embedded import SYNC_SECONDS, EmbeddedServer
from controlplane.bus.epoch import agree_on_clock
from controlplane.bus.intents import KvIntentStore
from controlplane.bus.ledgers import KvLedgerStore
from controlplane.bus.publish import Publisher
from controlplane.bus.sold import SoldRecords
from controlplane.bus.streams import ensure_streams
from controlplane.clocks import Clock, SystemClock
from controlplane.config import read_secret
from controlplane.contracts.errors import PolicyError
from controlplane.contracts.fleet import Fleet, Mode, Offer
from controlplane.contracts.subjects import HEALTH_BUCKET
from controlplane.quotes import QuoteSource, source_in, source_of
from controlplane.replay import Replay, shared_time
from controlplane.services import actuator, collecting, collector, forecaster, planner, quoter, refitter, spiller, sweeper
from controlplane.services.leased import Work, forget_dead_holders, while_leased
from controlplane.services.roster import Roster
from controlplane.services.web import web_service
from controlplane.sim.cloud_config import CloudConfig, cloud_config_of
from controlplane.sim.cloud_ledger import Opened, read_ledger
from controlplane.sim.cloud_process import CloudProcess, end_running_cloud, running_cloud
from controlplane.web.settings import WebSettings

# Services that run wherever another does.
PART_OF = {quoter.SERVICE: collector.SERVICE, spiller.SERVICE: actuator.SERVICE, sweeper.SERVICE: actuator.SERVICE}
SERVICES = (collector.SERVICE, forecaster.SERVICE, planner.SERVICE, actuator.SERVICE)
APPLY_SECONDS = 20.0
STOP_SECONDS = 2.0
CLOUD_SECONDS_AT_MOST = 6 * 3600.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    """What to run. `nats_url` None starts the embedded server in `folder`, which forces to disk every `nats_sync_seconds`.

    `replays` are the fleets whose demand is a trace.

    A process that runs all services starts the simulated cloud that offers need, unless `cloud_url` names one; `cloud` is its world,
    None to derive it from the fleets. `web` None: no HTTP. `quotes` are files and addresses.
    """

    fleets: tuple[Fleet, ...]
    folder: Path
    nats_url: str | None = None
    nats_sync_seconds: float = SYNC_SECONDS
    credentials: Credentials | None = None
    tls: Tls | None = None
    services: tuple[str, ...] = SERVICES
    replays: tuple[Replay, ...] = ()
    cloud: CloudConfig | None = None
    cloud_url: str | None = None
    cloud_seconds: float = CLOUD_SECONDS_AT_MOST
    seed: int = 0
    web: WebSettings | None = None
    quotes: tuple[str, ...] = ()
    quotes_token: str | None = field(default=None, repr=False)


@dataclass(slots=True)
class Plane:
    """A running control plane."""

    settings: Settings
    client: Client
    clock: Clock
    nats_url: str
    cloud_url: str | None
    cloud_ledger: Path | None
    server: EmbeddedServer | None
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    failure: str = ""
    roster: Roster = field(default_factory=Roster)
    web_url: str | None = None

    def note_end(self, task: asyncio.Future[None]) -> None:
        """Take note of a service that ended by a failure which nothing in it expected: without it the plane is not whole."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failure = f"a service ended: {error!r}"
            self.closed.set()

    async def beyond_help(self) -> str:
        """Wait until this plane cannot go on by itself, and return why: NATS ended the connection for good, or does not stay up."""
        waits = {asyncio.ensure_future(self.closed.wait())}
        if self.server is not None:
            waits.add(asyncio.ensure_future(self.server.gave_up.wait()))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        if self.failure:
            return self.failure
        if self.server is not None and self.server.gave_up.is_set():
            return f"the embedded nats-server does not stay up; see {self.server.log_file}"
        return f"NATS at {redacted(self.nats_url)} ended the connection for good; are our credentials still valid?"


def runs_in(service: str, services: Sequence[str]) -> bool:
    """Return whether a process of these services runs this one, by itself or as a part of another."""
    return PART_OF.get(service, service) in services


def in_mode(fleets: Sequence[Fleet], mode: Mode | None) -> tuple[Fleet, ...]:
    """Return the fleets with their mode replaced, where one is given."""
    if mode is None:
        return tuple(fleets)
    return tuple(replace(fleet, guard=replace(fleet.guard, mode=mode)) for fleet in fleets)


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Plane]:
    """Bring the services up, hand out the plane, and take everything down again at the end."""
    async with contextlib.AsyncExitStack() as stack:
        server = None
        url = settings.nats_url
        if url is None:
            server = await stack.enter_async_context(EmbeddedServer(settings.folder / "nats", sync_seconds=settings.nats_sync_seconds))
            url = server.url
        closed = asyncio.Event()
        client = await connect(url, settings.credentials, settings.tls, on_closed=_setter(closed))
        stack.push_async_callback(client.close)
        await ensure_streams(client.jetstream())
        if server is not None:
            await forget_dead_holders(client)
        start, speed = shared_time(settings.replays) if settings.replays else (None, 1.0)
        cloud = _cloud(settings, start, speed)
        cloud_url = settings.cloud_url if cloud is None else stack.enter_context(_started(cloud))
        clock: Clock = SystemClock()
        if start is not None:
            # A cloud of ours has opened with the replay's start: its clock and the replay's are one.
            clock = await agree_on_clock(client, start, speed, _opened_wall(cloud) if cloud is not None else None)
        plane = Plane(settings, client, clock, url, cloud_url, cloud.ledger if cloud is not None else None, server, closed=closed)
        works = _works(plane, stack, speed)
        if settings.web is not None:
            plans = planner.SERVICE in settings.services
            web = web_service(client, settings.fleets, clock, settings.web, plane.roster, plans_here=plans)
            plane.web_url = await stack.enter_async_context(web)
        tasks = [asyncio.ensure_future(while_leased(client, service, fleet, noted, plane.stopping)) for service, fleet, noted in works]
        if runs_in(sweeper.SERVICE, settings.services):
            tasks.append(asyncio.ensure_future(sweeper.keep_named(settings.fleets, SoldRecords(client), SystemClock(), plane.stopping)))
        for task in tasks:
            task.add_done_callback(plane.note_end)
        try:
            yield plane
        finally:
            plane.stopping.set()
            await _ended(tasks)


async def _ended(tasks: Sequence[asyncio.Future[None]]) -> None:
    """Wait for the services to stop in good order; one that cannot, because NATS is away, is cut off as by a crash."""
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=STOP_SECONDS)
        for task in late:
            log.warning("a service did not stop in time and is cut off", seconds=STOP_SECONDS)
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _setter(event: asyncio.Event) -> Callable[[], Awaitable[None]]:
    async def set_it() -> None:
        event.set()

    return set_it


def _works(plane: Plane, stack: contextlib.AsyncExitStack, speed: float) -> list[tuple[str, str, Callable[[], Work]]]:
    """Return (service, fleet, maker) of all that this process may do; PolicyError where a fleet's cannot be made, with nothing started."""
    chosen = [
        (service, fleet.name, make)
        for fleet in plane.settings.fleets
        for service, make in _makers(plane, fleet, stack, speed).items()
        if runs_in(service, plane.settings.services)
    ]
    if runs_in(sweeper.SERVICE, plane.settings.services):
        chosen.append((sweeper.SERVICE, sweeper.ALL_FLEETS, lambda: _sweeper(plane)))
    return [(service, fleet, plane.roster.noted(service, fleet, make)) for service, fleet, make in chosen]


def _sweeper(plane: Plane) -> sweeper.Sweeper:
    publish = Publisher(plane.client, f"tidegate/{sweeper.SERVICE}").publish
    records = SoldRecords(plane.client)
    # Suppliers live by the wall clock, whatever is replayed.
    return sweeper.Sweeper(plane.settings.fleets, records, SystemClock(), publish, lambda sold: sold.supplier(read_secret))


def _makers(plane: Plane, fleet: Fleet, stack: contextlib.AsyncExitStack, speed: float) -> dict[str, Callable[[], Work]]:
    client, clock = plane.client, plane.clock
    makers: dict[str, Callable[[], Work]] = {
        forecaster.SERVICE: lambda: refitter.Forecaster(client, fleet, clock),
        planner.SERVICE: lambda: planner.Planner(client, fleet, clock, plane.roster.heard),
    }
    if runs_in(quoter.SERVICE, plane.settings.services):
        sources = _quote_sources(plane.settings, fleet)
        for source in sources:
            stack.push_async_callback(source.close)
        if sources:
            makers[quoter.SERVICE] = lambda: quoter.Quoter(client, fleet, sources, clock)
    replay = next((replay for replay in plane.settings.replays if replay.fleet == fleet.name), None)
    if replay is not None:
        makers[collector.SERVICE] = lambda: collector.ReplayCollector(
            client, fleet, replay.workload, replay.interval_seconds, clock, replay.loop
        )
    elif collecting.is_read(fleet):
        makers[collector.SERVICE] = lambda: collecting.collector_of(client, fleet, clock)
    if actuator.SERVICE in plane.settings.services:
        actuators = _actuators(plane, fleet, stack, speed)
        makers[actuator.SERVICE] = lambda: actuator.FleetActuator(client, fleet, actuators, clock)
        if fleet.spill is not None and fleet.spill.actuator == "gateway":
            route = registry.create_route(fleet.spill.actuator_options)
            stack.push_async_callback(route.close)
            makers[spiller.SERVICE] = lambda: spiller.Spiller(client, fleet, route, clock)
    return makers


def _quote_sources(settings: Settings, fleet: Fleet) -> tuple[QuoteSource, ...]:
    """Return what quotes are read from; PolicyError where a token is missing, so only for who reads them."""
    named = tuple(source_of(text, settings.quotes_token) for text in settings.quotes)
    return (*named, *(source_in(block) for block in fleet.quotes))


def _actuators(plane: Plane, fleet: Fleet, stack: contextlib.AsyncExitStack, speed: float) -> dict[str, Actuator]:
    """Return an actuator per offer; in recommend mode an offer whose kind cannot be made is left alone, and that is said."""
    store = KvIntentStore(plane.client)
    made: dict[str, Actuator] = {}
    for offer in fleet.offers:
        try:
            inner = _actuator(plane, offer, store, speed)
        except PolicyError as error:
            if fleet.guard.mode is Mode.ACT:
                raise PolicyError(f"fleet {fleet.name}, offer {offer.name}: {error}") from error
            log.warning("offer is not observed", fleet=fleet.name, offer=offer.name, reason=str(error))
            continue
        if inner is not None:
            stack.push_async_callback(inner.close)
            made[offer.name] = Recorded(TimeLimited(inner, APPLY_SECONDS), _log_attempt, time.monotonic)
    return made


def _log_attempt(attempt: Attempt) -> None:
    log.debug("apply", fleet=attempt.fleet, offer=attempt.offer, target=attempt.target, seconds=round(attempt.seconds, 4))


def _actuator(plane: Plane, offer: Offer, store: KvIntentStore, speed: float) -> Actuator | None:
    if offer.actuator == "none":
        return None
    options: Mapping[str, object] = offer.actuator_options
    if offer.actuator == "simulated":
        options = {"url": plane.cloud_url, "speed": speed, **{name: value for name, value in options.items() if value is not None}}
    if offer.actuator in ("aws", "market"):
        options = {**options, "secret": read_secret, "ledger": KvLedgerStore(plane.client)}
    if offer.actuator == "market":
        options = {**options, "health": KvLedgerStore(plane.client, HEALTH_BUCKET)}
    return registry.create(offer.actuator, options, store)


def _opened_wall(cloud: CloudProcess) -> float | None:
    """Return the wall time at which a started cloud first opened, in this run or in the one that this one goes on with."""
    return next((entry.wall_unix for entry in read_ledger(cloud.ledger) if isinstance(entry, Opened)), None)


def _cloud(settings: Settings, start_unix: float | None, speed: float) -> CloudProcess | None:
    """Return the simulated cloud that these fleets need, not started; None where no offer needs one of ours."""
    needing = [
        fleet
        for fleet in settings.fleets
        if any(offer.actuator == "simulated" and not offer.actuator_options.get("url") for offer in fleet.offers)
    ]
    if not needing or settings.cloud_url is not None or set(settings.services) != set(SERVICES):
        return None
    config = settings.cloud or cloud_config_of(*needing)
    folder = settings.folder / "cloud"
    return CloudProcess(folder, config, seed=settings.seed, speed=speed, start_unix=start_unix, max_seconds=settings.cloud_seconds)


@contextlib.contextmanager
def _started(cloud: CloudProcess) -> Iterator[str]:
    """Take over the cloud that an earlier run left behind when it was killed, else start one; end it with us either way."""
    left = running_cloud(cloud.ready_file)
    if left is None:
        with cloud:
            yield cloud.url
        return
    log.info("the simulated cloud of an earlier run goes on", url=left)
    try:
        yield left
    finally:
        end_running_cloud(cloud.ready_file)
