"""Publishing: CloudEvents headers, stored once, in order, and never dropped in silence."""

import asyncio
import json
import os
import signal

import pytest
from nats.aio.client import Client

from controlplane.bus.embedded import EmbeddedServer
from controlplane.bus.publish import Publisher, PublishError, SequenceConflict, StreamAway
from controlplane.contracts.subjects import DEAD_STREAM, INPUTS_STREAM
from tests.bus.conftest import Eventually
from tests.bus.events import observation, tick
from tests.bus.test_embedded import server_pid


async def test_headers_and_the_body_are_a_cloud_event(client: Client) -> None:
    event = observation(1)
    ack = await Publisher(client, "tidegate/test").publish(event)
    message = await client.jetstream().get_msg(INPUTS_STREAM, ack.seq)
    headers = message.headers or {}
    assert (headers["ce-type"], headers["ce-source"]) == ("dev.tidegate.observation.v1", "tidegate/test")
    assert headers["ce-id"] == headers["Nats-Msg-Id"] == event.event_id
    assert json.loads(message.data or b"")["demand_per_second"] == 1.0


async def test_the_same_event_is_stored_once(client: Client) -> None:
    publisher = Publisher(client, "tidegate/test")
    first = await publisher.publish(observation(1))
    second = await publisher.publish(observation(1))
    assert (second.seq, second.duplicate) == (first.seq, True)


async def test_a_second_writer_is_refused(client: Client) -> None:
    publisher = Publisher(client, "tidegate/test")
    first = await publisher.publish(observation(1), expected_last=0)
    await publisher.publish(observation(2), expected_last=first.seq)
    with pytest.raises(SequenceConflict):
        await publisher.publish(observation(3), expected_last=first.seq)


async def test_a_batch_keeps_its_order_within_a_subject(client: Client) -> None:
    fleets = ("a", "b", "c")
    events = [observation(number, fleet) for number in range(100) for fleet in fleets]
    acks = await Publisher(client, "tidegate/test", window=2).publish_many(events)
    assert len({ack.seq for ack in acks}) == 300
    for start in range(3):
        assert acks[start::3] == sorted(acks[start::3], key=lambda ack: ack.seq)


async def test_nothing_is_lost_or_doubled_when_the_server_dies_in_the_middle(
    server: EmbeddedServer, client: Client, eventually: Eventually
) -> None:
    publisher = Publisher(client, "tidegate/test")
    work = asyncio.create_task(publisher.publish_many([tick(number) for number in range(1500)]))
    await asyncio.sleep(0.05)
    os.kill(server_pid(), signal.SIGKILL)
    acks = await work
    assert server.restarts == 1
    assert [ack.seq for ack in acks] == list(range(1, 1501))
    assert (await client.jetstream().stream_info(INPUTS_STREAM)).state.messages == 1500


async def test_a_server_that_stays_away_is_an_error_after_a_bounded_wait(server: EmbeddedServer, client: Client) -> None:
    await server.stop()
    with pytest.raises(StreamAway, match=r"tidegate\.tick was not taken within 0\.3 s"):
        await Publisher(client, "tidegate/test", wait_seconds=0.3).publish(tick(1))


async def test_a_body_no_server_takes_is_an_error_at_once(client: Client) -> None:
    with pytest.raises(PublishError, match="cannot be published"):
        await Publisher(client, "tidegate/test").publish_raw("tidegate.tick", bytes(9 * 1024 * 1024), {})


async def test_a_dead_letter_says_where_and_why(client: Client) -> None:
    headers = {"ce-id": "1", "Nats-Msg-Id": "x", "Nats-Expected-Stream": "OTHER"}
    await Publisher(client, "tidegate/test").dead_letter("tidegate.tick", bytes(8 * 1024 * 1024), "undecodable", "bad\r\nline ü", headers)
    message = await client.jetstream().get_last_msg(DEAD_STREAM, "tidegate.dead.tidegate.tick")
    assert message.headers == {
        "ce-id": "1",
        "Tidegate-Subject": "tidegate.tick",
        "Tidegate-Reason": "undecodable",
        "Tidegate-Error": "bad line ?",
    }
