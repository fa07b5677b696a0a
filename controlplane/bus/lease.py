"""One holder per service and fleet: a key in KV with a time to live, written with compare-and-set and renewed every third of it.

Owns who may act. A holder that cannot renew steps down before the server lets the key expire, so there are never two at once;
a process that was paused notices when it wakes, and expected sequences (`outbox`, `intents`) stop what it had begun.
"""

import asyncio
import contextlib
import secrets
import time
from types import TracebackType
from typing import Self

import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.js.kv import KeyValue

from controlplane.bus.publish import EXPECTED_LAST, WRONG_LAST_SEQUENCE
from controlplane.contracts.subjects import LEASE_BUCKET

TTL_SECONDS = 10
# The server counts a key's age from when it stored it, we from before we sent it: stepping down at 4/5 leaves a margin for the rest.
STEP_DOWN_SHARE = 0.8
RENEW_SHARE = 1 / 3
STANDBY_SECONDS = 0.5
RETRY_SECONDS = 0.2

log = structlog.get_logger(__name__)


class Lease:
    """`async with Lease(client, "planner", "r1") as lease:` waits as standby, then holds it; watch `lease.lost`.

    `ttl_seconds` is whole seconds: a holder that was killed is succeeded within that, and a second. `holder` is for people to read.
    """

    def __init__(self, client: Client, service: str, fleet: str, holder: str = "", ttl_seconds: int = TTL_SECONDS) -> None:
        self.key = f"{service}.{fleet}"
        self.lost = asyncio.Event()
        self._client = client
        self._js = client.jetstream(timeout=ttl_seconds * RENEW_SHARE)
        self._ttl = max(int(ttl_seconds), 1)
        # Random, so that a write whose answer was lost is recognised as our own.
        self._value = f"{holder or 'tidegate'} {secrets.token_hex(8)}".encode()
        self._revision = 0
        self._until = 0.0
        self._renewing: asyncio.Task[None] | None = None

    @property
    def held(self) -> bool:
        """Whether we may act at this very moment."""
        return not self.lost.is_set() and time.monotonic() < self._until

    async def acquire(self) -> None:
        """Wait until nobody else holds the lease, and take it. To give up waiting, cancel."""
        waiting = False
        while not await self._take():
            if not waiting:
                waiting = True
                log.info("standing by", lease=self.key, holder=await self.holder())
            await asyncio.sleep(min(STANDBY_SECONDS, self._ttl / 10))
        self.lost.clear()
        log.info("lease taken", lease=self.key)
        self._renewing = asyncio.create_task(self._keep(), name=f"lease {self.key}")
        # Whatever ends the renewing, what is not renewed is not held.
        self._renewing.add_done_callback(lambda _: self.lost.set())

    async def release(self) -> None:
        """Give the lease back, so that a standby takes over at once."""
        was_held = self.held  # asked first: the end of the renewing says that the lease is lost
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
            self._renewing = None
        if was_held:
            self._until = 0.0
            with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
                await (await self._bucket()).delete(self.key, last=self._revision)
        self._until = 0.0
        self.lost.set()

    async def holder(self) -> str:
        """Return who holds the lease, in their own words; empty when nobody does."""
        try:
            entry = await (await self._bucket()).get(self.key)
        except (nats.errors.Error, OSError, TimeoutError):
            return ""
        return (entry.value or b"").decode(errors="replace").rpartition(" ")[0]

    async def __aenter__(self) -> Self:
        """Acquire."""
        await self.acquire()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Release."""
        await self.release()

    async def _bucket(self) -> KeyValue:
        return await self._js.key_value(LEASE_BUCKET)

    async def _take(self) -> bool:
        """Try to become the holder: the key must not be there, or be a mark that it was given back."""
        sent = time.monotonic()
        try:
            try:
                entry = await (await self._bucket()).get(self.key)
            except nats.js.errors.KeyNotFoundError as missing:
                # Given back leaves a mark, which our write has to follow; run out leaves nothing.
                self._revision = (missing.entry.revision or 0) if missing.entry else 0
            else:
                if entry.value != self._value:
                    return False
                self._revision = entry.revision or 0
            self._revision = await self._write()
        except (nats.errors.Error, OSError, TimeoutError) as error:
            if not _is_conflict(error):
                log.warning("the lease cannot be asked for", lease=self.key, error=str(error) or type(error).__name__)
            return False
        self._until = sent + self._ttl * STEP_DOWN_SHARE
        return time.monotonic() < self._until

    async def _write(self) -> int:
        """Write our name as the successor of the revision we know, with the time to live (ADR-43)."""
        headers = {EXPECTED_LAST: str(self._revision)}
        ack = await self._js.publish(f"$KV.{LEASE_BUCKET}.{self.key}", self._value, headers=headers, msg_ttl=self._ttl)
        return ack.seq

    async def _keep(self) -> None:
        """Renew until that fails for too long or another holds the lease; then say that it is lost."""
        pause = self._ttl * RENEW_SHARE
        while True:
            await asyncio.sleep(max(min(pause, self._until - time.monotonic()), 0.0))
            if time.monotonic() >= self._until:
                break
            sent = time.monotonic()
            try:
                async with asyncio.timeout(self._until - sent):
                    self._revision = await self._write()
                self._until = sent + self._ttl * STEP_DOWN_SHARE
                pause = self._ttl * RENEW_SHARE
            except (nats.errors.Error, OSError, TimeoutError) as error:
                if _is_conflict(error) and not await self._is_still_ours():
                    break
                pause = RETRY_SECONDS
        self._until = 0.0
        self.lost.set()
        log.warning("lease lost", lease=self.key)

    async def _is_still_ours(self) -> bool:
        """After a conflict: whether the newest write is our own, whose answer was lost. Then the next one follows it."""
        with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
            entry = await (await self._bucket()).get(self.key)
            if entry.value == self._value:
                self._revision = entry.revision or 0
                return True
        return False


def _is_conflict(error: BaseException) -> bool:
    return isinstance(error, nats.js.errors.APIError) and error.err_code in WRONG_LAST_SEQUENCE
