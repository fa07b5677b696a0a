"""The ordered loop of the planner and the forecaster: every input in stream order through a pure step, outputs published, then on.

Owns restoring (snapshot, then the tail), dead-lettering of what does not decode or comes from the future, and that a crash at any point
neither repeats an output nor loses one (`outbox`). It must not decide: `step` does, and knows nothing of NATS. It runs while its `lease`
is held.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import ValidationError

from controlplane import tracing
from controlplane.bus.outbox import Outbox, Output
from controlplane.bus.publish import Publisher, StreamAway
from controlplane.bus.reader import BATCH, OrderedReader
from controlplane.bus.snapshots import Snapshot, SnapshotStore
from controlplane.clocks import Clock
from controlplane.contracts.errors import BusError, SnapshotError
from controlplane.contracts.events import Alert, Event, Observation, Tick
from controlplane.contracts.subjects import INPUT_SUBJECTS, INPUTS_STREAM, event_type_of, subject_of

SNAPSHOT_SECONDS = 180.0
IDLE_SECONDS = 0.5
# Observations and ticks move a fleet's time on, and alerts end by theirs: one from tomorrow would make all of today's too old to count.
TIMED = (Observation, Tick, Alert)
AHEAD_SECONDS = 60.0
FOLDED_AT_ONCE = 16
AT_ONCE_SECONDS = 0.002
# One connection serves all folds of a process.
_turns: "WeakKeyDictionary[Client, asyncio.Lock]" = WeakKeyDictionary()

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Folding[S]:
    """What is folded: a pure step and the state's birth, writing and reading. `version` is the schema version of `dump`.
    `verb` names its spans, where traces are on. With `takes_turns` its steps are long: of all such folds on a connection one at a time
    takes some, and everybody else runs in between, so that a hundred forecasts do not stand before one alert.

    An event for which `step` raises is set aside with the reason, and the fold goes on with the state from before it.
    """

    step: Callable[[S, Event, int], tuple[S, Sequence[Event]]]
    start: Callable[[], S]
    dump: Callable[[S], bytes]
    load: Callable[[bytes], S]
    version: int
    verb: str = "fold"
    takes_turns: bool = False


@dataclass(slots=True)
class Counts:
    """What a fold has done since it started."""

    folded: int = 0
    undecodable: int = 0
    failed: int = 0
    published: int = 0
    repeated: int = 0
    snapshots: int = 0


class Fold[S]:
    """One service's fold over the inputs. `await fold.run()` until `fold.stop()`, which folds no more and writes a snapshot.

    `caught_up` is set once the newest input that was there has been folded: before, `state` is history.
    `latest` tells the newest time that an event may bear which was stored at a wall time; None: any.
    `on_batch` is awaited after every batch, outputs published; `hear` is told each event folded after `caught_up`.
    Cancelling `run` writes no snapshot: for a lost lease.
    """

    def __init__(
        self,
        client: Client,
        service: str,
        fleet: str,
        folding: Folding[S],
        subjects: Sequence[str] = INPUT_SUBJECTS,
        snapshot_seconds: float = SNAPSHOT_SECONDS,
        on_batch: Callable[[S], Awaitable[None]] | None = None,
        hear: Callable[[Event], None] | None = None,
        latest: Callable[[float], float] | None = None,
    ) -> None:
        self.state: S = folding.start()
        self.sequence = 0
        self.lag: int | None = None
        self.counts = Counts()
        self.caught_up = asyncio.Event()
        self._client = client
        self._name, self._fleet = f"tidegate-{service}", fleet
        self._log = log.bind(service=self._name, fleet=fleet)
        self._folding = folding
        self._subjects = tuple(subjects)
        self._snapshot_seconds = snapshot_seconds
        self._on_batch = on_batch
        self._hear = hear
        self._latest = latest
        self._publisher = Publisher(client, f"tidegate/{service}/{fleet}")
        self._store = SnapshotStore(client, service, fleet)
        self._turn = _turns.setdefault(client, asyncio.Lock()) if folding.takes_turns else contextlib.nullcontext()
        self._stopping = asyncio.Event()
        self._saved_sequence = 0
        self._epoch = 0

    def stop(self) -> None:
        """Let `run` end after the batch in hand, with a snapshot."""
        self._stopping.set()

    async def run(self) -> None:
        """Restore, then fold until told to stop; BusError when NATS refuses for good."""
        last_in_stream = await self._restore()
        outbox = Outbox(self._client, self._publisher, self._epoch)
        reader = OrderedReader(self._client, INPUTS_STREAM, self._subjects, self.sequence, self._name)
        self._log.info("folding", after=self.sequence, last=last_in_stream)
        saved_at = time.monotonic()
        try:
            while not self._stopping.is_set():
                batch = await reader.next_batch(BATCH, IDLE_SECONDS)
                await self._fold_batch(batch, outbox)
                self.lag = reader.pending
                if reader.pending == 0 or self.sequence >= last_in_stream:
                    self.caught_up.set()
                if batch and self._on_batch is not None:
                    await self._on_batch(self.state)
                if time.monotonic() - saved_at >= self._snapshot_seconds:
                    await self._save()
                    saved_at = time.monotonic()
            await self._save()
        finally:
            await reader.close()

    async def _restore(self) -> int:
        """Take the snapshot up, if there is one that fits this stream, and return the stream's last sequence."""
        try:
            info = await self._client.jetstream().stream_info(INPUTS_STREAM)
        except (nats.errors.Error, TimeoutError) as error:
            raise BusError(f"the stream {INPUTS_STREAM} cannot be read: {error}") from error
        self._epoch = int(info.created.timestamp() * 1000) if info.created else 0
        try:
            snapshot = await self._store.load(self._folding.version)
            if snapshot is None:
                return info.state.last_seq
            if snapshot.epoch != self._epoch or snapshot.sequence > info.state.last_seq:
                raise SnapshotError(f"the snapshot of {self._name} was taken of another stream")
            self.state = self._folding.load(snapshot.state)
        except SnapshotError as error:
            self._log.warning("the state is rebuilt from the stream's start", reason=str(error))
            return info.state.last_seq
        self.sequence = self._saved_sequence = snapshot.sequence
        if info.state.first_seq > snapshot.sequence + 1:
            self._log.warning("inputs after the snapshot are no longer kept", first=info.state.first_seq, after=self.sequence)
        return info.state.last_seq

    async def _fold_batch(self, batch: Sequence[Msg], outbox: Outbox) -> None:
        """Fold a batch and publish its outputs; only then is it behind us."""
        outputs: list[Output] = []
        sequence = self.sequence
        waiting = deque(batch)
        while waiting:
            async with self._turn:
                sequence, made = self._fold_some(waiting, sequence, outbox)
                outputs += made
                # Others in this process, an alert on its way above all, must not wait for the whole batch.
                await asyncio.sleep(0)
        while outputs:
            try:
                await outbox.issue(outputs)
                break
            except StreamAway as error:
                if self._stopping.is_set():
                    # Nothing was advanced: after a restart the same inputs give the same outputs.
                    raise
                self._log.warning("outputs wait for the server", outputs=len(outputs), reason=str(error))
        self.sequence = sequence
        self.counts.published, self.counts.repeated = outbox.counts.published, outbox.counts.repeated

    def _fold_some(self, waiting: deque[Msg], sequence: int, outbox: Outbox) -> tuple[int, list[Output]]:
        """Fold the first of what is waiting, for a moment at the most; return how far that came, and the outputs."""
        outputs: list[Output] = []
        until = time.monotonic() + AT_ONCE_SECONDS
        for _ in range(min(len(waiting), FOLDED_AT_ONCE)):
            message = waiting.popleft()
            if message.metadata.sequence.stream > sequence:
                sequence = message.metadata.sequence.stream
                outputs += self._fold_one(message, sequence, outbox)
            if time.monotonic() >= until:
                break
        return sequence, outputs

    def _fold_one(self, message: Msg, sequence: int, outbox: Outbox) -> list[Output]:
        """Return the outputs of one message: those of the step, or one dead letter."""
        event = self._on_time(decode(message.subject, message.data), message)
        if not isinstance(event, Event):
            self.counts.undecodable += 1
            return [outbox.dead_letter_of(message.subject, message.data, sequence, event, message.headers or {})]
        with tracing.resumed(message.headers):
            try:
                outputs = self._stepped(event, sequence, outbox)
            except Exception as error:
                # One event that trips a defect of ours must not stop the fleet's control: it is kept for inspection.
                self.counts.failed += 1
                reason = f"the step of {self._name} failed"
                self._log.exception(reason, subject=message.subject, sequence=sequence)
                told = f"step failed: {error!r}"
                return [outbox.dead_letter_of(message.subject, message.data, sequence, told, message.headers or {}, reason)]
        self.counts.folded += 1
        if self._hear is not None and self.caught_up.is_set():
            tell(self._hear, event)
        return outputs

    def _stepped(self, event: Event, sequence: int, outbox: Outbox) -> list[Output]:
        """Take the step. Its outputs carry the trace on; what is folded as history makes no span a second time."""
        began = tracing.now_ns()
        state, events = self._folding.step(self.state, event, sequence)
        is_told = bool(events) and self.caught_up.is_set()
        with self._span(event, sequence, began) if is_told else tracing.NOTHING as span:
            outputs = [outbox.output_of(output, sequence, index) for index, output in enumerate(events)]
            span.note(outputs=" ".join(output.headers["ce-id"] for output in outputs))
        self.state = state
        return outputs

    def _span(self, event: Event, sequence: int, since_ns: int) -> AbstractContextManager[tracing.Noted]:
        return tracing.span(self._folding.verb, kind="consumer", since_ns=since_ns, fleet=self._fleet, input=event.kind, sequence=sequence)

    def _on_time(self, event: Event | str, message: Msg) -> Event | str:
        """Return the event, or the reason why it cannot be from when it says. The stream's own time decides: history replays alike."""
        if self._latest is None or not isinstance(event, TIMED):
            return event
        if isinstance(event, Tick) and event.fleet not in (None, self._fleet):
            return event  # another fleet's, which no step heeds: it may live on another clock, such as that of a replay
        ahead = event.time.timestamp() - self._latest(message.metadata.timestamp.timestamp())
        return event if ahead <= 0.0 else f"its time, {event.time.isoformat()}, is ahead of the clock; is its sender's clock right?"

    async def _save(self) -> None:
        if self.sequence == self._saved_sequence:
            return
        snapshot = Snapshot(self._folding.version, self.sequence, self._epoch, self._folding.dump(self.state))
        try:
            if await self._store.save(snapshot):
                self._saved_sequence = self.sequence
                self.counts.snapshots += 1
            else:
                self._log.warning("snapshot not written: another writer is ahead", sequence=self.sequence)
        except BusError as error:
            # The stream still holds what a snapshot would have saved us from reading again.
            self._log.warning("snapshot not written", reason=str(error))


