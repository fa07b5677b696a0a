"""What every actuator must do, whatever it buys from. A kind joins with a rig in `actuator_rigs`."""

from pathlib import Path

import pytest

from actuators.api import Applied, Failed, Skipped
from actuators.intents import IntentState
from actuators.registry import ACTUATORS
from actuators.wrappers import DryRun
from controlplane.contracts.errors import SupplierError
from controlplane.sim.cloud_config import OfferWorld
from controlplane.sim.invariants import orphans
from tests.contract.actuator_rigs import LAG_SECONDS, LEAD_SECONDS, RIGS, Refusing, Rig, RigMaker, SimulatedRig, offer_with

FLEET = "r1"


async def counted(rig: Rig) -> tuple[int, int]:
    status = await rig.actuator().observe(FLEET, rig.offer)
    return status.ready, status.pending


def test_every_registered_kind_has_a_rig() -> None:
    assert set(RIGS) == set(ACTUATORS)


async def test_applying_a_target_twice_is_applying_it_once(rig_of: RigMaker) -> None:
    rig = rig_of()
    actuator = rig.actuator()
    first = await actuator.apply(FLEET, rig.offer, 3)
    assert isinstance(first, Applied)
    assert first.change == 3
    assert isinstance(await actuator.apply(FLEET, rig.offer, 3), Skipped)
    assert rig.held() == {"pending": 3}
    assert rig.purchases() == 1


async def test_observing_converges_to_what_was_applied(rig_of: RigMaker) -> None:
    rig = rig_of()
    assert await counted(rig) == (0, 0)
    await rig.actuator().apply(FLEET, rig.offer, 3)
    assert await counted(rig) == (0, 3)
    rig.advance(LAG_SECONDS + 1)
    assert await counted(rig) == (0, 3)
    rig.advance(LEAD_SECONDS)
    assert await counted(rig) == (3, 0)
    assert isinstance(await rig.actuator().apply(FLEET, rig.offer, 3), Skipped)


async def test_a_measured_lead_time_is_observed(rig_of: RigMaker) -> None:
    rig = rig_of()
    await rig.actuator().apply(FLEET, rig.offer, 1)
    rig.advance(LEAD_SECONDS + LAG_SECONDS)
    status = await rig.actuator().observe(FLEET, rig.offer)
    assert status.lead_time_seconds == pytest.approx(LEAD_SECONDS)


async def test_a_target_of_zero_gives_everything_back(rig_of: RigMaker) -> None:
    rig = rig_of()
    assert isinstance(await rig.actuator().apply(FLEET, rig.offer, 0), Skipped)
    await rig.actuator().apply(FLEET, rig.offer, 4)
    rig.advance(LEAD_SECONDS + LAG_SECONDS)
    result = await rig.actuator().apply(FLEET, rig.offer, 0)
    assert isinstance(result, Applied)
    assert result.change == -4
    assert rig.held() == {}
    assert await counted(rig) == (0, 0)


async def test_shrinking_cancels_pending_first(rig_of: RigMaker) -> None:
    rig = rig_of()
    await rig.actuator().apply(FLEET, rig.offer, 3)
    rig.advance(LEAD_SECONDS + LAG_SECONDS)
    await rig.actuator().apply(FLEET, rig.offer, 5)
    rig.advance(LAG_SECONDS + 1)
    assert await counted(rig) == (3, 2)
    await rig.actuator().apply(FLEET, rig.offer, 3)
    assert rig.held() == {"ready": 3}


async def test_what_is_bought_but_not_listed_goes_before_what_is_ready(buyer_of: RigMaker) -> None:
    rig = buyer_of()
    await rig.actuator().apply(FLEET, rig.offer, 3)
    rig.advance(LEAD_SECONDS + LAG_SECONDS)
    await rig.actuator().apply(FLEET, rig.offer, 5)
    assert isinstance(await rig.actuator().apply(FLEET, rig.offer, 3), Skipped)
    assert rig.held() == {"ready": 3, "pending": 2}
    rig.advance(LAG_SECONDS + 1)
    await rig.actuator().apply(FLEET, rig.offer, 3)
    assert rig.held() == {"ready": 3}


