"""How far off aiconfigurator's estimates are where the same replica was measured, at the same number of requests: throughput and latencies.

Run `python benchmarks/profile_estimates.py [--most 12] [--model llama]`, with the extra installed and the measured profiles in
$TIDEGATE_DATA. Modelled is what `tidegate profile estimate` would write for the same model, engine, GPUs, precision and shape. With
`--memory`, which needs no extra: how often a replica held more requests than the memory fit reckons with. It asserts nothing.
"""

import argparse
import csv
import os
from collections import defaultdict
from statistics import median

from controlplane.contracts.errors import TidegateError
from controlplane.studies.estimate import ENGINES, SYSTEMS, Case, estimate
from controlplane.traces.library import data_folders
from policies.fit import BYTES_PER_PARAMETER, Load, reckon

Replica = tuple[str, str, str, str, int]
Figures = tuple[float, float, float]
SHAPE = 1024


def rows() -> list[dict[str, str]]:
    """Return the measured operating points that are not past saturation."""
    path = next(file for folder in data_folders(os.environ) if (file := folder / "serving_profiles" / "measured_profiles.csv").exists())
    return [row for row in csv.DictReader(path.open(newline="")) if row["queueing"] == "0" and row["concurrency"]]


def memory_fit() -> str:
    """Set the requests that replicas held, at their mean length, against those that the memory fit says they can hold."""
    beyond: dict[str, int] = defaultdict(int)
    known = 0
    for row in rows():
        load = Load(row["model"], float(row["isl"]) + float(row["osl"]) / 2.0, float(row["concurrency"]), row["precision"] or None)
        fit = reckon(load, row["gpu"], int(row["gpus_per_replica"]))
        known += fit is not None
        if fit is not None and not fit.holds:
            beyond[row["model"]] += 1
    held = ", ".join(f"{count} of {model}" for model, count in sorted(beyond.items()))
    return f"{known} points of known models; {sum(beyond.values())} hold more requests than is reckoned with: {held}"


def measured() -> dict[Replica, dict[int, Figures]]:
    """Return output tokens per second, TTFT and ITL in ms by concurrency, of each replica measured at 1024 tokens in and out."""
    newest: dict[Replica, dict[int, tuple[str, Figures]]] = defaultdict(dict)
    for row in rows():
        known = row["gpu"] in SYSTEMS and row["engine"] in ENGINES and row["precision"] in BYTES_PER_PARAMETER
        if not known or (row["isl"], row["osl"]) != (str(SHAPE), str(SHAPE)) or not row["itl_ms"]:
            continue
        replica = (row["model"], row["engine"], row["gpu"], row["precision"], int(row["gpus_per_replica"]))
        at = newest[replica].setdefault(int(row["concurrency"]), ("", (0.0, 0.0, 0.0)))
        figures = (float(row["output_tok_s"]), float(row["ttft_ms"]), float(row["itl_ms"]))
        newest[replica][int(row["concurrency"])] = max(at, (row["measured_at"], figures))
    return {replica: {requests: figures for requests, (_, figures) in points.items()} for replica, points in newest.items()}


def ratios(replica: Replica, points: dict[int, Figures]) -> tuple[str, list[Figures]]:
    """Return the layout that was modelled, and modelled over measured throughput, TTFT and ITL at each concurrency."""
    model, engine, gpu, precision, gpus = replica
    found = estimate(Case(model, gpu, gpus, engine, SHAPE, SHAPE, precision, concurrencies=tuple(sorted(points))))
    compared = [(point, points[point.concurrency]) for point in found.points]
    return found.layout, [
        (point.output_tokens_per_second / at[0], point.ttft_ms / at[1], point.itl_ms / at[2]) for point, at in compared
    ]  # fmt: skip


def main() -> None:
    """Compare, and print a line per replica."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--most", type=int, default=12, help="replicas, spread over those measured")
    words.add_argument("--model", default="", help="only models whose name contains this")
    words.add_argument("--memory", action="store_true", help="only the memory fit")
    said = words.parse_args()
    if said.memory:
        print(memory_fit())
        return
    replicas = sorted(item for item in measured().items() if said.model.lower() in item[0][0].lower())
    every: list[Figures] = []
    for replica, points in replicas[:: max(len(replicas) // said.most, 1)]:
        model, engine, gpu, precision, gpus = replica
        what = f"{model}, {engine}, {gpus} x {gpu}, {precision}"
        try:
            layout, found = ratios(replica, points)
        except TidegateError as error:
            print(f"{what}: not modelled: {str(error)[:200]}", flush=True)
            continue
        every += found
        print(f"{what}, {layout}: {text(found)}", flush=True)
    print(f"all: {text(every)}" if every else "nothing was modelled")


def text(found: list[Figures]) -> str:
    """Return the median ratios, and the range of each."""
    parts = zip(("throughput", "TTFT", "ITL"), zip(*found, strict=True), strict=True)
    return f"{len(found)} points, " + ", ".join(f"{name} {median(part):.2f} ({min(part):.2f}–{max(part):.2f})" for name, part in parts)


if __name__ == "__main__":
    main()