def tell(hear: Callable[[Event], None], event: Event) -> None:
    """Tell somebody who looks on of an event; that he cannot take it in is logged, and stops nobody."""
    try:
        hear(event)
    except Exception:
        log.exception("an event was not taken in by one who looks on", subject=subject_of(event))


def latest_by(clock: Clock) -> Callable[[float], float]:
    """Return the newest time that an event may bear which was stored at a wall time, by the fleet's clock: a minute ahead of it."""
    return lambda stored_unix: clock.at(stored_unix + AHEAD_SECONDS)


def decode(subject: str, body: bytes) -> Event | str:
    """Return the event in a message, or the reason why there is none."""
    kind = event_type_of(subject)
    if kind is None:
        return f"{subject} is not a subject that carries an event"
    try:
        event = kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        return f"not an event of kind {kind.kind}: {where}: {first['msg']} ({error.error_count()} in all)"
    if subject_of(event) != subject:
        return f"the body is for {subject_of(event)}"
    return event


def input_subjects_of(fleet: str) -> tuple[str, ...]:
    """Return the subjects that one fleet's fold reads: its own, and the quotes and ticks that are everybody's."""
    return (
        f"tidegate.observation.{fleet}",
        f"tidegate.pool.{fleet}.*",
        "tidegate.quote.*",
        f"tidegate.launch.{fleet}",
        f"tidegate.alert.{fleet}",
        f"tidegate.forecast.{fleet}",
        "tidegate.tick",
    )
