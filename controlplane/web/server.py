"""One uvicorn server inside the process that runs the services: on a socket of ours, without signal handlers or access log.

Owns the time-out for senders that trickle their headers, which uvicorn has not. It must not know a route.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from controlplane.contracts.errors import TidegateError
from controlplane.web.settings import Limits, WebSettings

STOP_SECONDS = 2
POLL_SECONDS = 0.005
HEADER_BYTES = 32 * 1024


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the process."""
        yield


class _TimedProtocol(H11Protocol):
    """HTTP/1.1 that hangs up on a sender whose request line and headers are not there in time."""

    header_seconds = 5.0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._deadline = self.loop.call_later(self.header_seconds, self._hang_up)

    def handle_events(self) -> None:
        super().handle_events()
        is_waiting = self.cycle is None or self.cycle.response_complete
        if not is_waiting:
            self._disarm()
        elif self._deadline is None and self.conn.trailing_data[0]:
            # The next request on a kept connection has begun: it has as long as the first.
            self._deadline = self.loop.call_later(self.header_seconds, self._hang_up)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _hang_up(self) -> None:
        self._deadline = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


def _protocol(limits: Limits) -> type[H11Protocol]:
    return type("_Protocol", (_TimedProtocol,), {"header_seconds": limits.header_seconds})


def listener(settings: WebSettings) -> socket.socket:
    """Return a bound socket; TidegateError where the address cannot be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=128)
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        raise TidegateError(f"cannot listen on {where}: {error.strerror or error}; choose another with --listen") from error


@contextlib.asynccontextmanager
async def serving(app: Starlette, settings: WebSettings) -> AsyncIterator[str]:
    """Serve for as long as the block lasts; hands out the address."""
    limits = settings.limits
    bound = listener(settings)
    options: dict[str, Any] = {
        "http": _protocol(limits),
        "lifespan": "off",
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "limit_concurrency": limits.connections,
        "timeout_keep_alive": 30,
        "timeout_graceful_shutdown": STOP_SECONDS,
        "h11_max_incomplete_event_size": HEADER_BYTES,
        "ws": "none",
    }
    server = _Server(uvicorn.Config(app, **options))
    task = asyncio.ensure_future(server.serve(sockets=[bound]))
    try:
        while not server.started and not task.done():
            await asyncio.sleep(POLL_SECONDS)
        if task.done():
            task.result()
            raise TidegateError("the HTTP server ended at its start")
        host, port = bound.getsockname()[:2]
        yield f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    finally:
        server.should_exit = True
        await asyncio.gather(task, return_exceptions=True)
        bound.close()
