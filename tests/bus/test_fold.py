"""The fold on the real server: in order, once, through restarts and kill -9, with bad inputs set aside."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from nats.aio.client import Client
from structlog.testing import capture_logs

from controlplane.bus.connect import connect
from controlplane.bus.embedded import EmbeddedServer
from controlplane.bus.fold import Fold, decode, input_subjects_of, latest_by
from controlplane.bus.publish import Publisher
from controlplane.bus.watch import watch
from controlplane.clocks import Clock, ScaledClock, SystemClock
from controlplane.contracts.errors import BusError
from controlplane.contracts.events import Alert, AlertAction, Decision, Event, Launch, Observation, Tick
from controlplane.contracts.subjects import DEAD_STREAM, INPUTS_STREAM, OUTPUTS_STREAM
from controlplane.contracts.units import from_unix
from tests.bus.conftest import Eventually
from tests.bus.events import FLEET, START_UNIX, Seen, folding, observation, step, tick
from tests.bus.test_embedded import server_pid


@asynccontextmanager
async def running(fold: Fold[Seen]) -> AsyncIterator[Fold[Seen]]:
    task = asyncio.create_task(fold.run())
    try:
        await asyncio.wait_for(fold.caught_up.wait(), 30)
        yield fold
    finally:
        fold.stop()
        await task


async def publish_history(client: Client, first: int, last: int) -> None:
    publisher = Publisher(client, "tidegate/test")
    for number in range(first, last):
        await publisher.publish(observation(number))
        await publisher.publish(tick(number))


async def decisions(client: Client) -> list[Decision]:
    js = client.jetstream()
    state = (await js.stream_info(OUTPUTS_STREAM)).state
    messages = [await js.get_msg(OUTPUTS_STREAM, sequence) for sequence in range(1, state.last_seq + 1)]
    return [Decision.model_validate_json(message.data or b"") for message in messages]


async def test_every_tick_is_answered_once_and_a_restart_goes_on_from_the_snapshot(client: Client) -> None:
    await publish_history(client, 0, 700)
    async with running(Fold(client, "planner", FLEET, folding())) as first:
        assert first.counts.folded == 1400
    await publish_history(client, 700, 720)
    async with running(Fold(client, "planner", FLEET, folding())) as second:
        assert second.counts.folded == 40
    async with running(Fold(client, "judge", FLEET, replace(folding(), step=lambda s, e, q: (step(s, e, q)[0], ())))) as judge:
        assert judge.state == second.state
    answered = await decisions(client)
    assert [decision.inputs_sequence for decision in answered] == list(range(2, 1441, 2))
    assert [decision.targets["reserved"] for decision in answered] == list(range(1, 721))


async def test_a_crash_without_a_snapshot_repeats_no_decision(client: Client, eventually: Eventually) -> None:
    await publish_history(client, 0, 30)
    crashed = Fold(client, "planner", FLEET, folding())
    task = asyncio.create_task(crashed.run())
    await eventually(lambda: crashed.counts.published == 30)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await publish_history(client, 30, 35)
    async with running(Fold(client, "planner", FLEET, folding())) as again:
        assert (again.counts.folded, again.counts.repeated, again.counts.published) == (70, 30, 5)
    assert len(await decisions(client)) == 35


CRASHER = """
import asyncio, sys
from controlplane.bus.connect import connect
from controlplane.bus.fold import Fold
from tests.bus.events import FLEET, folding

async def main():
    client = await connect(sys.argv[1])
    fold = Fold(client, "planner", FLEET, folding(), snapshot_seconds=0.05)
    await fold.run()

