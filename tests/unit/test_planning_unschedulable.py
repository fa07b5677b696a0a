"""Replicas that the scheduler cannot place: no supply on its way, so that the next tier is asked at once, and the floor keeps asking."""

from dataclasses import replace

import pytest

from controlplane.contracts.events import PoolStatus, Tick
from controlplane.planning import Planning
from controlplane.snapshot import dump_plan, load_plan
from policies.view import OfferView
from tests.unit.test_planning_unknowns import FLEET, Planner, at


def tells(planner: Planner, minute: float, *, ready: int, pending: int, unschedulable: int, offer: str = "reserved") -> None:
    status = PoolStatus(time=at(minute), fleet=FLEET, offer=offer, ready=ready, pending=pending, unschedulable=unschedulable)
    planner.tell(status)


def sees(planner: Planner, minute: float, offer: str) -> OfferView:
    view = planner.planning.view(planner.state, at(minute).timestamp())
    return next(seen for seen in view.offers if seen.offer.name == offer)


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


@pytest.mark.parametrize("offer", ["reserved", "burst"])
def test_what_the_scheduler_cannot_place_is_neither_lost_nor_refused(offer: str) -> None:
    planner = settled(30, 38.0)
    held = {"reserved": 4, "burst": 0}[offer]
    for minute in range(30, 60):
        tells(planner, minute, ready=held - 3 if held else 0, pending=3, unschedulable=3, offer=offer)
        planner.ticks(minute + 0.5, 38.0)
    experience = planner.state.memory.offers[offer]
    assert (experience.lost, experience.refusals) == (0.0, 0)


@pytest.mark.parametrize(
    ("offer", "nodes", "waits"),
    [("burst", None, True), ("burst", "fixed", False), ("reserved", None, False), ("reserved", "elastic", True)],
)
def test_where_nodes_are_added_on_demand_an_unplaced_replica_is_on_its_way_for_the_lead_time(
    offer: str, nodes: str | None, waits: bool
) -> None:
    planner = Planner(actuator="kubernetes")
    options = {"nodes": nodes} if nodes else {}
    offers = tuple(replace(each, actuator_options=options) for each in planner.fleet.offers)
    planner.planning = Planning(replace(planner.fleet, offers=offers))
    lead_minutes = planner.fleet.offer_by_name[offer].lead_time_seconds / 60.0
    tells(planner, 0, ready=1, pending=3, unschedulable=2, offer=offer)
    planner.state = load_plan(dump_plan(planner.state))
    first = sees(planner, lead_minutes - 0.1, offer)
    assert (first.pending, first.stuck, first.unavailable) == ((3, 0, False) if waits else (1, 2, True))
    tells(planner, 2, ready=1, pending=4, unschedulable=3, offer=offer)
    late = sees(planner, lead_minutes + 0.1, offer)
    assert (late.pending, late.stuck, late.unavailable) == ((2, 2, True) if waits else (1, 3, True)), "the newest has not waited so long"
    tells(planner, 11, ready=2, pending=3, unschedulable=0, offer=offer)
    placed = sees(planner, 11, offer)
    assert (placed.pending, placed.stuck, placed.unavailable) == (3, 0, False)


def test_what_waits_for_its_node_is_not_rented_a_second_time_elsewhere() -> None:
    planner = settled(30, 38.0)
    wanted = planner.ticks(30, 100.0).targets["burst"]
    assert wanted > 0
    tells(planner, 30.1, ready=0, pending=wanted, unschedulable=wanted, offer="burst")
    assert planner.ticks(30.5, 100.0).targets["burst"] >= wanted
