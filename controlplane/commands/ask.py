"""The bodies of `tidegate status` and `tidegate launch announce`: a running tidegate is asked, or told, over HTTP or NATS.

Owns the client side only; `controlplane.web` is the other end. It prints nothing by itself.
"""

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import Any

import httpx
import nats.errors
from nats.aio.client import Client

from controlplane.bus.connect import Credentials, connect
from controlplane.bus.keys import keys_ever
from controlplane.bus.publish import Publisher
from controlplane.clocks import SystemClock
from controlplane.config import environment_variables, read_environment
from controlplane.contracts.errors import TidegateError
from controlplane.contracts.events import Launch, Tick
from controlplane.contracts.subjects import LEASE_BUCKET, SNAPSHOT_BUCKET
from controlplane.contracts.units import from_unix
from controlplane.services.planner import SERVICE as PLANNER
from controlplane.web.launches import launch_of
from controlplane.web.settings import DEFAULT_LISTEN, secret

TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Where:
    """Which tidegate: an HTTP address or a NATS server; both None: the default HTTP address, or TIDEGATE_NATS."""

    web: str | None = None
    nats: str | None = None


def announce(where: Where, fields: dict[str, Any]) -> str:
    """Announce a launch and return a line that says so; TidegateError says what is wrong with it or with the way there."""
    said = {name: value for name, value in fields.items() if value is not None}
    launch = launch_of(json.dumps(said), SystemClock().now())
    if isinstance(launch, str):
        raise TidegateError(f"this launch cannot be announced: {launch}")
    address = where.nats or (read_environment().nats_url if where.web is None else None)
    doubt = ""
    if address is not None:
        doubt = asyncio.run(_publish(address, launch))
    else:
        _ask("POST", where, "/launches", json=said)
    done = "called off" if launch.cancelled else "announced"
    line = f"launch {launch.name} of {launch.fleet} is {done}, starting {launch.starts.isoformat().replace('+00:00', 'Z')}"
    return f"{line}\n{doubt}" if doubt else line


def status(where: Where, fleet: str | None = None) -> dict[str, Any]:
    """Return what a running tidegate says of its fleets, or all it says of one."""
    return _ask("GET", where, f"/api/fleets/{fleet}" if fleet else "/api/fleets")


def status_lines(body: dict[str, Any]) -> str:
    """Return the status as lines for a person."""
    fleets = body.get("fleets", [body])
    return "\n".join(line for fleet in fleets for line in _lines(fleet))


def _lines(fleet: dict[str, Any]) -> list[str]:
    decision = fleet["decision"]
    lines = [f"{fleet['fleet']} ({fleet['mode']}): {decision['summary'] if decision else 'no decision yet'}"]
    for offer in fleet["offers"]:
        held = "not seen yet" if offer["ready"] is None else f"{offer['ready']} ready, {offer['pending']} pending"
        wanted = "-" if offer["target"] is None else offer["target"]
        out = ", not available" if offer["unavailable"] else ""
        lines.append(f"  {offer['tier']:<5} {offer['name']}: target {wanted}, {held}{out}")
    if fleet["spill"] is not None:
        lines.append(f"  spill {fleet['spill']['name']}: up to {fleet['spill']['allowed_per_second'] or 0.0:g}/s")
    lines += [f"  alert {alert['name']}: {alert['action']} until {alert['expires']}" for alert in fleet["alerts"]]
    return lines


def _ask(method: str, where: Where, path: str, **arguments: Any) -> dict[str, Any]:
    base = (where.web or DEFAULT_LISTEN).rstrip("/")
    base = base if "://" in base else f"http://{base}"
    token = secret("TIDEGATE_WEB_TOKEN", environment_variables())
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        answer = httpx.request(method, f"{base}{path}", headers=headers, timeout=TIMEOUT_SECONDS, **arguments)
        body: dict[str, Any] = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise TidegateError(
            f"tidegate at {base} does not answer ({type(error).__name__}); start it with --listen, or give --web"
        ) from error
    if not answer.is_success:
        raise TidegateError(f"tidegate at {base} says {answer.status_code}: {body.get('error', '')}")
    return body


async def _publish(url: str, launch: Launch) -> str:
    """Publish a launch, and return what is doubtful about it: NATS takes it for a fleet that nobody plans, too."""
    client = await connect(url, Credentials(creds_file=read_environment().nats_credentials_file))
    try:
        planned = await planned_fleets(client)
        publisher = Publisher(client, "tidegate/cli", wait_seconds=TIMEOUT_SECONDS)
        await publisher.publish(launch)
        await publisher.publish(Tick(time=from_unix(SystemClock().now()), cause="launch", fleet=launch.fleet))
    finally:
        await client.close()
    if launch.fleet in planned:
        return ""
    return f"warning: no planner has run for the fleet {launch.fleet} on this NATS; it has run for {', '.join(sorted(planned)) or 'none'}"


async def planned_fleets(client: Client) -> set[str]:
    """Return the fleets that a planner has held a lease of or left a snapshot of."""
    fleets: set[str] = set()
    for bucket in (LEASE_BUCKET, SNAPSHOT_BUCKET):
        with contextlib.suppress(nats.errors.Error, TimeoutError):
            keys = await keys_ever(client.jetstream(), bucket)
            fleets |= {key.split(".")[1] for key in keys if key.startswith(f"{PLANNER}.")}
    return fleets
