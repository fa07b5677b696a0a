"""The simulated cloud as its own process: the market of `cloud_model` behind an HTTP API, on a clock that survives restarts.

Owns the HTTP routes, the clock and the order "decide, write to the ledger, fold, answer"; it must not hold a rule of the market.
Run `python -m controlplane.sim.cloud --help`; `cloud_process.CloudProcess` starts and stops it from Python.
"""

import argparse
import asyncio
import json
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvicorn
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from controlplane.sim.cloud_config import CloudConfig
from controlplane.sim.cloud_ledger import Clocked, Configured, Entry, LedgerFile, Opened, Refused, Reply, dump_ledger
from controlplane.sim.cloud_model import Market, Replica, ReplicaState

Handler = Callable[[Request], Awaitable[Response]]
LAST_RESORT_SECONDS = 5


class PurchaseRequest(BaseModel):
    """The body of a purchase. `min_count` is the least that is taken, null: all or nothing."""

    model_config = ConfigDict(extra="forbid")
    count: int = Field(ge=1, le=100_000)
    min_count: int | None = Field(None, ge=1)
    token: str = Field(min_length=1, max_length=64)
    owner: str = Field(min_length=1, max_length=128)


class Cloud:
    """A market with its ledger and its clock. `wall` is the wall clock, unix seconds."""

    def __init__(
        self, ledger: LedgerFile, config: CloudConfig, *, seed: int, speed: float, start_unix: float | None, wall: Callable[[], float]
    ) -> None:
        """Rebuild from the ledger, or open it; a config that differs from the ledger's is the world from now on."""
        self._ledger, self._wall = ledger, wall
        self.entries = list(ledger.entries)
        self.market = Market.replayed(self.entries)
        if self.entries:
            opened = self.entries[0]
            assert isinstance(opened, Opened), "a ledger starts with its opening"
            self._opened = opened
            if config != self.market.config:
                self.record(Configured(time_unix=self.now(), config=config))
        else:
            now = wall()
            start = now if start_unix is None else start_unix
            self._opened = Opened(time_unix=start, wall_unix=now, speed=speed, seed=seed, config=config)
            self.record(self._opened)

    @property
    def is_virtual(self) -> bool:
        """Whether time moves only by hand."""
        return self._opened.speed == 0.0

    def now(self) -> float:
        """Return simulated unix seconds; never goes back, over restarts too."""
        moved = self._opened.speed * (self._wall() - self._opened.wall_unix)
        return max(self.market.now_unix, self._opened.time_unix + moved)

    def record(self, entry: Entry) -> None:
        """Make an entry durable, then fold it."""
        self._ledger.append(entry)
        self.entries.append(entry)
        self.market.fold(entry)

    def is_down(self) -> bool:
        """Return whether an outage is on."""
        return self.market.config.is_down_at(self.now() - self.market.opened_unix)


def replica_json(replica: Replica, now_unix: float) -> dict[str, object]:
    """Return a replica as the API shows it: its fate is not told before it comes."""
    state = replica.state(now_unix)
    return {
        "id": replica.lease.id,
        "offer": replica.offer,
        "owner": replica.owner,
        "token": replica.token,
        "lot": replica.lease.lot,
        "state": state,
        "requested_unix": replica.requested_unix,
        "ready_unix": replica.lease.ready_unix if state is ReplicaState.READY else None,
        "held_until_unix": replica.held_until_unix,
        "usd_per_hour": replica.lease.usd_per_hour,
    }


def _error(status: int, reason: str) -> JSONResponse:
    return JSONResponse({"error": reason}, status_code=status)


def _routes(cloud: Cloud) -> list[Route]:
    """Return what a buyer may call, none of it during an outage."""

    def up(handler: Handler) -> Handler:
        async def guarded(request: Request) -> Response:
            return _error(503, "unavailable") if cloud.is_down() else await handler(request)

        return guarded

    async def offers(request: Request) -> Response:
        now = cloud.now()
        names = [request.path_params["offer"]] if "offer" in request.path_params else list(cloud.market.config.offers)
        if any(name not in cloud.market.config.offers for name in names):
            return _error(404, "no such offer")
        quotes = [cloud.market.quote(now, name) for name in names]
        fields = ("offer", "usd_per_replica_hour", "stock_replicas", "lead_time_seconds", "hold_seconds")
        return JSONResponse({"now_unix": now, "offers": [{field: getattr(quote, field) for field in fields} for quote in quotes]})

    async def buy(request: Request) -> Response:
        offer = request.path_params["offer"]
        if offer not in cloud.market.config.offers:
            return _error(404, "no such offer")
        try:
            body = PurchaseRequest.model_validate_json(await request.body())
        except ValidationError as error:
            return JSONResponse(
                {"error": "bad request", "detail": error.errors(include_url=False, include_context=False, include_input=False)},
                status_code=400,
            )
        now = cloud.now()
        entry = cloud.market.purchase(now, offer, body.count, body.owner, body.token, body.min_count)
        cloud.record(entry)
        if isinstance(entry, Refused):
            return _error(entry.status, entry.reason)
        if entry.reply is Reply.LOST:
            return _error(503, "internal_error")
        if entry.reply is Reply.LATE:
            await asyncio.sleep(cloud.market.config.offers[offer].late_reply_seconds)
        bought = cloud.market.purchased(now, offer, body.token)
        return JSONResponse({"now_unix": now, "replicas": [replica_json(replica, now) for replica in bought]}, status_code=201)

    async def listing(request: Request) -> Response:
        now = cloud.now()
        replicas = cloud.market.listing(now, request.query_params.get("owner"), request.query_params.get("offer"))
        return JSONResponse({"now_unix": now, "replicas": [replica_json(replica, now) for replica in replicas]})

    async def release(request: Request) -> Response:
        entry = cloud.market.release(cloud.now(), request.path_params["id"])
        if entry is None:
            return _error(404, "no such replica")
        cloud.record(entry)
        return JSONResponse({"now_unix": entry.time_unix, "released": entry.replica})

    async def bill(request: Request) -> Response:
        now = cloud.now()
        return JSONResponse({"now_unix": now, "usd": cloud.market.bill_usd(now, request.query_params.get("owner"))})

    return [
        Route("/offers", up(offers)),
        Route("/offers/{offer}", up(offers)),
        Route("/offers/{offer}/replicas", up(buy), methods=["POST"]),
        Route("/replicas", up(listing)),
        Route("/replicas/{id}", up(release), methods=["DELETE"]),
        Route("/bill", up(bill)),
    ]


