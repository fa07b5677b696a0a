"""What keeps a fleet calm, as stories: holds, cooldowns, tolerance, windows, step limits, lots."""

from dataclasses import replace
from itertools import pairwise

import pytest

from controlplane.contracts.events import Reason
from controlplane.contracts.fleet import Behavior, Direction, Select, StepKind, StepLimit
from policies import stabilize
from policies.decide import decide, start_memory
from policies.memory import bring_to_now
from policies.view import Change, Cohort, Memory
from tests.unit.decide_stories import BURST, MINUTE, RESERVED, START, Scene, flat, fleet_of, view_of

STEPS_OF_FOUR = Direction(steps=(StepLimit(StepKind.REPLICAS, 4, 15.0),))


def test_a_rented_replica_is_kept_for_its_minimum_hold() -> None:
    """Ten minutes of hold from the request on: demand is gone at minute 1, the replicas go at minute 10, and not before."""
    scene = Scene(fleet_of(BURST), lambda minute: 50.0)
    targets = {minute: scene.at(minute, outlook=flat(50.0 if minute < 1 else 0.0)).targets["burst"] for minute in range(13)}
    assert [targets[minute] for minute in (0, 1, 9, 10, 11)] == [5, 5, 5, 0, 0]


def test_the_hold_says_why() -> None:
    fleet = fleet_of(BURST)
    _, memory = decide(view_of(fleet, flat(50.0), {"burst": 5}), start_memory(START))
    verdict, _ = decide(view_of(fleet, flat(0.0), {"burst": 5}, minute=1), memory)
    assert verdict.targets == {"burst": 5}
    assert Reason.MINIMUM_HOLD in verdict.reasons


def test_only_the_young_are_held() -> None:
    fleet = fleet_of(BURST)
    _, memory = decide(view_of(fleet, flat(30.0), {"burst": 3}), start_memory(START))
    _, memory = decide(view_of(fleet, flat(50.0), {"burst": 3}, minute=8), memory)
    _, memory = decide(view_of(fleet, flat(50.0), {"burst": 5}, minute=9), memory)
    verdict, _ = decide(view_of(fleet, flat(0.0), {"burst": 5}, minute=11), memory)
    assert verdict.targets == {"burst": 2}, "three are older than ten minutes"


@pytest.mark.parametrize(
    ("cooldown", "minute", "demand", "target"),
    [
        ("down", 2, 0.0, 3),
        ("down", 5, 0.0, 0),
        ("down", 2, 90.0, 9),
        ("up", 2, 90.0, 5),
        ("up", 5, 90.0, 9),
        ("up", 2, 0.0, 0),
    ],
)
def test_cooldowns_are_per_offer_and_per_direction(cooldown: str, minute: float, demand: float, target: int) -> None:
    """At minute 0 the burst went from 4 to 3 (down) or to 5 (up); five minutes of quiet follow in that direction only."""
    held = 3 if cooldown == "down" else 5
    fleet = fleet_of(replace(BURST, scale_up_cooldown_seconds=300.0, scale_down_cooldown_seconds=300.0, hold_seconds=0.0))
    moved = {"burst": START}
    memory = Memory(
        targets={"burst": held},
        raised_unix=moved if cooldown == "up" else {},
        lowered_unix=moved if cooldown == "down" else {},
        metered_unix=START,
    )
    verdict, _ = decide(view_of(fleet, flat(demand), {"burst": held}, minute=minute), memory)
    assert verdict.targets == {"burst": target}


def test_a_purchase_that_is_not_seen_yet_is_not_taken_back_by_its_own_cooldown() -> None:
    fleet = fleet_of(replace(BURST, scale_up_cooldown_seconds=300.0))
    first, memory = decide(view_of(fleet, flat(50.0)), start_memory(START))
    second, _ = decide(view_of(fleet, flat(50.0), minute=0.25), memory)
    assert first.targets == second.targets == {"burst": 5}


@pytest.mark.parametrize(
    ("held", "demand", "target"),
    [(20, 216.0, 20), (20, 230.0, 23), (20, 188.0, 20), (20, 150.0, 15), (0, 10.0, 1), (2, 30.0, 3)],
)
def test_tolerance_leaves_small_changes_alone(held: int, demand: float, target: int) -> None:
    behavior = Behavior(Direction(tolerance=0.1), Direction(tolerance=0.1))
    fleet = fleet_of(replace(BURST, hold_seconds=0.0), behavior=behavior)
    verdict, _ = decide(view_of(fleet, flat(demand), {"burst": held}), start_memory(START))
    assert verdict.targets == {"burst": target}


