"""`tidegate floor` from its door: a history in, how much to reserve for which term out, as table, JSON and page."""

import json
from pathlib import Path

import numpy as np
import pytest

from controlplane.cli import main
from controlplane.commands.floor import trace_of
from controlplane.contracts.errors import TidegateError, TraceError
from controlplane.contracts.events import Observation
from controlplane.contracts.units import from_unix
from controlplane.studies.floor_sizing import read_term

DAY = 86400.0
START = 20_000 * DAY
POLICY = """\
apiVersion: tidegate.dev/v1alpha1
kind: Fleet
metadata: {name: f}
spec:
  serving: {model: m, slo: {ttft: 2s}}
  demand: {unit: requests, nats: {}}
  floor:
    - {name: own, accelerator: {type: H200}, capacityPerSecond: 10, replicas: {max: 3}, usdPerReplicaHour: 20, replicasPerLot: LOT}
  burst:
    - {name: dear, accelerator: {type: H200}, capacityPerSecond: 10, replicas: {max: 40}, usdPerReplicaHour: 90, leadTime: 0s, hold: 0s}
    - {name: cheap, accelerator: {type: H100}, capacityPerSecond: 5, replicas: {max: 80}, usdPerReplicaHour: 30, leadTime: 0s, hold: 0s}
"""


@pytest.fixture
def month(tmp_path: Path) -> Path:
    """Four weeks by the hour: 40 work per second, and 120 for nine hours of each day."""
    path = tmp_path / "month.csv"
    demand = np.tile([120.0] * 9 + [40.0] * 15, 28)
    rows = [f"{index * 3600},{value:g}" for index, value in enumerate(demand)]
    path.write_text("\n".join(["t_s,work_per_second", *rows]) + "\n")
    return path


def sized(tmp_path: Path, trace: Path, *options: str, lot: int = 1) -> int:
    """Run the command on the policy and return its exit status."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY.replace("LOT", str(lot)))
    with pytest.raises(SystemExit) as ended:
        main(("floor", str(policy), "--trace", str(trace), *options))
    assert isinstance(ended.value.code, int)
    return ended.value.code


def answer(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    read = json.loads(capsys.readouterr().out)
    assert isinstance(read, dict)
    return read


def test_each_term_has_its_own_count_and_the_best_comes_first(tmp_path: Path, month: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Renting ten work per second costs 60 an hour at the cheaper offer, so break-even is a third of the time at 20 USD, a half at 30."""
    assert sized(tmp_path, month, "--json", "--term", "1y=20", "--term", "block:14d=30") == 0
    choices = answer(capsys)["choices"]
    assert [(choice["term"]["name"], choice["replicas"]) for choice in choices] == [("1y", 12), ("block", 4)]  # type: ignore[attr-defined]
    year = choices[0]  # type: ignore[index]
    assert year["saving_usd_per_hour"] == pytest.approx(4 * (60 - 20) + 8 * (60 * 9 / 24 - 20))
    assert year["saving_usd"] == pytest.approx(year["saving_usd_per_hour"] * 365 * 24)


def test_left_out_the_term_is_a_year_at_the_policys_own_price(tmp_path: Path, month: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sized(tmp_path, month) == 0
    shown = capsys.readouterr().out
    assert "as in the policy, 1y" in shown
    assert "the floor is 3 replicas now" in shown
    assert "break-even is 20.00 USD/h" in shown


def test_without_a_trace_at_hand_a_synthetic_one_is_said_to_be_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sized(tmp_path, Path("synthetic")) == 0
    assert "synthetic-0: 7d" in capsys.readouterr().out


def test_what_is_bought_in_lots_is_reserved_in_lots(tmp_path: Path, month: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the second lot of three replicas one is always needed and two for nine hours of a day: 35 USD a replica-hour to rent, not 60."""
    assert sized(tmp_path, month, "--json", "--term", "1y=20", lot=8) == 1, "three replicas are less than a lot of eight"
    assert sized(tmp_path, month, "--json", "--term", "1y=34", "--term", "1y=36", lot=3) == 0
    choices = answer(capsys)["choices"]
    assert [(choice["replicas"], choice["term"]["usd_per_replica_hour"]) for choice in choices] == [(6, 34.0), (3, 36.0)]  # type: ignore[attr-defined]


def test_the_page_stands_alone_and_shows_both_plots(tmp_path: Path, month: Path) -> None:
    page = tmp_path / "floor.html"
    assert sized(tmp_path, month, "--report", str(page), "--term", "1y=20", "--term", "3y=15") == 0
    text = page.read_text()
    assert "How many replicas to reserve" in text
    assert "offer own · month · 28d of history" in text
    assert "range over the history" in text
    assert "against the break-even lines" in text
    assert "USD per hour saved, by replicas reserved" in text
    assert 'src="http' not in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--term", "1y"), "write [NAME:]LENGTH=USD"),
        (("--term", "soon=3"), "not a duration"),
        (("--term", "0s=3"), "more than nothing"),
        (("--offer", "cheap"), "no committed price: give --term"),
        (("--offer", "none"), "it has own, dear, cheap"),
        (("--report", "/no/such/folder/x.html"), "name a file in a folder that is there"),
    ],
)
def test_what_is_wrong_is_said(
    tmp_path: Path, month: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    assert sized(tmp_path, month, *options) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "name", "usd", "days"), [("1y=24.50", "1y", 24.5, 365), ("block:14d=31", "block", 31.0, 14), ("1.5y=2", "1.5y", 2.0, 547.5)]
)
def test_terms_are_written_short(text: str, name: str, usd: float, days: float) -> None:
    term = read_term(text)
    assert (term.name, term.usd_per_replica_hour, term.seconds) == (name, usd, days * DAY)


def test_observations_of_two_resolutions_come_to_one_grid_and_gaps_stay_unknown() -> None:
    def seen(at: float, interval: float, demand: float | None) -> Observation:
        return Observation(time=from_unix(START + at), fleet="f", interval_seconds=interval, demand_per_second=demand)

    coarse = [seen(300.0, 300.0, 6.0), seen(600.0, 300.0, 12.0)]
    fine = [seen(1200.0 + 60.0 * minute, 60.0, float(minute)) for minute in range(1, 6)]
    trace = trace_of("past", [*coarse, seen(900.0, 300.0, None), *fine])
    assert trace.step_seconds == 300.0
    np.testing.assert_allclose(trace.demand_per_second, [6.0, 12.0, np.nan, np.nan, 3.0])
    with pytest.raises(TraceError, match="remembers no demand"):
        trace_of("past", [seen(300.0, 300.0, None)])


def test_nothing_to_compare_with_is_an_error(tmp_path: Path, month: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = tmp_path / "alone.yaml"
    alone.write_text(POLICY.replace("LOT", "1").partition("  burst:")[0])
    with pytest.raises(SystemExit):
        main(("floor", str(alone), "--trace", str(month)))
    assert "nothing to compare a reservation with" in capsys.readouterr().err
    assert issubclass(TraceError, TidegateError)
