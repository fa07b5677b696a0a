"""The market's money: unknown outcomes, purchases at the same time, and what is quoted while not everything is known."""

from pathlib import Path

import pytest

from actuators.api import Failed, Intent, IntentConflict
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
    restarted = rivals.market()
    with pytest.raises(SupplierUnavailable, match="nobody knows what it holds"):
        await restarted.observe(FLEET, rivals.offer)
    assert await restarted.quote(rivals.offer) is None


async def test_without_a_quote_nothing_is_bought_above_the_policys_own_price(tmp_path: Path) -> None:
    rivals = Rivals(tmp_path)
    rivals.offer = offer_with(usd_per_replica_hour=15.0)
    assert isinstance(await rivals.market().apply(FLEET, rivals.offer, 3), Failed)
    assert rivals.held() == {"cheap": 0, "dear": 0}
