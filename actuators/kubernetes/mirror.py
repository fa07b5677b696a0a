"""All objects of one kind, kept by list and watch and shared by everybody who looks at them: one watch, however many fleets.

Owns the protocol: a list in pages, a watch from there with bookmarks, going on where it broke off, and listing again on 410 Gone.
It must not know what an object means: `parse` makes of it what is kept. `cluster` holds the mirrors.

      ┌───────────┐ all pages  ┌──────────┐ events, bookmarks: remember the resource version
  ───▶│  listing  │───────────▶│ watching │──┐
      └───────────┘            └──────────┘◀─┘ ended or broke: go on from there, after a pause if it broke or was short
            ▲  too old (410), pages expired  │
            └────────────────────────────────┘
"""

import asyncio
import contextlib
import random
import time
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Protocol

import structlog

from actuators.kubernetes.api_server import OPENED, ApiServer, Json, Resource
from actuators.kubernetes.errors import Forbidden, Gone, NotFound, SignedOut
from controlplane.contracts.errors import SupplierError, SupplierUnavailable

PAGE = "500"
WATCH_SECONDS = 240
FIRST_PAUSE_SECONDS = 0.2
# One that ends sooner, though it was opened well, was ended by something between us and the server, which would do it again at once.
SHORTEST_WATCH_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 5.0
# A watch that is broken for less is not worth a word: nothing is done on what it said without asking the server first.
BLIND_SECONDS = 5.0
SYNC_SECONDS = 8.0
# An answer is on its way for a moment only: so many deletions are remembered meanwhile.
GONE_KEPT = 1000

log = structlog.get_logger(__name__)


class Kept(Protocol):
    """What a mirror keeps of an object. `keys` are what it is looked up by."""

    @property
    def uid(self) -> str:
        """The object's identity."""
        ...

    @property
    def keys(self) -> frozenset[str]:
        """What it is found under."""
        ...


