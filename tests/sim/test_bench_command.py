"""`tidegate bench` from its door: which cases are run, what is printed, and that a seed gives the same again."""

import json
from pathlib import Path

import numpy as np
import pytest

from controlplane.cli import main
from controlplane.commands.bench import MarketOutcome, chosen_cases
from controlplane.contracts.errors import TidegateError
from controlplane.sim.bench import Point
from controlplane.sim.bench_cases import matrix


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a trace of a day and a half in the data folder."""
    rows = 216
    counts = 6000 + 3000 * np.sin(np.arange(rows) / 23) + 4000 * (np.random.default_rng(4).random(rows) < 0.03)
    (tmp_path / "small.csv").write_text("t_s,requests\n" + "".join(f"{600 * row},{count:.0f}\n" for row, count in enumerate(counts)))
    monkeypatch.setenv("TIDEGATE_DATA", str(tmp_path))
    return "small"


def judged(*options: str) -> int:
    """Run the command and return its exit status."""
    with pytest.raises(SystemExit) as ended:
        main(("bench", *options))
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_cases_are_named_and_none_is_run(small: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert judged("--list", "--trace", small) == 0
    names = capsys.readouterr().out.splitlines()
    assert "small lead 8m 3-tier" in names
    assert "small lead 60m 2-tier shed 99.9 %" in names
    assert "small lead 8m 3-tier launch ×20 announced" in names
    assert names[-1] == "market"


def test_a_case_is_chosen_by_its_name_or_by_words_of_it() -> None:
    known = matrix(("a", "b"))
    assert [case.name for case in chosen_cases(known, ["a lead 8m 3-tier"])] == ["a lead 8m 3-tier"]
    assert [case.name for case in chosen_cases(known, ["b 30m shed"])] == [
        f"b lead 30m 2-tier shed {share} %" for share in (99, 99.5, 99.9)
    ]
    assert [case.name for case in chosen_cases(known, [])] == [
        "a lead 8m 3-tier", "a lead 8m 2-tier queue 99.5 %", "a lead 8m 2-tier shed 99.5 %"
    ]  # fmt: skip
    with pytest.raises(TidegateError, match="bench --list"):
        chosen_cases(known, ["a lead 9m"])


def test_the_judge_prints_ratios_and_flapping_beside_the_hpas_and_the_same_seed_the_same(
    small: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "bench.html"
    chosen = ("--trace", small, "--case", "small lead 8m 3-tier", "--peer", "hpa", "--seed", "3")
    assert judged(*chosen, "--json", "--html", str(page)) == 0
    told = capsys.readouterr()
    assert "small lead 8m 3-tier: 1." in told.err
    (row,) = json.loads(told.out)
    assert row["own_ratio"] >= 1.0
    assert row["best_peer"] == "HPA"
    assert row["hpa_scale_events_per_day"] > 0.0
    assert "HPA&#39;s changes/day" in page.read_text()
    assert judged(*chosen, "--json") == 0
    assert json.loads(capsys.readouterr().out) == [row]
    assert judged(*chosen) == 0
    assert "changes/day" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--trace", "nowhere"), "--trace"),
        (("--trace", "small", "--peer", "Nobody"), "known are HPA, KEDA"),
        (("--trace", "small", "--html", "/no/such/x.html"), "name a file in a folder that is there"),
        (("--case", "market", "--html", "x.html"), "add a --case"),
        (("--case", "market", "--trace", "small"), "market_providers"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_run(
    small: str, options: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judged(*options) == 1
    assert message in capsys.readouterr().err


def test_the_market_is_judged_by_what_the_list_price_costs() -> None:
    own, other = Point("tidegate", None, 75.0, 1.0, 0.0, 10.0), Point("list price", 0.7, 100.0, 1.0, 0.0, 20.0)
    assert MarketOutcome(own, other).saved == pytest.approx(0.25)
    assert MarketOutcome(own, None).saved is None
