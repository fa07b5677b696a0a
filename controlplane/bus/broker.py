"""The FastStream side: brokers on a connection of ours, pull subscribers, and nothing lost when a handler or a body is bad.

Owns which service says what (`PUBLISHES`), from which `asyncapi` documents the bus, and the law for failures: a body that does not
decode is dead-lettered and acked, a handler's failure is tried again a bounded number of times and then dead-lettered.
It must not fold: the planner's and forecaster's inputs are read by `fold`, inside the lifespan of a FastStream app.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any

import nats.errors
import structlog
from faststream import AckPolicy, BaseMiddleware, FastStream
from faststream.nats import JStream, NatsBroker, NatsMessage, PullSub
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, DeliverPolicy

from controlplane import tracing
from controlplane.bus.fold import decode
from controlplane.bus.publish import Publisher
from controlplane.contracts.errors import BusError, TidegateError
from controlplane.contracts.events import Actuation, Alert, Decision, Event, Forecast, Launch, Observation, PoolStatus, Quote, Tick, Tide
from controlplane.contracts.subjects import ACTUATOR_DURABLE, DECISION, INPUTS_STREAM, OUTPUTS_STREAM, TEMPLATES

DELIVERIES = 5
ACK_WAIT_SECONDS = 30.0
# More than one: an ack that died with the server would otherwise hold back every later decision for the whole ack wait.
ACKS_PENDING = 64
FIRST_RETRY_SECONDS = 0.5
LONGEST_RETRY_SECONDS = 30.0
FETCH_SECONDS = 1.0
ERROR_PAUSE_SECONDS = 0.25

PUBLISHES: dict[str, tuple[type[Event], ...]] = {
    "collector": (Observation,),
    "quoter": (Quote,),
    "forecaster": (Forecast, Tide),
    "planner": (Tick, Decision),
    "web": (Alert, Launch, Tick),
    "actuator": (PoolStatus, Actuation, Quote, Tick),
}

log = structlog.get_logger(__name__)


class Undecodable(TidegateError):
    """A body that is not the event its subject carries."""


class PatientJetStream(JetStreamContext):
    """A JetStream context whose pull subscriptions pause after an error.

    FastStream's pull loop passes over errors without ever yielding: with a closed connection it would freeze the whole process.
    """

    async def pull_subscribe(self, *args: Any, **options: Any) -> Any:
        """Subscribe as the original does."""
        return _PatientPull(await super().pull_subscribe(*args, **options))


class _PatientPull:
    def __init__(self, subscription: JetStreamContext.PullSubscription) -> None:
        self._subscription = subscription

    async def fetch(self, batch: int = 1, timeout: float | None = FETCH_SECONDS) -> list[Msg]:
        try:
            return await self._subscription.fetch(batch, timeout)
        except nats.errors.TimeoutError:
            raise
        except nats.errors.Error:
            await asyncio.sleep(ERROR_PAUSE_SECONDS)
            raise

    async def unsubscribe(self) -> None:
        with contextlib.suppress(nats.errors.ConnectionClosedError, nats.errors.BadSubscriptionError):
            await self._subscription.unsubscribe()


class EventBroker(NatsBroker):
    """A NatsBroker on a client that is already connected and stays its owner's. Stop the broker before closing the client."""

    def __init__(self, client: Client | None, **options: Any) -> None:
        super().__init__(**options)
        self._client = client

    async def _connect(self) -> Client:
        if self._client is None:
            raise BusError("this broker only documents the bus: it has no connection")
        self.config.connect(self._client)
        self.config.connection_state.connect(self._client, PatientJetStream(self._client))
        return self._client

    async def stop(
        self,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> None:
        """Stop the subscribers, and leave the connection as it is."""
        self._connection = None
        await super().stop(exc_type, exc_val, exc_tb)


def build_broker(client: Client | None, service: str, deliveries: int = DELIVERIES) -> EventBroker:
    """Return a service's broker: its publishers declared, its handlers guarded. A client of None only documents.

    A handler gets the decoded event. One that raises sees its message again after 0.5, 1, 2, … s, `deliveries` times in all.
    """
    middlewares: tuple[Any, ...] = ()
    if client is not None:
        middlewares = (DeadLetters(Publisher(client, f"tidegate/{service}"), deliveries), *tracing.faststream_middlewares())
    broker = EventBroker(client, middlewares=middlewares, decoder=decode_event, description=f"tidegate {service}", logger=None)
    for event in PUBLISHES.get(service, ()):
        stream = JStream(OUTPUTS_STREAM if event in (Decision, Actuation) else INPUTS_STREAM, declare=False)
        broker.publisher(TEMPLATES[event], stream=stream, schema=event, title=_title(event, service), description=_first_line(event))
    return broker


def on_decisions(
    broker: EventBroker,
    handler: Callable[[Decision], Awaitable[None]],
    fleet: str | None = None,
    durable: str = ACTUATOR_DURABLE,
) -> Any:
    """Subscribe a handler to decisions, one at a time, starting with each fleet's newest; returns FastStream's subscriber.

    With a `fleet` the durable is that fleet's own, so that the holder of its lease, and nobody else, hears all of them.
    A decision that is tried again may come after a newer one: keep the newest by `time`.
    Started by `broker.start()`, or by its own `start()` when the broker runs already.
    """
    subscriber = broker.subscriber(
        DECISION if fleet is None else DECISION.format(fleet=fleet),
        stream=JStream(OUTPUTS_STREAM, declare=False),
        durable=durable if fleet is None else f"{durable}-{fleet}",
        deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
        config=ConsumerConfig(ack_wait=ACK_WAIT_SECONDS, max_ack_pending=ACKS_PENDING),
        pull_sub=PullSub(batch_size=1, timeout=FETCH_SECONDS),
        ack_policy=AckPolicy.NACK_ON_ERROR,
        title="Decisions" if fleet is None else f"Decisions of {fleet}",
        description=_first_line(Decision),
    )
    subscriber(handler)
    return subscriber


def service_app(broker: EventBroker, loops: Sequence[Callable[[], Awaitable[None]]] = ()) -> FastStream:
    """Return the FastStream app of a service: the broker's subscribers, and `loops` (such as `fold.run`) while it runs.

    `await app.start()` and `await app.stop()` run several in one process; `await app.run()` is for one alone, with signals.
    A loop that ends with an error ends the app too.
    """
    tasks: list[asyncio.Task[None]] = []
    app = FastStream(broker, logger=None)

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            log.error("a service loop failed", error=repr(task.exception()))
            app.exit()

    async def start() -> None:
        for loop in loops:
            task = asyncio.ensure_future(loop())
            task.add_done_callback(ended)
            tasks.append(task)

    async def stop() -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    app.after_startup(start)
    app.on_shutdown(stop)
    return app


async def decode_event(message: NatsMessage) -> Event:
    """Return the event in a message; Undecodable says why there is none."""
    event = decode(message.raw_message.subject, message.raw_message.data)
    if isinstance(event, str):
        raise Undecodable(event)
    return event


class DeadLetters:
    """Makes a middleware per message: what cannot be handled goes to `tidegate.dead.<subject>` and is acked."""

    def __init__(self, publisher: Publisher, deliveries: int = DELIVERIES) -> None:
        self.publisher = publisher
        self.deliveries = deliveries
        self.undecodable = 0
        self.failed = 0

    def __call__(self, msg: Msg | None, /, *, context: Any) -> "_DeadLetter":
        """Return the middleware of one message, as FastStream asks."""
        return _DeadLetter(msg, context=context, owner=self)


class _DeadLetter(BaseMiddleware[Any, Msg | None]):
    def __init__(self, msg: Msg | None, /, *, context: Any, owner: DeadLetters) -> None:
        super().__init__(msg, context=context)
        self._owner = owner

    async def after_processed(
        self,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> bool | None:
        """Settle a failure. True: it is dealt with, and FastStream acks. False: the message will come again."""
        if not isinstance(exc_val, Exception) or self.msg is None:
            return False
        delivered = self.msg.metadata.num_delivered or 1
        undecodable = isinstance(exc_val, Undecodable)
        if not undecodable and delivered < self._owner.deliveries:
            delay = min(FIRST_RETRY_SECONDS * 2 ** (delivered - 1), LONGEST_RETRY_SECONDS)
            log.warning("handler failed, to be tried again", subject=self.msg.subject, delivered=delivered, error=repr(exc_val))
            await self.msg.nak(delay=delay)
            return True
        await self._bury(self.msg, exc_val, "undecodable" if undecodable else f"failed {delivered} times")
        self._owner.undecodable += undecodable
        self._owner.failed += not undecodable
        return True

    async def _bury(self, message: Msg, error: Exception, reason: str) -> None:
        sequence = message.metadata.sequence.stream
        log.error("message set aside", subject=message.subject, sequence=sequence, reason=reason, error=str(error))
        identity = f"dead-{message.metadata.stream}-{sequence}"
        await self._owner.publisher.dead_letter(message.subject, message.data, reason, error, message.headers, identity)


@contextlib.asynccontextmanager
async def running(app: FastStream) -> AsyncIterator[FastStream]:
    """Run an app for as long as the block lasts."""
    await app.start()
    try:
        yield app
    finally:
        await app.stop()


def _title(event: type[Event], service: str) -> str:
    """Return a title that is one service's own: an event that several say is documented for each."""
    first = next(name for name, events in PUBLISHES.items() if event in events)
    return event.__name__ if service == first else f"{event.__name__}From{service.capitalize()}"


def _first_line(event: type[Event]) -> str:
    return (event.__doc__ or "").strip().splitlines()[0]
