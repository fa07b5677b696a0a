"""`tidegate up` and `tidegate run`: a control plane that runs until it is told to stop.

Owns settings from options, policies and the environment, the log's form, and signals; `controlplane.app` does the wiring.
"""

import asyncio
import gc
import json
import logging
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nats.errors
import platformdirs
import structlog
from nats.aio.client import Client

from controlplane.app import SERVICES, Plane, Settings, in_mode, running, runs_in
from controlplane.bus.connect import Credentials, connect, redacted
from controlplane.bus.embedded import SYNC_SECONDS
from controlplane.bus.fold import decode
from controlplane.bus.publish import ERROR_HEADER, SUBJECT_HEADER
from controlplane.bus.reader import OrderedReader
from controlplane.config import environment_variables, load_fleets, read_environment
from controlplane.contracts.errors import BusError, PolicyError, TidegateError
from controlplane.contracts.events import Decision, Event
from controlplane.contracts.fleet import Fleet, Mode
from controlplane.contracts.subjects import DEAD_STREAM, DEAD_SUBJECTS, INPUT_SUBJECTS, INPUTS_STREAM, OUTPUT_SUBJECTS, OUTPUTS_STREAM
from controlplane.quotes import require_files
from controlplane.replay import is_replay, refuse_mixture, replay_of
from controlplane.services import quoter
from controlplane.services.roster import Roster
from controlplane.services.web import SERVICE as WEB
from controlplane.traces.library import data_folders
from controlplane.tracing import tracing
from controlplane.web.settings import DEFAULT_LISTEN, secret, web_settings_of

STREAM_SUBJECTS = {OUTPUTS_STREAM: OUTPUT_SUBJECTS, INPUTS_STREAM: INPUT_SUBJECTS, DEAD_STREAM: DEAD_SUBJECTS}

