"""Several offers, as stories: the next one on a refusal, pauses that grow, what losing replicas costs, the way back to the cheaper one.

`burst` costs 36 USD an hour, `dearer` 48; both boot in eight minutes and are held for ten.
"""

from dataclasses import replace
from itertools import pairwise

import pytest

from controlplane.contracts.events import Reason
from policies.decide import decide, start_memory
from policies.desire import unserved_usd_per_unit
from policies.experience import with_experience
from policies.view import Experience, Memory
from tests.unit.decide_stories import BURST, DEARER, HOUR, RESERVED, START, Scene, flat, fleet_of, outlook_of, view_of

QUICK = replace(BURST, hold_seconds=0.0)


def test_an_offer_that_refused_is_left_alone_for_longer_and_longer() -> None:
    """It refuses whenever it is asked. Minutes between two askings: one, two, four, eight, then sixteen at the most."""
    fleet = fleet_of(BURST, DEARER)
    memory, asked, refused = start_memory(START), [], ()
    for minute in range(80):
        verdict, memory = decide(view_of(fleet, flat(100.0), {"dearer": 9}, minute=minute, unavailable=refused), memory)
        refused = ("burst",) if verdict.targets["burst"] else ()
        asked += [minute] if refused else []
    gaps = [later - earlier for earlier, later in pairwise(asked)]
    assert gaps == sorted(gaps)
    assert gaps[:4] == [2, 3, 5, 9]
    assert max(gaps) <= 17


def test_a_refusal_that_ends_is_forgotten() -> None:
    fleet = fleet_of(BURST, DEARER)
    memory = replace(start_memory(START), offers={"burst": Experience(0, 3, START - 1.0)}, targets={"burst": 2, "dearer": 0})
    _, memory = decide(view_of(fleet, flat(20.0), pending={"burst": 2}), memory)
    assert memory.offers["burst"].refusals == 0


@pytest.mark.parametrize(
    ("lost", "hours", "targets"),
    [(0.0, 0.0, {"burst": 10, "dearer": 0}), (5.0, 1000.0, {"burst": 10, "dearer": 0}), (120.0, 100.0, {"burst": 0, "dearer": 10})],
    ids=["nothing known", "one in two hundred hours", "one in two hours: twelve dollars saved an hour, fourteen lost a loss"],
)
def test_an_offer_that_loses_replicas_costs_more_than_its_price(lost: float, hours: float, targets: dict[str, int]) -> None:
    known = Experience(0, lost=lost, replica_hours=hours)
    cheap = replace(QUICK, lead_time_seconds=3000.0)
    verdict, _ = decide(view_of(fleet_of(cheap, replace(DEARER, lead_time_seconds=3000.0)), flat(100.0)), Memory(offers={"burst": known}))
    assert verdict.targets == targets


def test_nothing_is_bought_above_an_offers_ceiling_and_what_is_held_stays() -> None:
    """40 USD is the most to pay for `burst`; at 41 the next offer is asked, though it costs 48."""
    fleet = fleet_of(replace(QUICK, ceiling_usd_per_replica_hour=40.0), replace(DEARER, hold_seconds=0.0))
    for price, targets in [(40.0, {"burst": 10, "dearer": 0}), (41.0, {"burst": 4, "dearer": 6})]:
        view = view_of(fleet, flat(100.0), {"burst": 4}, prices={"burst": price})
        assert decide(view, start_memory(START))[0].targets == targets


def test_an_alert_lifts_nothing_above_an_offers_ceiling() -> None:
    fleet = fleet_of(replace(QUICK, ceiling_usd_per_replica_hour=40.0, min_replicas=2))
    verdict, _ = decide(view_of(fleet, flat(0.0), prices={"burst": 41.0}, lift_replicas=3), start_memory(START))
    assert verdict.targets == {"burst": 0}
    assert Reason.PRICE_ABOVE_CEILING in verdict.reasons


def test_the_price_of_a_loss_on_paper() -> None:
    """Eight minutes of a replica's work at spill's price, 14.40 USD; ten losses in a hundred hours, with the prior 10.1 in 200."""
    fleet = fleet_of(BURST)
    view = view_of(fleet, flat(100.0))
    seen = with_experience(view, Memory(offers={"burst": Experience(0, lost=10.0, replica_hours=100.0)}), unserved_usd_per_unit(view))
    assert seen.offers[0].risk_usd_per_replica_hour == pytest.approx(14.40 * 10.1 / 200.0)
    assert seen.offers[0].usd_per_replica_hour == 36.0, "budgets see the bill, not the risk"


