"""What keeps a decision safe, as stories: bounds, stock, stale data, pokes, alerts, the freeze, and who wins."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from controlplane.contracts.events import Reason
from controlplane.contracts.fleet import Behavior, Budget, Direction, Select
from policies.decide import decide, start_memory
from policies.view import Memory, Outlook
from tests.unit.decide_stories import BURST, CAPACITY, DEARER, RESERVED, START, flat, fleet_of, view_of

QUICK = replace(BURST, hold_seconds=0.0)


@pytest.mark.parametrize(
    ("demand", "held", "target", "reason"),
    [
        (0.0, 0, 3, Reason.RAISED_TO_FLOOR),
        (0.0, 5, 3, Reason.LAYER_RELEASED),
        (500.0, 5, 12, Reason.LAYER_PAYS),
        (500.0, 15, 12, Reason.CLAMPED_TO_CEILING),
    ],
)
def test_every_offer_stays_between_its_bounds(demand: float, held: int, target: int, reason: Reason) -> None:
    fleet = fleet_of(replace(QUICK, min_replicas=3, max_replicas=12))
    verdict, _ = decide(view_of(fleet, flat(demand), {"burst": held}), start_memory(START))
    assert verdict.targets == {"burst": target}
    assert reason in verdict.reasons or target == 3


def test_the_fleets_ceiling_beats_the_offers_floors_dearest_first() -> None:
    fleet = fleet_of(
        replace(RESERVED, min_replicas=4), replace(QUICK, min_replicas=4), replace(DEARER, min_replicas=4), max_total_replicas=7
    )
    verdict, _ = decide(view_of(fleet, flat(200.0), {"reserved": 4, "burst": 4, "dearer": 4}), start_memory(START))
    assert verdict.targets == {"reserved": 4, "burst": 3, "dearer": 0}
    assert Reason.CLAMPED_TO_CEILING in verdict.reasons


def test_a_sunk_floor_is_held_to_its_limit_and_a_metered_one_only_while_it_pays() -> None:
    metered = replace(RESERVED, name="metered", opportunity_usd_per_replica_hour=20.0, min_replicas=1)
    fleet = fleet_of(RESERVED, metered)
    held = {"reserved": 4, "metered": 4}
    assert decide(view_of(fleet, flat(45.0), held), start_memory(START))[0].targets == {"reserved": 4, "metered": 1}
    assert decide(view_of(fleet, flat(65.0), held), start_memory(START))[0].targets == {"reserved": 4, "metered": 3}


def test_a_metered_floor_without_spill_or_burst_still_serves() -> None:
    metered = replace(RESERVED, opportunity_usd_per_replica_hour=20.0)
    verdict, _ = decide(view_of(fleet_of(metered, spill=None, attainment=0.99), flat(30.0), {"reserved": 2}), start_memory(START))
    assert verdict.targets == {"reserved": 3}


@pytest.mark.parametrize(
    ("world", "targets", "reason"),
    [
        ({}, {"burst": 10, "dearer": 0}, Reason.LAYER_PAYS),
        ({"stock": {"burst": 4}}, {"burst": 4, "dearer": 6}, Reason.LAYER_PAYS),
        ({"unavailable": ("burst",)}, {"burst": 0, "dearer": 10}, Reason.LAYER_PAYS),
        ({"unavailable": ("burst", "dearer")}, {"burst": 0, "dearer": 0}, Reason.SPILL_OPEN),
        ({"prices": {"burst": 60.0}}, {"burst": 0, "dearer": 10}, Reason.LAYER_PAYS),
        ({"prices": {"burst": None}}, {"burst": 0, "dearer": 10}, Reason.LAYER_PAYS),
        ({"prices": {"burst": 200.0, "dearer": 200.0}}, {"burst": 0, "dearer": 0}, Reason.SPILL_OPEN),
    ],
)
def test_what_one_offer_cannot_give_the_next_one_does_in_the_same_tick(
    world: dict[str, Any], targets: dict[str, int], reason: Reason
) -> None:
    verdict, _ = decide(view_of(fleet_of(QUICK, DEARER), flat(100.0), **world), start_memory(START))
    assert verdict.targets == targets
    assert reason in verdict.reasons


def test_a_refusing_offer_keeps_what_it_holds() -> None:
    view = view_of(fleet_of(QUICK, DEARER), flat(100.0), {"burst": 6}, unavailable=("burst",))
    assert decide(view, start_memory(START))[0].targets == {"burst": 6, "dearer": 4}


@pytest.mark.parametrize(
    ("age", "demand", "held", "target", "reason"),
    [
        (0.0, 30.0, 10, 3, Reason.LAYER_RELEASED),
        (120.0, 30.0, 10, 3, Reason.LAYER_RELEASED),
        (121.0, 30.0, 10, 10, Reason.STALE_HOLD),
        (3600.0, 30.0, 10, 10, Reason.STALE_HOLD),
        (3600.0, 130.0, 10, 13, Reason.LAYER_PAYS),
    ],
)
def test_stale_demand_holds_or_grows(age: float, demand: float, held: int, target: int, reason: Reason) -> None:
    view = view_of(fleet_of(QUICK), flat(demand), {"burst": held}, demand_age_seconds=age)
    verdict, _ = decide(view, start_memory(START))
    assert verdict.targets == {"burst": target}
    assert reason in verdict.reasons


@pytest.mark.parametrize(("doubt", "reason"), [("poke", Reason.POKE_NEVER_SHRINKS), ("implausible", Reason.IMPLAUSIBLE_HOLD)])
def test_pokes_and_implausible_demand_never_shrink(doubt: str, reason: Reason) -> None:
    shrinking, _ = decide(view_of(fleet_of(QUICK), flat(30.0), {"burst": 10}, **{doubt: True}), start_memory(START))
    growing, _ = decide(view_of(fleet_of(QUICK), flat(130.0), {"burst": 10}, **{doubt: True}), start_memory(START))
    assert (shrinking.targets, growing.targets) == ({"burst": 10}, {"burst": 13})
    assert reason in shrinking.reasons


def test_before_any_forecast_the_floor_comes_up_and_nothing_goes_down() -> None:
    fleet = fleet_of(RESERVED, replace(BURST, min_replicas=1))
    verdict, _ = decide(view_of(fleet, None, {"burst": 3}, demand_age_seconds=float("inf")), start_memory(START))
    assert verdict.targets == {"reserved": 4, "burst": 3}
    assert Reason.NO_DATA_YET in verdict.reasons


def lifts(*told: tuple[int, float, int]) -> list[int]:
    """Return the targets of a story told as (lift, demand, ready), a minute each."""
    memory, targets = start_memory(START), []
    for minute, (lift, demand, ready) in enumerate(told):
        view = view_of(fleet_of(QUICK), flat(demand), {"burst": ready}, minute=minute, lift_replicas=lift)
        verdict, memory = decide(view, memory)
        targets.append(verdict.targets["burst"])
    return targets


@pytest.mark.parametrize(
    ("told", "targets"),
    [
        ([(0, 100.0, 10), (5, 100.0, 10), (5, 100.0, 15), (5, 100.0, 15)], [10, 15, 15, 15]),
        ([(5, 100.0, 10), (0, 100.0, 15)], [15, 10]),
        ([(5, 100.0, 10), (5, 60.0, 15)], [15, 15]),
        ([(5, 100.0, 10), (5, 200.0, 15)], [15, 20]),
        ([(5, 100.0, 10), (8, 100.0, 15), (3, 100.0, 18), (0, 100.0, 13)], [15, 18, 13, 10]),
    ],
    ids=["adds once", "ends", "holds while demand falls", "is no ceiling", "several alerts come and go"],
)
def test_an_alert_lifts_by_a_bounded_count_and_never_ratchets(told: list[tuple[int, float, int]], targets: list[int]) -> None:
    assert lifts(*told) == targets


def test_a_lift_stays_under_ceiling_stock_and_budget() -> None:
    for limits in ({"max_total_replicas": 12}, {"budget": Budget(usd_per_hour=12 * 36.0)}):
        view = view_of(fleet_of(QUICK, **limits), flat(100.0), {"burst": 10}, lift_replicas=50)
        assert decide(view, start_memory(START))[0].targets == {"burst": 12}
    stocked = view_of(fleet_of(QUICK), flat(100.0), {"burst": 10}, lift_replicas=50, stock={"burst": 2})
    assert decide(stocked, start_memory(START))[0].targets == {"burst": 12}


@pytest.mark.parametrize("demand", [0.0, 300.0])
@pytest.mark.parametrize("switch", ["policy", "alert"])
def test_frozen_changes_nothing_and_leaves_spill_as_it_was(demand: float, switch: str) -> None:
    fleet = fleet_of(QUICK, frozen=switch == "policy", max_total_replicas=3)
    memory = Memory(metered_unix=START, spill_per_second=70.0)
    verdict, _ = decide(view_of(fleet, flat(demand), {"burst": 10}, frozen=switch == "alert", lift_replicas=4), memory)
    assert verdict.targets == {"burst": 10}
    assert verdict.spill_per_second == 70.0
    assert Reason.FROZEN in verdict.reasons


FROZEN_STORY = {
    "freeze beats stock": ({"frozen": True, "unavailable": ("burst",)}, {}, 10),
    "stock beats budget and ceiling, which would allow more": ({"stock": {"burst": 1}}, {"max_total_replicas": 30}, 11),
    "budget beats ceiling": ({}, {"budget": Budget(usd_per_hour=12 * 36.0), "max_total_replicas": 15}, 12),
    "ceiling beats stale-hold": ({"demand_age_seconds": 900.0}, {"max_total_replicas": 8}, 8),
    "stale-hold beats a step limit of nothing": (
        {"demand_age_seconds": 900.0},
        {"behavior": Behavior(Direction(), Direction(select=Select.DISABLED))},
        20,
    ),
    "a lift beats a step limit": ({"lift_replicas": 2}, {"behavior": Behavior(Direction(select=Select.DISABLED), Direction())}, 22),
}


@pytest.mark.parametrize("story", FROZEN_STORY)
def test_who_wins_when_bounds_conflict(story: str) -> None:
    world, limits, target = FROZEN_STORY[story]
    view = view_of(fleet_of(QUICK, **limits), flat(200.0), {"burst": 10}, **world)
    assert decide(view, start_memory(START))[0].targets == {"burst": target}


@pytest.mark.parametrize(
    ("demand", "ready", "limit", "allowed"),
    [(100.0, 10, None, 100 * CAPACITY * 10), (100.0, 10, 25.0, 25.0), (900.0, 0, None, 100 * 900.0)],
)
def test_spill_is_pre_authorised_wide_but_finite(demand: float, ready: int, limit: float | None, allowed: float) -> None:
    spill = replace(fleet_of().spill, max_per_second=limit)  # type: ignore[type-var]
    fleet = fleet_of(replace(QUICK, max_replicas=10), spill=spill)
    verdict, _ = decide(view_of(fleet, flat(demand), {"burst": ready}), start_memory(START))
    assert verdict.spill_per_second == pytest.approx(allowed)


def test_a_fleet_without_spill_never_allows_any() -> None:
    verdict, _ = decide(view_of(fleet_of(QUICK, spill=None), flat(100.0)), start_memory(START))
    assert verdict.spill_per_second == 0.0
    assert Reason.SPILL_OPEN not in verdict.reasons
    assert Reason.SPILL_CLOSED not in verdict.reasons


def test_every_stage_is_written_down_in_order() -> None:
    verdict, _ = decide(view_of(fleet_of(QUICK), flat(30.0), {"burst": 10}, demand_age_seconds=900.0), start_memory(START))
    names = [stage.name for stage in verdict.stages]
    assert names == ["layers", "hold", "tolerate", "stabilize", "step", "lot", "lift", "doubt", "bound", "budget", "stock", "freeze"]
    for earlier, later in pairwise(verdict.stages):
        assert earlier.after == later.before
        assert later.reasons or later.before == later.after, later
    assert verdict.stages[-1].after == verdict.targets


def test_an_outlook_of_nothing_is_no_reason_to_fail() -> None:
    empty = flat(0.0)
    verdict, _ = decide(view_of(fleet_of(), Outlook(empty.horizons_seconds, empty.quantiles, empty.demand, empty.peak)), Memory())
    assert verdict.targets == {"reserved": 4, "burst": 0}
