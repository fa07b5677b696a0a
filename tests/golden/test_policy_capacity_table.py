"""The built-in capacity table against the measurements it was taken from, where those are at hand."""

import csv
import math
from collections import defaultdict
from pathlib import Path

import pytest

from policies.capacity import Point, Profile, profiles

Key = tuple[str, str, str, str, str, str, str]


def measured(path: Path) -> dict[Key, list[dict[str, str]]]:
    """Return the rows that are not saturated, by model, engine, GPU, precision, GPUs per replica, input and output tokens."""
    rows: dict[Key, list[dict[str, str]]] = defaultdict(list)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["queueing"] == "0" and row["ttft_ms"] and row["itl_ms"]:
                rows[
                    (
                        row["model"],
                        row["engine"],
                        row["gpu"],
                        row["precision"] or "unstated",
                        row["gpus_per_replica"],
                        row["isl"],
                        row["osl"],
                    )
                ].append(row)
    return rows


def is_of(point: Point, profile: Profile, row: dict[str, str]) -> bool:
    """Whether a point is this measurement: throughput rounded to 1 token/s, latencies rounded up."""
    itl = float(row["itl_ms"])
    itl_ms = math.ceil(itl) if itl >= 10 else math.ceil(itl * 10) / 10
    return (
        round(float(row["output_tok_s"])) == point.output_tokens_per_second
        and math.ceil(float(row["ttft_ms"])) == round(point.ttft_seconds * 1000)
        and abs(itl_ms - point.itl_seconds * 1000) < 1e-6
        and (row["measured_at"] or "undated") == profile.measured
    )


@pytest.mark.needs("measured profiles")
def test_every_point_of_the_table_was_measured_and_is_the_newest(measured_profiles: Path) -> None:
    rows = measured(measured_profiles)
    wrong = []
    for profile in profiles():
        key = (profile.model, profile.engine, profile.accelerator, profile.precision, str(profile.per_replica))
        of_profile = rows[(*key, str(profile.input_tokens), str(profile.output_tokens))]
        for point in profile.points:
            matches = [row for row in of_profile if is_of(point, profile, row)]
            repeats = [row for row in of_profile if any(row["concurrency"] == match["concurrency"] for match in matches)]
            if not matches or any(row["measured_at"] > profile.measured for row in repeats):
                wrong.append((profile, point))
    assert wrong == []
