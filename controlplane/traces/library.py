"""Demand traces: find them on this machine, list them with source and licence, read one onto a regular grid.

Owns the names, the folders and the `Trace` itself; it must not read the environment (folders are an argument) or change what was
measured. `traces.reading` cleans a table's rows, `traces.catalog` knows the public files, `traces.waves` makes synthetic ones.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import platformdirs
from numpy.typing import NDArray

from controlplane.contracts.errors import TraceError
from controlplane.traces.catalog import KNOWN_FILES, KnownFile
from controlplane.traces.reading import (
    SUFFIXES,
    UNDATED_START_UNIX,
    clean_rows,
    first_numeric,
    first_of,
    in_order,
    load,
    on_grid,
    pick_series,
    stem_of,
    step_of,
)

Array = NDArray[np.float64]

TIME_COLUMNS = ("timestamp", "time", "t_s", "date", "datetime")
COUNT_COLUMNS = ("requests", "new_users", "mentions", "passengers", "count", "value")
RATE_SUFFIX = "_per_second"

__all__ = ["UNDATED_START_UNIX", "Array", "Trace", "TraceInfo", "data_folders", "find_trace", "list_traces", "read_trace"]


@dataclass(frozen=True, slots=True)
class Trace:
    """Offered work on a regular grid: `demand_per_second[i]` is the mean over the interval that *ends* at `time_unix[i]`.

    Files state where an interval starts; an observation is made at its end, so the end is what is kept here. NaN is not known.
    """

    name: str
    time_unix: Array
    step_seconds: float
    demand_per_second: Array
    synthetic: bool = False
    problems: tuple[str, ...] = ()

    @property
    def start_unix(self) -> float:
        """Where the first interval starts."""
        return float(self.time_unix[0]) - self.step_seconds

    @property
    def span_seconds(self) -> float:
        """Length of the whole trace."""
        return len(self.time_unix) * self.step_seconds


@dataclass(frozen=True, slots=True)
class TraceInfo:
    """One line of `tidegate traces`. `path` and `sha256` are None where the file is not on this machine; `url` says where it is from."""

    name: str
    file: str
    kind: str
    rows: int | None
    step_seconds: float | None
    span_seconds: float | None
    columns: tuple[str, ...]
    series: tuple[str, ...]
    source: str
    url: str
    licence: str
    note: str
    path: Path | None
    sha256: str | None

    @property
    def present(self) -> bool:
        """Whether the file is on this machine."""
        return self.path is not None


def data_folders(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Return where data is looked for: $TIDEGATE_DATA alone if set, else the user's folder, then ../shared/data beside the checkout."""
    stated = environ.get("TIDEGATE_DATA", "").strip()
    if stated:
        return (Path(stated).expanduser(),)
    return (
        Path(platformdirs.user_data_dir("tidegate")),
        Path(__file__).resolve().parents[3] / "shared" / "data",
    )


def list_traces(folders: tuple[Path, ...]) -> tuple[TraceInfo, ...]:
    """Return the known files, here or not, then the traces of the user's own in the same folders."""
    known = tuple(_known_info(entry, _first_existing(entry, folders)) for entry in KNOWN_FILES)
    taken = {info.path for info in known} | {folder / entry.file for folder in folders for entry in KNOWN_FILES}
    return known + tuple(_own_info(path, folder) for folder, path in _own_files(folders) if path not in taken)


def find_trace(name_or_path: str, folders: tuple[Path, ...]) -> Path:
    """Return the file of a trace named in full, by a unique beginning of its name, or by its path; TraceError names the choices."""
    asked = Path(name_or_path).expanduser()
    if asked.is_file():
        return asked
    known = {entry.name: _first_existing(entry, folders) for entry in KNOWN_FILES if entry.kind == "trace"}
    here = {name: path for name, path in known.items() if path} | {stem_of(path): path for _, path in _own_files(folders)}
    matches = [name_or_path] if name_or_path in here else [name for name in here if name.startswith(name_or_path)]
    if len(matches) == 1:
        return here[matches[0]]
    looked = ", ".join(str(folder) for folder in folders)
    choice = (
        f"; {'it could be' if matches else 'there are'}: {', '.join(matches or here)}"
        if here
        else "; `tidegate traces` says where to get them"
    )
    raise TraceError(f"no trace {name_or_path!r}: neither a file nor a name known in {looked}{choice}")


def read_trace(
    name_or_path: str,
    folders: tuple[Path, ...] = (),
    *,
    column: str | None = None,
    time_column: str | None = None,
    scale: float = 1.0,
) -> Trace:
    """Read a trace by name or path; `name#SERIES` picks one of several series in a file.

    A count column is divided by the step; a column named `…_per_second` is taken as it is. Times are where intervals start:
    RFC 3339 (UTC where no zone is given), unix seconds or milliseconds, or seconds from the start. Bad rows become problems.
    """
    name, _, series = name_or_path.partition("#")
    path = find_trace(name, folders)
    table = pick_series(load(path), path, series)
    time_name = time_column or first_of(TIME_COLUMNS, table)
    count_name = column or first_of(COUNT_COLUMNS, table) or first_numeric(table, (time_name,))
    for wanted, what in ((time_name, "time"), (count_name, "demand")):
        if wanted is None or wanted not in table.columns:
            asked = f" {wanted!r}" if wanted else ""
            known = f"one is known by its name ({', '.join(TIME_COLUMNS)})" if what == "time" else "name the one to read with --column"
            raise TraceError(f"{path}:1: no {what} column{asked} among {', '.join(map(str, table.columns))}; {known}")
    assert time_name is not None
    assert count_name is not None
    problems: list[str] = []
    starts, values = clean_rows(table, time_name, count_name, path, problems)
    starts, values = in_order(starts, values, problems)
    step = step_of(starts, path)
    starts, values = on_grid(starts, values, step, path, problems)
    rate = values * scale if count_name.endswith(RATE_SUFFIX) else values * (scale / step)
    label = stem_of(path) + (f"#{series}" if series else "")
    return Trace(label, starts + step, step, rate, False, tuple(problems))


def _first_existing(entry: KnownFile, folders: tuple[Path, ...]) -> Path | None:
    return next(
        (folder / entry.file for folder in folders if (folder / entry.file).is_file()),
        None,
    )


def _own_files(folders: tuple[Path, ...]) -> Iterator[tuple[Path, Path]]:
    for folder in folders:
        for where in (
            folder,
            *(folder / name for name in ("llm_traces", "web_traces", "spikes", "traces")),
        ):
            if where.is_dir():
                yield from ((folder, path) for path in sorted(where.iterdir()) if path.name.endswith(SUFFIXES))


def _known_info(entry: KnownFile, path: Path | None) -> TraceInfo:
    digest = sha256(path.read_bytes()).hexdigest() if path else None
    return TraceInfo(
        entry.name, entry.file, entry.kind, entry.rows or None, entry.step_seconds, entry.span_seconds, entry.columns, entry.series,
        str(entry.source), entry.source.url, entry.source.licence, entry.note, path, digest,
    )  # fmt: skip


def _own_info(path: Path, folder: Path) -> TraceInfo:
    digest = sha256(path.read_bytes()).hexdigest()
    file = str(path.relative_to(folder))
    return TraceInfo(
        stem_of(path),
        file,
        "trace",
        None,
        None,
        None,
        (),
        (),
        "your own file",
        "",
        "",
        "",
        path,
        digest,
    )
