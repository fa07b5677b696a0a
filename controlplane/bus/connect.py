"""One door to a NATS server or cluster: reach it, check it, and say clearly what is wrong when it will not do.

Owns credentials, TLS, the version and JetStream checks, and reconnecting for ever afterwards; it must not create anything there.
Secrets come in as values (`controlplane.config` reads the environment) and never appear in a message. Next: `streams`.
"""

import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import Error as JetStreamError

from controlplane.contracts.errors import BusError

MINIMUM_VERSION = (2, 11)
RECONNECT_SECONDS = 0.25
CONNECT_SECONDS = 5.0
GREETING_SECONDS = 2.0
PING_SECONDS = 10
# A cluster that has just started, or lost a server, elects who leads it; meanwhile JetStream does not answer.
LEADER_SECONDS = 30.0
LEADER_ATTEMPT_SECONDS = 2.0
NO_LEADER = 10008
LEADER_ADVICE = "more than half of the cluster's servers must be up and reach each other"
DEFAULT_PORT = 4222
TOO_OLD = "tidegate needs 2.11 or newer (older ones ignore consumers with several filters and a key's time to live)"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Credentials:
    """How to prove who we are: a .creds file, an nkey seed file, user and password, or a token. All empty: no proof."""

    creds_file: Path | None = None
    nkey_file: Path | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Tls:
    """How to know the server, and to be known: PEM files. No `ca_file` means the system's authorities."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    handshake_first: bool = False


async def connect(
    url: str | Sequence[str],
    credentials: Credentials | None = None,
    tls: Tls | None = None,
    name: str = "tidegate",
    wait_seconds: float = CONNECT_SECONDS,
    on_closed: Callable[[], Awaitable[None]] | None = None,
    leader_seconds: float = LEADER_SECONDS,
) -> Client:
    """Return a client that reconnects for ever; BusError when no server answers within `wait_seconds` or it will not do.

    A server that answers, but whose JetStream has no leader yet, is given `leader_seconds` more.
    `on_closed` is awaited when the connection ends for good: closed by its owner, or by a server that no longer wants us.
    `url` is one address, several with commas between, or a list: `nats://host:4222` or `tls://host:4222`.
    """
    servers = [part.strip() for part in url.split(",") if part.strip()] if isinstance(url, str) else list(url)
    where = ", ".join(redacted(server) for server in servers)
    _check_addresses(servers)
    secure = tls is not None or any(server.startswith("tls://") for server in servers)
    if tls is None or not tls.handshake_first:
        await _check_greeting(servers, where, secure, wait_seconds)
    client = Client()
    problems: list[Exception] = []
    options = _options(credentials or Credentials(), tls, secure, where)
    try:
        options |= {"servers": servers, "name": name, "reconnected_cb": _reconnected(where), "closed_cb": on_closed}
        await _open(client, problems, wait_seconds, **options)
        await _await_leader(client.jetstream(timeout=LEADER_ATTEMPT_SECONDS), where, leader_seconds)
    except BusError:
        await _abandon(client)
        raise
    except JetStreamError as error:
        await _abandon(client)
        raise BusError(f"NATS at {where} has no JetStream for this account ({_reason(error)}); start it with -js or enable it") from error
    except (NatsError, OSError, TimeoutError, ValueError) as error:
        await _abandon(client)
        # A server that refuses us says so and hangs up; the hanging up may be what we notice last.
        telling = next((problem for problem in problems if _is_final(problem)), problems[-1] if problems else error)
        raise BusError(_explain(telling, where)) from error
    return client


async def _await_leader(js: JetStreamContext, where: str, seconds: float) -> None:
    """Ask JetStream how it is until it has a leader that answers, with growing pauses; BusError where none does within `seconds`."""
    until, delay = time.monotonic() + seconds, RECONNECT_SECONDS
    while True:
        try:
            await js.account_info()
            return
        except (NatsError, TimeoutError) as error:
            # No answer, or the one of a server that knows of no leader.
            if not isinstance(error, TimeoutError) and getattr(error, "err_code", None) != NO_LEADER:
                raise
            if time.monotonic() + delay > until:
                problem = f"its JetStream had no leader for {seconds:g} s ({_reason(error)})"
                raise BusError(f"NATS at {where} answers, but {problem}; {LEADER_ADVICE}") from error
            log.warning("JetStream has no leader yet", server=where, seconds_left=round(until - time.monotonic(), 1))
        await asyncio.sleep(delay)
        delay = min(2.0 * delay, LEADER_ATTEMPT_SECONDS)


def redacted(server: str) -> str:
    """Return an address without user, password and token: `nats://secret@host:4222` is `nats://host:4222`."""
    parts = urlsplit(server if "://" in server else f"nats://{server}")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _check_addresses(servers: Sequence[str]) -> None:
    for server in servers:
        parts = urlsplit(server if "://" in server else f"nats://{server}")
        if parts.scheme not in ("nats", "tls") or not parts.hostname:
            raise BusError(f"{redacted(server)} is not an address of NATS; write it as nats://host:4222 or tls://host:4222")


async def _open(client: Client, problems: list[Exception], wait_seconds: float, **options: Any) -> None:
    """Connect, and stop trying at once when the server has refused us: nats-py would go on for ever."""
    refused = asyncio.Event()

    async def note(error: Exception) -> None:
        problems.append(error)
        if _is_final(error):
            refused.set()
        if client.is_connected or client.is_reconnecting:
            log.warning("nats trouble", error=_reason(error))

    attempt = asyncio.ensure_future(client.connect(error_cb=note, **options))
    watcher = asyncio.ensure_future(refused.wait())
    try:
        await asyncio.wait({attempt, watcher}, timeout=wait_seconds, return_when=asyncio.FIRST_COMPLETED)
        if not attempt.done():
            raise problems[-1] if problems else TimeoutError("no answer")
        attempt.result()
        problems.clear()
    finally:
        watcher.cancel()
        attempt.cancel()
        await asyncio.gather(attempt, watcher, return_exceptions=True)


def _options(credentials: Credentials, tls: Tls | None, secure: bool, where: str) -> dict[str, Any]:
    options: dict[str, Any] = {
        "allow_reconnect": True,
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": RECONNECT_SECONDS,
        "connect_timeout": GREETING_SECONDS,
        "ping_interval": PING_SECONDS,
        "user": credentials.user,
        "password": credentials.password,
        "token": credentials.token,
        "tls_handshake_first": tls is not None and tls.handshake_first,
    }
    for name, path in (("user_credentials", credentials.creds_file), ("nkeys_seed", credentials.nkey_file)):
        if path is not None:
            if not path.is_file():
                raise BusError(f"the credentials file {path} for NATS at {where} is not there")
            options[name] = str(path)
    if secure:
        options["tls"] = _tls_context(tls or Tls(), where)
    return options


def _tls_context(tls: Tls, where: str) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(tls.ca_file) if tls.ca_file else None)
        if tls.cert_file is not None:
            context.load_cert_chain(str(tls.cert_file), str(tls.key_file) if tls.key_file else None)
    except (OSError, ssl.SSLError) as error:
        raise BusError(f"the TLS files for NATS at {where} cannot be used: {error}") from error
    return context


async def _check_greeting(servers: Sequence[str], where: str, secure: bool, wait_seconds: float) -> None:
    """Read INFO before anything is sent: the version, and whether a wish for TLS would be ignored."""
    info = await _first_greeting(servers, where, wait_seconds)
    version = str(info.get("version", "0"))
    if _version(version) < MINIMUM_VERSION:
        raise BusError(f"NATS at {where} is version {version}; {TOO_OLD}. Upgrade it, or leave --nats out to run the one tidegate brings")
    if secure and not (info.get("tls_required") or info.get("tls_available")):
        raise BusError(f"NATS at {where} does not offer TLS, which was asked for; enable it there, or use nats:// without TLS files")


async def _first_greeting(servers: Sequence[str], where: str, wait_seconds: float) -> dict[str, Any]:
    deadline = time.monotonic() + wait_seconds
    problem: Exception = OSError("no address was given")
    while servers:
        for server in servers:
            try:
                return await _greeting(server)
            except (OSError, ValueError) as error:
                problem = error
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(RECONNECT_SECONDS)
    raise BusError(_explain(problem, where)) from problem


async def _greeting(server: str) -> dict[str, Any]:
    parts = urlsplit(server if "://" in server else f"nats://{server}")
    async with asyncio.timeout(GREETING_SECONDS):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port or DEFAULT_PORT, limit=1 << 20)
        try:
            line = await reader.readline()
        finally:
            writer.close()
    if not line.startswith(b"INFO "):
        raise ValueError("what answers there is not a NATS server")
    return cast(dict[str, Any], json.loads(line[5:]))


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.partition("-")[0].split(".") if part.isdigit())[:2]


def _reconnected(where: str) -> Callable[[], Awaitable[None]]:
    async def report() -> None:
        log.info("nats is back", server=where)

    return report


def _is_final(error: Exception) -> bool:
    text = _reason(error).lower()
    return "authoriz" in text or "authentic" in text or "tls" in text or isinstance(error, ssl.SSLError)


def _reason(error: Exception) -> str:
    return str(error).removeprefix("nats: ").strip("'") or type(error).__name__


def _explain(error: Exception, where: str) -> str:
    reason = _reason(error)
    if isinstance(error, ssl.SSLError) or "tls" in reason.lower():
        return f"NATS at {where} and we cannot agree on TLS: {reason}; check the address, and the ca, cert and key files"
    if _is_final(error):
        return f"NATS at {where} refuses our credentials ({reason}); check the creds file, user, password or token"
    return f"NATS at {where} is not reachable ({reason}); start it, correct --nats, or leave --nats out to run the one tidegate brings"


async def _abandon(client: Client) -> None:
    with contextlib.suppress(NatsError, OSError, TimeoutError):
        await client.close()
