"""Stand-ins for what tests cannot have at hand: intent stores, a wire that breaks on command, a clock that is moved by hand.

Each implements the same protocol as the real thing; nothing here is patched into production code.
"""

import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import httpx

from actuators.api import Intent, IntentConflict


class FakeWall:
    """A wall clock that moves by hand, unix seconds."""

    def __init__(self, now_unix: float = 1_700_000_000.0) -> None:
        self.now_unix = now_unix

    def __call__(self) -> float:
        return self.now_unix

    def advance(self, seconds: float) -> None:
        self.now_unix += seconds


class Crash(Exception):
    """The process died here."""


class MemoryIntentStore:
    """An IntentStore in memory, with compare-and-set; `history` is every intent written. Set `crash_before` or `crash_after` to the
    number of the write, from 1, around which the process dies."""

    def __init__(self) -> None:
        self.history: list[Intent] = []
        self.crash_before: int | None = None
        self.crash_after: int | None = None

    async def latest(self, fleet: str, offer: str) -> Intent | None:
        return next((intent for intent in reversed(self.history) if (intent.fleet, intent.offer) == (fleet, offer)), None)

    async def put(self, intent: Intent) -> Intent:
        newest = await self.latest(intent.fleet, intent.offer)
        if intent.revision != (newest.revision if newest else 0):
            raise IntentConflict(f"revision {intent.revision} is not the newest")
        write = len(self.history) + 1
        if write == self.crash_before:
            raise Crash(f"before write {write}")
        written = replace(intent, revision=write)
        self.history.append(written)
        if write == self.crash_after:
            raise Crash(f"after write {write}")
        return written


class FileIntentStore:
    """An IntentStore in one file per offer, replaced atomically: it survives a kill -9 of its writer."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, fleet: str, offer: str) -> Path:
        return self._folder / f"{fleet}.{offer}.json"

    async def latest(self, fleet: str, offer: str) -> Intent | None:
        path = self._path(fleet, offer)
        if not path.exists():
            return None
        fields = json.loads(path.read_text())
        return Intent(**{**fields, "replicas": tuple(fields["replicas"])})

    async def put(self, intent: Intent) -> Intent:
        newest = await self.latest(intent.fleet, intent.offer)
        if intent.revision != (newest.revision if newest else 0):
            raise IntentConflict(f"revision {intent.revision} is not the newest")
        written = replace(intent, revision=intent.revision + 1)
        path = self._path(intent.fleet, intent.offer)
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps(asdict(written)))
        partial.replace(path)
        return written


class Wire(httpx.AsyncBaseTransport):
    """A transport that counts requests, and can be cut before a request arrives or after it was served, or refuse a method with a 403."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner
        self.requests: list[str] = []
        self.is_cut = False
        self.lose_replies_to = ""
        self.refuses = ""
        self.crash_after = ""
        self.cut_after = ""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request.method)
        if self.is_cut:
            raise httpx.ConnectError("the wire is cut", request=request)
        if request.method == self.refuses:
            return httpx.Response(403, json={"error": "the quota is used up"}, request=request)
        response = await self._inner.handle_async_request(request)
        if request.method == self.crash_after:
            raise Crash(f"after {request.method}")
        if request.method == self.cut_after:
            self.is_cut = True
        if request.method == self.lose_replies_to:
            await response.aread()
            raise httpx.ReadTimeout("the reply was lost", request=request)
        return response
