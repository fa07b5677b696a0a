"""The body of `tidegate floor`: how many replicas to reserve, for which term, and what it saves, from a history of demand.

Owns options, where the history comes from (a trace, or the policy's own Prometheus) and the output; `controlplane.studies.floor_sizing` has
the sums.
"""

import asyncio
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from controlplane.clocks import SystemClock
from controlplane.collectors.api import SourceError
from controlplane.collectors.prometheus import PrometheusSource
from controlplane.commands.destination import json_text, require_writable
from controlplane.commands.simulate import SYNTHETIC, synthetic_mean
from controlplane.config import environment_variables, load_fleets
from controlplane.contracts.errors import PolicyError, TidegateError, TraceError
from controlplane.contracts.events import Observation
from controlplane.contracts.fleet import Fleet
from controlplane.contracts.units import format_duration, parse_duration
from controlplane.serve import fleet_named
from controlplane.sim.report import four_digits, percent
from controlplane.studies.floor_page import CHOICE_COLUMNS, choice_rows, write_floor_page
from controlplane.studies.floor_sizing import Sizing, read_term, size
from controlplane.traces.library import Trace, data_folders, read_trace
from controlplane.traces.waves import synthetic_trace

WIDE = 150


@dataclass(frozen=True, slots=True)
class FloorOptions:
    """What the command line said. `history` is how far back the policy's own Prometheus is read where no trace is named."""

    policy: Path
    fleet: str | None = None
    trace: str | None = None
    column: str | None = None
    scale: float = 1.0
    history: str = "28d"
    terms: tuple[str, ...] = ()
    offer: str | None = None
    report: Path | None = None
    as_json: bool = False


def size_a_floor(options: FloorOptions) -> int:
    """Read, size, print, write the page; return the exit code."""
    fleet = fleet_named(load_fleets([options.policy]), options.fleet)
    require_writable("--report", options.report)
    terms = [read_term(text) for text in options.terms]
    trace, aside = history_of(fleet, options), Console(stderr=True)
    if not np.isfinite(trace.demand_per_second).any():
        raise TraceError(f"{trace.name}: no row holds a usable demand")
    for problem in trace.problems:
        aside.print(f"{trace.name}: {problem}", markup=False, highlight=False, soft_wrap=True)
    sizing = size(fleet, trace, options.scale, terms, options.offer)
    if options.as_json:
        sys.stdout.write(json_text(as_data(sizing)))
    else:
        _print(sizing, options.scale)
    if options.report is not None:
        write_floor_page(sizing, options.report)
        aside.print(f"report: {options.report}", markup=False, highlight=False, soft_wrap=True)
    return 0


def history_of(fleet: Fleet, options: FloorOptions) -> Trace:
    """Return the trace that was asked for, else the one that the policy replays, else what its Prometheus remembers."""
    source = fleet.demand_source
    if options.trace is None and source.get("kind") == "prometheus":
        return _from_prometheus(fleet, options.history)
    if options.trace == SYNTHETIC:
        return synthetic_trace(0, mean_per_second=synthetic_mean(fleet))
    name = options.trace or (str(source["trace"]) if source.get("kind") == "replay" else None)
    if name is None:
        raise PolicyError(
            f"fleet {fleet.name} has no Prometheus and replays no trace: give --trace a CSV file, a trace's name or synthetic"
        )
    column = options.column or (str(source["column"]) if options.trace is None and source.get("column") else None)
    return read_trace(name, data_folders(environment_variables()), column=column)


def _from_prometheus(fleet: Fleet, history: str) -> Trace:
    try:
        seconds = parse_duration(history)
    except ValueError as error:
        raise TidegateError(f"--history {history}: {error}") from None
    return trace_of(f"Prometheus of {fleet.name}", asyncio.run(_read_history(fleet, SystemClock().now(), seconds)))


