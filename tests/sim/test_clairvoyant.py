"""The clairvoyant's cost is the true optimum: checked against every possible plan on small cases, and against what scalers achieve."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from controlplane.contracts.fleet import Fleet, Offer, Slo, Spill, Tier, Unit
from controlplane.sim.baselines_hpa import Hpa
from controlplane.sim.clairvoyant import Layered, PlannedScaler, cheapest_plan, cheapest_plan_for, clairvoyant
from controlplane.sim.pools import Market
from controlplane.sim.run import run
from controlplane.sim.workload import Workload
from controlplane.sim.world import WorldSettings

SMALL = Layered(
    demand_per_second=np.zeros(0),
    block_seconds=1.0,
    capacity_per_second=1.0,
    rent_usd_per_second=1.0,
    lead_seconds=2.0,
    hold_seconds=0.0,
    usd_per_unit_missed=3.0,
)


def rent_of(counts: tuple[int, ...], problem: Layered) -> float:
    """Pay for a sequence of serving replicas: first in, first out, each run a boot and at least the hold."""
    running = [-problem.hold_seconds] * problem.warm
    rent = 0.0
    for block, count in enumerate(counts):
        while len(running) > count:
            asked = running.pop(0)
            if asked >= 0 or problem.hold_seconds == 0:
                rent += max(0.0, asked + problem.hold_seconds - block)
        while len(running) < count:
            if block < problem.lead_seconds:
                return float("inf")
            running.append(block - problem.lead_seconds)
            rent += problem.lead_seconds
        rent += count
    return rent * problem.rent_usd_per_second


def every_plan(problem: Layered, most: int) -> list[tuple[float, float]]:
    """Return (rent, missed) of every sequence of counts."""
    demand = problem.demand_per_second
    plans = []
    for counts in product(range(most + 1), repeat=len(demand)):
        missed = float(np.maximum(demand - np.array(counts) * problem.capacity_per_second, 0.0).sum())
        plans.append((rent_of(counts, problem), missed))
    return plans


@pytest.mark.parametrize("seed", range(12))
def test_with_a_price_on_missed_work_no_plan_is_cheaper(seed: int) -> None:
    rng = np.random.default_rng(seed)
    demand = np.round(rng.uniform(0, 3, 7), 2)
    problem = replace(SMALL, demand_per_second=demand, warm=int(rng.integers(3)), usd_per_unit_missed=float(rng.uniform(1.2, 4)))
    cheapest = min(rent + problem.usd_per_unit_missed * missed for rent, missed in every_plan(problem, 3))
    plan = cheapest_plan(problem)
    assert plan.cost_usd == pytest.approx(cheapest)
    assert rent_of(tuple(plan.replicas.tolist()), problem) == pytest.approx(plan.rent_usd)


@pytest.mark.parametrize("seed", range(8))
def test_with_a_hold_beyond_the_lead_time_the_bound_is_below_and_the_plan_above_the_best(seed: int) -> None:
    rng = np.random.default_rng(seed)
    problem = replace(SMALL, demand_per_second=np.round(rng.uniform(0, 3, 7), 2), lead_seconds=1.0, hold_seconds=3.0)
    problem = replace(problem, warm=0)
    cheapest = min(rent + problem.usd_per_unit_missed * missed for rent, missed in every_plan(problem, 3))
    bound, plan = cheapest_plan(problem, pay_hold=False), cheapest_plan(problem)
    assert bound.cost_usd <= cheapest + 1e-9
    assert plan.cost_usd >= cheapest - 1e-9
    assert plan.cost_usd <= 1.15 * cheapest


@pytest.mark.parametrize("seed", range(8))
def test_at_a_share_that_may_be_missed_no_plan_rents_for_less_than_the_bound(seed: int) -> None:
    rng = np.random.default_rng(seed)
    problem = replace(SMALL, demand_per_second=np.round(rng.uniform(0.2, 3, 7), 2), warm=2)
    share = float(rng.uniform(0.1, 0.5))
    allowed = share * problem.demand_per_second.sum()
    cheapest = min(rent for rent, missed in every_plan(problem, 3) if missed <= allowed + 1e-9)
    plan, bound = cheapest_plan_for(problem, share)
    assert plan.missed <= allowed + 1e-9
    assert bound <= cheapest + 1e-9
    assert plan.rent_usd >= cheapest - 1e-9
    assert bound >= 0.5 * cheapest


def test_layers_are_nested_and_solved_in_parts_alike() -> None:
    demand = 800 + 700 * np.sin(np.arange(400) / 20)
    problem = replace(SMALL, demand_per_second=demand, lead_seconds=8.0)
    plan = cheapest_plan(problem)
    scaled = cheapest_plan(replace(problem, demand_per_second=demand / 100))
    assert plan.replicas.max() > 512
    assert plan.cost_usd == pytest.approx(100 * scaled.cost_usd, rel=0.05)


@pytest.mark.parametrize("spill", [None, Spill("hosted", 0.003)])
def test_no_scaler_beats_it_in_the_world(spill: Spill | None) -> None:
    burst = Offer("burst", Tier.BURST, 10.0, 0, 100, 36.0, 480.0, 600.0)
    fleet = Fleet("f", Slo(0.99, ttft_seconds=5.0), Unit.REQUESTS, (Offer("own", Tier.FLOOR, 10.0, 0, 2, 16.0, 180.0), burst), spill=spill)
    offered = 60 + 40 * np.sin(np.arange(240 * 24) / 500) + np.random.default_rng(1).normal(0, 5, 240 * 24)
    work = Workload("w", 0.0, 15.0, offered, np.ones(len(offered), dtype=np.bool_))
    settings = WorldSettings(shed=True, initial={"own": 2, "burst": 5}, markets={"burst": Market(lead_time_sigma=0.0)})
    best = clairvoyant(fleet, work, warm=5)
    assert best.floor_usd == pytest.approx(2 * 16.0 * 24)
    assert best.bound_usd <= best.plan_usd + 1e-6
    planned = run("planned", PlannedScaler(fleet, work, best.plan), fleet, work, settings)
    if spill is not None:
        assert best.bound_usd < planned.cost_usd < 1.02 * best.plan_usd
    for target in (0.6, 0.8, 1.0):
        result = run("hpa", Hpa(fleet, target), fleet, work, settings)
        if result.attainment >= fleet.slo.attainment:
            assert result.cost_usd > best.bound_usd


def test_a_fleet_without_burst_pays_its_floor_and_spills() -> None:
    fleet = Fleet("f", Slo(0.99), Unit.REQUESTS, (Offer("own", Tier.FLOOR, 10.0, 0, 2, 16.0, 180.0),), spill=Spill("hosted", 0.003))
    work = Workload("w", 0.0, 15.0, np.full(240, 25.0), np.ones(240, dtype=np.bool_))
    assert clairvoyant(fleet, work).plan_usd == pytest.approx(32.0 + 5 * 3600 * 0.003)
