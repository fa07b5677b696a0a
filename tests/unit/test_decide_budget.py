"""Hard limits on money, as stories: 36 USD per replica-hour, so ten replicas are 360 USD an hour; spill costs three times as much."""

from dataclasses import replace
from typing import Any

import pytest

from controlplane.contracts.events import Reason
from controlplane.contracts.fleet import Budget, BudgetWindow
from policies.budget import committed_usd, usd_limits
from policies.decide import decide, start_memory
from policies.view import Cohort, Memory, OpenWindow
from tests.unit.decide_stories import BURST, BURST_USD, DAY, DEARER, HOUR, MINUTE, RESERVED, SPILL_USD, START, flat, fleet_of, view_of

QUICK = replace(BURST, hold_seconds=0.0)


@pytest.mark.parametrize(
    ("usd_per_hour", "demand", "ready", "target", "spill"),
    [
        (720.0, 100.0, 0, 10, 360.0 / (SPILL_USD * HOUR)),
        (360.0, 100.0, 0, 10, 0.0),
        (359.0, 100.0, 0, 9, 35.0 / (SPILL_USD * HOUR)),
        (100.0, 100.0, 10, 2, 0.0),
        (0.0, 100.0, 10, 0, 0.0),
    ],
)
def test_an_hours_budget_covers_burst_and_spill(usd_per_hour: float, demand: float, ready: int, target: int, spill: float) -> None:
    fleet = fleet_of(QUICK, budget=Budget(usd_per_hour=usd_per_hour))
    verdict, _ = decide(view_of(fleet, flat(demand), {"burst": ready}), start_memory(START))
    assert verdict.targets == {"burst": target}
    assert verdict.spill_per_second == pytest.approx(spill)
    assert (Reason.SPILL_OPEN if spill else Reason.SPILL_CLOSED) in verdict.reasons


def test_the_floor_is_not_in_the_budget() -> None:
    verdict, _ = decide(view_of(fleet_of(RESERVED, QUICK, budget=Budget(usd_per_hour=0.0)), flat(100.0)), start_memory(START))
    assert verdict.targets == {"reserved": 4, "burst": 0}


def test_what_is_new_gives_way_before_what_is_held_and_the_dearest_first() -> None:
    fleet = fleet_of(QUICK, replace(DEARER, hold_seconds=0.0), budget=Budget(usd_per_hour=5 * 36.0 + 3 * 48.0))
    view = view_of(fleet, flat(140.0), {"burst": 5, "dearer": 4}, stock={"burst": 3})
    assert decide(view, start_memory(START))[0].targets == {"burst": 5, "dearer": 3}


def test_replicas_within_their_hold_are_paid_for_and_stay() -> None:
    fleet = fleet_of(BURST, budget=Budget(usd_per_hour=72.0))
    memory = replace(start_memory(START), cohorts={"burst": (Cohort(START - HOUR, 3), Cohort(START - 60.0, 4))})
    verdict, _ = decide(view_of(fleet, flat(100.0), {"burst": 7}), memory)
    assert verdict.targets == {"burst": 4}
    assert verdict.spill_per_second == 0.0


@pytest.mark.parametrize(
    ("prices", "offer", "target"),
    [
        ({"burst": 50.0}, {}, 7),
        ({"burst": None}, {"usd_per_replica_hour": None, "ceiling_usd_per_replica_hour": 90.0}, 0),
        ({"burst": 90.0}, {"usd_per_replica_hour": None, "ceiling_usd_per_replica_hour": 90.0}, 4),
    ],
    ids=["the live price counts", "without any price nothing is bought", "the view puts the ceiling for an unknown price"],
)
def test_an_unknown_price_counts_as_its_ceiling(prices: dict[str, float | None], offer: dict[str, Any], target: int) -> None:
    fleet = fleet_of(replace(QUICK, **offer), budget=Budget(usd_per_hour=360.0))
    assert decide(view_of(fleet, flat(100.0), prices=prices), start_memory(START))[0].targets == {"burst": target}


def test_an_offer_that_nobody_can_price_is_let_go_under_a_budget_and_spill_closes() -> None:
    fleet = fleet_of(replace(QUICK, usd_per_replica_hour=None), budget=Budget(usd_per_hour=360.0, usd_per_day=1000.0))
    verdict, _ = decide(view_of(fleet, flat(100.0), {"burst": 10}), replace(start_memory(START), spent_usd_today=1.0))
    assert verdict.targets == {"burst": 0}


@pytest.mark.parametrize(
    ("spent", "ready", "target"),
    [
        (0.0, 0, 10),
        (1000.0 - 30.0, 0, 5),
        (1000.0 - 6.0, 0, 1),
        (1000.0 - 5.9, 0, 0),
        (1000.0 - 6.0, 10, 10),
        (1000.0 - 3.0, 10, 5),
        (1000.0, 10, 0),
    ],
)
def test_a_days_budget_charges_the_minimum_hold_at_the_request(spent: float, ready: int, target: int) -> None:
    """A new replica commits ten minutes, 6 USD; a held one the minute until the decision expires, 0.60 USD."""
    fleet = fleet_of(replace(BURST, max_replicas=10), budget=Budget(usd_per_day=1000.0), spill=None, attainment=0.99)
    old = {"burst": (Cohort(START - HOUR, ready),)} if ready else {}
    memory = replace(start_memory(START), spent_usd_today=spent, cohorts=old)
    assert decide(view_of(fleet, flat(100.0), {"burst": ready}), memory)[0].targets == {"burst": target}


