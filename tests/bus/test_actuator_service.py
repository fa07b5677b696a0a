"""The actuator service on the real server: what it may touch is its own policy's say too, not the newest decision's alone."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from nats.aio.client import Client

from controlplane.bus.publish import Publisher
from controlplane.bus.watch import newest
from controlplane.clocks import SystemClock
from controlplane.contracts.events import Actuation, Decision, Event, Outcome
from controlplane.contracts.fleet import Fleet, Guard, Mode, Slo, Unit
from controlplane.contracts.subjects import ACTUATION, ACTUATOR_DURABLE, OUTPUTS_STREAM
from controlplane.contracts.units import from_unix
from controlplane.services.actuator import FleetActuator
from tests.contract.actuator_rigs import LAG_SECONDS, RIGS, Rig, offer_with

FLEET = "r1"


def decision(offer: str, target: int) -> Decision:
    """A decision to act, as a planner that was told to act makes it."""
    now = from_unix(SystemClock().now())
    return Decision(time=now, fleet=FLEET, mode=Mode.ACT, expires=now + timedelta(seconds=60.0), targets={offer: target})


async def followed(client: Client, rig: Rig, guard: Guard, made: Decision) -> Event | None:
    """Run the service on a decision that is there already, and return what it says it did, None after 10 s."""
    await Publisher(client, "tidegate/test").publish(made)
    fleet = Fleet(FLEET, Slo(0.99), Unit.REQUESTS, (rig.offer,), guard=guard)
    service = FleetActuator(client, fleet, {rig.offer.name: rig.actuator()}, SystemClock())
    running = asyncio.create_task(service.run())
    try:
        for _ in range(200):
            event = await newest(client, OUTPUTS_STREAM, ACTUATION.format(fleet=FLEET, offer=rig.offer.name))
            if event is not None:
                return event
            await asyncio.sleep(0.05)
        return None
    finally:
        service.stop()
        await running


@pytest.mark.parametrize(
    ("guard", "outcome", "bought"),
    [
        (Guard(mode=Mode.ACT), Outcome.APPLIED, 1),
        (Guard(mode=Mode.RECOMMEND), Outcome.SKIPPED, 0),
        (Guard(mode=Mode.ACT, frozen=True), Outcome.SKIPPED, 0),
    ],
)
async def test_a_decision_to_act_is_followed_only_where_our_own_policy_lets_us_act(
    client: Client, tmp_path: Path, guard: Guard, outcome: Outcome, bought: int
) -> None:
    rig = RIGS["simulated"](tmp_path, offer_with())
    actuation = await followed(client, rig, guard, decision(rig.offer.name, 2))
    assert isinstance(actuation, Actuation)
    assert actuation.outcome is outcome
    assert rig.purchases() == bought


async def test_decisions_are_followed_although_the_server_has_lost_the_consumer(client: Client, tmp_path: Path) -> None:
    rig = RIGS["simulated"](tmp_path, offer_with())
    fleet = Fleet(FLEET, Slo(0.99), Unit.REQUESTS, (rig.offer,), guard=Guard(mode=Mode.ACT))
    service = FleetActuator(client, fleet, {rig.offer.name: rig.actuator()}, SystemClock(), refresh_seconds=0.1)
    running = asyncio.create_task(service.run())
    try:
        for target in (1, 3):
            await Publisher(client, "tidegate/test").publish(decision(rig.offer.name, target))
            for _ in range(200):
                if sum(rig.held().values()) == target:
                    break
                await asyncio.sleep(0.05)
            assert rig.held() == {"pending": target}
            rig.advance(LAG_SECONDS + 1.0)
            if target == 1:
                assert await client.jetstream().delete_consumer(OUTPUTS_STREAM, f"{ACTUATOR_DURABLE}-{FLEET}")
    finally:
        service.stop()
        await running
