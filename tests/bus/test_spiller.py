"""The spiller on the real server: it follows demand and decisions within a second, and closes when it is told to stop."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from nats.aio.client import Client

from controlplane.bus.publish import Publisher
from controlplane.clocks import SystemClock
from controlplane.contracts.errors import SupplierUnavailable
from controlplane.contracts.events import Decision, Observation, PoolStatus, Reason
from controlplane.contracts.fleet import Fleet, Guard, Mode, Slo, Spill, Unit
from controlplane.contracts.units import from_unix
from controlplane.services.spiller import Spiller
from tests.bus.conftest import Eventually
from tests.contract.actuator_rigs import offer_with

FLEET = "r1"


class FakeRouter:
    """A router that remembers its share, and can be made to refuse."""

    def __init__(self) -> None:
        self.shares: list[float] = []
        self.refuses = False

    async def set_share(self, share: float) -> bool:
        if self.refuses:
            raise SupplierUnavailable("the gateway is away")
        self.shares.append(share)
        return True


def decision(
    per_second: float, mode: Mode = Mode.ACT, seconds: float = 60.0, is_frozen: bool = False, capacity_share: float | None = None
) -> Decision:
    now = from_unix(SystemClock().now())
    until = now + timedelta(seconds=seconds)
    return Decision(
        time=now,
        fleet=FLEET,
        mode=mode,
        expires=until,
        targets={},
        spill_per_second=per_second,
        spill_until=until,
        reasons=(Reason.FROZEN,) if is_frozen else (),
        capacity_share=capacity_share,
    )


@contextlib.asynccontextmanager
async def following(client: Client, router: FakeRouter, mode: Mode = Mode.ACT) -> AsyncIterator[None]:
    """A spiller at work, which is stopped in good order at the end."""
    fleet = Fleet(FLEET, Slo(0.99), Unit.REQUESTS, (offer_with(),), Spill("hosted", 0.01), guard=Guard(mode=mode))
    work = Spiller(client, fleet, router, SystemClock(), period_seconds=0.05)
    running = asyncio.create_task(work.run())
    try:
        yield
    finally:
        work.stop()
        await running


async def say(client: Client, demand: float, ready: int) -> None:
    """Tell of demand, and of replicas that carry 10 per second each."""
    now = from_unix(SystemClock().now())
    publisher = Publisher(client, "tidegate/test")
    await publisher.publish(PoolStatus(time=now, fleet=FLEET, offer="rented-h200", ready=ready))
    await publisher.publish(Observation(time=now, fleet=FLEET, demand_per_second=demand, backlog=0.0))


async def test_it_opens_to_what_would_be_late_and_closes_at_its_end(client: Client, eventually: Eventually) -> None:
    router = FakeRouter()
    await say(client, 40.0, ready=3)
    await Publisher(client, "tidegate/test").publish(decision(100.0))
    async with following(client, router):
        await eventually(lambda: router.shares and router.shares[-1] == pytest.approx(0.25))
        await say(client, 60.0, ready=3)
        await eventually(lambda: router.shares[-1] == pytest.approx(0.5))
        await Publisher(client, "tidegate/test").publish(decision(6.0))
        await eventually(lambda: router.shares[-1] == pytest.approx(0.1))
    assert router.shares[-1] == 0.0


async def test_an_allowance_that_runs_out_closes_it_without_a_word_from_anyone(client: Client, eventually: Eventually) -> None:
    router = FakeRouter()
    await say(client, 40.0, ready=3)
    await Publisher(client, "tidegate/test").publish(decision(100.0, seconds=1.0))
    async with following(client, router):
        await eventually(lambda: router.shares and router.shares[-1] > 0.2)
        await eventually(lambda: router.shares[-1] == 0.0)


@pytest.mark.parametrize(("policy", "decided"), [(Mode.RECOMMEND, Mode.ACT), (Mode.ACT, Mode.RECOMMEND)])
async def test_in_recommend_mode_nothing_is_touched(client: Client, policy: Mode, decided: Mode) -> None:
    router = FakeRouter()
    await say(client, 40.0, ready=3)
    await Publisher(client, "tidegate/test").publish(decision(100.0, decided))
    async with following(client, router, policy):
        await asyncio.sleep(0.5)
    assert router.shares == []


async def test_what_is_open_when_acting_ends_is_closed(client: Client, eventually: Eventually) -> None:
    router = FakeRouter()
    await say(client, 40.0, ready=3)
    await Publisher(client, "tidegate/test").publish(decision(100.0))
    async with following(client, router):
        await eventually(lambda: router.shares and router.shares[-1] == pytest.approx(0.25))
        await Publisher(client, "tidegate/test").publish(decision(100.0, Mode.RECOMMEND))
        await eventually(lambda: router.shares[-1] == 0.0)


async def test_frozen_it_follows_the_allowance_down_and_never_opens(client: Client, eventually: Eventually) -> None:
    router = FakeRouter()
    await say(client, 40.0, ready=3)
    await Publisher(client, "tidegate/test").publish(decision(100.0))
    async with following(client, router):
        await eventually(lambda: router.shares and router.shares[-1] == pytest.approx(0.25))
        await Publisher(client, "tidegate/test").publish(decision(4.0, is_frozen=True))
        await eventually(lambda: router.shares[-1] == pytest.approx(0.1))
        await say(client, 60.0, ready=3)
        await Publisher(client, "tidegate/test").publish(decision(100.0, is_frozen=True))
        await asyncio.sleep(0.5)
    assert max(router.shares[router.shares.index(pytest.approx(0.1)) :]) == pytest.approx(0.1)


async def test_it_reckons_with_what_replicas_really_carry(client: Client, eventually: Eventually) -> None:
    router = FakeRouter()
    await say(client, 30.0, ready=3)
    await Publisher(client, "tidegate/test").publish(decision(100.0, capacity_share=0.8))
    async with following(client, router):
        await eventually(lambda: router.shares and router.shares[-1] == pytest.approx(0.2))


async def test_a_gateway_that_is_away_is_asked_again(client: Client, eventually: Eventually) -> None:
    router = FakeRouter()
    router.refuses = True
    await say(client, 40.0, ready=3)
    await Publisher(client, "tidegate/test").publish(decision(100.0))
    async with following(client, router):
        await asyncio.sleep(0.3)
        router.refuses = False
        await eventually(lambda: router.shares and router.shares[-1] == pytest.approx(0.25))