async def test_replicas_within_their_minimum_hold_are_kept(buyer_of: RigMaker) -> None:
    rig = buyer_of(hold_seconds=3600.0)
    await rig.actuator().apply(FLEET, rig.offer, 2)
    rig.advance(1800.0)
    await rig.actuator().apply(FLEET, rig.offer, 5)
    rig.advance(1900.0)
    result = await rig.actuator().apply(FLEET, rig.offer, 0)
    assert isinstance(result, Applied)
    assert result.change == -2
    assert "hold" in result.reason
    held = await rig.actuator().apply(FLEET, rig.offer, 0)
    assert isinstance(held, Skipped)
    assert "hold" in held.reason
    rig.advance(3600.0)
    await rig.actuator().apply(FLEET, rig.offer, 0)
    assert rig.held() == {}


async def test_replicas_come_and_go_in_whole_lots(rig_of: RigMaker) -> None:
    rig = rig_of(replicas_per_lot=4)
    await rig.actuator().apply(FLEET, rig.offer, 10)
    assert rig.held() == {"pending": 8}
    rig.advance(LEAD_SECONDS + LAG_SECONDS)
    await rig.actuator().apply(FLEET, rig.offer, 3)
    assert rig.held() == {"ready": 4}


async def test_a_refused_purchase_leaves_no_open_intent(buyer_of: RigMaker) -> None:
    rig = buyer_of()
    rig.limit_stock(0)
    result = await rig.actuator().apply(FLEET, rig.offer, 3)
    assert isinstance(result, Failed)
    assert result.unavailable
    assert not result.retryable
    status = await rig.actuator().observe(FLEET, rig.offer)
    assert (status.pending, status.unavailable) == (0, True)
    intent = await rig.store.latest(FLEET, rig.offer.name)
    assert intent is not None
    assert intent.state == IntentState.FAILED


async def test_an_offer_that_refused_is_available_again_after_a_while(rig_of: RigMaker) -> None:
    rig = rig_of()
    rig.limit_stock(0)
    await rig.actuator().apply(FLEET, rig.offer, 3)
    rig.limit_stock(10)
    rig.advance(600.0)
    assert not (await rig.actuator().observe(FLEET, rig.offer)).unavailable
    assert isinstance(await rig.actuator().apply(FLEET, rig.offer, 3), Applied)
    assert rig.held() == {"pending": 3}


async def test_what_there_is_is_taken_and_said(rig_of: RigMaker) -> None:
    rig = rig_of()
    rig.limit_stock(2)
    result = await rig.actuator().apply(FLEET, rig.offer, 5)
    assert isinstance(result, Applied)
    assert result.change == 2
    assert "3 fewer" in result.reason
    assert await counted(rig) == (0, 2)


async def test_a_supplier_that_is_down_is_a_retryable_failure(rig_of: RigMaker) -> None:
    rig = rig_of()
    rig.cut(True)
    result = await rig.actuator().apply(FLEET, rig.offer, 3)
    assert isinstance(result, Failed)
    assert result.retryable
    assert not result.unavailable
    with pytest.raises(SupplierError) as error:
        await rig.actuator().observe(FLEET, rig.offer)
    assert error.value.retryable
    rig.cut(False)
    assert isinstance(await rig.actuator().apply(FLEET, rig.offer, 3), Applied)
    assert rig.purchases() == 1


@pytest.mark.parametrize("pause_seconds", [1.0, LAG_SECONDS + 1, 200.0, 3600.0])
async def test_a_purchase_of_unknown_outcome_is_settled_without_buying_again(buyer_of: RigMaker, pause_seconds: float) -> None:
    rig = buyer_of()
    rig.lose_purchase_replies(True)
    result = await rig.actuator().apply(FLEET, rig.offer, 3)
    assert isinstance(result, Failed)
    assert result.retryable
    status = await rig.actuator().observe(FLEET, rig.offer)
    assert (status.pending, status.unavailable) == (3, True)
    rig.advance(pause_seconds)
    await rig.actuator().apply(FLEET, rig.offer, 3)
    rig.lose_purchase_replies(False)
    for _ in range(6):
        rig.advance(LAG_SECONDS)
        await rig.actuator().apply(FLEET, rig.offer, 3)
    assert sum(rig.held().values()) == 3
    assert rig.purchases() == 1
    assert not (await rig.actuator().observe(FLEET, rig.offer)).unavailable


async def test_a_refusal_of_the_second_asking_says_nothing_of_the_first(buyer_of: RigMaker) -> None:
    rig = buyer_of()
    assert isinstance(rig, Refusing)
    rig.lose_purchase_replies(True)
    await rig.actuator().apply(FLEET, rig.offer, 3)
    rig.lose_purchase_replies(False)
    rig.refuse_purchases(True)
    result = await rig.actuator().apply(FLEET, rig.offer, 3)
    assert not (isinstance(result, Failed) and result.unavailable), "the first asking may have bought: no other offer should be tried"
    assert sum(await counted(rig)) == 3
    rig.refuse_purchases(False)
    for _ in range(6):
        await rig.actuator().apply(FLEET, rig.offer, 3)
        rig.advance(LAG_SECONDS)
    assert sum(rig.held().values()) == 3
    assert rig.purchases() == 1


