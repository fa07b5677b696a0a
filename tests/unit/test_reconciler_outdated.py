"""A decision that was made before the pool changed: what recovered or was placed since is not taken away on its account."""

from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from actuators.api import Applied, Result
from controlplane.clocks import VirtualClock
from controlplane.contracts.events import Actuation, Decision, Event, Outcome, PoolStatus, Quote
from controlplane.contracts.fleet import Mode, Offer, Tier
from controlplane.contracts.units import from_unix
from controlplane.services.reconciler import OUTDATED_SECONDS, Reconciler

START = 1_700_000_000.0
OFFER = Offer("own", Tier.FLOOR, 1.0, 0, 8, 1.0, 60.0)


@dataclass
class Pool:
    """A workload of `asked` replicas of which some fail or find no node; it keeps asking for those, as Kubernetes does."""

    asked: int
    failed: int = 0
    unschedulable: int = 0
    written: list[int] = field(default_factory=list)

    async def observe(self, fleet: str, offer: Offer) -> PoolStatus:
        ready = self.asked - self.failed - self.unschedulable
        return PoolStatus(
            time=from_unix(0.0), fleet=fleet, offer=offer.name, ready=ready, pending=self.unschedulable, unschedulable=self.unschedulable
        )

    async def apply(self, fleet: str, offer: Offer, target: int) -> Result:
        before, self.asked = self.asked, target
        self.written.append(target)
        return Applied(target - before)

    async def quote(self, offer: Offer) -> Quote | None:
        return None

    async def close(self) -> None: ...


class Scene:
    """A reconciler of one pool; `told` follows a decision that is made now."""

    def __init__(self, pool: Pool) -> None:
        self.pool, self.clock, self.said = pool, VirtualClock(START), list[Event]()
        self.reconciler = Reconciler("r1", OFFER, pool, self.clock, self._hear)

    async def _hear(self, event: Event) -> None:
        self.said.append(event)

    def decide(self, target: int) -> None:
        at = from_unix(self.clock.now())
        expires = at + timedelta(hours=1)
        self.reconciler.follow(Decision(time=at, fleet="r1", mode=Mode.ACT, expires=expires, targets={"own": target}))

    async def later(self, seconds: float = 1.0) -> list[int]:
        """Return what was written by a reconcile so much later."""
        await self.clock.advance(seconds)
        self.pool.written.clear()
        await self.reconciler.reconcile()
        return self.pool.written


@pytest.mark.parametrize("pool", [Pool(4, failed=1), Pool(4, unschedulable=3)])
async def test_what_came_up_since_the_decision_is_kept_until_there_is_another(pool: Pool) -> None:
    scene = Scene(pool)
    await scene.later()
    scene.decide(4 - pool.failed - pool.unschedulable)
    pool.failed = pool.unschedulable = 0
    assert await scene.later() == [], "nobody meant to lose a warm replica"
    assert await scene.later() == []
    said = [event for event in scene.said if isinstance(event, Actuation)]
    assert [(event.outcome, event.before) for event in said] == [(Outcome.SKIPPED, 4)], "once, with its reason"
    assert "more came up since the decision" in said[0].reason
    scene.decide(2)
    assert await scene.later() == [2], "a decision that knows of them is followed"


async def test_after_a_restart_what_was_decided_before_takes_nothing_away() -> None:
    scene = Scene(Pool(4))
    scene.decide(3)
    assert await scene.later() == [], "one may have come up while nobody looked"
    assert await scene.later(OUTDATED_SECONDS + 1.0) == [], "as long as the planner is silent"
    said = [event for event in scene.said if isinstance(event, Actuation)]
    assert [event.outcome for event in said] == [Outcome.SKIPPED]
    assert said[0].reason.startswith("it was decided before this process told what is here")
    scene.decide(3)
    assert await scene.later() == [3], "the next one knows of all that is here"


async def test_after_a_restart_what_was_decided_before_still_grows() -> None:
    scene = Scene(Pool(4))
    scene.decide(6)
    assert await scene.later() == [6]


async def test_growing_waits_for_nothing() -> None:
    scene = Scene(Pool(4, failed=1))
    await scene.later()
    scene.decide(6)
    scene.pool.failed = 0
    assert await scene.later() == [6]


async def test_what_was_asked_for_on_its_account_does_not_make_a_decision_outdated() -> None:
    scene = Scene(Pool(1))
    await scene.later()
    scene.decide(2)
    await scene.clock.advance(1.0)
    scene.decide(4)
    assert await scene.later() == [4]
    scene.reconciler.follow(
        Decision(
            time=from_unix(scene.clock.now() - 0.5),
            fleet="r1",
            mode=Mode.ACT,
            expires=from_unix(scene.clock.now() + 60.0),
            targets={"own": 3},
        )
    )
    assert await scene.later() == [3]


async def test_however_often_something_comes_and_goes_it_does_not_wait_for_ever() -> None:
    scene = Scene(Pool(4, failed=1))
    await scene.later()
    scene.decide(2)
    written: list[int] = []
    for step in range(int(OUTDATED_SECONDS / 5.0) + 2):
        scene.pool.failed = step % 2
        written += await scene.later(5.0)
        if written:
            break
    assert written == [2]
