"""How fast the drain switch empties, beside what goes anyway: one scale-down budget for both, and never a switch that says nothing."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.contracts.events import Reason
from controlplane.contracts.fleet import Behavior, Direction, Drain, Select, StepKind, StepLimit
from policies.decide import decide, start_memory
from tests.unit.decide_stories import BURST, BURST_USD, DEARER, RESERVED, START, flat, fleet_of, view_of

QUICK = replace(BURST, hold_seconds=0.0)
# A shared pool, worth more to others than its work is here.
METERED = replace(RESERVED, min_replicas=0, max_replicas=20, opportunity_usd_per_replica_hour=6 * BURST_USD)
FOUR = StepLimit(StepKind.REPLICAS, 4, 600.0)


@pytest.mark.parametrize("down", [Direction(budget=FOUR), Direction(steps=(FOUR,))], ids=["budget", "step limit"])
def test_what_goes_anyway_counts_against_the_pace_of_a_drain(down: Direction) -> None:
    """The floor is worth more elsewhere, so that four of eight go; the burst that is drained waits for the next period."""
    held = {"reserved": 8, "burst": 8}
    fleet = fleet_of(METERED, QUICK, behavior=Behavior(Direction(), down), drain=Drain.BURST)
    verdict, _ = decide(view_of(fleet, flat(80.0), held), start_memory(START))
    assert sum(held.values()) - sum(verdict.targets.values()) == 4


@given(
    st.floats(0.0, 300.0), st.integers(0, 12), st.integers(0, 20), st.integers(0, 20), st.integers(1, 10),
    st.sampled_from([Drain.BURST, Drain.FLEET]), st.floats(20.0, 60.0),
)  # fmt: skip
def test_no_tick_of_a_drain_takes_more_than_the_budget(
    demand: float, reserved: int, burst: int, dearer: int, value: int, switch: Drain, price: float
) -> None:
    held = {"reserved": reserved, "burst": burst, "dearer": dearer}
    behavior = Behavior(Direction(), Direction(budget=replace(FOUR, value=value)))
    fleet = fleet_of(METERED, QUICK, replace(DEARER, hold_seconds=0.0), behavior=behavior, drain=switch)
    verdict, _ = decide(view_of(fleet, flat(demand), held, prices={"burst": price}), start_memory(START))
    assert sum(max(held[name] - target, 0) for name, target in verdict.targets.items()) <= value


@pytest.mark.parametrize("select", [Select.MAX, Select.DISABLED])
def test_a_drain_is_an_operators_word_and_needs_no_leave_to_shrink(select: Select) -> None:
    fleet = fleet_of(RESERVED, QUICK, behavior=Behavior(Direction(), Direction(select=select)), drain=Drain.BURST)
    verdict, _ = decide(view_of(fleet, flat(100.0), {"reserved": 4, "burst": 6}), start_memory(START))
    assert verdict.targets == {"reserved": 4, "burst": 0}
    assert Reason.DRAINED in verdict.reasons


def test_a_drain_that_has_to_wait_says_for_what() -> None:
    fleet = fleet_of(QUICK, behavior=Behavior(Direction(), Direction(budget=FOUR)), drain=Drain.FLEET)
    first, memory = decide(view_of(fleet, flat(0.0), {"burst": 8}), start_memory(START))
    second, _ = decide(view_of(fleet, flat(0.0), {"burst": 4}, minute=1), memory)
    assert first.targets == second.targets == {"burst": 4}
    assert {Reason.DRAINED, Reason.REMOVALS_LIMITED} <= set(second.stages[-2].reasons)
