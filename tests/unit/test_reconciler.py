"""One offer kept as the newest unexpired decision says: what is done, what is left alone, and what is said about it."""

from datetime import timedelta
from pathlib import Path

import pytest

from actuators.api import Intent
from actuators.intents import IntentState
from actuators.wrappers import TimeLimited
from controlplane.clocks import VirtualClock
from controlplane.contracts.errors import SupplierUnavailable
from controlplane.contracts.events import Actuation, Decision, Event, Outcome, PoolStatus, Quote, Reason, Tick
from controlplane.contracts.fleet import Mode, Offer
from controlplane.contracts.units import from_unix
from controlplane.services.reconciler import Reconciler
from tests.contract.actuator_rigs import LAG_SECONDS, RIGS, Rig, SimulatedRig, offer_with

FLEET = "r1"
START = 1_700_000_000.0
EXPIRY_SECONDS = 60.0


class Scene:
    """A reconciler of one offer, its supplier, and everything that it says."""

    def __init__(self, folder: Path) -> None:
        self.rig: Rig = RIGS["simulated"](folder, offer_with())
        self.clock = VirtualClock(START)
        self.said: list[Event] = []
        self.reconciler = Reconciler(FLEET, self.rig.offer, self.rig.actuator(), self.clock, self._hear)

    async def _hear(self, event: Event) -> None:
        self.said.append(event)

    async def after(self, seconds: float) -> None:
        self.rig.advance(seconds)
        await self.clock.advance(seconds)

    async def told(
        self,
        target: int,
        mode: Mode = Mode.ACT,
        age_seconds: float = 0.0,
        reasons: tuple[Reason, ...] = (),
        price: float | None = None,
        usd_limit: float | None = None,
    ) -> list[Event]:
        """Return what is said when a decision of this age is followed; `price` and `usd_limit` are what it reckoned with."""
        at, name = from_unix(self.clock.now() - age_seconds), self.rig.offer.name
        expires, targets = at + timedelta(seconds=EXPIRY_SECONDS), {name: target}
        money = {
            "most_usd_per_replica_hour": {} if price is None else {name: price},
            "most_usd_per_hour": {} if usd_limit is None else {name: usd_limit},
        }
        self.reconciler.follow(Decision(time=at, fleet=FLEET, mode=mode, expires=expires, targets=targets, reasons=reasons, **money))
        return await self.reconciled()

    def restart(self) -> None:
        """Let a new process take over."""
        self.reconciler = Reconciler(FLEET, self.rig.offer, self.rig.actuator(), self.clock, self._hear)

    async def reconciled(self) -> list[Event]:
        self.said.clear()
        await self.reconciler.reconcile()
        return list(self.said)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def outcomes(said: list[Event]) -> list[Outcome]:
    return [event.outcome for event in said if isinstance(event, Actuation)]


async def test_a_decision_is_made_so_once_and_what_came_of_it_is_said(scene: Scene) -> None:
    said = await scene.told(3)
    assert outcomes(said) == [Outcome.APPLIED]
    assert [(event.ready, event.pending) for event in said if isinstance(event, PoolStatus)] == [(0, 0), (0, 3)]
    assert outcomes(await scene.reconciled()) == []
    assert scene.rig.purchases() == 1


@pytest.mark.parametrize("target", [0, 5])
async def test_an_expired_decision_neither_buys_nor_gives_back(scene: Scene, target: int) -> None:
    await scene.told(3)
    await scene.after(LAG_SECONDS + 1.0)
    assert outcomes(await scene.told(target, age_seconds=EXPIRY_SECONDS)) == []
    assert (scene.rig.held(), scene.rig.purchases()) == ({"pending": 3}, 1)


@pytest.mark.parametrize(("seconds", "bought"), [(EXPIRY_SECONDS - 1.0, 1), (EXPIRY_SECONDS, 0)])
async def test_what_was_refused_is_bought_later_only_while_the_decision_holds(scene: Scene, seconds: float, bought: int) -> None:
    scene.rig.limit_stock(0)
    await scene.told(3)
    scene.rig.limit_stock(10)
    await scene.after(seconds)
    await scene.reconciled()
    assert scene.rig.purchases() == bought


@pytest.mark.parametrize("target", [0, 5])
async def test_a_recommendation_touches_nothing_and_says_so_once(scene: Scene, target: int) -> None:
    await scene.told(3)
    await scene.after(LAG_SECONDS + 1.0)
    assert outcomes(await scene.told(target, Mode.RECOMMEND)) == [Outcome.SKIPPED]
    assert outcomes(await scene.told(target, Mode.RECOMMEND)) == []
    assert (scene.rig.held(), scene.rig.purchases()) == ({"pending": 3}, 1)


@pytest.mark.parametrize(("reasons", "bought"), [((), 1), ((Reason.FROZEN,), 0)])
async def test_a_purchase_of_unknown_outcome_is_not_asked_for_again_while_frozen(
    scene: Scene, reasons: tuple[Reason, ...], bought: int
) -> None:
    await scene.rig.store.put(Intent(FLEET, scene.rig.offer.name, 1, 3, IntentState.OPEN, opened_unix=START))
    await scene.told(3, reasons=reasons)
    assert scene.rig.purchases() == bought


async def test_an_older_decision_does_not_displace_a_newer_one(scene: Scene) -> None:
    await scene.told(3)
    await scene.told(9, age_seconds=30.0)
    assert scene.rig.held() == {"pending": 3}