@pytest.mark.parametrize(
    ("minute", "demand", "ready", "target"),
    [
        (0, 100.0, 10, 10),
        (1, 60.0, 10, 10),
        (2, 80.0, 10, 10),
        (5, 60.0, 10, 8),
        (6, 60.0, 8, 8),
        (7, 60.0, 8, 6),
    ],
)
def test_the_highest_recommendation_of_the_window_wins_on_the_way_down(minute: int, demand: float, ready: int, target: int) -> None:
    """Five minutes of window: the 100 of minute 0 holds until minute 5, the 80 of minute 2 until minute 7."""
    told = [(0, 100.0), (1, 60.0), (2, 80.0), (3, 60.0), (4, 60.0), (5, 60.0), (6, 60.0), (7, 60.0)]
    fleet = fleet_of(replace(BURST, hold_seconds=0.0), behavior=Behavior(Direction(), Direction(stabilization_window_seconds=300.0)))
    memory = start_memory(START)
    for when, level in told[:minute]:
        _, memory = decide(view_of(fleet, flat(level), {"burst": 10}, minute=when), memory)
    verdict, _ = decide(view_of(fleet, flat(demand), {"burst": ready}, minute=minute), memory)
    assert verdict.targets == {"burst": target}


def test_the_lowest_recommendation_of_the_window_wins_on_the_way_up() -> None:
    fleet = fleet_of(BURST, behavior=Behavior(Direction(stabilization_window_seconds=120.0), Direction()))
    memory, targets = start_memory(START), []
    for minute, demand in [(0, 20.0), (1, 90.0), (2, 90.0), (3, 90.0)]:
        verdict, memory = decide(view_of(fleet, flat(demand), {"burst": 2}, minute=minute), memory)
        targets.append(verdict.targets["burst"])
    assert targets == [2, 2, 9, 9], "one jittery minute does not buy; two do"


@pytest.mark.parametrize(
    ("steps", "select", "held", "demand", "target"),
    [
        ((StepLimit(StepKind.REPLICAS, 4, 15.0),), Select.MAX, 10, 300.0, 14),
        ((StepLimit(StepKind.PERCENT, 100, 15.0),), Select.MAX, 10, 300.0, 20),
        ((StepLimit(StepKind.REPLICAS, 4, 15.0), StepLimit(StepKind.PERCENT, 100, 15.0)), Select.MAX, 10, 300.0, 20),
        ((StepLimit(StepKind.REPLICAS, 4, 15.0), StepLimit(StepKind.PERCENT, 100, 15.0)), Select.MIN, 10, 300.0, 14),
        ((StepLimit(StepKind.REPLICAS, 4, 15.0),), Select.MAX, 10, 0.0, 6),
        ((StepLimit(StepKind.PERCENT, 30, 15.0),), Select.MAX, 10, 0.0, 7),
        ((), Select.DISABLED, 10, 300.0, 10),
        ((), Select.DISABLED, 10, 0.0, 10),
        ((StepLimit(StepKind.PERCENT, 10, 15.0),), Select.MAX, 0, 300.0, 1),
    ],
)
def test_step_limits(steps: tuple[StepLimit, ...], select: Select, held: int, demand: float, target: int) -> None:
    side = Direction(steps=steps, select=select)
    fleet = fleet_of(replace(BURST, hold_seconds=0.0), behavior=Behavior(side, side))
    verdict, _ = decide(view_of(fleet, flat(demand), {"burst": held}), start_memory(START))
    assert verdict.targets == {"burst": target}
    assert Reason.STEP_LIMITED in verdict.reasons


def test_steps_are_counted_over_their_period() -> None:
    """Four replicas in any minute: the second half-minute may add nothing, the next minute four more."""
    fleet = fleet_of(BURST, behavior=Behavior(Direction(steps=(StepLimit(StepKind.REPLICAS, 4, 60.0),)), Direction()))
    memory, held, targets = start_memory(START), 10, []
    for minute in (0.0, 0.5, 1.0, 1.5, 2.0):
        verdict, memory = decide(view_of(fleet, flat(300.0), {"burst": held}, minute=minute), memory)
        held = verdict.targets["burst"]
        targets.append(held)
    assert targets == [14, 14, 18, 18, 22]


