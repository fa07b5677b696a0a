"""Outputs of a fold, issued once: a replay of history after a crash publishes only what had not been published.

Owns the header that names the input which caused an output; the newest one on a subject tells what was issued already.
So a kill -9 at any point neither repeats an output nor loses one. `fold` uses it; `publish` does the sending.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client

from controlplane import tracing
from controlplane.bus.publish import (
    ERROR_HEADER,
    REASON_HEADER,
    SUBJECT_HEADER,
    Publisher,
    PublishError,
    SequenceConflict,
    StreamAway,
    clipped,
    dead_headers,
)
from controlplane.contracts.events import Actuation, Decision, Event
from controlplane.contracts.subjects import (
    DEAD_STREAM,
    INPUTS_STREAM,
    OUTPUTS_STREAM,
    dead_subject_of,
    headers_of,
    subject_of,
)

CAUSE_HEADER = "Tidegate-Cause"
UNDECODABLE = "undecodable"
CONFLICTS_BORNE = 8
SUBJECTS_AT_ONCE = 64

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, order=True)
class Cause:
    """Which input made an output: its stream sequence, and the how-manieth output of that input it is."""

    sequence: int
    index: int


@dataclass(frozen=True, slots=True)
class Output:
    """A message to issue for a cause."""

    cause: Cause
    stream: str
    subject: str
    body: bytes
    headers: Mapping[str, str]


@dataclass(slots=True)
class _Tail:
    """What the newest message of a subject says; `issued` is None when it was caused by nothing in this stream's life."""

    last: int = 0
    issued: Cause | None = None


@dataclass(slots=True)
class Issued:
    """How many outputs were published, and how many had been before."""

    published: int = 0
    repeated: int = 0


@dataclass(slots=True)
class Outbox:
    """Issues outputs in order per subject. `epoch` names this life of the input stream: sequences start over in the next.

    Exact for subjects that only folds write (forecasts, decisions). Where others write too, such as launches, an output whose
    subject was written by another since may be issued again after a crash: those events are harmless twice.
    """

    client: Client
    publisher: Publisher
    epoch: int
    counts: Issued = field(default_factory=Issued)
    _tails: dict[str, _Tail] = field(default_factory=dict)

    def output_of(self, event: Event, sequence: int, index: int) -> Output:
        """Return the output that an event becomes."""
        stream = OUTPUTS_STREAM if isinstance(event, Decision | Actuation) else INPUTS_STREAM
        body = event.model_dump_json().encode()
        headers = {**headers_of(event, self.publisher.source), **tracing.carried()}
        return Output(Cause(sequence, index), stream, subject_of(event), body, headers)

    def dead_letter_of(
        self, subject: str, body: bytes, sequence: int, error: BaseException | str, headers: Mapping[str, str], reason: str = UNDECODABLE
    ) -> Output:
        """Return the output that an input becomes which cannot be folded: one dead letter, whichever service saw it first."""
        identity = f"dead-{self.epoch}-{sequence}"
        dead = dead_headers(subject, reason, error, headers, identity)
        return Output(Cause(sequence, 0), DEAD_STREAM, dead_subject_of(subject), clipped(body, self.client), dead)

    async def issue(self, outputs: Sequence[Output]) -> None:
        """Publish those that were not issued yet and return once all are stored; StreamAway when the server stays away."""
        by_subject: dict[str, list[Output]] = {}
        for output in outputs:
            by_subject.setdefault(output.subject, []).append(output)
        room = asyncio.Semaphore(SUBJECTS_AT_ONCE)

        async def one_subject(chain: list[Output]) -> None:
            async with room:
                for output in chain:
                    await self._issue_one(output)

        results = await asyncio.gather(*map(one_subject, by_subject.values()), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _issue_one(self, output: Output) -> None:
        headers = {**output.headers, CAUSE_HEADER: f"{self.epoch}.{output.cause.sequence}.{output.cause.index}"}
        for _ in range(CONFLICTS_BORNE):
            tail = self._tails.get(output.subject)
            if tail is None:
                tail = self._tails[output.subject] = await self._read_tail(output.stream, output.subject)
            if tail.issued is not None and output.cause <= tail.issued:
                self.counts.repeated += 1
                return
            try:
                ack = await self.publisher.publish_raw(output.subject, output.body, headers, expected_last=tail.last)
            except SequenceConflict:
                # Our own earlier attempt whose answer was lost, or another writer: the subject's tail tells which.
                del self._tails[output.subject]
                continue
            self._tails[output.subject] = _Tail(ack.seq, output.cause)
            self.counts.published += 1
            if output.stream == DEAD_STREAM:
                # Said here, as several services may come upon the same input and one of them writes the letter.
                why = {"reason": headers[REASON_HEADER], "error": headers[ERROR_HEADER]}
                log.warning("input set aside", subject=headers[SUBJECT_HEADER], sequence=output.cause.sequence, **why)
            return
        raise PublishError(f"{output.subject} is written by others faster than we can follow; is a second service without a lease running?")

    async def _read_tail(self, stream: str, subject: str) -> _Tail:
        """Return the newest message's sequence and cause, read from the stream's leader."""
        try:
            message = await self.client.jetstream().get_last_msg(stream, subject)
        except nats.js.errors.NotFoundError:
            return _Tail()
        except (nats.errors.Error, TimeoutError) as error:
            raise StreamAway(f"the newest message of {subject} cannot be read: {error}") from error
        return _Tail(message.seq or 0, self._cause_in((message.headers or {}).get(CAUSE_HEADER, "")))

    def _cause_in(self, text: str) -> Cause | None:
        parts = text.split(".")
        if len(parts) != 3 or not all(part.isdigit() for part in parts) or int(parts[0]) != self.epoch:
            return None
        return Cause(int(parts[1]), int(parts[2]))
