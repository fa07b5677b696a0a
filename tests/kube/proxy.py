"""A loopback proxy in front of a real API server that a test can make misbehave: refuse, throttle, lose replies, break watches, go away.

It runs on a thread of its own, so that plain test code can steer it; what it is not told to spoil it passes on unchanged.
"""

import asyncio
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from tests.kube.control_plane import free_port


@dataclass
class Fault:
    """What to do to the next `times` requests of a method whose path, with its query, holds `part`. Status 0 drops the connection.

    `after` lets the request through first and spoils its reply only.
    """

    method: str
    part: str
    status: int
    times: int = 1
    retry_after: str = ""
    after: bool = False
    body: dict[str, Any] = field(default_factory=dict)


class Proxy:
    """Use as a context manager; `url` stays the same while it is cut and back."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.requests: Counter[tuple[str, str]] = Counter()
        self.faults: list[Fault] = []
        self.is_cut = False
        self._watches: set[asyncio.Task[Any]] = set()

    def fail(self, *faults: Fault) -> None:
        """Add faults; each is used up in turn."""
        self.faults += faults

    def cut(self, is_cut: bool) -> None:
        """Drop every connection from now on, or let them through again."""
        self.is_cut = is_cut
        if is_cut:
            self.break_watches()

    def break_watches(self) -> None:
        """End every watch in the middle."""
        self._loop.call_soon_threadsafe(lambda: [watch.cancel() for watch in tuple(self._watches)])

    def count(self, method: str, part: str = "") -> int:
        """Return how many requests of a method held `part` in their path."""
        return sum(count for (asked, path), count in self.requests.items() if asked == method and part in path)

    def __enter__(self) -> "Proxy":
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(10.0)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join(10.0)

    def _serve(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._run(started))
        self._loop.close()

    async def _run(self, started: threading.Event) -> None:
        self._ending = asyncio.Event()
        application = web.Application(client_max_size=16 * 2**20)
        application.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        connector = aiohttp.TCPConnector(ssl=False, limit=0)
        async with aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(total=None), read_bufsize=2**21
        ) as self._session:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", self.port).start()
            started.set()
            await self._ending.wait()
            for watch in tuple(self._watches):
                watch.cancel()
            await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path_qs
        self.requests[request.method, path] += 1
        if self.is_cut:
            return _dropped(request)
        fault = next((each for each in self.faults if each.method == request.method and each.part in path and each.times > 0), None)
        if fault is not None:
            fault.times -= 1
            if fault.after:
                await (await self._forward(request)).read()
            if fault.status == 0:
                return _dropped(request)
            headers = {"Retry-After": fault.retry_after} if fault.retry_after else {}
            return web.json_response(
                {"kind": "Status", "message": "spoilt by the test", **fault.body}, status=fault.status, headers=headers
            )
        return await self._passed(request)

    async def _forward(self, request: web.Request) -> aiohttp.ClientResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in ("host", "content-length")}
        return await self._session.request(request.method, self._upstream + request.path_qs, headers=headers, data=await request.read())

    async def _passed(self, request: web.Request) -> web.StreamResponse:
        try:
            answer = await self._forward(request)
        except aiohttp.ClientError:
            return _dropped(request)
        headers = {name: value for name, value in answer.headers.items() if name.lower() in ("content-type", "retry-after")}
        if "watch=1" not in request.query_string or answer.status != 200:
            return web.Response(status=answer.status, body=await answer.read(), headers=headers)
        response = web.StreamResponse(headers=headers)
        task = asyncio.current_task()
        assert task is not None
        self._watches.add(task)
        try:
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
        except (aiohttp.ClientError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._watches.discard(task)
            answer.close()
            if request.transport is not None:
                request.transport.abort()
        return response


def _dropped(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
