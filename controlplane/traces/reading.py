"""From a table on disk to clean rows on a regular grid: what is done about gaps, bad values and disorder.

Owns the reading of CSV and Parquet and the rules for bad rows, each of which becomes a problem that a person can read; it must not
know folders or names. `controlplane.traces.library` calls these in order. Pandas is imported by whom a table is read for: it takes a
third of the start of a process, and services read none.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from controlplane.contracts.errors import TraceError

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped, unused-ignore]

Array = NDArray[np.float64]

UNDATED_START_UNIX = 1736121600.0  # Monday 2025-01-06T00:00:00Z: where a trace that only counts seconds is put
SUFFIXES = (".csv.gz", ".csv", ".parquet")
MAX_GRID_ROWS = 5_000_000
_LARGEST_OFFSET_SECONDS = 1e8  # smaller numbers count from the start of the trace, larger ones are unix seconds
_MILLISECONDS_FROM = 1e11


def stem_of(path: Path) -> str:
    """Return a trace's name: the file's, without its suffix."""
    return next(
        (path.name[: -len(suffix)] for suffix in SUFFIXES if path.name.endswith(suffix)),
        path.stem,
    )


def load(path: Path) -> pd.DataFrame:
    """Read a table as text (CSV) or as typed columns (Parquet); the index is the line in the file."""
    import pandas as pd

    try:
        table = pd.read_parquet(path) if path.name.endswith(".parquet") else pd.read_csv(path, dtype=str, skip_blank_lines=False)
    except ImportError as error:
        raise TraceError(f"{path}: reading Parquet needs pyarrow; install it, or convert the file to CSV") from error
    except pd.errors.EmptyDataError as error:
        raise TraceError(f"{path}: is empty; a trace is a header line and rows of a time and a count") from error
    except (ValueError, OSError, EOFError) as error:
        raise TraceError(f"{path}: not a readable CSV, CSV.gz or Parquet table: {error}") from error
    if len(table.columns) == 1 and any(mark in str(table.columns[0]) for mark in ";\t|"):
        raise TraceError(f"{path}:1: {table.columns[0]!r}: columns must be parted by commas, and decimals by points; save it so")
    table.index = pd.RangeIndex(2, 2 + len(table))
    return table


def pick_series(table: pd.DataFrame, path: Path, series: str) -> pd.DataFrame:
    """Return the rows of one series of a file that holds several; the whole table where it holds one."""
    if "series" not in table.columns:
        if series:
            raise TraceError(f"{path}:1: no column 'series', so there is no series {series!r}; leave '#{series}' away")
        return table
    names = sorted(str(name) for name in table["series"].dropna().unique())
    if series not in names:
        raise TraceError(f"{path}: holds several series; write {stem_of(path)}#NAME with one of {', '.join(names)}")
    return table[table["series"] == series]


def first_of(names: tuple[str, ...], table: pd.DataFrame) -> str | None:
    """Return the column that has the first of the names, in whatever case."""
    columns = {str(name).strip().lower(): str(name) for name in reversed(table.columns)}
    return next((columns[name] for name in names if name in columns), None)


def first_numeric(table: pd.DataFrame, but: tuple[str | None, ...]) -> str | None:
    """Return the first column, but for those given, that is mostly numbers."""
    import pandas as pd

    numeric = (str(name) for name in table.columns if name not in but and pd.to_numeric(table[name], errors="coerce").notna().mean() > 0.5)
    return next(numeric, None)


def clean_rows(
    table: pd.DataFrame,
    time_name: str,
    count_name: str,
    path: Path,
    problems: list[str],
) -> tuple[Array, Array]:
    """Return (unix seconds, values) of the rows that have a time; a missing, negative or unreadable value is NaN."""
    import pandas as pd

    times = _unix_seconds(table[time_name])
    bad = table.index[~np.isfinite(times)]
    if len(bad) and len(bad) >= 0.5 * len(table):
        shown = table[time_name].loc[bad[0]]
        raise TraceError(
            f"{path}:{bad[0]}: {time_name} {shown!r} is not a time; write 2026-11-22T10:00:00Z, unix seconds or seconds from the start"
        )
    if len(bad):
        problems.append(f"{len(bad)} rows without a readable {time_name} left out, the first in line {bad[0]}")
    values = pd.to_numeric(table[count_name], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan).copy()
    usable = np.isfinite(values) & (values >= 0)
    if not usable.any():
        shown = table[count_name].iloc[0] if len(table) else ""
        raise TraceError(f"{path}:2: {count_name} {shown!r} is not a count; no row of the column holds a number of zero or more")
    if not usable.all():
        first = table.index[~usable][0]
        problems.append(f"{int((~usable).sum())} values of {count_name} missing, negative or not a number, the first in line {first}")
    values[~usable] = np.nan
    keep = np.isfinite(times)
    return times[keep], values[keep]


def _unix_seconds(column: pd.Series) -> Array:
    """Return unix seconds, NaN where a time cannot be read."""
    import pandas as pd

    numbers = pd.to_numeric(column, errors="coerce") if not pd.api.types.is_datetime64_any_dtype(column) else pd.Series(dtype=float)
    if numbers.notna().mean() > 0.5:
        seconds = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
        largest = np.nanmax(np.abs(seconds))
        if largest < _LARGEST_OFFSET_SECONDS:
            return np.asarray(seconds + UNDATED_START_UNIX)
        return np.asarray(seconds / 1000.0 if largest > _MILLISECONDS_FROM else seconds)
    stamps = pd.to_datetime(
        column,
        utc=True,
        errors="coerce",
        format=None if pd.api.types.is_datetime64_any_dtype(column) else "ISO8601",
    )
    return np.asarray((stamps - pd.Timestamp(0, tz="UTC")).dt.total_seconds(), dtype=np.float64)


def in_order(times: Array, values: Array, problems: list[str]) -> tuple[Array, Array]:
    """Sort by time and keep the first row of each time."""
    backwards = int((np.diff(times) < 0).sum())
    if backwards:
        problems.append(f"times run backwards {backwards} times; sorted")
    order = np.argsort(times, kind="stable")
    times, values = times[order], values[order]
    first = np.concatenate(([True], np.diff(times) > 0))
    if not first.all():
        problems.append(f"{int((~first).sum())} repeated times; the first of each is kept")
    return times[first], values[first]


def step_of(times: Array, path: Path) -> float:
    """Return the most frequent gap between rows, seconds."""
    if len(times) < 2:
        raise TraceError(f"{path}: {len(times)} usable rows; a trace needs two at the least, to know its step")
    gaps, counts = np.unique(np.round(np.diff(times), 3), return_counts=True)
    return float(gaps[np.argmax(counts)])


def on_grid(times: Array, values: Array, step: float, path: Path, problems: list[str]) -> tuple[Array, Array]:
    """Put rows on the regular grid from the first time on; missing intervals are NaN."""
    slots = np.round((times - times[0]) / step).astype(np.int64)
    rows = int(slots[-1]) + 1
    if rows > MAX_GRID_ROWS or rows > 100 * len(times):
        raise TraceError(f"{path}: {len(times)} rows {step:g} s apart would span {rows} intervals; is one of the times wrong?")
    slots, first = np.unique(slots, return_index=True)
    if len(slots) < len(times):
        problems.append(f"{len(times) - len(slots)} rows fall into an interval of {step:g} s that has one already; the first is kept")
    grid = np.full(rows, np.nan)
    grid[slots] = values[first]
    if rows > len(slots):
        missing = np.setdiff1d(np.arange(rows), slots)
        problems.append(f"{len(missing)} intervals are missing and stay unknown, the first {int(missing[0]) * step:g} s after the start")
    return times[0] + step * np.arange(rows, dtype=np.float64), grid
