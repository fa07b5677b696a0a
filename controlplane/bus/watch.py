"""Hear what is said on a stream: the newest message of some subjects first, then every later one, as decoded events.

For those who only look on (the simulated gateway, the live view, `tidegate events`): nothing is acked, nothing is kept.
Services that must not miss or repeat anything use `fold` or `broker` instead.
"""

import asyncio
from collections.abc import Callable, Sequence

import nats.errors
import nats.js.errors
from nats.aio.client import Client

from controlplane.bus.fold import decode, tell
from controlplane.bus.reader import OrderedReader
from controlplane.contracts.events import Event

PATIENCE_SECONDS = 1.0


async def newest(client: Client, stream: str, subject: str) -> Event | None:
    """Return the newest event of one subject, None where there is none or it cannot be read now."""
    try:
        message = await client.jetstream().get_last_msg(stream, subject)
    except (nats.errors.Error, OSError, TimeoutError):
        return None
    event = decode(subject, message.data or b"")
    return event if isinstance(event, Event) else None


async def watch(client: Client, stream: str, subjects: Sequence[str], hear: Callable[[Event], None], *, first: Sequence[str] = ()) -> None:
    """Call `hear` with the newest event of each subject in `first`, then with every later one of `subjects`, until cancelled.

    One that it raises at is logged, and the next one told. BusError once the connection is closed.
    """
    after = await _last_sequence(client, stream)
    for subject in first:
        last = await newest(client, stream, subject)
        if last is not None:
            tell(hear, last)
    reader = OrderedReader(client, stream, subjects, after, "tidegate-watch")
    try:
        while True:
            for message in await reader.next_batch(wait_seconds=PATIENCE_SECONDS):
                event = decode(message.subject, message.data)
                if isinstance(event, Event):
                    tell(hear, event)
    finally:
        await reader.close()


async def _last_sequence(client: Client, stream: str) -> int:
    while True:
        try:
            return (await client.jetstream().stream_info(stream)).state.last_seq
        except (nats.errors.Error, OSError, TimeoutError):
            await asyncio.sleep(PATIENCE_SECONDS)