async def test_nothing_is_bought_at_a_price_above_the_one_that_the_decision_reckoned_with(scene: Scene) -> None:
    rig = scene.rig
    assert isinstance(rig, SimulatedRig)
    rig.change_world(usd_per_replica_hour=20.0)
    await scene.reconciled()
    await scene.after(10.0)
    rig.change_world(usd_per_replica_hour=40.0)
    assert outcomes(await scene.told(3, age_seconds=5.0)) == [Outcome.SKIPPED]
    assert rig.purchases() == 0
    await scene.after(5.0)
    assert outcomes(await scene.told(3)) == [Outcome.APPLIED]


async def test_what_is_dearer_now_may_still_be_given_back_and_what_is_cheaper_be_bought(scene: Scene) -> None:
    rig = scene.rig
    assert isinstance(rig, SimulatedRig)
    rig.change_world(usd_per_replica_hour=40.0)
    await scene.told(3)
    await scene.after(LAG_SECONDS + 1.0)
    rig.change_world(usd_per_replica_hour=80.0)
    assert outcomes(await scene.told(1, age_seconds=5.0)) == [Outcome.APPLIED]
    rig.change_world(usd_per_replica_hour=30.0)
    assert outcomes(await scene.told(2, age_seconds=4.0)) == [Outcome.APPLIED]
    assert rig.held() == {"pending": 2}


async def test_a_restart_does_not_forget_which_price_was_decided_on(scene: Scene) -> None:
    rig = scene.rig
    assert isinstance(rig, SimulatedRig)
    rig.change_world(usd_per_replica_hour=40.0)
    scene.restart()
    said = await scene.told(3, age_seconds=5.0, price=20.0)
    assert outcomes(said) == [Outcome.SKIPPED]
    assert rig.purchases() == 0
    assert [event.usd_per_replica_hour for event in said if isinstance(event, Quote)] == [40.0, 40.0], "the planner reckons with less"
    assert outcomes(await scene.told(3, price=40.0)) == [Outcome.APPLIED]


async def test_what_is_held_and_what_is_bought_cost_no_more_together_than_was_decided_on(scene: Scene) -> None:
    rig = scene.rig
    assert isinstance(rig, SimulatedRig)
    rig.change_world(usd_per_replica_hour=40.0)
    await scene.told(2)
    await scene.after(LAG_SECONDS + 1.0)
    assert outcomes(await scene.told(5, price=40.0, usd_limit=150.0)) == [Outcome.APPLIED]
    assert rig.held() == {"pending": 3}
    await scene.after(LAG_SECONDS + 1.0)
    assert outcomes(await scene.told(5, price=40.0, usd_limit=150.0)) == [Outcome.SKIPPED]


class Unpriced(TimeLimited):
    """An actuator whose supplier lists and gives back, and tells no price."""

    async def quote(self, offer: Offer) -> Quote | None:
        raise SupplierUnavailable("no price today")


async def test_giving_back_does_not_hang_on_a_price(scene: Scene) -> None:
    rig = scene.rig
    assert isinstance(rig, SimulatedRig)
    await scene.told(3)
    await scene.after(LAG_SECONDS + 1.0)
    scene.reconciler = Reconciler(FLEET, rig.offer, Unpriced(rig.actuator(), 20.0), scene.clock, scene._hear)
    assert outcomes(await scene.told(1)) == [Outcome.APPLIED]
    assert rig.held() == {"pending": 1}


async def test_an_offer_that_a_decision_leaves_out_keeps_what_it_has(scene: Scene) -> None:
    await scene.told(3)
    await scene.after(LAG_SECONDS + 1.0)
    at = from_unix(scene.clock.now())
    scene.reconciler.follow(Decision(time=at, fleet=FLEET, mode=Mode.ACT, expires=at + timedelta(seconds=60), targets={"another": 7}))
    assert outcomes(await scene.reconciled()) == []
    assert scene.rig.held() == {"pending": 3}


async def test_a_refusal_is_said_and_asks_for_an_early_tick(scene: Scene) -> None:
    scene.rig.limit_stock(0)
    said = await scene.told(3)
    assert outcomes(said) == [Outcome.FAILED]
    assert [event.unavailable for event in said if isinstance(event, PoolStatus)] == [False, True]
    assert [event.cause for event in said if isinstance(event, Tick)] == ["refusal"]
    assert isinstance(said[-1], Tick), "the tick must find the refusal folded already"


async def test_a_supplier_that_does_not_answer_is_unavailable_with_what_was_there(scene: Scene) -> None:
    await scene.told(3)
    await scene.after(LAG_SECONDS + 1.0)
    scene.rig.cut(True)
    status = next(event for event in await scene.told(0) if isinstance(event, PoolStatus))
    assert (status.unavailable, status.ready, status.pending) == (True, 0, 3)
    assert scene.rig.held() == {"pending": 3}


async def test_what_may_just_have_been_bought_counts_when_its_supplier_falls_silent(scene: Scene) -> None:
    rig = scene.rig
    assert isinstance(rig, SimulatedRig)
    await scene.reconciled()
    rig.wire.cut_after = "POST"
    said = await scene.told(3)
    assert rig.held() == {"pending": 3}
    assert [(event.unavailable, event.pending) for event in said if isinstance(event, PoolStatus)] == [(True, 3)]


async def test_a_supplier_that_never_answered_is_not_said_to_hold_nothing(scene: Scene) -> None:
    scene.rig.cut(True)
    assert await scene.told(3) == []
