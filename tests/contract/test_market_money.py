"""The market's money: unknown outcomes, purchases at the same time, and what is quoted while not everything is known."""

from dataclasses import replace
from pathlib import Path

import pytest

from actuators.api import Applied, Failed, Intent, IntentConflict, Skipped
from actuators.market import part_of
from controlplane.contracts.errors import SupplierUnavailable
from tests.contract.actuator_rigs import LAG_SECONDS, offer_with
from tests.contract.market_rivals import FLEET, Rivals
from tests.fakes import MemoryIntentStore


async def test_an_unknown_outcome_is_not_made_up_for_elsewhere(tmp_path: Path) -> None:
    rivals = Rivals(tmp_path)
    rivals.wires["cheap"].lose_replies_to = "POST"
    market = rivals.market()
    for _ in range(3):
        await market.apply(FLEET, rivals.offer, 3)
    rivals.wires["cheap"].lose_replies_to = ""
    for _ in range(6):
        rivals.wall.advance(LAG_SECONDS)
        await rivals.market().apply(FLEET, rivals.offer, 3)
    assert rivals.held() == {"cheap": 3, "dear": 0}
    assert (rivals.purchases("cheap"), rivals.purchases("dear")) == (1, 0)


class BusyStore(MemoryIntentStore):
    """Somebody else writes first to the intents of one supplier's part."""

    def __init__(self, part: str) -> None:
        super().__init__()
        self.part = part

    async def put(self, intent: Intent) -> Intent:
        if intent.offer == self.part:
            raise IntentConflict("somebody else was first")
        return await super().put(intent)


async def test_what_somebody_else_buys_at_the_same_time_is_not_bought_at_the_next_supplier(tmp_path: Path) -> None:
    rivals = Rivals(tmp_path)
    rivals.store = BusyStore(part_of(rivals.offer, "cheap").name)
    result = await rivals.market().apply(FLEET, rivals.offer, 3)
    assert isinstance(result, Failed)
    assert result.retryable
    assert rivals.held() == {"cheap": 0, "dear": 0}


async def test_what_is_bought_and_not_listed_yet_is_quoted_at_its_price_after_a_restart_too(tmp_path: Path) -> None:
    rivals = Rivals(tmp_path)
    await rivals.market().apply(FLEET, rivals.offer, 2)
    rivals.change("cheap", usd_per_replica_hour=5.0)
    restarted = rivals.market()
    await restarted.observe(FLEET, rivals.offer)
    quote = await restarted.quote(rivals.offer)
    assert quote is not None
    assert quote.usd_per_replica_hour == 20.0, "two are held at 20"


async def test_while_nobody_knows_what_was_paid_nothing_is_quoted(tmp_path: Path) -> None:
    rivals = Rivals(tmp_path)
    await rivals.market().apply(FLEET, rivals.offer, 2)
    rivals.wires["cheap"].is_cut = True
    restarted = rivals.market(keeps_ledger=False)
    with pytest.raises(SupplierUnavailable, match="nobody knows what it holds"):
        await restarted.observe(FLEET, rivals.offer)
    assert await restarted.quote(rivals.offer) is None


async def test_what_was_just_bought_counts_after_a_restart_though_its_supplier_is_silent(tmp_path: Path) -> None:
    rivals = Rivals(tmp_path)
    await rivals.market().apply(FLEET, rivals.offer, 2)
    rivals.wires["cheap"].is_cut = True
    restarted = rivals.market()
    status = await restarted.observe(FLEET, rivals.offer)
    assert (status.pending, status.usd_per_hour) == (2, 40.0)
    await restarted.quote(rivals.offer)
    await restarted.apply(FLEET, rivals.offer, 2)
    assert rivals.held() == {"cheap": 2, "dear": 0}


async def test_a_purchase_that_is_given_up_is_not_made_anew_past_the_price_that_was_quoted(tmp_path: Path) -> None:
    """A purchase that nobody knows of blocks its supplier for five minutes. What takes its place goes by the price of then."""
    rivals = Rivals(tmp_path)
    rivals.change("cheap", error_share=1.0)
    market = rivals.market()
    await market.apply(FLEET, rivals.offer, 3)
    rivals.wall.advance(400.0)
    rivals.change("cheap", error_share=0.0, usd_per_replica_hour=25.0)
    decided = replace(rivals.offer, most_usd_per_replica_hour=20.0)
    await market.apply(FLEET, decided, 3)
    await market.apply(FLEET, decided, 3)
    assert rivals.held() == {"cheap": 0, "dear": 0}


async def test_without_a_quote_nothing_is_bought_above_the_policys_own_price(tmp_path: Path) -> None:
    rivals = Rivals(tmp_path)
    rivals.offer = offer_with(usd_per_replica_hour=15.0)
    assert isinstance(await rivals.market().apply(FLEET, rivals.offer, 3), Failed)
    assert rivals.held() == {"cheap": 0, "dear": 0}


