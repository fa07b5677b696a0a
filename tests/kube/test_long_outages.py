"""Ten minutes without the API server, on a clock moved by hand: cut off, killed and restarted, hung. The server itself is real.

No wrong number is written, the newest decision is not lost, and what an expired one says is not done. `benchmarks/kubernetes_outage.py`
waits the ten minutes.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import pytest

from actuators.kubernetes.api_server import HEARD_SECONDS
from controlplane.clocks import VirtualClock
from controlplane.contracts.events import Actuation, Decision, Event, Outcome, PoolStatus
from controlplane.contracts.fleet import Mode
from controlplane.contracts.units import from_unix
from controlplane.services.reconciler import Reconciler
from tests.kube.conftest import FLEET, Scene, eventually

pytestmark = pytest.mark.needs("kube-apiserver")
TICK_SECONDS, TICKS = 15.0, 40
# So long that no watch is renewed, and nothing heard, right before the outage.
SILENT_SECONDS = 4.0
BEFORE, LOST, LAST, AFTER = 2, 7, 4, 5


class Followed:
    """A reconciler of the scene's offer on a clock moved by hand, and what it says."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.clock, self.said = scene, VirtualClock(time.time()), list[Event]()
        scene.subject = scene.actuator(blind_seconds=0.5, timeout_seconds=0.5, silent_seconds=SILENT_SECONDS)
        self.reconciler = Reconciler(FLEET, scene.offer, scene.subject, self.clock, self._hear)

    async def _hear(self, event: Event) -> None:
        self.said.append(event)

    async def decided(self, target: int) -> None:
        """Follow a decision that is made now, and holds for four ticks."""
        now = from_unix(self.clock.now())
        targets, expires = {self.scene.offer.name: target}, now + timedelta(seconds=4 * TICK_SECONDS)
        self.reconciler.follow(Decision(time=now, fleet=FLEET, mode=Mode.ACT, expires=expires, targets=targets))
        await self.reconciler.reconcile()

    def statuses(self, is_blind: bool) -> list[PoolStatus]:
        return [event for event in self.said if isinstance(event, PoolStatus) and event.unavailable is is_blind]

    async def sees(self, is_blind: bool) -> bool:
        """Return whether the next look says that the server is away, or that it is there."""
        self.said.clear()
        await self.reconciler.reconcile()
        return bool(self.statuses(is_blind))


@contextlib.asynccontextmanager
async def cut_off(scene: Scene) -> AsyncIterator[None]:
    scene.cut(True)
    try:
        yield
    finally:
        scene.cut(False)


@contextlib.asynccontextmanager
async def killed(scene: Scene) -> AsyncIterator[None]:
    scene.plane.stop_api()
    try:
        yield
    finally:
        await asyncio.to_thread(scene.plane.start_api)


@contextlib.asynccontextmanager
async def hung(scene: Scene) -> AsyncIterator[None]:
    scene.plane.hang_api(True)
    try:
        yield
    finally:
        scene.plane.hang_api(False)


Outage = Callable[[Scene], contextlib.AbstractAsyncContextManager[None]]


@pytest.mark.parametrize("outage", [cut_off, killed, hung])
async def test_after_ten_minutes_without_the_server_the_newest_decision_is_made_so_once(scene: Scene, outage: Outage) -> None:
    followed = Followed(scene)
    await scene.ready(BEFORE)
    await followed.decided(BEFORE)
    await asyncio.sleep(HEARD_SECONDS + 0.1)
    async with outage(scene):
        await followed.decided(LOST)
        failed = [event for event in followed.said if isinstance(event, Actuation)][-1]
        assert (failed.outcome, failed.retryable) == (Outcome.FAILED, True), "nobody knows yet that the server is away"
        assert await eventually(lambda: followed.sees(is_blind=True), bool)
        for tick in range(TICKS):
            await followed.decided(3 + tick % 5)
            await followed.clock.advance(TICK_SECONDS)
        await followed.decided(LAST)
        blind = followed.statuses(is_blind=True)
        assert 1 <= len(blind) <= 4, "said at once, and then every five minutes"
        assert {(status.ready, status.pending) for status in blind} == {(BEFORE, 0)}, "what was there is not forgotten"
        assert not followed.statuses(is_blind=False)

    async def again() -> int:
        await followed.reconciler.reconcile()
        return scene.asked()

    assert await eventually(again, lambda asked: asked == LAST) == LAST, "nothing new was decided: what is there is enough"
    assert scene.purchases() == 2, "up to what was there before, and from there to the newest: nothing in between, and nothing late"
    applied = [event for event in followed.said if isinstance(event, Actuation) and event.outcome is Outcome.APPLIED]
    assert [event.target for event in applied] == [LAST]
    assert (await scene.ready(LAST)).ready == LAST


@pytest.mark.parametrize("outage", [cut_off, killed])
async def test_what_expired_meanwhile_is_done_neither_way_and_the_next_decision_is(scene: Scene, outage: Outage) -> None:
    followed = Followed(scene)
    await scene.ready(BEFORE)
    await followed.decided(BEFORE)
    async with outage(scene):
        assert await eventually(lambda: followed.sees(is_blind=True), bool)
        for target in (0, LAST):
            await followed.decided(target)
            await followed.clock.advance(TICKS * TICK_SECONDS / 2)
    assert await eventually(lambda: followed.sees(is_blind=False), bool)
    assert scene.asked() == BEFORE, "neither more nor less on account of what has expired"
    await followed.decided(AFTER)
    assert scene.asked() == AFTER
    assert scene.purchases() == 2