def test_a_hold_that_runs_stays_reserved_after_it_is_asked_for() -> None:
    """12 USD left: two replicas now. A minute later their holds still take 10.80 of the 10.80 that are left, so no third one."""
    fleet = fleet_of(BURST, budget=Budget(usd_per_day=1000.0), spill=None, attainment=0.99)
    memory = replace(start_memory(START), spent_usd_today=988.0)
    first, memory = decide(view_of(fleet, flat(100.0)), memory)
    second, memory = decide(view_of(fleet, flat(100.0), pending={"burst": 2}, minute=1), memory)
    assert (first.targets, second.targets) == ({"burst": 2}, {"burst": 2})
    assert memory.spent_usd_today == pytest.approx(989.2)
    assert committed_usd({"burst": 2}, view_of(fleet, flat(100.0), {"burst": 2}, minute=1), memory) == pytest.approx(10.8)


@pytest.mark.parametrize(
    ("seen", "spill_usd_per_hour"),
    [
        ({}, 1000.0 - 10 * 36.0),
        ({"unserving": 3}, 1000.0 - 13 * 36.0),
        ({"paid_usd_per_hour": 900.0}, 100.0),
        ({"paid_usd_per_hour": 1200.0}, 0.0),
        ({"untold": True}, 0.0),
    ],
    ids=["what serves", "what drains or has failed", "as told", "more than all of it", "all that an untold offer may hold"],
)
def test_what_is_paid_and_serves_nothing_leaves_less_to_spill(seen: dict[str, Any], spill_usd_per_hour: float) -> None:
    view = view_of(fleet_of(QUICK, budget=Budget(usd_per_hour=1000.0)), flat(100.0), {"burst": 10})
    verdict, _ = decide(replace(view, offers=(replace(view.offers[0], **seen),)), start_memory(START))
    assert verdict.spill_per_second * SPILL_USD * HOUR == pytest.approx(spill_usd_per_hour)


@pytest.mark.parametrize(
    ("usd_before", "decided_for", "spent"),
    [(BURST_USD, True, 40 * 36.0 / 4), (BURST_USD, False, 0.0), (None, True, 0.0)],
    ids=["all that it may hold, for a quarter of an hour", "not before it was decided for", "nor while nobody can price it"],
)
def test_a_days_budget_is_charged_for_what_an_untold_offer_may_have_held(usd_before: float | None, decided_for: bool, spent: float) -> None:
    fleet = fleet_of(QUICK, budget=Budget(usd_per_day=1000.0), spill=None)
    view = view_of(fleet, flat(100.0), minute=15, prices={"burst": usd_before})
    memory = replace(start_memory(START), targets={"burst": 0} if decided_for else {})
    _, memory = decide(replace(view, offers=(replace(view.offers[0], untold=True),)), memory)
    assert memory.spent_usd_today == pytest.approx(spent)


@pytest.mark.parametrize(("untold", "spill_usd_per_minute"), [(False, 20.0), (True, 0.0)])
@pytest.mark.parametrize(
    "budget", [Budget(usd_per_day=1000.0), Budget(windows=(BudgetWindow("all", usd=1000.0),))], ids=["of a day", "of a window"]
)
def test_what_an_untold_offer_may_hold_leaves_less_of_a_total_to_spill(budget: Budget, untold: bool, spill_usd_per_minute: float) -> None:
    """20 USD are left, and 40 replicas at 36 USD an hour cost 24 until the decision expires, a minute on."""
    view = view_of(fleet_of(QUICK, budget=budget), None, demand_per_second=1e6)
    view = replace(view, offers=(replace(view.offers[0], untold=untold),))
    memory = replace(start_memory(START), spent_usd_today=980.0, windows=(OpenWindow("all", START, 980.0),))
    verdict, _ = decide(view, memory)
    assert verdict.spill_per_second * SPILL_USD * MINUTE == pytest.approx(spill_usd_per_minute)


def test_what_is_given_back_is_paid_until_it_is_gone() -> None:
    fleet = fleet_of(QUICK, budget=Budget(usd_per_hour=360.0))
    verdict, memory = decide(view_of(fleet, flat(50.0), {"burst": 10}), start_memory(START))
    assert verdict.targets["burst"] < 8
    assert verdict.spill_per_second == 0.0
    verdict, _ = decide(view_of(fleet, flat(50.0), dict(verdict.targets), minute=1), memory)
    assert verdict.spill_per_second * SPILL_USD * HOUR == pytest.approx(360.0 - 36.0 * verdict.targets["burst"])


