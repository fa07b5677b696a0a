"""Replicas that the scheduler cannot place: no supply on its way, so that the next tier is asked at once, and the floor keeps asking."""

import pytest

from controlplane.contracts.events import PoolStatus, Tick
from tests.unit.test_planning_unknowns import FLEET, Planner, at


def tells(planner: Planner, minute: float, *, ready: int, pending: int, unschedulable: int) -> None:
    status = PoolStatus(time=at(minute), fleet=FLEET, offer="reserved", ready=ready, pending=pending, unschedulable=unschedulable)
    planner.tell(status)


def settled(minutes: int, demand: float) -> Planner:
    """A fleet that its floor of four has carried for a while."""
    planner = Planner()
    planner.holds(0, burst=0)
    for minute in range(minutes):
        planner.holds(minute, reserved=4)
        planner.ticks(minute, demand)
    return planner


@pytest.mark.parametrize(("unschedulable", "rents"), [(0, False), (3, True)])
def test_what_the_scheduler_cannot_place_is_rented_at_the_very_next_tick(unschedulable: int, rents: bool) -> None:
    planner = settled(60, 38.0)
    assert planner.ticks(60, 38.0).targets["burst"] == 0
    tells(planner, 60.1, ready=1, pending=3, unschedulable=unschedulable)
    poke = planner.tell(Tick(time=at(60.1), fleet=FLEET, cause="unschedulable"))
    assert poke is not None
    assert (poke.targets["burst"] > 0) is rents


def test_what_is_placed_again_counts_again() -> None:
    planner = settled(60, 38.0)
    tells(planner, 60, ready=1, pending=3, unschedulable=3)
    assert planner.ticks(60.5, 38.0).targets["reserved"] == 1, "what stays asked for is the actuator's to keep"
    tells(planner, 61, ready=1, pending=3, unschedulable=0)
    assert planner.ticks(61.5, 38.0).targets["reserved"] == 4