async def test_an_unknown_outcome_that_is_no_longer_wanted_is_not_asked_for_again(buyer_of: RigMaker) -> None:
    rig = buyer_of()
    rig.lose_purchase_replies(True)
    await rig.actuator().apply(FLEET, rig.offer, 3)
    rig.lose_purchase_replies(False)
    assert isinstance(await rig.actuator().apply(FLEET, rig.offer, 1), Skipped)
    rig.advance(LAG_SECONDS + 1)
    await rig.actuator().apply(FLEET, rig.offer, 1)
    assert rig.held() == {"pending": 1}


async def test_a_lagging_listing_never_buys_twice(buyer_of: RigMaker) -> None:
    rig = buyer_of()
    for _ in range(20):
        await rig.actuator().apply(FLEET, rig.offer, 3)
        rig.advance(LAG_SECONDS / 5)
        assert sum(await counted(rig)) == 3
    assert rig.purchases() == 1


async def test_replicas_that_failed_to_start_are_given_back_and_replaced(buyer_of: RigMaker) -> None:
    rig = buyer_of(start_failure_share=1.0)
    actuator = rig.actuator()
    await actuator.apply(FLEET, rig.offer, 2)
    rig.advance(LEAD_SECONDS + LAG_SECONDS)
    status = await actuator.observe(FLEET, rig.offer)
    assert (status.ready, status.pending) == (0, 0)
    await actuator.apply(FLEET, rig.offer, 2)
    assert rig.held() == {"pending": 2}
    assert rig.purchases() == 2


async def test_replicas_that_no_intent_knows_are_adopted(rig_of: RigMaker) -> None:
    rig = rig_of()
    await rig.actuator().apply(FLEET, rig.offer, 2)
    rig.advance(LAG_SECONDS + 1)
    rig.store.history.clear()
    assert await counted(rig) == (0, 2)
    assert isinstance(await rig.actuator().apply(FLEET, rig.offer, 2), Skipped)
    result = await rig.actuator().apply(FLEET, rig.offer, 3)
    assert isinstance(result, Applied)
    assert result.change == 1
    assert rig.held() == {"pending": 3}


async def test_two_fleets_do_not_see_each_other(buyer_of: RigMaker) -> None:
    rig = buyer_of()
    await rig.actuator().apply(FLEET, rig.offer, 2)
    await rig.actuator().apply("other", rig.offer, 1)
    rig.advance(LAG_SECONDS + 1)
    assert await counted(rig) == (0, 2)
    await rig.actuator().apply("other", rig.offer, 0)
    assert rig.held() == {"pending": 2}


async def test_a_dry_run_makes_no_calls(rig_of: RigMaker) -> None:
    rig = rig_of()
    result = await DryRun(rig.actuator()).apply(FLEET, rig.offer, 3)
    assert isinstance(result, Skipped)
    assert "dry run" in result.reason
    assert rig.calls() == 0
    assert rig.store.history == []


async def test_a_quote_tells_price_and_stock(rig_of: RigMaker) -> None:
    rig = rig_of()
    rig.limit_stock(7)
    actuator = rig.actuator()
    await actuator.observe(FLEET, rig.offer)
    quote = await actuator.quote(rig.offer)
    if quote is None:
        assert not getattr(rig, "quotes", True), "only a kind that has no prices may say nothing"
        return
    stock = 7 if getattr(rig, "counts_stock", True) else None
    assert (quote.offer, quote.stock_replicas) == (rig.offer.name, stock)


async def test_nothing_is_orphaned_at_the_simulated_cloud(tmp_path: Path) -> None:
    rig = SimulatedRig(tmp_path, offer_with(), OfferWorld(usd_per_replica_hour=1.0, lead_time_seconds=1.0))
    await rig.actuator().apply(FLEET, rig.offer, 3)
    status = await rig.actuator().observe(FLEET, rig.offer)
    assert orphans(rig.cloud.entries, {(FLEET, rig.offer.name): status.ready + status.pending}) == {}
    assert orphans(rig.cloud.entries, {}) == {(FLEET, rig.offer.name): 3}
