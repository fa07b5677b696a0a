"""Read a stream in order from a sequence on, with nothing left out, through whatever happens to the server or the connection.

Owns one ephemeral pull consumer at a time and the proof of order: the consumer's own numbering has no gap, or it is made anew
after the last message handed out. It must not decode anything; `fold` does.

FastStream's batch pull subscriber was tried for this and does not fit: it waits out its whole time-out to fill a batch, one body
that does not decode spoils its batch, and a durable consumer cannot start where a snapshot ends.
"""

import asyncio
import contextlib
import functools
import json
import time
from collections import deque
from collections.abc import Sequence

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from controlplane.contracts.errors import BusError

BATCH = 500
REQUEST_SECONDS = 30.0
HEARTBEAT_SECONDS = 2.0
SILENCE_SECONDS = 3 * HEARTBEAT_SECONDS
INACTIVE_SECONDS = 60.0
RETRY_SECONDS = 0.25
LISTEN_SECONDS = 0.005
NANOSECONDS = 1_000_000_000
CONTROL_MESSAGE, REQUEST_ENDED = "100", "408"

log = structlog.get_logger(__name__)


class OrderedReader:
    """Hands out messages of `subjects` after stream sequence `after`, in order. Use `next_batch` in a loop, then `close`.

    `pending` is how many matching messages the stream held beyond the newest one handed out; None before the first answer.
    """

    def __init__(self, client: Client, stream: str, subjects: Sequence[str], after: int, name: str) -> None:
        self.position = after
        self.pending: int | None = None
        self.restarts = -1
        self._client = client
        self._js = client.jetstream()
        self._stream = stream
        self._subjects = list(subjects)
        self._name = name
        self._subscription: Subscription | None = None
        self._consumer = ""
        self._queue: deque[Msg] = deque()
        self._arrived = asyncio.Event()
        self._delivered = 0
        self._asked = 0
        self._heard = 0.0
        self._connection = -1
        self._inbox = ""

    async def next_batch(self, limit: int = BATCH, wait_seconds: float = 1.0) -> list[Msg]:
        """Return up to `limit` messages as soon as there is one, none after `wait_seconds` or while the server is away.

        BusError once the connection was closed for good: by its owner, or by a server that no longer wants us.
        """
        if self._client.is_closed:
            raise BusError(f"reading {self._stream} ends: the connection to NATS was closed")
        try:
            if self._is_broken():
                # Our own long work may be all that kept us from hearing: listen before judging.
                await asyncio.sleep(LISTEN_SECONDS)
                if self._is_broken():
                    await self._restart()
            await self._ask_for_more()
            if not self._queue:
                self._arrived.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._arrived.wait(), wait_seconds)
        except (nats.errors.Error, OSError, TimeoutError) as error:
            log.warning(
                "reading waits for the server", stream=self._stream, position=self.position, error=str(error) or type(error).__name__
            )
            self._consumer = ""
            await asyncio.sleep(RETRY_SECONDS)
            return []
        # Nothing may fail from here on: what was taken counts as handed out.
        return self._take(limit)

    async def close(self) -> None:
        """Let the consumer go."""
        consumer, self._consumer = self._consumer, ""
        with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
            await self._unsubscribe()
            if consumer and self._client.is_connected:
                await self._js.delete_consumer(self._stream, consumer)

    def _is_broken(self) -> bool:
        """Whether messages may have gone astray: no consumer, another connection than it was asked on, or silence."""
        silent = not self._queue and time.monotonic() - self._heard > SILENCE_SECONDS
        return not self._consumer or silent or self._connection != self._client.stats["reconnects"]

    async def _restart(self) -> None:
        await self._unsubscribe()
        self._queue.clear()
        self._delivered = self._asked = 0
        self._connection = self._client.stats["reconnects"]
        self.restarts += 1
        name = f"{self._name}-{self._client.new_inbox().rpartition('.')[2]}"
        config = ConsumerConfig(
            name=name,
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=self.position + 1,
            ack_policy=AckPolicy.NONE,
            filter_subjects=self._subjects,
            inactive_threshold=INACTIVE_SECONDS,
            mem_storage=True,
            num_replicas=1,
        )
        info = await self._js.add_consumer(self._stream, config)
        self.pending = info.num_pending
        self._inbox = self._client.new_inbox()
        self._subscription = await self._client.subscribe(self._inbox, cb=functools.partial(self._receive, self.restarts))
        self._consumer = name
        self._heard = time.monotonic()

    async def _unsubscribe(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            with contextlib.suppress(nats.errors.BadSubscriptionError, nats.errors.ConnectionClosedError):
                await subscription.unsubscribe()

    async def _ask_for_more(self) -> None:
        """Keep one to two batches asked for, so that the server never waits for us nor floods us."""
        if self._asked + len(self._queue) > BATCH:
            return
        request = {"batch": BATCH, "expires": int(REQUEST_SECONDS * NANOSECONDS), "idle_heartbeat": int(HEARTBEAT_SECONDS * NANOSECONDS)}
        self._asked += BATCH
        await self._client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}", json.dumps(request).encode(), self._inbox)

    async def _receive(self, generation: int, message: Msg) -> None:
        if generation != self.restarts:
            return
        self._heard = time.monotonic()
        status = (message.headers or {}).get("Status")
        if status is None or message.reply:
            self._asked = max(self._asked - 1, 0)
            self._queue.append(message)
        elif status == REQUEST_ENDED:
            self._asked = max(self._asked - int((message.headers or {}).get("Nats-Pending-Messages", "0")), 0)
        elif status != CONTROL_MESSAGE:
            # 409: the consumer was deleted or the server is going; 503: nobody is there. Either way it must be made anew.
            self._consumer = ""
        self._arrived.set()

    def _take(self, limit: int) -> list[Msg]:
        """Return queued messages while their numbering has no gap; after a gap, what is queued is read anew."""
        batch: list[Msg] = []
        while self._queue and len(batch) < limit:
            message = self._queue.popleft()
            metadata = message.metadata
            if metadata.sequence.consumer != self._delivered + 1:
                log.warning("messages went astray and are read again", stream=self._stream, position=self.position)
                self._consumer = ""
                self._queue.clear()
                break
            self._delivered += 1
            self.position = metadata.sequence.stream
            self.pending = metadata.num_pending
            batch.append(message)
        return batch
