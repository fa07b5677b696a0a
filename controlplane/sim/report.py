"""What a run is shown as: a summary table for the terminal, and the plain data of an HTML report.

Owns the `Report`, which the simulation and the demo both fill, and how run results become one; it must not draw.
`controlplane.sim.report_html` turns a report into one self-contained page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from rich.table import Table as RichTable
from rich.text import Text

from controlplane.contracts.events import Reason
from controlplane.contracts.frame import DecisionLine
from controlplane.contracts.reasons import REASON_WORDS
from controlplane.contracts.units import format_duration, from_unix
from controlplane.sim.run import RunResult
from controlplane.traces.library import Array

MAX_POINTS = 1500
MAX_DECISIONS = 300


@dataclass(frozen=True, slots=True)
class Timeline:
    """What happened, by time: f64[n] each, work per second; an empty array is left out of the plots.

    `band_low` and `band_high` are the forecast's quantiles for that very time, made earlier; `band_name` says which and how much earlier.
    """

    time_unix: Array
    demand_per_second: Array
    floor_per_second: Array
    burst_per_second: Array
    spilled_per_second: Array
    backlog: Array
    band_low: Array = field(default_factory=lambda: np.empty(0))
    band_high: Array = field(default_factory=lambda: np.empty(0))
    band_name: str = "forecast"


@dataclass(frozen=True, slots=True)
class Table:
    """A table of text; the columns named in `numeric` are set right-aligned."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """One page: title, key figures (label, value, remark), a timeline, cumulative cost by name in USD, and tables."""

    title: str
    subtitle: str
    key_figures: tuple[tuple[str, str, str], ...]
    timeline: Timeline
    cost_time_unix: Array
    cost_usd: Mapping[str, Array]
    tables: tuple[Table, ...]
    unit: str = "work"
    synthetic: bool = False
    notes: tuple[str, ...] = ()


SUMMARY_COLUMNS = (
    "autoscaler", "cost USD", "vs first", "within SLO", "late", "spilled",
    "floor USD", "burst USD", "spill USD", "GPU-hours", "changes/day",
)  # fmt: skip
PLOTTED_MULTIPLE = 2.5  # dearer comparisons stay in the table and out of the cost plot, where they would flatten all others


def summary_rows(results: Sequence[RunResult]) -> tuple[tuple[str, ...], ...]:
    """Return one row of text per result; `vs first` is its cost over the first result's."""
    first = results[0].cost_usd or float("nan")
    return tuple(
        (
            result.name,
            f"{result.cost_usd:,.0f}",
            f"{result.cost_usd / first:.2f}×",
            percent(result.attainment),
            percent(result.late / result.offered if result.offered else 0.0),
            percent(result.spilled / result.offered if result.offered else 0.0),
            *(f"{result.cost_usd_by_tier.get(tier, 0.0):,.0f}" for tier in ("floor", "burst", "spill")),
            f"{result.gpu_hours:,.0f}",
            f"{result.scale_events_per_day:,.0f}",
        )
        for result in results
    )


def percent(share: float) -> str:
    """Print a share so that 0.9995 and 1 are told apart: `99.95 %`."""
    text = f"{100 * share:.2f}"
    return "<0.01 %" if text == "0.00" and share > 0 else f"{'>99.99' if text == '100.00' and share < 1 else text} %"


def four_digits(value: float) -> str:
    """Print a figure of any size to four digits, a large one in full: `0.385`, `106.8`, `39,170`, never `3.917e+04`."""
    return f"{value:,.4g}" if abs(value) < 9999.5 else f"{value:,.0f}"


def summary_table(results: Sequence[RunResult], attainment: float | None = None) -> RichTable:
    """Return the comparison for a terminal; an attainment below the policy's is red."""
    title = f"{results[0].workload} · {format_duration(round(results[0].seconds))}" + (" · synthetic" if results[0].synthetic else "")
    table = RichTable(title=title, title_justify="left", header_style="bold")
    for column in SUMMARY_COLUMNS:
        table.add_column(column, justify="left" if column == "autoscaler" else "right", no_wrap=True)
    for result, row in zip(results, summary_rows(results), strict=True):
        missed = attainment is not None and result.attainment < attainment
        cells = [Text(text, style="red" if missed and at == 3 else "") for at, text in enumerate(row)]
        table.add_row(*cells, style="bold" if result is results[0] else "")
    return table


