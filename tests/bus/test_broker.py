"""FastStream handlers: every decision heard, failures tried again and then set aside, and all of it documented."""

import asyncio
import os
import signal
from functools import partial

from nats.aio.client import Client

from controlplane.bus.asyncapi import asyncapi_document
from controlplane.bus.broker import build_broker, on_decisions, running, service_app
from controlplane.bus.connect import connect
from controlplane.bus.embedded import EmbeddedServer
from controlplane.bus.publish import Publisher
from controlplane.contracts.events import EVENTS, Decision
from controlplane.contracts.fleet import Mode
from controlplane.contracts.subjects import ACTUATOR_DURABLE, DEAD_STREAM, OUTPUTS_STREAM, TEMPLATES
from controlplane.contracts.units import from_unix
from tests.bus.conftest import Eventually
from tests.bus.events import FLEET, START_UNIX
from tests.bus.test_embedded import server_pid


def decision(number: int, fleet: str = FLEET) -> Decision:
    time = from_unix(START_UNIX + number)
    return Decision(time=time, fleet=fleet, mode=Mode.ACT, expires=time, targets={"reserved": number})


class Heard:
    """A handler that notes targets, and fails for those in `bad` as often as it says."""

    def __init__(self, bad: dict[int, int] | None = None) -> None:
        self.targets: list[int] = []
        self.bad = bad or {}

    def has(self, targets: list[int]) -> bool:
        return self.targets == targets

    async def __call__(self, decision: Decision) -> None:
        target = decision.targets["reserved"]
        self.targets.append(target)
        if self.targets.count(target) <= self.bad.get(target, 0):
            raise RuntimeError(f"no luck with {target}")


async def test_a_new_actuator_starts_with_the_newest_decision_and_a_restarted_one_misses_none(
    client: Client, eventually: Eventually
) -> None:
    publisher = Publisher(client, "tidegate/test")
    await publisher.publish_many([decision(1), decision(2), decision(3, "other")])
    for expected, more in (([2], 4), ([4, 5], 6)):
        heard = Heard()
        broker = build_broker(client, "actuator")
        on_decisions(broker, heard, fleet=FLEET)
        async with running(service_app(broker)):
            await eventually(partial(heard.has, expected))
        await publisher.publish_many([decision(more), decision(more + 1)])
    assert client.is_connected, "the connection is not the broker's to close"


async def test_two_actuators_share_what_there_is(client: Client, eventually: Eventually) -> None:
    first, second = Heard(), Heard()
    apps = []
    for heard in (first, second):
        broker = build_broker(client, "actuator")
        on_decisions(broker, heard)
        apps.append(service_app(broker))
    async with running(apps[0]), running(apps[1]):
        await Publisher(client, "tidegate/test").publish_many([decision(number) for number in range(40)])
        await eventually(lambda: len(first.targets) + len(second.targets) == 40)
    assert sorted(first.targets + second.targets) == list(range(40))
    assert first.targets
    assert second.targets


async def test_a_failure_is_tried_again_and_then_set_aside(client: Client, eventually: Eventually) -> None:
    heard = Heard(bad={1: 1, 2: 99})
    broker = build_broker(client, "actuator", deliveries=2)
    on_decisions(broker, heard, fleet=FLEET)
    js = client.jetstream()
    async with running(service_app(broker)):
        for number in (1, 2, 3):
            await Publisher(client, "tidegate/test").publish(decision(number))
            await eventually(partial(heard.targets.count, number))
        await eventually(lambda: sorted(heard.targets) == [1, 1, 2, 2, 3])
        pending = (await js.consumer_info(OUTPUTS_STREAM, f"{ACTUATOR_DURABLE}-{FLEET}")).num_ack_pending
    headers = (await js.get_last_msg(DEAD_STREAM, f"tidegate.dead.tidegate.decision.{FLEET}")).headers or {}
    assert (headers["Tidegate-Reason"], headers["Tidegate-Error"]) == ("failed 2 times", "no luck with 2")
    assert pending <= 1


async def test_a_body_that_does_not_decode_is_set_aside_at_once(client: Client, eventually: Eventually) -> None:
    heard = Heard()
    broker = build_broker(client, "actuator")
    on_decisions(broker, heard, fleet=FLEET)
    js = client.jetstream()
    async with running(service_app(broker)):
        for body in (b"\xff", b"{}", b'"text"', decision(1, "other").model_dump_json().encode()):
            await js.publish(f"tidegate.decision.{FLEET}", body)
        await Publisher(client, "tidegate/test").publish(decision(7))
        await eventually(lambda: heard.targets == [7])
    assert (await js.stream_info(DEAD_STREAM)).state.messages == 4
    info = await js.consumer_info(OUTPUTS_STREAM, f"{ACTUATOR_DURABLE}-{FLEET}")
    assert (info.num_redelivered, info.num_pending) == (0, 0)


async def test_decisions_are_heard_through_kill_9_of_the_server(server: EmbeddedServer, client: Client, eventually: Eventually) -> None:
    heard = Heard()
    broker = build_broker(client, "actuator")
    on_decisions(broker, heard, fleet=FLEET)
    publisher = Publisher(client, "tidegate/test")
    async with running(service_app(broker)):
        await publisher.publish(decision(1))
        await eventually(lambda: heard.targets == [1])
        os.kill(server_pid(), signal.SIGKILL)
        await publisher.publish(decision(2))
        await eventually(lambda: 2 in heard.targets)


async def test_a_connection_that_was_closed_freezes_nothing(server: EmbeddedServer, client: Client) -> None:
    closed = asyncio.Event()

    async def note() -> None:
        closed.set()

    doomed = await connect(server.url, on_closed=note)
    broker = build_broker(doomed, "actuator")
    on_decisions(broker, Heard(), fleet=FLEET)
    async with running(service_app(broker)):
        await doomed.close()
        await asyncio.wait_for(closed.wait(), 10)
        await asyncio.sleep(0.1)
        assert client.is_connected


async def test_a_loop_runs_with_its_app_and_its_failure_ends_the_app(client: Client) -> None:
    started = asyncio.Event()

    async def loop() -> None:
        started.set()
        await asyncio.Event().wait()

    async def fails() -> None:
        raise RuntimeError("broken")

    async with running(service_app(build_broker(client, "planner"), [loop])):
        await asyncio.wait_for(started.wait(), 10)
    await asyncio.wait_for(service_app(build_broker(client, "planner"), [fails]).run(), 30)


def test_the_document_has_every_event_with_its_subject() -> None:
    document = asyncapi_document()
    addresses = {channel["address"] for channel in document["channels"].values()}
    assert addresses == set(TEMPLATES.values())
    assert {event.__name__ for event in EVENTS} <= set(document["components"]["schemas"])
    heard = [operation for operation in document["operations"].values() if operation["action"] == "receive"]
    assert len(heard) == 1
    assert document == asyncapi_document()


def test_the_document_tells_which_services_say_an_event_that_several_say() -> None:
    said = {name for name, operation in asyncapi_document()["operations"].items() if operation["action"] == "send"}
    assert {"Alert", "Launch", "Tick", "TickFromWeb", "TickFromActuator", "Quote", "QuoteFromActuator"} <= said