@pytest.mark.parametrize("tick_minutes", [1.0, 0.25])
def test_what_is_interrupted_is_counted_and_what_is_given_back_is_not(tick_minutes: float) -> None:
    fleet = fleet_of(QUICK)
    memory = start_memory(START)
    for tick, held, demand in [(0, 10, 100.0), (1, 10, 100.0), (2, 7, 100.0), (3, 10, 50.0), (4, 5, 50.0)]:
        _, memory = decide(view_of(fleet, flat(demand), {"burst": held}, minute=tick * tick_minutes), memory)
    assert memory.offers["burst"].lost == pytest.approx(3.0, abs=0.01)
    held_hours = (10 + 7 + 10 + 5) * tick_minutes / 60.0
    assert memory.offers["burst"].replica_hours == pytest.approx(held_hours, rel=0.01)


def test_hours_without_a_loss_count_at_any_pace() -> None:
    fleet = fleet_of(QUICK)
    memory = start_memory(START)
    for tick in range(241):
        _, memory = decide(view_of(fleet, flat(100.0), {"burst": 10}, minute=tick / 4), memory)
    assert memory.offers["burst"].replica_hours == pytest.approx(10.0, rel=0.01)


@pytest.mark.parametrize("shadow", [True, False])
def test_a_shadow_loses_nothing_when_what_is_really_there_takes_its_place(shadow: bool) -> None:
    """Ten were recommended and counted as held; then the fleet acts, and three are there."""
    fleet = fleet_of(QUICK)
    memory = start_memory(START)
    for minute in range(3):
        _, memory = decide(view_of(fleet, flat(100.0), {"burst": 10}, minute=minute, is_shadow=shadow), memory)
    _, memory = decide(view_of(fleet, flat(100.0), {"burst": 3}, minute=3), memory)
    assert memory.offers["burst"].lost == (0.0 if shadow else 7.0)


def test_it_returns_to_the_cheaper_offer_and_lets_the_dearer_go_only_when_that_serves() -> None:
    """`burst` is back at minute 30: it is asked for ten at once, `dearer` stays until they serve, and both are there meanwhile."""
    scene = Scene(fleet_of(QUICK, replace(DEARER, hold_seconds=0.0)), lambda _: 100.0, spread=0.0, held={"dearer": 10})
    away = [scene.at(float(minute), unavailable=("burst",)).targets for minute in range(30)]
    assert all(targets == {"burst": 0, "dearer": 10} for targets in away)
    back = {minute: verdict.targets for minute, verdict in scene.run(50.0, 70.0)}
    assert back[50.0] == {"burst": 10, "dearer": 10}
    assert back[57.0] == {"burst": 10, "dearer": 10}
    assert back[59.0] == {"burst": 10, "dearer": 0}
    assert back[70.0] == {"burst": 10, "dearer": 0}


@pytest.mark.parametrize(("price", "returns"), [(47.0, 0), (44.0, 0), (42.0, 10), (20.0, 10)])
def test_a_small_advantage_is_left_alone(price: float, returns: int) -> None:
    fleet = fleet_of(QUICK, replace(DEARER, hold_seconds=0.0))
    verdict, _ = decide(view_of(fleet, flat(100.0), {"dearer": 10}, prices={"burst": price}), start_memory(START))
    assert verdict.targets == {"burst": returns, "dearer": 10}


def test_nobody_returns_for_what_is_over_soon() -> None:
    fleet = fleet_of(QUICK, replace(DEARER, hold_seconds=0.0))
    ends = outlook_of(lambda t: 100.0 if t < 0.5 * HOUR else 0.0)
    verdict, _ = decide(view_of(fleet, ends, {"dearer": 10}), start_memory(START))
    assert verdict.targets == {"burst": 0, "dearer": 10}


def test_a_metered_floor_is_given_back_once_the_sunk_one_serves() -> None:
    metered = replace(RESERVED, name="metered", opportunity_usd_per_replica_hour=20.0, min_replicas=0)
    fleet = fleet_of(RESERVED, metered)
    booting, _ = decide(view_of(fleet, flat(40.0), {"metered": 4}, pending={"reserved": 4}), start_memory(START))
    serving, _ = decide(view_of(fleet, flat(40.0), {"metered": 4, "reserved": 4}), start_memory(START))
    assert (booting.targets, serving.targets) == ({"reserved": 4, "metered": 4}, {"reserved": 4, "metered": 0})
    assert Reason.LAYER_RELEASED in serving.reasons