asyncio.run(main())
"""


async def test_kill_9_of_the_service_while_it_works_loses_and_repeats_nothing(
    server: EmbeddedServer, client: Client, eventually: Eventually
) -> None:
    publishing = asyncio.create_task(publish_history(client, 0, 600))
    for share in (1, 2):
        process = subprocess.Popen([sys.executable, "-c", CRASHER, server.url])
        try:
            done = 0
            while done < 100 * share:
                await asyncio.sleep(0.02)
                done = (await client.jetstream().stream_info(OUTPUTS_STREAM)).state.messages
        finally:
            process.kill()
            process.wait()
    await publishing
    async with running(Fold(client, "planner", FLEET, folding())):
        pass
    assert [decision.targets["reserved"] for decision in await decisions(client)] == list(range(1, 601))


async def test_kill_9_of_the_server_while_it_works_loses_and_repeats_nothing(
    server: EmbeddedServer, client: Client, eventually: Eventually
) -> None:
    async with running(Fold(client, "planner", FLEET, folding())) as fold:
        publishing = asyncio.create_task(publish_history(client, 0, 300))
        await eventually(lambda: fold.counts.folded > 100)
        os.kill(server_pid(), signal.SIGKILL)
        await publishing
        await eventually(lambda: fold.counts.folded == 600)
    assert [decision.targets["reserved"] for decision in await decisions(client)] == list(range(1, 301))


async def test_bad_inputs_are_set_aside_and_the_loop_goes_on(client: Client) -> None:
    js = client.jetstream()
    publisher = Publisher(client, "tidegate/test")
    await js.publish(f"tidegate.observation.{FLEET}", b"\xff not json")
    await js.publish(f"tidegate.observation.{FLEET}", b'{"time": "yesterday", "fleet": "r1", "demand_per_second": -1}')
    await js.publish("tidegate.observation.other", observation(1).model_dump_json().encode())
    await publisher.publish(observation(1_000_000_000))
    await publisher.publish(observation(1))
    await publisher.publish(tick(1))
    with capture_logs() as logs:
        for service in ("planner", "forecaster"):
            async with running(Fold(client, service, FLEET, folding())) as fold:
                assert (fold.counts.undecodable, fold.counts.failed, fold.counts.folded) == (3, 1, 2)
    assert sorted(line["sequence"] for line in logs if line["event"] == "input set aside") == [1, 2, 3, 4], (
        "by who wrote the letter, and only once"
    )
    told = {(line["service"], line["fleet"]) for line in logs if line["event"] == "folding"}
    assert told == {("tidegate-planner", FLEET), ("tidegate-forecaster", FLEET)}, "which of many fleets a line is of"
    dead = (await js.stream_info(DEAD_STREAM)).state
    assert dead.messages == 4, "each bad input once, however many services met it"
    messages = [await js.get_msg(DEAD_STREAM, sequence) for sequence in range(1, 5)]
    reasons = {(message.headers or {})["Tidegate-Error"].partition(":")[0] for message in messages}
    assert reasons == {"not an event of kind observation", "the body is for tidegate.observation.r1", "step failed"}
    why = Counter((message.headers or {})["Tidegate-Reason"] for message in messages)
    assert why == {"undecodable": 3, "the step of tidegate-planner failed": 1}
    assert (await decisions(client))[0].targets == {"reserved": 1}


async def test_a_bad_input_with_large_headers_is_set_aside_with_those_that_name_it(client: Client) -> None:
    js, given = client.jetstream(), {"ce-id": "one", "Baggage": "x" * 60_000, "ce-type": "dev.tidegate.observation.v1"}
    body = b"\xff" * (client.max_payload - 60_300)
    await js.publish(f"tidegate.observation.{FLEET}", body, headers={**given, "Nats-Expected-Stream": INPUTS_STREAM})
    async with running(Fold(client, "planner", FLEET, folding())) as fold:
        assert fold.counts.undecodable == 1
    dead = await js.get_msg(DEAD_STREAM, 1)
    kept = {name: value for name, value in (dead.headers or {}).items() if not name.startswith(("Tidegate-", "Nats-"))}
    assert kept == {"ce-id": "one", "ce-type": "dev.tidegate.observation.v1"}
    assert dead.data == body


async def test_one_who_looks_on_and_cannot_take_an_event_in_stops_nobody(client: Client, eventually: Eventually) -> None:
    publisher, heard = Publisher(client, "tidegate/test"), list[Event]()

    def hear(event: Event) -> None:
        heard.append(event)
        if isinstance(event, Tick):
            raise ValueError("a tick is too much")

    with capture_logs() as logs:
        looking_on = asyncio.create_task(watch(client, INPUTS_STREAM, ["tidegate.>"], hear))
        async with running(Fold(client, "planner", FLEET, folding(), hear=hear)):
            for number in (1, 2):
                await publisher.publish_many([tick(number), observation(number)])
            await eventually(lambda: len(heard) == 8)
        looking_on.cancel()
        await asyncio.gather(looking_on, return_exceptions=True)
    told = [line for line in logs if line["log_level"] == "error"]
    assert [line["subject"] for line in told] == ["tidegate.tick"] * 4


@pytest.mark.parametrize("clock", [SystemClock(), ScaledClock(START_UNIX, time.time(), 600.0)], ids=["wall", "replay"])
async def test_what_comes_from_the_future_is_set_aside_and_does_not_make_the_present_old(client: Client, clock: Clock) -> None:
    publisher = Publisher(client, "tidegate/test")
    now, later = from_unix(clock.now()), from_unix(clock.at(time.time() + 3600.0))
    late = (
        Observation(time=later, fleet=FLEET, demand_per_second=1.0),
        Tick(time=later, fleet=FLEET),
        Alert(time=later, fleet=FLEET, name="queue", action=AlertAction.FREEZE),
    )
    announced = Launch(time=now, fleet=FLEET, name="soon", starts=later)
    await publisher.publish_many([*late, announced, Observation(time=now, fleet=FLEET, demand_per_second=2.0), Tick(time=now)])
    for _ in range(2):
        async with running(Fold(client, "judge", FLEET, folding(), latest=latest_by(clock), snapshot_seconds=3600.0)) as fold:
            assert fold.state.count == 1
        await client.jetstream().purge_stream("KV_TIDEGATE_SNAPSHOTS")
    dead = await client.jetstream().get_last_msg(DEAD_STREAM, f"tidegate.dead.tidegate.observation.{FLEET}")
    assert "ahead of the clock" in (dead.headers or {})["Tidegate-Error"]
    assert (await client.jetstream().stream_info(DEAD_STREAM)).state.messages == len(late)
    assert [decision.targets for decision in await decisions(client)] == [{"reserved": 1}]


async def test_a_tick_of_a_fleet_on_another_clock_is_no_news_from_the_future(client: Client) -> None:
    last_year = ScaledClock(time.time() - 365 * 86400.0, time.time(), 600.0)
    await Publisher(client, "tidegate/test").publish(Tick(time=from_unix(time.time()), fleet="another"))
    async with running(Fold(client, "judge", FLEET, folding(), latest=latest_by(last_year))) as fold:
        assert fold.counts.undecodable == 0
    assert (await client.jetstream().stream_info(DEAD_STREAM)).state.messages == 0


async def test_a_duplicate_is_folded_once(client: Client) -> None:
    publisher = Publisher(client, "tidegate/test")
    for _ in range(3):
        await publisher.publish(observation(1))
    async with running(Fold(client, "planner", FLEET, folding())) as fold:
        assert fold.state.count == 1


async def test_a_fold_ends_with_an_error_when_its_connection_is_closed(server: EmbeddedServer, client: Client) -> None:
    doomed = await connect(server.url)
    fold = Fold(doomed, "planner", FLEET, folding())
    task = asyncio.create_task(fold.run())
    await asyncio.wait_for(fold.caught_up.wait(), 10)
    await doomed.close()
    with pytest.raises(BusError, match="connection to NATS was closed"):
        await asyncio.wait_for(task, 30)


async def test_a_snapshot_of_another_version_is_rebuilt_from_the_stream(client: Client) -> None:
    await publish_history(client, 0, 10)
    async with running(Fold(client, "planner", FLEET, folding(version=1))):
        pass
    async with running(Fold(client, "planner", FLEET, folding(version=2))) as fold:
        assert (fold.counts.folded, fold.counts.repeated) == (20, 10)


async def test_a_new_life_of_the_stream_starts_over(client: Client) -> None:
    await publish_history(client, 0, 10)
    async with running(Fold(client, "planner", FLEET, folding())):
        pass
    js = client.jetstream()
    config = (await js.stream_info(INPUTS_STREAM)).config
    await js.delete_stream(INPUTS_STREAM)
    await js.add_stream(config)
    await publish_history(client, 10, 13)
    async with running(Fold(client, "planner", FLEET, folding())) as fold:
        assert (fold.counts.folded, fold.counts.published) == (6, 3)


async def test_a_fold_of_one_fleet_reads_its_own(client: Client) -> None:
    publisher = Publisher(client, "tidegate/test")
    await publisher.publish_many([observation(1), observation(2, "other"), tick(1)])
    async with running(Fold(client, "planner", FLEET, folding(), subjects=input_subjects_of(FLEET))) as fold:
        assert fold.counts.folded == 2


@pytest.mark.parametrize(
    ("subject", "body", "reason"),
    [
        ("tidegate.nothing", b"{}", "not a subject that carries an event"),
        ("tidegate.tick", b"[]", "not an event of kind tick: body: Input should be an object"),
        ("tidegate.tick", b'{"time": "2026-11-22T10:00:00"}', "not an event of kind tick: time: Input should have timezone info"),
        ("tidegate.observation.a", observation(1, "b").model_dump_json().encode(), "the body is for tidegate.observation.b"),
    ],
)
def test_what_does_not_decode_says_why(subject: str, body: bytes, reason: str) -> None:
    assert reason in str(decode(subject, body))
