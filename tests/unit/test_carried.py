"""Capacity corrected by what replicas really carry: ten replicas of ten a second each, a minute an interval."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.contracts.events import Observation, PoolStatus, Tick
from controlplane.contracts.fleet import Fleet, Guard, Mode, Slo
from controlplane.contracts.units import from_unix
from controlplane.planning import Planning
from controlplane.sim.pipeline_scaler import PipelineScaler
from controlplane.sim.run import RunResult, run
from controlplane.sim.workload import Workload
from controlplane.sim.world import WorldSettings
from controlplane.snapshot import dump_plan, load_plan
from policies.carried import AS_STATED, FACTOR_RANGE, FORGET_SECONDS, Carried, Work, see_work
from policies.reading import read_policies
from tests.unit.decide_stories import BURST, RESERVED, START, fleet_of

READY = 100.0


def after(*intervals: Work, known: Carried = AS_STATED, ready: float = READY, every: float = 60.0) -> Carried:
    """Return what is known after intervals, the first of which only shows how things stood."""
    for number, work in enumerate(intervals, start=1):
        known = see_work(known, work, ready, START + every * number, 0.99, 5.0)
    return known


def saturated(carried: float, minutes: int) -> list[Work]:
    """A queue that is long at both ends of each interval and neither grows nor falls: what arrives is what is carried."""
    return [Work(carried, 2000.0, carried, 0.0)] * (minutes + 1)


@pytest.mark.parametrize(("carried", "factor"), [(100.0, 1.0), (80.0, 0.8), (60.0, 0.6), (20.0, FACTOR_RANGE[0]), (130.0, 1.0)])
def test_what_a_saturated_fleet_carries_is_the_most_it_can(carried: float, factor: float) -> None:
    """More than stated is no news: behind a queue replicas run fuller than they may within the SLO."""
    assert after(*saturated(carried, 300)).factor == pytest.approx(factor, abs=0.01)


def test_a_queue_that_grows_or_spills_is_taken_into_account() -> None:
    growing = [Work(100.0, 2000.0 + 20.0 * 60.0 * minute, 10.0, 0.0) for minute in range(200)]
    assert after(*growing).factor == pytest.approx(0.8, abs=0.01)
    spilling = [Work(100.0, 2000.0, 0.0, 20.0)] * 200
    assert after(*spilling).factor == pytest.approx(0.8, abs=0.01)


def test_one_odd_minute_moves_it_little_and_good_news_moves_it_faster_than_bad() -> None:
    assert 0.97 < after(*saturated(50.0, 1)).factor < 1.0
    low = Carried(0.8)
    down = low.factor - after(*saturated(60.0, 5), known=low).factor
    up = after(*saturated(100.0, 5), known=low).factor - low.factor
    assert up == pytest.approx(3.0 * down, rel=0.1)


@pytest.mark.parametrize(
    ("work", "factor"),
    [
        (Work(120.0, 0.0, 0.0, 0.0), 1.2),
        (Work(120.0, 0.0, 0.0, None), 1.2),
        (Work(140.0, 0.0, 0.0, 0.0), FACTOR_RANGE[1]),
        (Work(120.0, 0.0, 5.0, 0.0), 1.0),
        (Work(120.0, 0.0, None, 0.0), 1.0),
        (Work(120.0, 0.0, 0.0, 20.0), 1.0),
        (Work(120.0, 200.0, 0.0, 0.0), 1.0),
        (Work(60.0, 0.0, 0.0, 0.0), 1.0),
    ],
    ids=[
        "served in time", "no spill to speak of", "bounded", "too much is late", "nobody says what is late", "some is spilled",
        "neither idle nor saturated", "idle replicas say nothing of what they could",
    ],
)  # fmt: skip
def test_what_is_served_within_the_slo_is_the_least_it_can(work: Work, factor: float) -> None:
    assert after(*[work] * 200).factor == pytest.approx(factor, abs=0.01)


@pytest.mark.parametrize("ready", [0.0, 110.0])
def test_an_interval_in_which_replicas_came_or_went_says_nothing(ready: float) -> None:
    known = see_work(after(*saturated(50.0, 0)), Work(50.0, 2000.0), ready, START + 120.0, 0.99, 5.0)
    assert known.factor == 1.0
    assert known.ready_per_second == ready


def test_what_is_not_known_teaches_nothing_and_neither_does_the_past() -> None:
    gap = [*saturated(50.0, 0), Work(None, 2000.0), Work(50.0, 2000.0)]
    assert after(*gap).factor == 1.0
    assert after(Work(50.0, None), Work(50.0, None)).factor == 1.0
    assert after(*saturated(50.0, 3), every=1200.0).factor == 1.0, "twenty minutes hide anything"
    known = after(*saturated(50.0, 3))
    assert see_work(known, Work(0.0, 0.0), READY, START, 0.99, 5.0) is known


def test_without_evidence_the_stated_capacity_is_believed_again() -> None:
    known = Carried(0.6, START, READY, 0.0)
    later = see_work(known, Work(10.0, 0.0, 0.0, 0.0), READY, START + 2 * FORGET_SECONDS, 0.99, 5.0)
    assert later.factor == pytest.approx(1.0 - 0.4 * np.exp(-2.0))


@given(st.lists(st.tuples(*[st.floats(0.0, 1e4)] * 4, st.sampled_from([0.0, 50.0, 100.0])), max_size=40))
def test_the_factor_is_always_within_its_bounds(told: list[tuple[float, float, float, float, float]]) -> None:
    known = AS_STATED
    for number, (demand, backlog, late, spilled, ready) in enumerate(told):
        known = see_work(known, Work(demand, backlog, late, spilled), ready, START + 60.0 * number, 0.999, None)
        assert FACTOR_RANGE[0] <= known.factor <= FACTOR_RANGE[1]


def test_the_planner_says_what_it_reckons_with_scales_what_it_sees_and_survives_a_restart() -> None:
    fleet = replace(fleet_of(RESERVED, BURST, spill=None), guard=Guard(mode=Mode.ACT), corrects_capacity=True, slo=Slo(0.99, 5.0))
    planning = Planning(fleet)
    state = planning.start()
    for offer, ready in (("reserved", 4), ("burst", 6)):
        state, _ = planning.step(state, PoolStatus(time=from_unix(START), fleet="r1", offer=offer, ready=ready))
    for minute in range(240):
        seen = Observation(
            time=from_unix(START + 60.0 * minute), fleet="r1", interval_seconds=60.0, demand_per_second=80.0, backlog=2000.0,
            late_per_second=80.0,
        )  # fmt: skip
        state, _ = planning.step(state, seen)
    state, (decision,) = planning.step(state, Tick(time=from_unix(START + 240 * 60.0), fleet="r1"))
    assert decision.capacity_share == pytest.approx(0.8, abs=0.02)
    view = planning.view(load_plan(dump_plan(state)), START + 240 * 60.0)
    assert [seen.offer.capacity_per_second for seen in view.offers] == pytest.approx([8.0, 8.0], abs=0.2)
    plain = Planning(replace(fleet, corrects_capacity=False))
    _, (told,) = plain.step(plain.start(), Tick(time=from_unix(START), fleet="r1"))
    assert told.capacity_share is None


def played(stated: float, corrects: bool) -> tuple[RunResult, float]:
    """Play two days of tide in a world whose replicas carry 10 a second, for a policy that states something else."""
    times = 15.0 * np.arange(2 * 5760)
    noise = np.random.default_rng(5).normal(1.0, 0.1, len(times))
    offered = np.maximum((150.0 - 80.0 * np.cos(2.0 * np.pi * times / 86400.0)) * noise, 0.0)
    workload = Workload("tide", START, 15.0, offered, np.ones(len(times), dtype=np.bool_))
    world = replace(fleet_of(), slo=Slo(0.99, ttft_seconds=5.0), tick_seconds=60.0)
    offers = tuple(replace(offer, capacity_per_second=stated * offer.capacity_per_second) for offer in world.offers)
    policy: Fleet = replace(world, offers=offers, corrects_capacity=corrects)
    scaler = PipelineScaler(policy)
    result = run("tidegate", scaler, world, workload, WorldSettings(decision_seconds=60.0))
    return result, scaler._state.planning.carried.factor


def test_a_policy_that_overstates_its_replicas_is_put_right_by_what_they_carry() -> None:
    truth, factor = played(1.0, True)
    assert factor == pytest.approx(1.0, abs=0.005), "there is nothing to correct"
    believed, _ = played(1.4, False)
    corrected, factor = played(1.4, True)
    assert factor == pytest.approx(1.0 / 1.4, abs=0.03)
    assert corrected.spilled < 0.5 * believed.spilled
    assert corrected.cost_usd < 1.05 * truth.cost_usd < believed.cost_usd


def test_the_policy_switches_it_on() -> None:
    policy = """\
apiVersion: tidegate.dev/v1alpha1
kind: Fleet
metadata: {name: f}
spec:
  serving: {model: m, slo: {ttft: 2s}, correctCapacity: true}
  demand: {unit: requests, nats: {}}
  burst: [{name: b, accelerator: {type: H200}, capacityPerSecond: 10, replicas: {max: 2}, usdPerReplicaHour: 3}]
"""
    assert read_policies([("p.yaml", policy)]).policies[0].fleet.corrects_capacity
    assert not read_policies([("p.yaml", policy.replace(", correctCapacity: true", ""))]).policies[0].fleet.corrects_capacity
