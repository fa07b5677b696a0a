"""The report: what a run is shown as, in a terminal and as a page that needs nothing else."""

import io
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from rich.console import Console

from controlplane.contracts.fleet import Fleet, Offer, Slo, Spill, Tier, Unit
from controlplane.sim.baselines_hpa import comparisons, hpa
from controlplane.sim.report import MAX_POINTS, Table, four_digits, percent, report_of, summary_table
from controlplane.sim.report_html import render
from controlplane.sim.run import RunResult, run
from controlplane.sim.workload import Workload

FLEET = Fleet(
    "chat",
    Slo(0.995, ttft_seconds=5.0),
    Unit.REQUESTS,
    (Offer("reserved", Tier.FLOOR, 10.0, 0, 2, 16.0, 180.0), Offer("burst", Tier.BURST, 10.0, 0, 50, 36.0, 480.0)),
    spill=Spill("hosted", 0.003),
    tick_seconds=60.0,
)


@pytest.fixture(scope="module")
def results() -> list[RunResult]:
    offered = 30 + 25 * np.sin(np.arange(4 * 60 * 30) / 300)
    work = Workload("a day", 1763800000.0, 15.0, offered, np.ones(len(offered), dtype=np.bool_))
    main = run("tidegate", hpa(0.9)(FLEET), FLEET, work, keep_lines=True)
    return [main, *(run(other.name, other.scaler(other.fleet), other.fleet, work) for other in comparisons(FLEET, work))]


def test_the_summary_names_every_result_once_with_its_cost(results: list[RunResult]) -> None:
    screen = io.StringIO()
    Console(file=screen, width=200).print(summary_table(results, 0.995))
    text = screen.getvalue()
    names = [line.split("│")[1].strip() for line in text.splitlines() if line.startswith("│")]
    assert names == [result.name for result in results]
    assert f"{results[0].cost_usd:,.0f}" in text
    assert "synthetic" not in text


@pytest.mark.parametrize(
    ("share", "text"), [(1.0, "100.00 %"), (0.99999, ">99.99 %"), (0.00001, "<0.01 %"), (0.0, "0.00 %"), (0.995, "99.50 %")]
)
def test_a_share_is_never_rounded_to_all_or_nothing(share: float, text: str) -> None:
    assert percent(share) == text


def test_the_page_stands_alone_and_escapes_what_others_named(results: list[RunResult]) -> None:
    report = report_of(results, title="A <b>day</b>", unit="requests", attainment=0.995)
    report = replace(report, tables=(*report.tables, Table("Own", ("a",), (("<script>x</script>",),))))
    page = render(report)
    assert "A &lt;b&gt;day&lt;/b&gt;" in page
    assert "&lt;script&gt;x&lt;/script&gt;" in page
    assert 'src="http' not in page
    assert "Plotly.react" in page
    assert "Synthetic:" not in page
    assert "Synthetic:" in render(replace(report, synthetic=True))


def test_long_runs_are_thinned_and_dear_comparisons_stay_out_of_the_plot(results: list[RunResult]) -> None:
    report = report_of(results, title="t")
    lengths = {len(report.timeline.time_unix), *(len(cost) for cost in report.cost_usd.values())}
    assert len(lengths) == 1
    assert lengths.pop() <= MAX_POINTS + 1
    assert report.timeline.time_unix[-1] == results[0].steps.time_unix[-1]
    dear = replace(results[1], name="dear", cost_usd_by_tier={"burst": 3 * results[0].cost_usd})
    assert "dear" not in report_of([*results, dear], title="t").cost_usd
    assert any("dear" in row for row in report_of([*results, dear], title="t").tables[0].rows)


def test_the_decisions_shown_are_those_that_changed_a_target(results: list[RunResult]) -> None:
    table = report_of(results, title="t").tables[1]
    targets = [row[1] for row in table.rows]
    assert len(targets) > 10
    assert all(before != after for before, after in pairwise(targets))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.38504, "0.385"), (106.83, "106.8"), (2680.4, "2,680"), (9999.7, "10,000"), (39170.2, "39,170"), (0.0, "0"), (float("nan"), "nan")],
)
def test_a_figure_has_four_digits_and_never_an_exponent(value: float, text: str) -> None:
    assert four_digits(value) == text