def report_of(
    results: Sequence[RunResult], *, title: str, unit: str = "work", attainment: float | None = None, notes: tuple[str, ...] = (),
    band: tuple[Array, Array, str] | None = None,
) -> Report:  # fmt: skip
    """Return the report of a run (the first result) beside what it is compared with. `band` is (low, high, name) by decision interval."""
    main = results[0]
    steps = main.steps
    low, high, band_name = band if band is not None else (np.empty(0), np.empty(0), "forecast")
    timeline = Timeline(
        time_unix=_thin(steps.time_unix),
        demand_per_second=_thin(steps.demand_per_second),
        floor_per_second=_thin(steps.floor_per_second),
        burst_per_second=_thin(steps.burst_per_second),
        spilled_per_second=_thin(steps.spilled_per_second),
        backlog=_thin(steps.backlog),
        band_low=_thin(low),
        band_high=_thin(high),
        band_name=band_name,
    )
    summary = Table("Compared on the same work", SUMMARY_COLUMNS, summary_rows(results), SUMMARY_COLUMNS[1:], _summary_note(attainment))
    tables = (summary, decisions_table(main.lines), reasons_table(main.lines)) if main.lines else (summary,)
    begun, ended = (from_unix(at).strftime("%Y-%m-%d %H:%M") for at in (steps.time_unix[0], steps.time_unix[-1]))
    return Report(
        title=title,
        subtitle=f"fleet {main.fleet} · {main.workload} · {begun} – {ended} UTC",
        key_figures=key_figures(results, attainment),
        timeline=timeline,
        cost_time_unix=timeline.time_unix,
        cost_usd={result.name: _thin(result.steps.cost_usd) for result in results if result.cost_usd <= PLOTTED_MULTIPLE * main.cost_usd},
        tables=tables,
        unit=unit,
        synthetic=main.synthetic,
        notes=notes,
    )


def key_figures(results: Sequence[RunResult], attainment: float | None) -> tuple[tuple[str, str, str], ...]:
    """Return the four figures at the head of a page."""
    main = results[0]
    figures = [
        ("Cost", f"${main.cost_usd:,.0f}", "floor, burst and spill together"),
        ("Within the SLO", percent(main.attainment), f"policy asks for {percent(attainment)}" if attainment is not None else ""),
        ("Spilled", percent(main.spilled / main.offered if main.offered else 0.0), f"${main.cost_usd_by_tier.get('spill', 0.0):,.0f}"),
    ]
    for other in results[1:2]:
        saved = 1.0 - main.cost_usd / other.cost_usd if other.cost_usd else 0.0
        word = "less" if saved >= 0 else "more"
        figures.append((f"Against {other.name}", f"{abs(saved):.0%} {word}", f"which kept {percent(other.attainment)} within the SLO"))
    return tuple(figures)


def decisions_table(lines: Sequence[DecisionLine]) -> Table:
    """Return the decisions that changed a target, the newest of them if there are many, with their reasons."""
    changed = [line for before, line in zip((None, *lines), lines, strict=False) if before is None or before.targets != line.targets]
    shown = changed[-MAX_DECISIONS:]
    rows = tuple(
        (
            line.time.strftime("%m-%d %H:%M:%S"),
            ", ".join(f"{offer} {count}" for offer, count in line.targets.items()),
            f"{line.spill_per_second:,.1f}" if line.spill_per_second < 1e9 else "no limit",
            ", ".join(line.reasons),
        )
        for line in shown
    )
    note = f"{len(lines):,} decisions, {len(changed):,} of which changed a target; the last {len(shown):,} of these are shown."
    return Table("Decisions and their reasons", ("time UTC", "targets", "spill allowed /s", "reasons"), rows, ("spill allowed /s",), note)


def reasons_table(lines: Sequence[DecisionLine]) -> Table:
    """Return what the reasons that were given mean."""
    given = sorted({reason for line in lines for reason in line.reasons})
    return Table("What the reasons mean", ("reason", "in words"), tuple((reason, REASON_WORDS[Reason(reason)]) for reason in given))


def _summary_note(attainment: float | None) -> str:
    goal = f" The policy asks for {percent(attainment)} within the SLO." if attainment is not None else ""
    return f"Spilled work counts as served within the SLO. The floor is paid used or not.{goal}"


def _thin(values: Array) -> Array:
    """Keep every k-th value, the last one too, so that a page stays light."""
    stride = max(1, -(-len(values) // MAX_POINTS))
    if stride == 1:
        return values
    kept = np.arange(stride - 1, len(values), stride)
    return values[np.append(kept, len(values) - 1) if kept[-1] != len(values) - 1 else kept]
