"""The fleet's scale-down budget, as stories: so many replicas may go in a period, whatever offer they are of and whatever replaces them."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.contracts.events import Reason
from controlplane.contracts.fleet import Behavior, Budget, Direction, Drain, Offer, StepKind, StepLimit, Tier
from policies.decide import decide, start_memory
from policies.reading import read_policies
from policies.view import Change
from tests.unit.decide_stories import BURST, DEARER, RESERVED, START, Scene, flat, fleet_of, view_of

QUICK = replace(BURST, hold_seconds=0.0)
PERIOD = 600.0


def slowly(value: int, kind: StepKind = StepKind.REPLICAS) -> Behavior:
    return Behavior(Direction(), Direction(budget=StepLimit(kind, value, PERIOD)))


def test_demand_that_is_gone_lets_two_replicas_go_in_ten_minutes() -> None:
    scene = Scene(fleet_of(QUICK, behavior=slowly(2)), lambda minute: 0.0, held={"burst": 10}, spread=0.0)
    told = {minute: verdict.targets["burst"] for minute, verdict in scene.run(0, 30)}
    assert [told[minute] for minute in (0, 5, 9, 10, 19, 20)] == [8, 8, 8, 6, 6, 4]


def test_the_stage_says_why() -> None:
    fleet = fleet_of(QUICK, behavior=slowly(2))
    verdict, _ = decide(view_of(fleet, flat(0.0), {"burst": 10}), start_memory(START))
    assert Reason.REMOVALS_LIMITED in verdict.reasons
    (stage,) = [stage for stage in verdict.stages if stage.name == "removals"]
    assert (stage.before, stage.after) == ({"burst": 0}, {"burst": 8})


def test_a_move_to_a_cheaper_offer_changes_no_total_and_is_paced_all_the_same() -> None:
    """Six dear replicas are to go as soon as six cheap ones serve: a step limit of one a period lets them, the budget does not."""
    cheap, dear = replace(QUICK, usd_per_replica_hour=24.0), replace(DEARER, hold_seconds=0.0)
    steps = Direction(steps=(StepLimit(StepKind.REPLICAS, 6, PERIOD),))

    def after(down: Direction) -> dict[str, int]:
        fleet = fleet_of(cheap, dear, behavior=Behavior(Direction(), down))
        return decide(view_of(fleet, flat(60.0), {"burst": 6, "dearer": 6}), start_memory(START))[0].targets

    assert after(steps) == {"burst": 6, "dearer": 0}
    assert after(replace(steps, budget=StepLimit(StepKind.REPLICAS, 2, PERIOD))) == {"burst": 6, "dearer": 4}


def test_a_percentage_is_of_what_the_period_began_with_and_one_lot_may_always_go() -> None:
    held = {"reserved": 4, "burst": 16}
    fleet = fleet_of(RESERVED, QUICK, behavior=slowly(25, StepKind.PERCENT))
    assert decide(view_of(fleet, flat(0.0), held), start_memory(START))[0].targets == {"reserved": 4, "burst": 11}
    memory = replace(start_memory(START), changes=(Change(START - 60.0, 0, 5),), targets={"reserved": 4, "burst": 11})
    assert decide(view_of(fleet, flat(0.0), held), memory)[0].targets == {"reserved": 4, "burst": 11}
    tiny = fleet_of(QUICK, behavior=slowly(1, StepKind.PERCENT))
    assert decide(view_of(tiny, flat(0.0), {"burst": 4}), start_memory(START))[0].targets == {"burst": 3}


def test_replicas_that_were_told_to_go_and_are_still_there_are_not_called_back() -> None:
    fleet = fleet_of(QUICK, behavior=slowly(3))
    first, memory = decide(view_of(fleet, flat(0.0), {"burst": 10}), start_memory(START))
    second, _ = decide(view_of(fleet, flat(0.0), {"burst": 10}, minute=1), memory)
    assert first.targets == second.targets == {"burst": 7}


def test_money_goes_before_pace() -> None:
    fleet = fleet_of(QUICK, behavior=slowly(1), budget=Budget(usd_per_hour=72.0))
    assert decide(view_of(fleet, flat(100.0), {"burst": 10}), start_memory(START))[0].targets == {"burst": 2}


def test_a_drain_keeps_the_budget() -> None:
    fleet = fleet_of(QUICK, behavior=slowly(2), drain=Drain.FLEET)
    assert decide(view_of(fleet, flat(100.0), {"burst": 10}), start_memory(START))[0].targets == {"burst": 8}


@given(
    st.lists(st.tuples(st.floats(0.0, 400.0), st.sampled_from([15.0, 60.0, 300.0])), min_size=2, max_size=20),
    st.integers(1, 10), st.sampled_from([36.0, 48.0, 60.0]),
)  # fmt: skip
def test_no_period_ever_loses_more_than_its_budget(told: list[tuple[float, float]], value: int, price: float) -> None:
    """In a world that obeys at once, whatever demand does and however prices turn."""
    offer = Offer("burst", Tier.BURST, 10.0, 0, 40, 48.0, 0.0)
    fleet = fleet_of(offer, replace(offer, name="other"), behavior=slowly(value), spill=None)
    memory, now, held = start_memory(START), 0.0, {"burst": 10, "other": 10}
    removed: list[tuple[float, int]] = []
    for number, (demand, seconds) in enumerate(told):
        prices: dict[str, float | None] = {"burst": 48.0, "other": price if number % 2 else 48.0}
        verdict, memory = decide(view_of(fleet, flat(demand), held, minute=now / 60.0, prices=prices), memory)
        removed.append((now, sum(max(held[name] - count, 0) for name, count in verdict.targets.items())))
        held, now = dict(verdict.targets), now + seconds
    # Changes close together are kept as one that ends with the newer, so a period may be a thirty-second longer, never shorter.
    for at, _ in removed:
        assert sum(count for when, count in removed if at <= when < at + PERIOD) <= value


def test_the_policy_states_it() -> None:
    policy = """\
apiVersion: tidegate.dev/v1alpha1
kind: Fleet
metadata: {name: f}
spec:
  serving: {model: m, slo: {ttft: 2s}}
  demand: {unit: requests, nats: {}}
  burst: [{name: b, accelerator: {type: H200}, capacityPerSecond: 10, replicas: {max: 2}, usdPerReplicaHour: 3}]
  behavior: {scaleDown: {budget: {type: Percent, value: 10, period: 10m}}}
"""
    assert read_policies([("p.yaml", policy)]).policies[0].fleet.behavior.scale_down.budget == StepLimit(StepKind.PERCENT, 10, 600.0)
    (problem,) = read_policies([("p.yaml", policy.replace("scaleDown", "scaleUp"))]).errors
    assert problem.path == "spec.behavior.scaleUp.budget"


@pytest.mark.parametrize("behavior", [Behavior(), slowly(100)])
def test_without_a_budget_or_within_it_nothing_is_held_back(behavior: Behavior) -> None:
    fleet = fleet_of(QUICK, behavior=behavior)
    assert decide(view_of(fleet, flat(0.0), {"burst": 10}), start_memory(START))[0].targets == {"burst": 0}
