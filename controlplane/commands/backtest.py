"""The body of `tidegate backtest`: traces in, progress bar, table, and a page of plots.

Owns options and output; `controlplane.studies.backtest` does the work. It must not read the environment itself beyond the trace folders.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import available_timezones

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from controlplane.commands.destination import json_text, require_writable
from controlplane.config import environment_variables, load_fleets
from controlplane.contracts.errors import TraceError
from controlplane.contracts.fleet import ForecastSettings
from controlplane.serve import fleet_named
from controlplane.studies.backtest import HEADINGS, LEGEND, QUANTILES, Backtest, horizons_for, run, table_rows
from controlplane.traces.library import Array, Trace, data_folders, read_trace

WIDE = 220


@dataclass(frozen=True, slots=True)
class BacktestOptions:
    """What the command line said. `step_seconds` averages a finer trace; `peers` are among `backtest_peers.PEERS`."""

    traces: tuple[str, ...]
    policy: Path | None = None
    fleet: str | None = None
    column: str | None = None
    time_column: str | None = None
    time_zone: str | None = None
    lead_time_seconds: float | None = None
    step_seconds: float | None = None
    peers: tuple[str, ...] = ()
    report: Path | None = None
    as_json: bool = False


def backtest_traces(options: BacktestOptions) -> int:
    """Run every trace, print the table, write the page; return the exit code."""
    require_writable("--report", options.report)
    settings = _settings(options)
    if options.peers:
        from controlplane.studies.backtest_peers import require_known

        require_known(options.peers)
    horizons = horizons_for(options.lead_time_seconds)
    folders = data_folders(environment_variables())
    aside = Console(stderr=True)
    results = []
    for name in options.traces:
        trace = read_trace(name, folders, column=options.column, time_column=options.time_column)
        trace = averaged(trace, options.step_seconds) if options.step_seconds else trace
        for problem in trace.problems:
            aside.print(f"{trace.name}: {problem}", markup=False, highlight=False)
        results.append(_one(trace, settings, horizons, options, aside))
    if options.as_json:
        sys.stdout.write(json_text([_as_dict(line) for result in results for line in result.lines]))
    else:
        _print_table(results)
    if options.report is not None:
        from controlplane.studies.backtest_page import write_page

        write_page(results, options.report)
        aside.print(f"report: {options.report}", markup=False, highlight=False, soft_wrap=True)
    return 0


def averaged(trace: Trace, step_seconds: float) -> Trace:
    """Return the trace at a coarser step, each value the mean of what it covers; the same trace where it is not finer."""
    every = round(step_seconds / trace.step_seconds)
    if every <= 1:
        return trace
    whole = len(trace.time_unix) // every * every
    mean = trace.demand_per_second[:whole].reshape(-1, every).mean(axis=1)
    ends = trace.time_unix[:whole].reshape(-1, every)[:, -1]
    return Trace(trace.name, ends, trace.step_seconds * every, mean, trace.synthetic, trace.problems)


def _settings(options: BacktestOptions) -> ForecastSettings:
    settings = ForecastSettings()
    if options.policy is not None:
        settings = fleet_named(load_fleets([options.policy]), options.fleet).forecast
    if options.time_zone:
        if options.time_zone not in available_timezones():
            raise TraceError(f"--time-zone: no time zone is named {options.time_zone!r}; write an IANA name such as Europe/Berlin")
        settings = ForecastSettings(settings.methods, options.time_zone, settings.season_seconds)
    return settings


def _one(trace: Trace, settings: ForecastSettings, horizons: Array, options: BacktestOptions, aside: Console) -> Backtest:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=aside, transient=True, disable=not aside.is_terminal) as progress:
        task = progress.add_task(trace.name, total=len(trace.time_unix))
        result = run(trace, settings, horizons, lambda count: progress.advance(task, count))
        if options.peers:
            from controlplane.studies.backtest_peers import compare

            result = compare(result, settings, options.peers)
    return result


def _print_table(results: list[Backtest]) -> None:
    lines = [line for result in results for line in result.lines]
    peers = sorted({name for line in lines for name in line.peers})
    table = Table(title="Forward backtest: predict, then learn", caption=LEGEND)
    for heading in (*HEADINGS, *(f"÷ {name}" for name in peers)):
        table.add_column(heading, justify="left" if heading == "trace" else "right", no_wrap=True)
    for row in table_rows(lines):
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else WIDE).print(table)


def _as_dict(line: object) -> dict[str, object]:
    from controlplane.studies.backtest import Line

    assert isinstance(line, Line)
    figures = line.figures
    return {
        "trace": line.trace,
        "horizon_seconds": figures.horizon_seconds,
        "scored": figures.scored,
        "pinball": figures.pinball,
        "pinball_over_persistence": line.over_persistence,
        "pinball_over_seasonal_naive": line.over_seasonal_naive,
        "mase": figures.mase,
        "width_80": figures.width,
        "quantiles": list(QUANTILES),
        "coverage": [share.value for share in figures.coverage],
        "coverage_interval": [[share.low, share.high] for share in figures.coverage],
        "weekly_coverage": figures.weekly.tolist(),
        "peak_pinball": figures.peak_pinball,
        "peak_coverage": [share.value for share in figures.peak_coverage],
        "peers": line.peers,
    }