SETTLED_SECONDS = 2.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What the command line said. `service` None: all of them; `listen` None: no HTTP; `quotes` are files and addresses."""

    policies: tuple[Path, ...]
    nats_url: str | None = None
    folder: Path | None = None
    service: str | None = None
    mode: str | None = None
    cloud_url: str | None = None
    listen: str | None = None
    quotes: tuple[str, ...] = ()


def serve(options: ServeOptions) -> int:
    """Run until SIGINT or SIGTERM; return the exit code."""
    log_to_stderr()
    settings = settings_of(options)
    with tracing(environment_variables()):
        asyncio.run(_serve(settings))
    return 0


def log_to_stderr() -> None:
    """Print log lines on standard error: readable on a terminal, JSON elsewhere."""
    final = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            final,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def settings_of(options: ServeOptions) -> Settings:
    """Return what to run; PolicyError and TidegateError say what is wrong with it."""
    environment = read_environment()
    _require_address(options.cloud_url)
    fleets = in_mode(load_fleets(options.policies), mode_of(options.mode))
    if not fleets:
        raise PolicyError("the policies name no fleet")
    refuse_mixture(fleets)
    known = (*SERVICES, WEB)
    if options.service is not None and options.service not in known:
        raise TidegateError(f"there is no service {options.service!r}; there are {', '.join(known)}")
    listen = options.listen or (DEFAULT_LISTEN if options.service == WEB else None)
    url = options.nats_url or environment.nats_url
    if options.service is not None and url is None:
        raise TidegateError("a service alone needs a NATS server that the others share: give --nats or set TIDEGATE_NATS")
    services = SERVICES if options.service is None else (options.service,)
    if runs_in(quoter.SERVICE, services):
        require_files(options.quotes, [block for fleet in fleets for block in fleet.quotes])
    return Settings(
        fleets=fleets,
        folder=options.folder or platformdirs.user_state_path("tidegate") / "up",
        nats_url=url,
        nats_sync_seconds=SYNC_SECONDS if environment.nats_sync_seconds is None else environment.nats_sync_seconds,
        credentials=Credentials(creds_file=environment.nats_credentials_file),
        services=services,
        replays=tuple(replay_of(fleet, data_folders(environment_variables())) for fleet in fleets if is_replay(fleet)),
        cloud_url=options.cloud_url,
        web=web_settings_of(listen, environment_variables()) if listen else None,
        quotes=options.quotes,
        quotes_token=secret("TIDEGATE_QUOTES_TOKEN", environment_variables()),
    )


def _require_address(cloud_url: str | None) -> None:
    if cloud_url is not None and not cloud_url.startswith(("http://", "https://")):
        raise TidegateError(f"--cloud {cloud_url!r} is not an address; write it as http://host:port")


def mode_of(text: str | None) -> Mode | None:
    """Return the mode that an option names."""
    if text is None:
        return None
    try:
        return Mode(text)
    except ValueError:
        raise TidegateError(f"--mode {text!r} is neither recommend nor act") from None


async def _serve(settings: Settings) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stopping.set)
    for replay in settings.replays:
        for problem in replay.problems:
            log.warning("the trace has a flaw", fleet=replay.fleet, trace=replay.workload.name, problem=problem)
    async with running(settings) as plane:
        folder = str(settings.folder) if plane.server is not None else None
        addresses = {"nats": redacted(plane.nats_url), "folder": folder, "cloud": plane.cloud_url, "web": plane.web_url}
        log.info("tidegate is up", **addresses, fleets=[fleet.name for fleet in settings.fleets])
        for fleet in settings.fleets:
            log.info("fleet", name=fleet.name, mode=fleet.guard.mode, services=settings.services)
        settling = asyncio.ensure_future(settle(plane.roster))
        try:
            await _until(stopping, plane)
        finally:
            settling.cancel()
            await asyncio.gather(settling, return_exceptions=True)
        log.info("stopping")


async def settle(roster: Roster, seconds: float = SETTLED_SECONDS) -> None:
    """Once history is folded, keep what is there for good out of garbage collection.

    Libraries, policies and states are some hundred thousand objects that stay; looking through them again and again stops everything for
    a fifth of a second each time, alerts on their way too.
    """
    await asyncio.sleep(seconds)
    while roster.catching_up():
        await asyncio.sleep(seconds)
    gc.collect()
    gc.freeze()


async def _until(stopping: asyncio.Event, plane: Plane) -> None:
    """Wait for a signal; TidegateError where the plane cannot go on."""
    stopped, broken = asyncio.ensure_future(stopping.wait()), asyncio.ensure_future(plane.beyond_help())
    try:
        await asyncio.wait({stopped, broken}, return_when=asyncio.FIRST_COMPLETED)
        if broken.done():
            raise TidegateError(broken.result())
    finally:
        for task in (stopped, broken):
            task.cancel()
        await asyncio.gather(stopped, broken, return_exceptions=True)


async def follow_events(nats_url: str | None, subject: str, as_json: bool) -> int:
    """Print events as they come, until interrupted."""
    environment = read_environment()
    url = nats_url or environment.nats_url
    if url is None:
        raise TidegateError("which NATS server? give --nats (tidegate up prints its address) or set TIDEGATE_NATS")
    stream = stream_of(subject)
    client = await connect(url, Credentials(creds_file=environment.nats_credentials_file))
    try:
        await _print_events(client, stream, subject, as_json)
    finally:
        await client.close()
    return 0


async def _print_events(client: Client, stream: str, subject: str, as_json: bool) -> None:
    try:
        last = (await client.jetstream().stream_info(stream)).state.last_seq
    except (nats.errors.Error, TimeoutError) as error:
        raise BusError(f"there is no stream {stream} to read here ({type(error).__name__}); has a tidegate run on this NATS?") from error
    reader = OrderedReader(client, stream, [subject], last, "tidegate-events")
    try:
        while True:
            for message in await reader.next_batch(wait_seconds=1.0):
                event = decode(message.subject, message.data)
                if stream == DEAD_STREAM:
                    sys.stdout.write(dead_line_of(message.subject, message.data, message.headers or {}, as_json) + "\n")
                elif isinstance(event, Event):
                    sys.stdout.write((event.model_dump_json() if as_json else line_of(event)) + "\n")
                sys.stdout.flush()
    finally:
        await reader.close()


def line_of(event: Event) -> str:
    """Return one line for a person."""
    at = event.time.isoformat().replace("+00:00", "Z")
    if isinstance(event, Decision):
        return f"{at} {event.fleet} {event.summary}"
    return f"{at} {event.kind} {event.model_dump_json(exclude={'time'}, exclude_defaults=True)}"


def dead_line_of(subject: str, body: bytes, headers: Mapping[str, str], as_json: bool) -> str:
    """Return one line for a message that was set aside: where it came, what was wrong with it, and what it said."""
    asked, error, said = headers.get(SUBJECT_HEADER, subject), headers.get(ERROR_HEADER, ""), body.decode(errors="replace")
    return json.dumps({"subject": asked, "error": error, "body": said}) if as_json else f"{asked} set aside: {error}: {said}"


def stream_of(subject: str) -> str:
    """Return the stream that carries a subject filter; TidegateError names the subjects where none does."""
    for stream, subjects in STREAM_SUBJECTS.items():
        if any(subject.split(".")[:2] == known.split(".")[:2] for known in subjects):
            return stream
    known = ", ".join(known for subjects in STREAM_SUBJECTS.values() for known in subjects)
    raise TidegateError(f"--subjects {subject!r}: no stream carries that; the subjects are {known}")


def fleet_named(fleets: Sequence[Fleet], name: str | None) -> Fleet:
    """Return the one fleet asked for; PolicyError where the choice is not clear."""
    chosen = [fleet for fleet in fleets if name in (None, fleet.name)]
    if len(chosen) != 1:
        names = ", ".join(fleet.name for fleet in fleets) or "none"
        asked = f"no fleet is named {name!r};" if name is not None and not chosen else "which fleet?"
        raise PolicyError(f"{asked} the policies hold: {names}; name one with --fleet")
    return chosen[0]