def _audit_routes(cloud: Cloud) -> list[Route]:
    """Return what belongs to whoever runs the simulation, outages or not: its health, ledger, clock and world."""

    async def health(_: Request) -> Response:
        return JSONResponse({"now_unix": cloud.now(), "pid": os.getpid()})

    async def ledger(_: Request) -> Response:
        return PlainTextResponse(dump_ledger(cloud.entries), media_type="application/x-ndjson")

    async def clock(request: Request) -> Response:
        if not cloud.is_virtual:
            return _error(409, "this cloud's clock runs by itself; start it with --virtual to move it by hand")
        try:
            now = float((await request.json())["now_unix"])
        except (ValueError, KeyError, TypeError):
            now = math.nan
        if not math.isfinite(now):
            return _error(400, 'send {"now_unix": seconds}')
        cloud.record(Clocked(time_unix=max(now, cloud.now())))
        return JSONResponse({"now_unix": cloud.now()})

    async def config(request: Request) -> Response:
        try:
            world = CloudConfig.model_validate_json(await request.body())
        except ValidationError as error:
            return _error(400, str(error))
        cloud.record(Configured(time_unix=cloud.now(), config=world))
        return JSONResponse({"now_unix": cloud.now()})

    return [
        Route("/health", health),
        Route("/ledger", ledger),
        Route("/clock", clock, methods=["POST"]),
        Route("/config", config, methods=["POST"]),
    ]


def application(cloud: Cloud) -> Starlette:
    """Return the whole API as an ASGI application; tests call it without a socket."""
    return Starlette(routes=[*_routes(cloud), *_audit_routes(cloud)])


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Return the command line's settings."""
    parser = argparse.ArgumentParser(prog="python -m controlplane.sim.cloud", description="A simulated GPU cloud behind HTTP, on loopback.")
    parser.add_argument("--ledger", type=Path, required=True, help="append-only ledger; an existing one is continued")
    parser.add_argument("--config", required=True, help="CloudConfig as JSON, or a file that holds it")
    parser.add_argument("--seed", type=int, default=0, help="of all draws; an existing ledger keeps its own")
    parser.add_argument("--speed", type=float, default=1.0, help="simulated seconds per wall second; an existing ledger keeps its own")
    parser.add_argument("--virtual", action="store_true", help="time moves only by POST /clock")
    parser.add_argument("--start-unix", type=float, help="simulated time at the opening; default: now")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--ready-file", type=Path, help="written once it listens, the same JSON line as on stdout")
    parser.add_argument("--max-seconds", type=float, default=3600.0, help="it ends by itself after so long, wall time")
    return parser.parse_args(arguments)


async def serve(settings: argparse.Namespace) -> None:
    """Listen until SIGTERM, or until its time is over."""
    text = settings.config if settings.config.lstrip().startswith("{") else Path(settings.config).read_text(encoding="utf-8")
    ledger = LedgerFile(settings.ledger)
    speed = 0.0 if settings.virtual else settings.speed
    world = CloudConfig.model_validate_json(text)
    cloud = Cloud(ledger, world, seed=settings.seed, speed=speed, start_unix=settings.start_unix, wall=time.time)
    # asyncio turns Nagle's delay off only where the protocol is named; with it every answer takes 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", settings.port))
    listener.listen()
    quiet = uvicorn.Config(application(cloud), log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(quiet)
    port = listener.getsockname()[1]
    ready = json.dumps({"url": f"http://127.0.0.1:{port}", "port": port, "pid": os.getpid(), "ledger": str(settings.ledger)})
    if settings.ready_file:
        partial = settings.ready_file.with_suffix(".partial")
        partial.write_text(ready + "\n", encoding="utf-8")
        partial.replace(settings.ready_file)
    sys.stdout.write(ready + "\n")
    sys.stdout.flush()
    asyncio.get_running_loop().call_later(settings.max_seconds, setattr, server, "should_exit", True)
    await server.serve(sockets=[listener])
    ledger.close()


def main(arguments: list[str] | None = None) -> None:
    """Run the simulated cloud."""
    settings = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    # The kernel ends a process that hangs past its time: nobody waits for a cloud that outlives its buyer.
    signal.alarm(int(settings.max_seconds) + LAST_RESORT_SECONDS)
    asyncio.run(serve(settings))


if __name__ == "__main__":
    main()
