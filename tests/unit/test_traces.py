"""Traces: every way a file can be bad is either a named problem or an error that says what would be right."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from controlplane.contracts.errors import TraceError
from controlplane.traces.catalog import KNOWN_FILES
from controlplane.traces.library import UNDATED_START_UNIX, data_folders, list_traces, read_trace
from controlplane.traces.waves import mastodon_wave, multiply_wave, parametric_wave, synthetic_trace

START = "2026-11-22T10:0{}:00Z"


def write(folder: Path, text: str, name: str = "mine.csv") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def minutes(*rows: tuple[int, object]) -> str:
    return "timestamp,requests\n" + "".join(f"{START.format(minute)},{value}\n" for minute, value in rows)


def test_counts_become_rates_and_times_the_ends_of_intervals(tmp_path: Path) -> None:
    trace = read_trace(str(write(tmp_path, minutes((0, 60), (1, 120), (2, 0)))))
    assert trace.demand_per_second.tolist() == [1.0, 2.0, 0.0]
    assert trace.step_seconds == 60.0
    assert trace.start_unix == 1795341600.0  # 10:00:00Z
    assert trace.time_unix[0] == trace.start_unix + 60
    assert (trace.name, trace.synthetic, trace.problems) == ("mine", False, ())


@pytest.mark.parametrize(
    ("rows", "demand", "problem"),
    [
        (((0, 60), (1, 60), (3, 60), (4, 60)), [1, 1, None, 1, 1], "1 intervals are missing and stay unknown, the first 120 s after"),
        (((0, 60), (1, -5), (2, 60)), [1, None, 1], "1 values of requests missing, negative or not a number, the first in line 3"),
        (((0, 60), (1, "NaN"), (2, 60)), [1, None, 1], "the first in line 3"),
        (((0, 60), (1, "many"), (2, 60)), [1, None, 1], "the first in line 3"),
        (((0, 60), (2, 180), (1, 120)), [1, 2, 3], "times run backwards 1 times; sorted"),
        (((0, 60), (1, 120), (1, 999), (2, 60)), [1, 2, 1], "1 repeated times; the first of each is kept"),
    ],
)
def test_bad_rows_become_problems_and_never_numbers(tmp_path: Path, rows: tuple, demand: list, problem: str) -> None:
    trace = read_trace(str(write(tmp_path, minutes(*rows))))
    assert [None if np.isnan(value) else value for value in trace.demand_per_second] == demand
    assert any(problem in found for found in trace.problems), trace.problems


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("when,what\nyesterday,5\ntoday,6\n", "no time column among when, what; one is known by its name (timestamp, time, t_s"),
        ("timestamp,requests\nyesterday,5\ntoday,6\n", ":2: timestamp 'yesterday' is not a time; write 2026-11-22T10:00:00Z"),
        ("timestamp,requests\n2026-01-01T00:00:00Z,x\n2026-01-01T00:01:00Z,y\n", "requests 'x' is not a count"),
        ("timestamp,requests\n2026-01-01T00:00:00Z,1\n", "needs two at the least"),
        ("", "is empty"),
        ("timestamp;requests\n2026-01-01T00:00:00Z;1,5\n", "columns must be parted by commas"),
        ("series,timestamp,requests\na,2026-01-01T00:00:00Z,1\nb,2026-01-01T00:00:00Z,1\n", "write mine#NAME with one of a, b"),
        ("t_s,requests\n0,1\n1,1\n2,1\n90000000,1\n", "is one of the times wrong?"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(TraceError) as caught:
        read_trace(str(path))
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_own_columns_scale_series_and_time_forms(tmp_path: Path) -> None:
    text = "series,when,tokens\na,1795341600,60\na,1795341660,120\nb,1795341600,600\nb,1795341660,600\n"
    path = write(tmp_path, text, "own.csv.gz")
    trace = read_trace(f"{path}#b", column="tokens", time_column="when", scale=2.0)
    assert trace.demand_per_second.tolist() == [20.0, 20.0]
    assert trace.name == "own#b"
    rates = read_trace(str(write(tmp_path, "t_s,tokens_per_second\n0,5\n10,7\n", "rates.csv")))
    assert rates.demand_per_second.tolist() == [5.0, 7.0]
    assert rates.start_unix == UNDATED_START_UNIX


def test_column_names_count_in_any_case(tmp_path: Path) -> None:
    trace = read_trace(str(write(tmp_path, "Time,Requests\n2026-01-01 00:00:00,60\n2026-01-01 00:01:00,120\n")))
    assert trace.demand_per_second.tolist() == [1.0, 2.0]


def test_names_are_found_by_a_unique_beginning(tmp_path: Path) -> None:
    write(tmp_path, minutes((0, 60), (1, 60)), "alpha_one.csv")
    write(tmp_path, minutes((0, 60), (1, 60)), "alpha_two.csv")
    assert read_trace("alpha_o", (tmp_path,)).name == "alpha_one"
    with pytest.raises(TraceError, match="it could be: alpha_one, alpha_two"):
        read_trace("alpha", (tmp_path,))
    with pytest.raises(TraceError, match="no trace 'beta'"):
        read_trace("beta", (tmp_path,))


def test_listing_says_what_is_here_and_where_the_rest_is_from(tmp_path: Path) -> None:
    write(tmp_path, minutes((0, 60), (1, 60)), "own.csv")
    listed = {info.name: info for info in list_traces((tmp_path,))}
    assert set(listed) == {entry.name for entry in KNOWN_FILES} | {"own"}
    assert listed["own"].present
    assert len(listed["own"].sha256 or "") == 64
    absent = listed["servegen_m-large_10min"]
    assert not absent.present
    assert absent.url == "https://github.com/alibaba/ServeGen/tree/f891d118/data"
    assert absent.licence == "Apache-2.0"


def test_the_stated_folder_is_the_only_one() -> None:
    assert data_folders({"TIDEGATE_DATA": "/data/x"}) == (Path("/data/x"),)
    assert len(data_folders({})) == 2


def test_a_synthetic_trace_is_labelled_seeded_and_never_negative() -> None:
    first, again, other = synthetic_trace(3), synthetic_trace(3), synthetic_trace(4)
    assert first.synthetic
    assert first.demand_per_second.tolist() == again.demand_per_second.tolist()
    assert first.demand_per_second.tolist() != other.demand_per_second.tolist()
    assert len(first.time_unix) == 1008
    assert (first.demand_per_second >= 0).all()


def test_a_parametric_wave_peaks_and_halves() -> None:
    wave = parametric_wave(20.0, ramp_seconds=1800, half_life_seconds=36000)
    at = wave.at(np.array([-1.0, 0.0, 900.0, 1800.0, 37800.0]))
    assert at == pytest.approx([1.0, 1.0, 10.5, 20.0, 10.5], rel=1e-3)


def test_without_the_sign_up_file_the_wave_says_that_it_is_synthetic(tmp_path: Path) -> None:
    wave = mastodon_wave(20.0, (tmp_path,))
    assert wave.synthetic
    trace = multiply_wave(read_trace(str(write(tmp_path, minutes(*((i, 60) for i in range(9)))))), wave, 1795341600.0 + 240)
    assert trace.synthetic
    assert trace.demand_per_second[:4].tolist() == [1.0] * 4
    assert trace.demand_per_second[-1] > 2.0


def test_a_sign_up_wave_is_measured_against_its_own_baseline(tmp_path: Path) -> None:
    hours = [10] * 400 + [100, 330, 200] + [40] * 100
    rows = "".join(f"{UNDATED_START_UNIX + 3600 * hour:.0f},{count}\n" for hour, count in enumerate(hours))
    write(tmp_path, "timestamp,new_users\n" + rows, "mastodon_signups_2022_apr_1h.csv")
    wave = mastodon_wave(33.0, (tmp_path,))
    assert not wave.synthetic
    assert wave.at(np.array([1800.0, 5400.0, 9000.0, 20 * 3600.0])) == pytest.approx([10.0, 33.0, 20.0, 4.0])
