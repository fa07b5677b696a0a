"""A user's own serving profiles: a CSV of measured operating points → the rows that `policies.capacity` looks up before the built-in ones.

Owns the columns, which are those of common benchmark tables, and what is wrong with a line; it must not read files.
"""

import csv
from collections.abc import Mapping
from math import isfinite

from controlplane.contracts.errors import PolicyError
from policies.capacity import Point, Profile

TEXTS = ("model", "engine", "gpu")
NUMBERS = ("gpus_per_replica", "isl", "osl", "output_tok_s", "ttft_ms", "itl_ms")
COUNTS = ("gpus_per_replica", "isl", "osl")
MOST_ROWS = 100_000
_Key = tuple[str, str, str, str, str, int, int, int, str, str]


def read_profiles(text: str, name: str) -> tuple[Profile, ...]:
    """Return the profiles of a CSV text; PolicyError names the file's lines that cannot be used.

    Columns: model, engine, gpu, gpus_per_replica, isl and osl (tokens in and out), output_tok_s of one replica, ttft_ms, itl_ms; and where
    they are known precision, engine_version, measured_at, source, and queueing (1: past saturation, left out). Others are ignored.
    """
    rows = csv.DictReader(text.splitlines())
    missing = [column for column in (*TEXTS, *NUMBERS) if column not in (rows.fieldnames or ())]
    if missing:
        raise PolicyError(f"{name}: has no column {', '.join(missing)}; a profile file has {', '.join((*TEXTS, *NUMBERS))}")
    found: dict[_Key, list[Point]] = {}
    problems: list[str] = []
    for line, row in enumerate(rows, start=2):
        if line > MOST_ROWS:
            raise PolicyError(f"{name}: more than {MOST_ROWS} lines; keep the operating points that matter")
        if (row.get("queueing") or "").strip() in ("1", "true"):
            continue
        read = _read(row)
        if isinstance(read, str):
            problems.append(f"{name}:{line}: {read}")
        else:
            found.setdefault(read[0], []).append(read[1])
    if problems:
        raise PolicyError("\n".join(problems[:20]))
    by_throughput = {key: tuple(sorted(points, key=lambda point: point.output_tokens_per_second)) for key, points in found.items()}
    return tuple(_profile(key, points) for key, points in by_throughput.items())


def _read(row: Mapping[str, str | None]) -> tuple[_Key, Point] | str:
    """Return the configuration and the point of one line, or what is wrong with it."""
    texts = {column: (row.get(column) or "").strip() for column in (*TEXTS, "precision", "engine_version", "measured_at", "source")}
    empty = [column for column in TEXTS if not texts[column]]
    if empty:
        return f"{', '.join(empty)} is empty"
    figures: dict[str, float] = {}
    for column in NUMBERS:
        try:
            figures[column] = float(row.get(column) or "")
        except ValueError:
            return f"{column} is not a number: {row.get(column)!r}"
        if not (isfinite(figures[column]) and figures[column] > 0.0):
            return f"{column} must be more than 0, not {row.get(column)!r}"
        if column in COUNTS and figures[column] < 1.0:
            return f"{column} must be at least 1, not {row.get(column)!r}"
    key = (
        texts["model"], texts["engine"].lower(), texts["engine_version"] or "-", texts["gpu"].upper(), texts["precision"].lower(),
        int(figures["gpus_per_replica"]), int(figures["isl"]), int(figures["osl"]), texts["measured_at"] or "undated", texts["source"],
    )  # fmt: skip
    return key, Point(figures["output_tok_s"], figures["ttft_ms"] / 1000.0, figures["itl_ms"] / 1000.0)


def _profile(key: _Key, points: tuple[Point, ...]) -> Profile:
    model, engine, version, gpu, precision, per_replica, isl, osl, measured, source = key
    return Profile(
        model, engine, version, gpu, precision or "unstated", per_replica, isl, osl, measured, points, source or "your own profile file"
    )