async def _read_history(fleet: Fleet, now: float, seconds: float) -> list[Observation]:
    source = PrometheusSource(fleet)
    try:
        return [seen async for _, chunk in source.history(now - seconds, now) for seen in chunk]
    except SourceError as error:
        raise TidegateError(f"the history of {fleet.name} cannot be read; start its Prometheus or give --trace: {error}") from error
    finally:
        await source.close()


def trace_of(name: str, seen: list[Observation]) -> Trace:
    """Return observations of different intervals on one grid, that of the longest interval; what nobody saw is NaN."""
    known = [one for one in seen if one.demand_per_second is not None]
    if not known:
        raise TraceError(f"{name}: it remembers no demand of that time")
    step = max(one.interval_seconds or 1.0 for one in known)
    ends = np.array([one.time.timestamp() for one in known], dtype=np.float64)
    weight = np.array([one.interval_seconds or 1.0 for one in known], dtype=np.float64)
    cell = np.ceil((ends - ends.min()) / step - 1e-9).astype(int)
    total = np.bincount(cell, weight)
    work = np.bincount(cell, weight * np.array([one.demand_per_second for one in known], dtype=float))
    mean = np.where(total > 0.0, work / np.maximum(total, 1e-9), np.nan).astype(np.float64)
    return Trace(name, float(ends.min()) + step * np.arange(len(total), dtype=np.float64), step, mean)


def _print(sizing: Sizing, scale: float) -> None:
    shown = Console(width=None if sys.stdout.isatty() else WIDE)
    trace, rented = sizing.trace, sizing.rented
    mean = float(np.nanmean(trace.demand_per_second)) * scale
    instead = f"rented as {rented.name}" if rented is not None else "never rented"
    instead += f" or spilled to {sizing.fleet.spill.name}" if sizing.fleet.spill is not None else ""
    shown.print(
        f"{trace.name}: {format_duration(round(trace.span_seconds))}, {four_digits(mean)} {sizing.fleet.unit.value}/s on average; "
        f"what is not reserved of {sizing.reserved.name} is {instead}; the floor is {sizing.held * sizing.lot} replicas now",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    table = Table(
        header_style="bold", caption="range: from week to week of the history, or day to day; savings are against reserving nothing"
    )
    for column in CHOICE_COLUMNS:
        table.add_column(column, justify="left" if column == "term" else "right", no_wrap=True)
    for row in choice_rows(sizing):
        table.add_row(*row)
    shown.print(table)
    shown.print(_margin(sizing), markup=False, highlight=False, soft_wrap=True)


def _margin(sizing: Sizing) -> str:
    """Return in one line why not one lot less or more."""
    use, best = sizing.use, sizing.best
    parts = []
    for word, layer in (("last lot reserved", best.replicas - 1), ("next lot", best.replicas)):
        if 0 <= layer < len(use.used):
            parts.append(
                f"the {word} is needed {percent(float(use.needed[layer]))} of the time, {use.usd_per_hour[layer]:,.2f} USD/h if not owned"
            )
    return f"{best.term.name}: " + "; ".join(parts) + f"; break-even is {best.term.usd_per_replica_hour:,.2f} USD/h"


def as_data(sizing: Sizing) -> dict[str, object]:
    """Return the answer as plain data, counts in replicas."""
    lot = sizing.lot
    return {
        "fleet": sizing.fleet.name,
        "offer": sizing.reserved.name,
        "floor_replicas_now": sizing.held * lot,
        "choices": [
            asdict(choice)
            | {
                "term": asdict(choice.term) | {"usd_per_replica_hour": choice.term.usd_per_replica_hour / lot},
                "replicas": choice.replicas * lot,
                "replicas_low": choice.replicas_low * lot,
                "replicas_high": choice.replicas_high * lot,
                "saving_usd": choice.saving_usd,
            }
            for choice in sizing.choices
        ],
        "layers": [
            {"replicas": (layer + 1) * lot, "needed": needed, "used": used, "usd_per_hour": usd}
            for layer, (needed, used, usd) in enumerate(
                zip(sizing.use.needed.tolist(), sizing.use.used.tolist(), sizing.use.usd_per_hour.tolist(), strict=True)
            )
        ],
    }
