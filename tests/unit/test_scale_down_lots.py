"""Lots of different sizes under a pace: a budget or a step limit smaller than a lot delays it, and never keeps it for good."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.contracts.events import Reason
from controlplane.contracts.fleet import Behavior, Direction, Drain, Offer, StepKind, StepLimit, Tier
from policies.decide import decide, start_memory
from policies.reading import read_policies
from tests.unit.decide_stories import BURST, DEARER, RESERVED, START, Scene, flat, fleet_of, view_of

LOTS = replace(BURST, hold_seconds=0.0, replicas_per_lot=8)
SINGLES = replace(DEARER, hold_seconds=0.0)
FOUR = StepLimit(StepKind.REPLICAS, 4, 600.0)
PACES = {"budget": Direction(budget=FOUR), "step limit": Direction(steps=(FOUR,))}


def told(scene: Scene, last_minute: float) -> list[dict[str, int]]:
    return [verdict.targets for _, verdict in scene.run(0, last_minute, every=10.0)]


@pytest.mark.parametrize("switch", [Drain.NONE, Drain.BURST])
@pytest.mark.parametrize("pace", PACES)
def test_a_floor_of_single_replicas_does_not_keep_rented_lots_for_good(pace: str, switch: Drain) -> None:
    """Sixteen rented in lots of eight, four may go in ten minutes: a lot in each period, as one may always go."""
    fleet = fleet_of(RESERVED, LOTS, behavior=Behavior(Direction(), PACES[pace]), drain=switch)
    scene = Scene(fleet, lambda minute: 0.0, held={"reserved": 4, "burst": 16}, spread=0.0)
    assert [targets["burst"] for targets in told(scene, 20.0)] == [8, 0, 0]


@pytest.mark.parametrize("pace", PACES)
def test_what_fits_goes_first_and_the_lot_that_does_not_when_it_is_alone(pace: str) -> None:
    fleet = fleet_of(LOTS, SINGLES, behavior=Behavior(Direction(), PACES[pace]))
    scene = Scene(fleet, lambda minute: 0.0, held={"burst": 8, "dearer": 4}, spread=0.0)
    assert told(scene, 20.0) == [{"burst": 8, "dearer": 0}, {"burst": 0, "dearer": 0}, {"burst": 0, "dearer": 0}]
    dear_lots, singles = replace(LOTS, usd_per_replica_hour=60.0), replace(SINGLES, usd_per_replica_hour=36.0)
    scene = Scene(replace(fleet, offers=(dear_lots, singles)), lambda minute: 0.0, held={"burst": 8, "dearer": 4}, spread=0.0)
    assert told(scene, 20.0) == [{"burst": 8, "dearer": 0}, {"burst": 0, "dearer": 0}, {"burst": 0, "dearer": 0}]


def test_a_lot_larger_than_the_step_can_be_bought_beside_a_floor_of_single_replicas() -> None:
    fleet = fleet_of(RESERVED, LOTS, behavior=Behavior(PACES["step limit"], Direction()))
    verdict, _ = decide(view_of(fleet, flat(110.0), {"reserved": 4}), start_memory(START))
    assert verdict.targets == {"reserved": 4, "burst": 8}


def test_a_lot_that_waits_says_why() -> None:
    fleet = fleet_of(RESERVED, LOTS, behavior=Behavior(Direction(), PACES["budget"]), drain=Drain.BURST)
    _, memory = decide(view_of(fleet, flat(0.0), {"reserved": 4, "burst": 16}), start_memory(START))
    verdict, _ = decide(view_of(fleet, flat(0.0), {"reserved": 4, "burst": 8}, minute=1.0), memory)
    assert verdict.targets == {"reserved": 4, "burst": 8}
    assert {Reason.DRAINED, Reason.REMOVALS_LIMITED} <= set(verdict.reasons)


@given(
    st.lists(st.tuples(st.sampled_from([1, 2, 4, 8]), st.integers(0, 4)), min_size=1, max_size=4), st.integers(1, 10),
    st.sampled_from(sorted(PACES)), st.sampled_from([Drain.NONE, Drain.FLEET]),
)  # fmt: skip
def test_whatever_the_lots_everything_goes_in_the_end(offers: list[tuple[int, int]], value: int, pace: str, switch: Drain) -> None:
    """Each period lets at least the smallest lot go that is to go, and no more than the pace or that lot."""
    limit = replace(FOUR, value=value)
    down = Direction(budget=limit) if pace == "budget" else Direction(steps=(limit,))
    rented = [
        Offer(f"o{number}", Tier.BURST, 10.0, 0, 40, 36.0 + number, 60.0, replicas_per_lot=lot) for number, (lot, _) in enumerate(offers)
    ]
    held = {offer.name: lot * lots for offer, (lot, lots) in zip(rented, offers, strict=True)}
    fleet, memory = fleet_of(*rented, behavior=Behavior(Direction(), down), drain=switch), start_memory(START)
    for period in range(100):
        verdict, memory = decide(view_of(fleet, flat(0.0), held, minute=11.0 * period), memory)
        going = sum(held.values()) - sum(verdict.targets.values())
        smallest = min((offer.replicas_per_lot for offer in rented if held[offer.name]), default=0)
        assert min(smallest, 1) <= going <= max(value, smallest)
        held = dict(verdict.targets)
    assert not any(held.values())


POLICY = """\
apiVersion: tidegate.dev/v1alpha1
kind: Fleet
metadata: {name: f}
spec:
  serving: {model: m, slo: {ttft: 2s}}
  demand: {unit: requests, nats: {}}
  burst:
    - {name: b, accelerator: {type: H200}, capacityPerSecond: 10, replicas: {max: 16}, usdPerReplicaHour: 3, replicasPerLot: 8}
  behavior: {scaleDown: {budget: {type: Replicas, value: VALUE, period: 10m}}}
"""


@pytest.mark.parametrize(("value", "warned"), [(4, True), (8, False)])
def test_a_budget_below_a_lot_is_a_likely_mistake(value: int, warned: bool) -> None:
    reading = read_policies([("p.yaml", POLICY.replace("VALUE", str(value)))])
    assert reading.errors == ()
    messages = [problem.message for problem in reading.warnings if problem.path == "spec.behavior.scaleDown.budget.value"]
    assert bool(messages) == warned
    assert all("a lot of b" in message and "use 8 or more" in message for message in messages)