class Mirror[T: Kept]:
    """One kind in the whole cluster, or in one namespace. Run it as a task; ask it while it runs.

    `remember` makes of what was kept of an object and what is new what is kept now, where the server forgets something.
    `blind_seconds` is how long it may have been without the server before what it knows is no longer told. `changes` counts what was
    news, so that what is worked out from it can be kept until there is more.
    """

    def __init__(
        self,
        server: ApiServer,
        resource: Resource,
        parse: Callable[[Json], T],
        namespace: str = "",
        *,
        remember: Callable[[T, T], T] | None = None,
        blind_seconds: float = BLIND_SECONDS,
    ) -> None:
        self._server, self._resource, self._parse, self._namespace = server, resource, parse, namespace
        self._remember = remember
        self._objects: dict[str, T] = {}
        self._index: dict[str, dict[str, T]] = defaultdict(dict)
        self._listeners: dict[str, set[Callable[[], None]]] = defaultdict(set)
        self._version = ""
        self.changes = 0
        self._synced = asyncio.Event()
        self._broken_since: float | None = None
        self._error_since = 0.0
        self._pause_seconds = FIRST_PAUSE_SECONDS
        self._blind_seconds = blind_seconds
        self._error: SupplierError | None = None
        self._gone: deque[str] = deque(maxlen=GONE_KEPT)
        # The uids of those that could not be read when they were last told of.
        self._unreadable: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to list and watch."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End the watch."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def ready(self) -> None:
        """Wait for the first list; raise what stands in the way, at once where waiting would not help."""
        deadline = time.monotonic() + SYNC_SECONDS
        while not self._synced.is_set():
            if self._error is not None:
                raise self._error
            if time.monotonic() > deadline:
                raise SupplierUnavailable(f"the first list of {self._resource.name} takes longer than {SYNC_SECONDS:g} s")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await self._synced.wait()
        now = time.monotonic()
        if self._broken_since is None or self._error is None or now - self._broken_since <= self._blind_seconds:
            return
        if now - self._error_since <= self._blind_seconds:
            # A server that comes back may refuse for a moment what it grants: what stands in the way is not known yet.
            raise SupplierUnavailable(f"the watch of {self._resource.name} is interrupted: {self._error}")
        raise self._error

    def find(self, key: str) -> Iterable[T]:
        """Return what is found under a key."""
        return self._index.get(key, {}).values()

    def count(self, key: str) -> int:
        """Return how many are found under a key."""
        return len(self._index.get(key, ()))

    def all(self) -> Iterable[T]:
        """Return everything."""
        return self._objects.values()

    def keep(self, raw: Json) -> T:
        """Take over an object that the server answered with, ahead of the watch, unless that has told that it is gone."""
        kept = self._parse(raw)
        if kept.uid not in self._gone:
            self._put(kept)
        return kept

    def listen(self, key: str, wake: Callable[[], None]) -> None:
        """Call `wake` whenever something under a key changed, and when the mirror sees again after it was blind."""
        self._listeners[key].add(wake)

    def ignore(self, wake: Callable[[], None]) -> None:
        """Call `wake` no more."""
        for key in [key for key, wakes in self._listeners.items() if wake in wakes]:
            self._listeners[key].discard(wake)
            if not self._listeners[key]:
                del self._listeners[key]

    async def _run(self) -> None:
        while True:
            try:
                if not self._version:
                    await self._list()
                    self._seeing()
                began = time.monotonic()
                await self._follow()
                if time.monotonic() - began < SHORTEST_WATCH_SECONDS:
                    await self._pause()
                else:
                    self._pause_seconds = FIRST_PAUSE_SECONDS
            except Gone:
                self._version = ""
                await self._pause()
            except Exception as error:
                if not isinstance(error, SupplierError):
                    # Whatever it was, the list is read anew: a watch that has died unseen would tell of the past for ever.
                    self._version = ""
                    error = SupplierUnavailable(f"watching {self._resource.name}: unexpected {type(error).__name__}: {error}")
                self._went_blind(error)
                await self._pause()

    async def _pause(self) -> None:
        """Wait, each time for longer until the watch has told something."""
        await asyncio.sleep(self._pause_seconds * random.uniform(0.5, 1.5))
        self._pause_seconds = min(self._pause_seconds * 2.0, LONGEST_PAUSE_SECONDS)

    async def _list(self) -> None:
        found: dict[str, T] = {}
        more = ""
        self._unreadable.clear()
        while True:
            query = {"limit": PAGE, **({"continue": more} if more else {})}
            page = await self._server.get(self._resource, self._namespace, **query)
            for raw in page.get("items") or ():
                kept = self._read(raw)
                if kept is not None:
                    found[kept.uid] = kept
            more = page["metadata"].get("continue") or ""
            if not more:
                break
        for uid in [uid for uid in self._objects if uid not in found]:
            self._drop(uid)
        for kept in found.values():
            self._put(kept)
        self._version = page["metadata"]["resourceVersion"]
        self._synced.set()

    async def _follow(self) -> None:
        seconds = round(WATCH_SECONDS * random.uniform(0.8, 1.2))
        async with contextlib.aclosing(self._events(seconds)) as events:
            async for event in events:
                self._seeing()
                if event["type"] == OPENED:
                    continue
                self._pause_seconds, raw = FIRST_PAUSE_SECONDS, event["object"]
                if event["type"] == "DELETED":
                    self._gone.append(raw["metadata"]["uid"])
                    self._unreadable.discard(raw["metadata"]["uid"])
                    self._drop(raw["metadata"]["uid"])
                elif event["type"] != "BOOKMARK":
                    self._take(raw)
                self._version = raw["metadata"]["resourceVersion"]

    async def _events(self, seconds: int) -> AsyncGenerator[Json]:
        async for event in self._server.watch(self._resource, self._namespace, self._version, seconds):
            yield event

    def _take(self, raw: Json) -> None:
        """Take an event's object over. One that cannot be read, and could be when it was last told of, is worth a new list."""
        uid = raw["metadata"]["uid"]
        if uid not in self._unreadable:
            self._put(self._parse(raw))
        elif (kept := self._read(raw)) is not None:
            self._unreadable.discard(uid)
            self._put(kept)

    def _read(self, raw: Json) -> T | None:
        """Return what is kept of an object; None for one that cannot be read: what is odd in one namespace must not blind all others."""
        try:
            return self._parse(raw)
        except Exception as error:
            meta = raw["metadata"]
            if meta["uid"] not in self._unreadable:
                name = f"{meta.get('namespace', '')}/{meta.get('name', '')}"
                log.error("an object is left out", resource=self._resource.name, name=name, reason=f"{type(error).__name__}: {error}")
            self._unreadable.add(meta["uid"])
            return None

    def _put(self, kept: T) -> None:
        old = self._objects.get(kept.uid)
        if old is not None and self._remember is not None:
            kept = self._remember(old, kept)
        if old == kept:
            # What does not count when two are compared may have changed: it is kept, and nobody is told.
            self._objects[kept.uid] = kept
            for key in kept.keys:
                self._index[key][kept.uid] = kept
            return
        self.changes += 1
        gone = old.keys - kept.keys if old is not None else ()
        self._objects[kept.uid] = kept
        for key in gone:
            self._index[key].pop(kept.uid, None)
        for key in kept.keys:
            self._index[key][kept.uid] = kept
        self._tell((*gone, *kept.keys))

    def _drop(self, uid: str) -> None:
        old = self._objects.pop(uid, None)
        if old is None:
            return
        self.changes += 1
        for key in old.keys:
            self._index[key].pop(uid, None)
            if not self._index[key]:
                del self._index[key]
        self._tell(old.keys)

    def _tell(self, keys: Iterable[str]) -> None:
        for key in keys:
            for wake in tuple(self._listeners.get(key, ())):
                wake()

    def _seeing(self) -> None:
        was_blind, self._broken_since, self._error = self._error is not None, None, None
        if was_blind:
            log.info("the watch goes on", resource=self._resource.name, namespace=self._namespace)
            self._tell(tuple(self._listeners))

    def _went_blind(self, error: SupplierError) -> None:
        if type(self._error) is not type(error):
            level = log.error if isinstance(error, Forbidden | NotFound | SignedOut) else log.warning
            level("the watch is interrupted", resource=self._resource.name, namespace=self._namespace, reason=str(error))
            self._error_since = time.monotonic()
        if self._broken_since is None:
            self._broken_since = time.monotonic()
        self._error = error
