"""The planner is down while signals go on: nothing is lost, and what waited is worked off in order once it is back."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

from controlplane.bus.connect import connect
from controlplane.bus.embedded import EmbeddedServer
from controlplane.bus.publish import Publisher
from controlplane.clocks import SystemClock
from controlplane.contracts.events import Alert, AlertAction, Decision, Event, Observation, Tick
from controlplane.contracts.subjects import DEAD_STREAM
from controlplane.contracts.units import from_unix
from tests.e2e.evidence import Streams, assert_decided_once, assert_forecast_once, read_streams
from tests.e2e.programs import Program
from tests.e2e.worlds import PUSHED

FLEET = "pushed"
BEFORE, MEANWHILE = 20, 400
TICK_EACH = 10
# A minute apart, so that each is forecast from; all in the past, as nothing may be from the future.
STEP = timedelta(minutes=1)


def signals(first: int, count: int) -> list[Event]:
    """Observations with a Tick after every tenth, as webhooks poke, and one alert at the end that lifts."""
    start = from_unix(SystemClock().now()) - (BEFORE + MEANWHILE + 1) * STEP
    said: list[Event] = []
    for number in range(first, first + count):
        time = start + number * STEP
        said.append(Observation(time=time, fleet=FLEET, interval_seconds=60.0, demand_per_second=5.0 + number % 7))
        if number % TICK_EACH == TICK_EACH - 1:
            said.append(Tick(time=time, cause="alert", fleet=FLEET))
    lift = {"action": AlertAction.LIFT, "lift_replicas": 2, "expires": said[-1].time + timedelta(hours=1)}
    return [*said, Alert(time=said[-1].time, fleet=FLEET, name=f"burning/{first}", **lift)]


def demand_known_at(streams: Streams, sequence: int) -> float | None:
    """Return the demand of the newest observation before a place in the stream."""
    seen = [event.demand_per_second for at, event in streams.of(Observation, FLEET).items() if at < sequence]
    return seen[-1] if seen else None


async def until(question: Callable[[], Awaitable[list[Decision]]], holds: Callable[[list[Decision]], bool]) -> None:
    """Ask until the answer holds, for a bounded time."""
    for _ in range(300):
        if holds(await question()):
            return
        await asyncio.sleep(0.1)
    raise AssertionError("waited for 30 s and more")


async def test_what_came_while_the_planner_was_down_is_decided_on_in_order_and_once(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(PUSHED)
    async with EmbeddedServer(tmp_path / "nats") as server:
        client = await connect(server.url)
        publisher = Publisher(client, "tidegate/test")

        async def say(events: list[Event]) -> None:
            for event in events:
                await publisher.publish(event)

        async def decided() -> list[Decision]:
            return (await read_streams(server.url, is_replay=False)).decided(FLEET)

        def run(service: str) -> Program:
            return Program(tmp_path, "run", service, str(policy), "--nats", server.url)

        try:
            with run("forecaster") as forecaster, run("planner") as planner:
                await forecaster.up()
                await planner.up()
                await say(signals(0, BEFORE))
                await until(decided, lambda made: any(decision.cause == "alert" for decision in made))
                planner.kill()
                before = len(await decided())

                await say(signals(BEFORE, MEANWHILE))
                assert len(await decided()) == before, "nobody decides while the planner is down"

                planner.start()
                await until(decided, lambda made: len(made) >= before + MEANWHILE // TICK_EACH)
                await publisher.publish(Tick(time=from_unix(SystemClock().now()), cause="refusal", fleet=FLEET))
                await until(decided, lambda made: any(decision.cause == "refusal" for decision in made))
                assert planner.stop() == 0
                assert forecaster.stop() == 0
            streams = await read_streams(server.url, is_replay=False)
            dead = (await client.jetstream().stream_info(DEAD_STREAM)).state.messages
        finally:
            await client.close()
    assert len(streams.of(Observation, FLEET)) == BEFORE + MEANWHILE
    assert dead == 0
    assert_decided_once(streams, FLEET)
    assert_forecast_once(streams, FLEET)
    for decision in streams.decided(FLEET):
        assert decision.demand_per_second == demand_known_at(streams, decision.inputs_sequence or 0), "all that came before it, and no more"