async def test_what_is_held_tells_what_it_costs_with_what_failed_and_what_is_not_listed_yet(tmp_path: Path) -> None:
    rivals = Rivals(tmp_path)
    rivals.change("cheap", start_failure_share=1.0, stock_replicas=2)
    market = rivals.market()
    await market.apply(FLEET, rivals.offer, 3)
    status = await market.observe(FLEET, rivals.offer)
    assert (status.pending, status.usd_per_hour) == (3, 2 * 20.0 + 30.0)
    rivals.settle()
    status = await market.observe(FLEET, rivals.offer)
    assert (status.ready, status.failed_replicas, status.usd_per_hour) == (1, 2, 2 * 20.0 + 30.0)
    rivals.wires["cheap"].is_cut = True
    assert (await market.observe(FLEET, rivals.offer)).usd_per_hour == 2 * 20.0 + 30.0, "a silent supplier may still send a bill"


async def test_what_was_lost_is_not_made_up_for_by_what_is_dearer_than_the_decision_has_money_for(tmp_path: Path) -> None:
    """Three at 20, and money for those: when they are gone, and 30 is the price of now, two are bought."""
    rivals = Rivals(tmp_path)
    rivals.change("cheap", interruptions_per_hour=1e6)
    market = rivals.market()
    await market.apply(FLEET, rivals.offer, 3)
    rivals.settle()
    rivals.change("cheap", stock_replicas=0)
    await market.observe(FLEET, rivals.offer)
    await market.quote(rivals.offer)
    decided = replace(rivals.offer, most_usd_per_replica_hour=40.0, most_usd_per_hour=60.0)
    await market.apply(FLEET, decided, 3)
    assert rivals.held() == {"cheap": 0, "dear": 2}
    result = await market.apply(FLEET, decided, 3)
    assert isinstance(result, Skipped)
    assert "60.00 USD/h were decided on" in result.reason


async def test_what_takes_the_place_of_a_purchase_that_is_given_up_keeps_to_the_money_too(tmp_path: Path) -> None:
    """One at 30, and three at 20 that were sold and never came: with 115 USD/h, three at 25 are bought in their place and none beside."""
    rivals = Rivals(tmp_path)
    rivals.change("cheap", stock_replicas=0)
    market = rivals.market()
    await market.apply(FLEET, rivals.offer, 1)
    rivals.settle()
    part, opened = part_of(rivals.offer, "cheap").name, rivals.wall.now_unix
    refused = await rivals.store.latest(FLEET, part)
    number, revision = (refused.number, refused.revision) if refused is not None else (0, 0)
    never = Intent(FLEET, part, number + 1, 3, "bought", revision, opened, replicas=("x", "y", "z"), usd_per_replica_hour=20.0)
    await rivals.store.put(never)
    rivals.wall.advance(400.0)
    rivals.change("cheap", stock_replicas=10, usd_per_replica_hour=25.0)
    await market.observe(FLEET, rivals.offer)
    await market.quote(rivals.offer)
    await market.apply(FLEET, replace(rivals.offer, most_usd_per_replica_hour=30.0, most_usd_per_hour=115.0), 5)
    assert rivals.held() == {"cheap": 3, "dear": 1}


async def test_a_restart_does_not_buy_above_the_price_that_was_decided_on(tmp_path: Path) -> None:
    rivals = Rivals(tmp_path)
    rivals.change("cheap", usd_per_replica_hour=25.0)
    restarted = rivals.market()
    await restarted.observe(FLEET, rivals.offer)
    await restarted.quote(rivals.offer)
    assert isinstance(await restarted.apply(FLEET, replace(rivals.offer, most_usd_per_replica_hour=20.0), 3), Failed)
    assert rivals.held() == {"cheap": 0, "dear": 0}
    assert isinstance(await restarted.apply(FLEET, replace(rivals.offer, most_usd_per_replica_hour=25.0), 3), Applied)


async def test_what_may_not_have_been_sold_is_not_asked_for_again_at_a_higher_price(tmp_path: Path) -> None:
    rivals = Rivals(tmp_path)
    rivals.change("cheap", error_share=1.0)
    market = rivals.market()
    await market.apply(FLEET, rivals.offer, 3)
    rivals.change("cheap", error_share=0.0, usd_per_replica_hour=25.0)
    rivals.wall.advance(LAG_SECONDS)
    await market.apply(FLEET, rivals.offer, 3)
    assert rivals.held() == {"cheap": 0, "dear": 0}
    rivals.change("cheap", usd_per_replica_hour=20.0)
    await market.apply(FLEET, rivals.offer, 3)
    assert rivals.held() == {"cheap": 3, "dear": 0}
