"""The ledger as stories: what is charged, from when, until when, and that a restart forgets nothing."""

import pytest

from actuators.api import Intent
from actuators.holdings import Holding, HoldingState, Listing
from actuators.intents import unseen
from actuators.ledger import Books, Ledger
from controlplane.sim.drill import DrillLedger

HOUR = 3600.0
NOON = 1_699_920_000.0 + 12 * HOUR


def listing(now: float, *ids: str, usd: float = 2.0, since: float = NOON, held_until: float = 0.0, **states: HoldingState) -> Listing:
    ready = HoldingState.READY
    return Listing(now, tuple(Holding(one, one, "t", states.get(one, ready), since, None, held_until, usd) for one in ids))


def after(*listings: Listing, hold: float = 0.0, usd: float | None = None) -> Ledger:
    ledger = Ledger()
    for one in listings:
        ledger = ledger.see(one, hold, usd)
    return ledger


def test_a_replica_is_charged_from_its_request_on_although_it_is_listed_later() -> None:
    assert after(listing(NOON + HOUR, "a")).usd == pytest.approx(2.0)
    assert after(listing(NOON + HOUR, "a"), listing(NOON + 2 * HOUR, "a")).usd == pytest.approx(4.0)


def test_one_that_is_gone_is_charged_until_midway_between_seen_and_missed() -> None:
    assert after(listing(NOON + HOUR, "a"), listing(NOON + 2 * HOUR)).usd == pytest.approx(3.0)
    assert after(listing(NOON + HOUR, "a"), listing(NOON + 2 * HOUR, "a", a=HoldingState.GONE)).usd == pytest.approx(3.0)


def test_one_that_failed_is_paid_for_until_it_is_given_back() -> None:
    assert after(listing(NOON + HOUR, "a", a=HoldingState.FAILED)).usd == pytest.approx(2.0)


def test_a_minimum_hold_is_owed_however_soon_it_goes_back() -> None:
    assert after(listing(NOON + 60, "a"), listing(NOON + 120), hold=HOUR).usd == pytest.approx(2.0)
    assert after(listing(NOON + 60, "a", held_until=NOON + 2 * HOUR), listing(NOON + 120)).usd == pytest.approx(4.0)


def test_a_supplier_that_tells_no_price_is_charged_the_policys() -> None:
    assert after(listing(NOON + HOUR, "a", usd=0.0), usd=5.0).usd == pytest.approx(5.0)


def test_days_are_kept_apart() -> None:
    ledger = after(listing(NOON + HOUR, "a"), listing(NOON + 13 * HOUR, "a"))
    assert ledger.usd_by_day == pytest.approx({"2023-11-14": 24.0, "2023-11-15": 2.0})


def test_what_nobody_looked_at_for_days_is_charged_to_those_days() -> None:
    ledger = after(listing(NOON + HOUR, "a"), listing(NOON + 61 * HOUR, "a"))
    assert ledger.usd_by_day == pytest.approx({"2023-11-14": 24.0, "2023-11-15": 48.0, "2023-11-16": 48.0, "2023-11-17": 2.0})


def test_what_is_told_of_a_silent_supplier_is_of_its_newest_purchase_from_that_purchases_second_on() -> None:
    """Suppliers tell whole seconds: what was asked for at 12:00:00.7 may read as requested at 12:00:00."""
    intent = Intent("r1", "rented", 7, 1, "bought", opened_unix=NOON + 0.7, replicas=("a",))
    told = after(listing(NOON + 60, "a", since=NOON)).listing(NOON + 90, intent)
    assert unseen(intent, told.seen) == 0
    assert after(listing(NOON + 60, "a", since=NOON - 1.0)).listing(NOON + 90, intent).seen == {"": 1}


async def test_a_restart_goes_on_where_it_was() -> None:
    store = DrillLedger()
    for hour in (1, 2, 3):
        await Books(store).note("r1", "rented", listing(NOON + hour * HOUR, "a"), 0.0, None)
    assert Ledger.load(store.texts["r1", "rented"]).usd == pytest.approx(6.0)
