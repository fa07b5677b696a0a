"""The judge: equal attainment, hindsight for the peers, one untouched run for the scaler under test."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from controlplane.sim.baselines_hpa import hpa
from controlplane.sim.baselines_peers import PEERS
from controlplane.sim.bench import Point, bench, cheapest_at, outcomes_table
from controlplane.sim.bench_cases import MEAN_REPLICAS, Case, announcement, build, matrix
from controlplane.sim.bench_page import write_bench_page
from controlplane.traces.waves import parametric_wave


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one small trace of three days: a daily shape with jumps."""
    rows = 3 * 144
    rng = np.random.default_rng(4)
    counts = 6000 + 3000 * np.sin(np.arange(rows) / 23) + rng.exponential(600, rows) + 4000 * (rng.random(rows) < 0.03)
    text = "t_s,requests\n" + "".join(f"{600 * row},{count:.0f}\n" for row, count in enumerate(counts))
    (tmp_path / "small.csv").write_text(text)
    return tmp_path


def point(attainment: float, cost: float, knob: float) -> Point:
    return Point("p", knob, cost, attainment, 0.0, 0.0)


def test_cost_at_an_attainment_lies_between_the_knobs_on_either_side() -> None:
    points = [point(0.9, 100.0, 0.9), point(0.99, 120.0, 0.8), point(0.9999, 200.0, 0.6)]
    found = cheapest_at(points, 0.999)
    assert found is not None
    assert found.cost_usd == pytest.approx(160.0)
    assert found.knob == pytest.approx(0.7)
    assert cheapest_at(points, 0.99999) is None
    assert cheapest_at([*points, point(0.9995, 110.0, 0.5)], 0.999).cost_usd == 110.0  # type: ignore[union-attr]


def test_a_case_is_a_fleet_of_comparable_size_and_the_same_work_for_everyone(folder: Path) -> None:
    one = build(Case("small"), (folder,))
    other = build(Case("small", lead_seconds=3600.0, spill=False), (folder,))
    burst = one.fleet.offers[1]
    assert float(one.workload.offered_per_second.mean()) / burst.capacity_per_second == pytest.approx(MEAN_REPLICAS, rel=1e-6)
    assert one.workload.offered_per_second.tolist() == other.workload.offered_per_second.tolist()
    assert one.fleet.spill is not None
    assert one.fleet.spill.usd_per_unit == pytest.approx(3 * 60.0 / 3600 / burst.capacity_per_second)
    assert other.fleet.spill is None


def test_an_announcement_tells_the_shape_a_day_ahead() -> None:
    launch = announcement(parametric_wave(20.0, 1800.0, 36000.0), "f", 1e6)
    assert launch.time.timestamp() == 1e6 - 86400
    assert launch.ramp_seconds == pytest.approx(1800.0)
    assert launch.half_life_seconds == pytest.approx(36000.0, rel=0.01)


def test_every_outcome_is_above_the_bound_and_the_peers_keep_the_attainment(folder: Path) -> None:
    three = Case("small")
    two = replace(three, spill=False, shed=True, attainment=0.99)
    outcomes = bench(hpa(0.8), [three, two, replace(two, attainment=0.995)], (folder,), peers=PEERS[:1])
    for outcome in outcomes:
        best = outcome.best_peer
        assert best is not None
        assert best.attainment >= outcome.case.attainment - 1e-9 or outcome.case.spill
        assert outcome.ratio(best) > 1.0
        assert outcome.controllable(best) > outcome.ratio(best)
    assert outcomes[0].best_peer.cost_usd <= outcomes[0].own.cost_usd * 1.001  # type: ignore[union-attr]
    assert outcomes[1].best_peer.cost_usd < outcomes[2].best_peer.cost_usd  # type: ignore[union-attr]
    console = Console(width=200, record=True, file=(folder / "out.txt").open("w"))
    console.print(outcomes_table(outcomes))
    assert "2-tier shed 99.5 %" in console.export_text()
    write_bench_page(outcomes, folder / "bench.html")
    page = (folder / "bench.html").read_text()
    assert page.count("2-tier shed 99.5 %") >= 2
    assert "stacked by tier" not in page


def test_the_matrix_covers_leads_tiers_queues_and_launches() -> None:
    cases = matrix(traces=("a", "b"), leads_seconds=(480.0, 3600.0))
    assert len(cases) == len(set(cases)) == 2 * 2 * (1 + 6) + 2 * 2 * 2
    assert {case.launch_multiple for case in cases} == {1.0, 20.0, 50.0}
