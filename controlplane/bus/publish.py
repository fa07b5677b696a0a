"""Publish events: with CloudEvents headers, acknowledged by the stream, never dropped in silence.

Owns retrying while the server is away, for a bounded time: less than the stream remembers message ids, so a retry is not stored twice.
It must not choose what to publish. `outbox` adds what a fold needs: outputs that are issued once, however often history is replayed.
"""

import asyncio
import random
import time
from collections.abc import Mapping, Sequence

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js.api import PubAck

from controlplane import tracing
from controlplane.contracts.errors import BusError
from controlplane.contracts.events import Event
from controlplane.contracts.subjects import dead_subject_of, headers_of, subject_of

EXPECTED_LAST = "Nats-Expected-Last-Subject-Sequence"
MESSAGE_ID = "Nats-Msg-Id"
REASON_HEADER = "Tidegate-Reason"
ERROR_HEADER = "Tidegate-Error"
SUBJECT_HEADER = "Tidegate-Subject"

WAIT_SECONDS = 60.0
ATTEMPT_SECONDS = 2.0
FIRST_DELAY_SECONDS = 0.05
LONGEST_DELAY_SECONDS = 1.0
WINDOW = 256
ERROR_CHARACTERS = 500
# Of a dead letter's headers half are at most the original's own; the rest is for what is said of it.
DEAD_HEADERS_BYTES = 16 * 1024
KEPT_HEADERS_BYTES = DEAD_HEADERS_BYTES // 2
WRONG_LAST_SEQUENCE = (10071, 10164)


class PublishError(BusError):
    """The stream will not take a message."""


class StreamAway(PublishError):
    """The stream did not answer within the time: it may have taken the message or not, and asking again may help."""


class SequenceConflict(PublishError):
    """Another writer was first: the subject's last sequence is not the one that was expected."""


class Publisher:
    """Publishes from one service. `await Publisher(client, "tidegate/planner").publish(decision)`.

    `source` becomes `ce-source`. Waits at most `wait_seconds` for a server that is away, then raises StreamAway.
    """

    def __init__(self, client: Client, source: str, wait_seconds: float = WAIT_SECONDS, window: int = WINDOW) -> None:
        self.source = source
        self._client = client
        self._js = client.jetstream(timeout=ATTEMPT_SECONDS)
        self._wait_seconds = wait_seconds
        self._window = window

    async def publish(self, event: Event, expected_last: int | None = None, headers: Mapping[str, str] | None = None) -> PubAck:
        """Publish one event and return the stream's acknowledgement; SequenceConflict when `expected_last` is not the subject's last."""
        body = event.model_dump_json().encode()
        sent = {**headers_of(event, self.source), **tracing.carried(), **(headers or {})}
        return await self.publish_raw(subject_of(event), body, sent, expected_last)

    async def publish_many(self, events: Sequence[Event]) -> list[PubAck]:
        """Publish a batch: in order within a subject, up to `window` subjects at a time; returns the acknowledgements in order."""
        by_subject: dict[str, list[int]] = {}
        for index, event in enumerate(events):
            by_subject.setdefault(subject_of(event), []).append(index)
        acks: dict[int, PubAck] = {}
        room = asyncio.Semaphore(self._window)

        async def one_subject(indices: list[int]) -> None:
            async with room:
                for index in indices:
                    acks[index] = await self.publish(events[index])

        async with asyncio.TaskGroup() as group:
            for indices in by_subject.values():
                group.create_task(one_subject(indices))
        return [acks[index] for index in range(len(events))]

    async def publish_raw(self, subject: str, body: bytes, headers: Mapping[str, str], expected_last: int | None = None) -> PubAck:
        """Publish bytes, trying again while the server is away; one message id for all attempts, so it is stored once."""
        sent = dict(headers)
        if expected_last is not None:
            sent[EXPECTED_LAST] = str(expected_last)
        deadline = time.monotonic() + self._wait_seconds
        delay = FIRST_DELAY_SECONDS
        while True:
            try:
                return await self._attempt(subject, body, sent)
            except (nats.js.errors.NoStreamResponseError, nats.js.errors.ServiceUnavailableError, nats.js.errors.ServerError) as error:
                problem: Exception = error
            except nats.js.errors.APIError as error:
                raise _refusal(subject, error) from error
            except (nats.errors.MaxPayloadError, nats.errors.BadSubjectError, nats.errors.ConnectionClosedError) as error:
                raise PublishError(f"{subject} cannot be published: {error}") from error
            except (nats.errors.Error, OSError, TimeoutError) as error:
                problem = error
            if time.monotonic() + delay > deadline:
                text = str(problem) or type(problem).__name__
                raise StreamAway(f"{subject} was not taken within {self._wait_seconds:g} s: {text}; is the NATS server up?") from problem
            await asyncio.sleep(delay * random.uniform(0.8, 1.2))
            delay = min(delay * 2, LONGEST_DELAY_SECONDS)

    async def dead_letter(
        self,
        subject: str,
        body: bytes,
        reason: str,
        error: BaseException | str,
        headers: Mapping[str, str] | None = None,
        message_id: str | None = None,
    ) -> PubAck:
        """Put a message that cannot be used where it can be looked at, with the reason in its headers."""
        dead = dead_headers(subject, reason, error, headers, message_id)
        return await self.publish_raw(dead_subject_of(subject), clipped(body, self._client), dead)

    async def _attempt(self, subject: str, body: bytes, headers: dict[str, str]) -> PubAck:
        if not self._client.is_connected and not self._client.is_closed:
            # nats-py would buffer it and send it late, behind our back: wait for the connection instead.
            raise nats.errors.TimeoutError
        return await self._js.publish(subject, body, headers=headers)


def dead_headers(
    subject: str, reason: str, error: BaseException | str, headers: Mapping[str, str] | None = None, message_id: str | None = None
) -> dict[str, str]:
    """Return the headers of a dead letter: the original's, less what JetStream would act upon, plus where, why and what.

    Of more than `KEPT_HEADERS_BYTES` the shortest are kept: what names a message is short.
    """
    kept, room = {}, KEPT_HEADERS_BYTES
    for name, value in sorted((headers or {}).items(), key=lambda header: len(header[0]) + len(header[1].encode())):
        room -= len(name) + len(value.encode()) + len(": \r\n")
        if room >= 0 and not name.startswith("Nats-"):
            kept[name] = value
    text = " ".join(str(error).split()).encode("ascii", "replace").decode()[:ERROR_CHARACTERS]
    dead = {**kept, SUBJECT_HEADER: subject, REASON_HEADER: reason, ERROR_HEADER: text}
    return {**dead, MESSAGE_ID: message_id} if message_id else dead


def clipped(body: bytes, client: Client) -> bytes:
    """Return as much of a body as fits into a message beside the headers of a dead letter."""
    return body[: max(client.max_payload - DEAD_HEADERS_BYTES, 0)]


def _refusal(subject: str, error: nats.js.errors.APIError) -> PublishError:
    if error.err_code in WRONG_LAST_SEQUENCE:
        return SequenceConflict(f"{subject}: another writer was first ({error.description})")
    return PublishError(f"{subject} was refused by JetStream: {error.description}")
