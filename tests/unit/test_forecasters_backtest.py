"""`tidegate backtest` from a CSV of the user's own to the table, the JSON and the page."""

import json
from pathlib import Path

import numpy as np
import pytest

from controlplane.commands.backtest import BacktestOptions, averaged, backtest_traces
from controlplane.contracts.errors import TraceError
from controlplane.contracts.fleet import ForecastSettings
from controlplane.studies.backtest import QUANTILES, horizons_for, run
from controlplane.studies.backtest_peers import compare, loss_over
from controlplane.traces.library import Array, Trace
from forecasters.backtest import truth

DAY = 86400.0


def _trace(days: float, step: float) -> Trace:
    time = np.asarray(1.7e9 + step * np.arange(1, int(days * DAY / step) + 1), dtype=np.float64)
    noise = np.random.default_rng(1)
    return Trace("made", time, step, 20.0 * np.exp(0.6 * np.sin(2 * np.pi * time / DAY) + 0.1 * noise.standard_normal(len(time))), True)


def test_a_csv_with_its_own_column_names_gives_a_table_json_and_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = _trace(3.0, 1800.0)
    rows = [f"{when - 1800.0:.0f},{what * 1800.0:.3f}" for when, what in zip(trace.time_unix, trace.demand_per_second, strict=True)]
    rows[40] = rows[40].split(",")[0] + ","
    path, page = tmp_path / "mine.csv", tmp_path / "out.html"
    path.write_text("\n".join(["moment,calls", *rows]), encoding="utf-8")
    options = BacktestOptions((str(path),), column="calls", time_column="moment", report=page)
    assert backtest_traces(options) == 0
    assert "mine" in capsys.readouterr().out
    text = page.read_text(encoding="utf-8")
    assert "Coverage by nominal quantile" in text
    assert "1 h ahead, work per second" in text
    assert "mine, 3d, 2023-11-1" in text
    assert 'src="http' not in text
    assert backtest_traces(BacktestOptions((str(path),), column="calls", time_column="moment", as_json=True)) == 0
    lines = json.loads(capsys.readouterr().out)
    assert [line["horizon_seconds"] for line in lines] == [60.0, 600.0, 3600.0, 21600.0, 86400.0, 172800.0]
    assert all(line["pinball"] > 0.0 for line in lines)


def test_json_has_null_where_there_is_no_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "constant.csv"
    path.write_text("\n".join(["time,calls", *(f"{1.7e9 + 1800.0 * row:.0f},7" for row in range(60))]), encoding="utf-8")
    assert backtest_traces(BacktestOptions((str(path),), as_json=True)) == 0
    lines = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert {line["mase"] for line in lines} == {None}, "no error of a constant's last value to compare with"
    assert all(line["pinball"] is not None for line in lines)


def test_a_lead_time_is_a_horizon_of_its_own() -> None:
    assert 480.0 in horizons_for(480.0)
    lines = run(_trace(2.0, 1800.0), ForecastSettings(), np.array([3600.0, 7200.0])).lines
    assert [line.figures.horizon_seconds for line in lines] == [3600.0, 7200.0]


def test_a_fine_trace_is_averaged_to_the_step_asked_for() -> None:
    fine = _trace(0.5, 60.0)
    coarse = averaged(fine, 600.0)
    assert coarse.step_seconds == 600.0
    assert coarse.time_unix[0] == fine.time_unix[9]
    assert np.isclose(coarse.demand_per_second[0], fine.demand_per_second[:10].mean())


def test_a_time_zone_that_is_not_known_is_named() -> None:
    with pytest.raises(TraceError, match="no time zone is named 'Mars/Olympus'"):
        backtest_traces(BacktestOptions(("mine.csv",), time_zone="Mars/Olympus"))


def test_a_peer_that_is_not_known_is_named() -> None:
    result = run(_trace(2.0, 3600.0), ForecastSettings(), np.array([3600.0]))
    with pytest.raises(TraceError, match="no peer is named 'oracle'"):
        compare(result, ForecastSettings(), ("oracle",))


def test_a_peer_is_asked_for_the_hour_that_it_is_scored_on() -> None:
    """Demand grows by a tenth an hour, and the peer knows it: 90 minutes ahead, scored on the second hour, it is right too."""
    hours = np.arange(200.0)
    value = 100.0 * np.exp(0.1 * hours)
    horizons = np.array([3600.0, 5400.0, 21600.0])
    actual = truth(3600.0 * hours, value, horizons).demand
    ours = np.repeat(value[:, None, None], len(horizons), axis=1) * np.ones(len(QUANTILES))

    def knowing(log: Array, ahead: int) -> tuple[Array, Array]:
        return log[-1] + 0.1 * np.arange(1, ahead + 1), np.full(ahead, 1e-9)

    ratio = loss_over(knowing, value, horizons, np.array([100, 150]), ours, actual)
    assert (ratio > 10.0).all(), "the last value is far off, and the peer is not"
