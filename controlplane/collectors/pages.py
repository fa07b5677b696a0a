"""Metrics pages over HTTP: fetched each interval, each on its own, so that a slow or dead one holds up nobody.

Owns the fetching: phase, time-out, size limit, back-off of the dead, and which pages are watched now. What a page says goes to `hear`
with the time it came. It must not understand a page: `exposition` reads it, `scrape` knows what for.
"""

import asyncio
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import httpx
import structlog

from controlplane.collectors.api import SourceError
from controlplane.collectors.breaker import Breaker, next_read
from controlplane.collectors.credentials import Login

PAGE_BYTES_AT_MOST = 32 * 1024 * 1024
PAGES_AT_ONCE = 64
LOG_SECONDS = 30.0
# A dead engine that comes back is heard again at the latest after this; a connection that is refused costs next to nothing.
FIRST_PAUSE_SCRAPES, LONGEST_PAUSE_SECONDS = 1.0, 15.0
# Not OpenMetrics: prometheus_client writes `vllm_x` for `vllm:x` there, unless it is told not to.
ACCEPT = "text/plain;version=0.0.4;q=1.0,*/*;q=0.1"

log = structlog.get_logger(__name__)


class Pages:
    """Watches pages: `watch(kind, addresses)` says which, `hear(kind, address, time, text)` is called for each that came.

    Where in the interval a page is asked, its address decides: it stays there as long as this process lives.
    """

    def __init__(self, options: Mapping[str, Any], interval_seconds: float, hear: Callable[[str, str, float, str], None]) -> None:
        self._interval_seconds, self._hear = interval_seconds, hear
        self._timeout_seconds = float(options.get("timeout_seconds") or 2.0)
        self._login = Login(options)
        self._client = httpx.AsyncClient(
            timeout=self._timeout_seconds,
            verify=_tls(self._login),
            trust_env=False,
            limits=httpx.Limits(max_connections=PAGES_AT_ONCE * 4, max_keepalive_connections=PAGES_AT_ONCE * 4),
        )
        self._room = asyncio.Semaphore(PAGES_AT_ONCE)
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._quiet_until = float("-inf")
        self.failures: dict[tuple[str, str], str] = {}

    def watch(self, kind: str, addresses: Iterable[str]) -> None:
        """Watch these pages of a kind from now on, and no others of it."""
        wanted = {(kind, address) for address in addresses}
        for key in [key for key in self._tasks if key[0] == kind and key not in wanted]:
            self._tasks.pop(key).cancel()
            self.failures.pop(key, None)
        for key in wanted - self._tasks.keys():
            self._tasks[key] = asyncio.create_task(self._follow(*key))

    async def close(self) -> None:
        """Stop watching."""
        tasks, self._tasks = list(self._tasks.values()), {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.aclose()

    async def _follow(self, kind: str, address: str) -> None:
        breaker = Breaker(FIRST_PAUSE_SCRAPES * self._interval_seconds, LONGEST_PAUSE_SECONDS)
        due = time.monotonic() + self._interval_seconds * (hash((kind, address)) % 1024) / 1024.0
        while True:
            await asyncio.sleep(max(due - time.monotonic(), 0.0))
            if breaker.allows(time.monotonic()):
                await self._ask(kind, address, breaker)
            due = next_read(due, time.monotonic(), self._interval_seconds)

    async def _ask(self, kind: str, address: str, breaker: Breaker) -> None:
        try:
            async with self._room:
                at, text = await asyncio.wait_for(self._fetch(address), self._timeout_seconds)
            self._hear(kind, address, at, text)
        except Exception as error:
            # Nobody waits for this task: it must outlive whatever comes. Of errors that are not ours the text may hold what was sent.
            breaker.failed(time.monotonic())
            reason = self.failures[kind, address] = str(error) if isinstance(error, SourceError) else type(error).__name__
            if time.monotonic() >= self._quiet_until:
                self._quiet_until = time.monotonic() + LOG_SECONDS
                log.info("a metrics page does not answer", page=address, reason=reason, such_pages=len(self.failures))
            return
        breaker.succeeded()
        self.failures.pop((kind, address), None)

    async def _fetch(self, address: str) -> tuple[float, str]:
        """Return a page and when it was written: between our asking and its first byte."""
        headers = {"Accept": ACCEPT, **self._login.headers()}
        body = bytearray()
        asked = time.time()
        async with self._client.stream("GET", address, headers=headers) as response:
            written = (asked + time.time()) / 2.0
            if response.status_code != 200:
                raise SourceError(f"HTTP {response.status_code}")
            async for part in response.aiter_bytes():
                body += part
                if len(body) > PAGE_BYTES_AT_MOST:
                    raise SourceError(f"a page of more than {PAGE_BYTES_AT_MOST} bytes")
        return written, body.decode()


def _tls(login: Login) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=login.ca_file)
    if login.client_certificate is not None:
        context.load_cert_chain(*login.client_certificate)
    return context
