"""Whole scenes: demand over hours, a world that boots in eight minutes, and what is held when. Demand / 10 is replicas.

The floor is four replicas, spill costs three times the burst, and each row reads (minute, floor + burst target, a reason among others).
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest

from controlplane.contracts.events import Reason
from controlplane.contracts.fleet import Behavior, Budget, Direction
from policies.decide import Verdict, decide, start_memory
from tests.unit.decide_stories import BURST, DEARER, HOSTED, RESERVED, START, Scene, flat, fleet_of, view_of

Row = tuple[float, int, Reason]


def ramp(first: float, last: float, low: float, high: float) -> Callable[[float], float]:
    """Return a demand that goes straight from `low` to `high` between two minutes."""
    return lambda minute: low + (high - low) * min(max((minute - first) / (last - first), 0.0), 1.0)


def play(scene: Scene, rows: Iterable[Row], every: float = 1.0) -> dict[float, Verdict]:
    """Run a scene through its rows, minute by minute, and compare."""
    rows = list(rows)
    seen = dict(scene.run(0.0, max(minute for minute, _, _ in rows), every))
    told = [
        (minute, sum(seen[minute].targets.values()), reason if reason in seen[minute].reasons else seen[minute].reasons)
        for minute, _, reason in rows
    ]
    assert told == rows
    return seen


def test_morning_rise() -> None:
    """Demand goes from 40 to 160 in two hours, ten a replica every ten minutes: each is asked for eight minutes before it is needed."""
    scene = Scene(fleet_of(), ramp(60, 180, 40.0, 160.0), spread=0.0, held={"reserved": 4})
    rows = [
        (0.0, 4, Reason.FLOOR_IS_SUNK),
        (50.0, 4, Reason.FLOOR_IS_SUNK),
        (60.0, 5, Reason.LAYER_HELD),
        (118.0, 11, Reason.LAYER_HELD),
        (178.0, 16, Reason.LAYER_HELD),
        (240.0, 16, Reason.LAYER_HELD),
    ]
    play(scene, rows)


def test_evening_fall() -> None:
    scene = Scene(fleet_of(), ramp(60, 180, 160.0, 40.0), spread=0.0, held={"reserved": 4, "burst": 12})
    rows = [
        (0.0, 16, Reason.LAYER_HELD),
        (60.0, 16, Reason.LAYER_HELD),
        (120.0, 10, Reason.LAYER_HELD),
        (180.0, 4, Reason.FLOOR_IS_SUNK),
    ]
    play(scene, rows)


@pytest.mark.parametrize(("valley_minutes", "lowest"), [(6, 12), (120, 4)])
def test_a_short_valley_is_held_through_and_a_long_one_is_not(valley_minutes: float, lowest: int) -> None:
    def demand(minute: float) -> float:
        return 40.0 if 30 <= minute < 30 + valley_minutes else 120.0

    scene = Scene(fleet_of(), demand, spread=0.0, held={"reserved": 4, "burst": 8})
    seen = dict(scene.run(0.0, 30 + valley_minutes + 60))
    totals = [sum(verdict.targets.values()) for verdict in seen.values()]
    assert min(totals) == lowest
    assert totals[-1] == 12


def test_an_announced_launch_is_ready_when_it_starts() -> None:
    """Times twenty at minute 60, known before: the replicas are asked for at minute 50, two early, as fine as the horizons are there."""
    scene = Scene(fleet_of(RESERVED, replace(BURST, max_replicas=200)), lambda minute: 800.0 if minute >= 60 else 40.0, spread=0.0)
    rows = [(49.0, 4, Reason.FLOOR_IS_SUNK), (50.0, 80, Reason.LAYER_PAYS), (60.0, 80, Reason.LAYER_HELD), (90.0, 80, Reason.LAYER_HELD)]
    seen = play(scene, rows)
    assert seen[49.0].targets["burst"] == 0
    assert scene.held["burst"] == 76


def test_a_launch_that_nobody_announced_is_spilled_until_replicas_serve() -> None:
    scene = Scene(fleet_of(RESERVED, replace(BURST, max_replicas=200)), lambda _: 40.0, spread=0.0, held={"reserved": 4})
    calm = scene.at(0.0)
    scene.demand = lambda _: 800.0
    struck = scene.at(1.0)
    assert calm.targets == {"reserved": 4, "burst": 0}
    assert struck.targets == {"reserved": 4, "burst": 76}
    assert calm.spill_per_second >= 760.0, "the allowance was there before the wave"
    assert Reason.SPILL_OPEN in struck.reasons


def test_stock_out_takes_the_next_offer_at_once_and_goes_on_with_the_cheaper_one() -> None:
    scene = Scene(fleet_of(RESERVED, BURST, DEARER), lambda _: 100.0, spread=0.0, held={"reserved": 4})
    refused = scene.at(0.0, unavailable=("burst",))
    assert refused.targets == {"reserved": 4, "burst": 0, "dearer": 6}
    scene.demand = lambda _: 120.0
    back = scene.at(1.0)
    assert back.targets == {"reserved": 4, "burst": 2, "dearer": 6}


def test_data_goes_stale_at_the_peak() -> None:
    """Prometheus is gone at minute 20 and demand with it, as far as anybody sees: the fleet stays, and shrinks when data is back."""
    scene = Scene(fleet_of(), lambda _: 160.0, spread=0.0, held={"reserved": 4, "burst": 12})
    list(scene.run(0.0, 19.0))
    scene.demand = lambda _: 0.0
    blind = [scene.at(minute, demand_age_seconds=(minute - 19) * 60.0) for minute in range(22, 60)]
    assert all(verdict.targets == {"reserved": 4, "burst": 12} for verdict in blind)
    assert all(Reason.STALE_HOLD in verdict.reasons for verdict in blind)
    seeing = scene.at(60.0)
    assert seeing.targets == {"reserved": 4, "burst": 0}


def test_an_hours_budget_is_reached_on_the_rise() -> None:
    fleet = fleet_of(budget=Budget(usd_per_hour=5 * 36.0))
    scene = Scene(fleet, ramp(0, 120, 40.0, 200.0), spread=0.0, held={"reserved": 4})
    rows = [(20.0, 8, Reason.SPILL_OPEN), (60.0, 9, Reason.CLAMPED_TO_BUDGET), (120.0, 9, Reason.SPILL_CLOSED)]
    play(scene, rows)


def test_a_days_budget_ends_burst_and_spill_until_midnight() -> None:
    fleet = fleet_of(budget=Budget(usd_per_day=100.0))
    scene = Scene(fleet, lambda _: 80.0, spread=0.0, held={"reserved": 4, "burst": 4})
    seen = dict(scene.run(0.0, 24 * 60 + 9, every=1.0))
    rented = {minute: verdict.targets["burst"] for minute, verdict in seen.items()}
    assert rented[30.0] == 4
    assert rented[120.0] == 0
    assert seen[120.0].spill_per_second == pytest.approx(0.0, abs=40.0)
    assert rented[24 * 60 + 1.0] == 4, "a new day, new money"
    assert scene.memory.spent_usd_today < 100.0


def test_a_window_keeps_the_peak_while_a_spike_may_come_again() -> None:
    behavior = Behavior(Direction(), Direction(stabilization_window_seconds=300.0))
    scene = Scene(
        fleet_of(RESERVED, replace(BURST, hold_seconds=0.0), behavior=behavior),
        lambda _: 100.0,
        spread=0.0,
        held={"reserved": 4, "burst": 6},
    )
    scene.at(0.0)
    scene.demand = lambda _: 40.0
    targets = [scene.at(float(minute)).targets["burst"] for minute in range(1, 8)]
    assert targets == [6, 6, 6, 6, 0, 0, 0]


def test_nobody_knows_what_the_burst_costs() -> None:
    fleet = fleet_of(RESERVED, replace(BURST, usd_per_replica_hour=None))
    scene = Scene(fleet, lambda _: 100.0, spread=0.0, held={"reserved": 4})
    verdict = scene.at(0.0)
    assert verdict.targets == {"reserved": 4, "burst": 0}
    assert verdict.spill_per_second > 60.0


def test_the_fleet_sleeps_at_night_and_wakes_before_the_morning() -> None:
    """No floor, nobody from minute 60 to 420: down to nothing, and up again in time."""
    scene = Scene(fleet_of(BURST), lambda minute: 0.0 if 60 <= minute < 420 else 50.0, spread=0.0, held={"burst": 5})
    rows = [
        (57.0, 5, Reason.LAYER_HELD),
        (60.0, 0, Reason.SPILL_OPEN),
        (400.0, 0, Reason.SPILL_OPEN),
        (412.0, 5, Reason.LAYER_HELD),
        (420.0, 5, Reason.LAYER_HELD),
    ]
    play(scene, rows)


@pytest.mark.parametrize(
    ("demand", "backlog", "ready", "target"),
    [(0.0, 0.0, 0, 0), (0.0, 0.0, 1, 0), (0.01, 0.0, 0, 1), (0.0, 1.0, 0, 1), (0.01, 0.0, 1, 1)],
    ids=["asleep", "falls asleep", "a first request wakes it", "one that waits does", "a trickle keeps it awake"],
)
def test_without_spill_a_fleet_that_sleeps_is_woken_by_one_request(demand: float, backlog: float, ready: int, target: int) -> None:
    fleet = fleet_of(replace(BURST, hold_seconds=0.0), spill=None)
    view = view_of(fleet, flat(demand), {"burst": ready}, demand_per_second=demand, backlog=backlog)
    assert decide(view, start_memory(START))[0].targets == {"burst": target}


def test_with_spill_a_trickle_is_spilled_and_nothing_is_woken() -> None:
    verdict, _ = decide(view_of(fleet_of(BURST), flat(0.01), demand_per_second=0.01), start_memory(START))
    assert verdict.targets == {"burst": 0}
    closed = fleet_of(BURST, spill=replace(HOSTED, max_per_second=0.0))
    verdict, _ = decide(view_of(closed, flat(0.01), demand_per_second=0.01), start_memory(START))
    assert verdict.targets == {"burst": 1}