def test_a_step_that_is_not_seen_yet_is_neither_lost_nor_repeated() -> None:
    fleet = fleet_of(BURST, behavior=Behavior(STEPS_OF_FOUR, Direction()))
    memory, targets = start_memory(START), []
    for minute in (0.0, 0.1, 0.2):
        verdict, memory = decide(view_of(fleet, flat(300.0), {"burst": 10}, minute=minute), memory)
        targets.append(verdict.targets["burst"])
    assert targets == [14, 14, 14], "the supplier still lists ten"


def test_a_step_limit_smaller_than_a_lot_does_not_lock_the_fleet() -> None:
    fleet = fleet_of(replace(BURST, replicas_per_lot=8), behavior=Behavior(STEPS_OF_FOUR, Direction()))
    verdict, _ = decide(view_of(fleet, flat(300.0), {"burst": 8}), start_memory(START))
    assert verdict.targets == {"burst": 16}


@pytest.mark.parametrize(("ready", "demand", "target"), [(0, 30.0, 8), (8, 110.0, 16), (7, 80.0, 8), (16, 60.0, 8)])
def test_targets_are_whole_lots(ready: int, demand: float, target: int) -> None:
    fleet = fleet_of(replace(BURST, replicas_per_lot=8, hold_seconds=0.0))
    verdict, _ = decide(view_of(fleet, flat(demand), {"burst": ready}), start_memory(START))
    assert verdict.targets == {"burst": target}


def test_cohorts_take_the_missing_from_the_oldest() -> None:
    cohorts = (Cohort(0.0, 3), Cohort(300.0, 2))
    assert stabilize.age_cohorts(cohorts, 4, 400.0, 600.0) == (Cohort(0.0, 2), Cohort(300.0, 2))
    assert stabilize.age_cohorts(cohorts, 1, 400.0, 600.0) == (Cohort(300.0, 1),)
    assert stabilize.age_cohorts(cohorts, 7, 400.0, 600.0) == (*cohorts, Cohort(400.0, 2))


def test_memory_stays_small_however_often_it_is_asked() -> None:
    behavior = Behavior(
        Direction(60.0, steps=(StepLimit(StepKind.REPLICAS, 1, 900.0),)),
        Direction(1800.0, steps=(StepLimit(StepKind.REPLICAS, 1, 900.0),)),
    )
    fleet = fleet_of(replace(BURST, hold_seconds=3600.0), behavior=behavior)
    memory, largest = start_memory(START), 0
    for tick in range(3000):
        verdict, memory = decide(view_of(fleet, flat(100.0 + tick % 50), {"burst": tick % 40}, minute=tick / 60.0), memory)
        largest = max(largest, len(memory.recommendations), len(memory.changes), *(len(c) for c in memory.cohorts.values()))
    assert largest <= 66
    assert verdict.targets["burst"] >= 0


def test_a_merged_window_is_never_shorter_than_stated() -> None:
    changes: tuple[Change, ...] = ()
    for second in range(100):
        changes = stabilize.add_change(changes, float(second), 1, 0, 3200.0)
    assert sum(change.added for change in changes) == 100
    assert all(later.last_unix >= earlier.last_unix for earlier, later in pairwise(changes))


def test_a_restart_within_a_hold_forgets_nothing() -> None:
    fleet = fleet_of(BURST)
    memory = bring_to_now(Memory(), view_of(fleet, flat(50.0), {"burst": 5}))
    again = bring_to_now(memory, view_of(fleet, flat(50.0), {"burst": 5}, minute=5))
    assert stabilize.young(view_of(fleet, flat(0.0), {"burst": 5}).offers[0], START + 9 * MINUTE, again) == 5
    assert stabilize.young(view_of(fleet, flat(0.0), {"burst": 5}).offers[0], START + 10 * MINUTE, again) == 0


def test_what_was_told_to_go_counts_as_gone_though_it_is_still_there() -> None:
    """One replica may be added a minute: that another offer's is on its way out does not make room for a second."""
    behavior = Behavior(Direction(steps=(StepLimit(StepKind.REPLICAS, 1, 60.0),)), Direction())
    floor = replace(RESERVED, min_replicas=0)
    fleet = fleet_of(floor, replace(BURST, hold_seconds=0.0), behavior=behavior)
    first, memory = decide(view_of(fleet, flat(0.0), {"burst": 1}), start_memory(START))
    second, _ = decide(view_of(fleet, flat(0.0), {"burst": 1}), memory)
    assert first.targets == second.targets == {"reserved": 2, "burst": 0}