def test_a_cheaper_offer_waits_until_the_dearer_one_that_it_replaces_is_gone() -> None:
    """Five at 48 take all the money. Replicas at 36 are bought beside what is held, never in place of what is only meant to go."""
    fleet = fleet_of(QUICK, replace(DEARER, hold_seconds=0.0), budget=Budget(usd_per_hour=5 * 48.0), spill=None)
    first, memory = decide(view_of(fleet, flat(50.0), {"dearer": 5}), start_memory(START))
    assert first.targets["burst"] == 0
    _, memory = decide(view_of(fleet, flat(50.0), {"dearer": 3}, minute=1), memory)
    assert memory.targets["burst"] == 2


def test_a_purchase_on_its_way_counts_until_a_pool_can_have_told_of_it() -> None:
    """Ten are asked for, then nobody needs them: for half a minute they may still come. After a refusal they do not."""
    fleet = fleet_of(QUICK, budget=Budget(usd_per_hour=360.0))
    asked, memory = decide(view_of(fleet, flat(100.0)), start_memory(START))
    assert (asked.targets["burst"], asked.spill_per_second) == (10, 0.0)
    for seconds, refused, usd in ((15.0, (), 0.0), (15.0, ("burst",), 360.0), (30.0, (), 360.0)):
        view = view_of(fleet, flat(0.0), minute=seconds / 60.0, unavailable=refused, demand_per_second=100.0)
        verdict, _ = decide(view, memory)
        assert verdict.spill_per_second * SPILL_USD * HOUR == pytest.approx(usd), (seconds, refused)


@pytest.mark.parametrize(("purchase", "usd"), [("onDemand", 1000.0 - 360.0), ("spot", 1000.0 - 600.0)])
def test_a_spot_price_may_rise_to_its_ceiling_before_the_next_decision(purchase: str, usd: float) -> None:
    offer = replace(QUICK, ceiling_usd_per_replica_hour=60.0, actuator_options={"purchase": purchase})
    verdict, _ = decide(view_of(fleet_of(offer, budget=Budget(usd_per_hour=1000.0)), flat(100.0), {"burst": 10}), start_memory(START))
    assert verdict.targets["burst"] == 10
    assert verdict.spill_per_second * SPILL_USD * HOUR == pytest.approx(usd)


def test_cheap_machines_are_kept_when_the_next_one_would_be_dear() -> None:
    """Ten held at 36 and 90 for the next: the money that they cost is what counts, and nothing is bought beside them."""
    view = view_of(fleet_of(QUICK, budget=Budget(usd_per_hour=400.0)), flat(120.0), {"burst": 10}, prices={"burst": 90.0})
    view = replace(view, offers=(replace(view.offers[0], paid_usd_per_hour=360.0),))
    verdict, memory = decide(view, start_memory(START))
    assert verdict.targets["burst"] == 10
    assert usd_limits(verdict.targets, view, memory) == {"burst": 360.0}


def test_a_new_day_starts_at_midnight_utc_and_pays_from_there() -> None:
    fleet = fleet_of(QUICK, budget=Budget(usd_per_day=1000.0), spill=None)
    view = view_of(fleet, flat(100.0), {"burst": 10}, minute=10 - 24 * 60)
    memory = replace(start_memory(view.now_unix), metered_unix=START - DAY - 600.0, day=int(START // DAY) - 2, spent_usd_today=1000.0)
    _, memory = decide(view, memory)
    assert memory.spent_usd_today == pytest.approx(10 * BURST_USD / 6), "ten minutes of ten replicas, not twenty"


@pytest.mark.parametrize(
    ("reported", "spent"),
    [(20.0, 20.0), (0.0, 0.0), (None, 50.0)],
    ids=["as reported", "none", "unknown: all that was not ready for, as far as allowed"],
)
def test_spill_is_paid_for_even_where_nobody_reports_it(reported: float | None, spent: float) -> None:
    fleet = fleet_of(QUICK, budget=Budget(usd_per_day=1e6))
    memory = Memory(metered_unix=START, day=int(START // DAY), spill_per_second=80.0)
    view = view_of(fleet, flat(100.0), {"burst": 5}, minute=60, spilled_per_second=reported)
    _, memory = decide(view, memory)
    assert memory.spent_usd_today == pytest.approx(5 * BURST_USD + spent * SPILL_USD * HOUR)


def test_a_spent_budget_makes_layers_dearer_work_worth_a_miss() -> None:
    """With spill closed by the budget, carried work is worth a miss, so the tail of demand is bought if money allows any."""
    outlook = flat(100.0, 0.5)
    open_, _ = decide(view_of(fleet_of(QUICK), outlook), start_memory(START))
    closed, _ = decide(view_of(fleet_of(QUICK, spill=replace(fleet_of().spill, max_per_second=0.0)), outlook), start_memory(START))  # type: ignore[type-var]
    assert (open_.targets["burst"], closed.targets["burst"]) == (12, 15)
