"""The body of `tidegate simulate`: a policy over a trace on the virtual clock, beside what it is compared with.

Owns options, progress and output; `controlplane.sim` runs the world, and the pipeline in it is the production one.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from controlplane.commands.destination import json_text, require_writable
from controlplane.config import environment_variables, load_fleets
from controlplane.contracts.errors import PolicyError, TraceError
from controlplane.contracts.events import Launch
from controlplane.contracts.fleet import Fleet
from controlplane.contracts.frame import DecisionLine, Frame
from controlplane.contracts.units import format_duration, from_unix
from controlplane.serve import fleet_named
from controlplane.sim.baselines_hpa import comparisons
from controlplane.sim.pipeline_scaler import PipelineScaler
from controlplane.sim.report import four_digits, report_of, summary_table
from controlplane.sim.run import OnStep, RunResult
from controlplane.sim.run import run as run_scaler
from controlplane.sim.scaler import Scaler
from controlplane.sim.workload import Workload, workload_of
from controlplane.sim.world import World, WorldSettings
from controlplane.traces.library import Trace, data_folders, read_trace
from controlplane.traces.waves import synthetic_trace

FINE_STEP_SECONDS = 15.0
WORKLOAD_SEED_OFFSET = 1_000_003
WIDE = 150
SYNTHETIC = "synthetic"


@dataclass(frozen=True, slots=True)
class SimulateOptions:
    """What the command line said."""

    policy: Path
    trace: str | None
    column: str | None
    scale: float
    fleet: str | None
    report: Path | None
    as_json: bool
    shed: bool
    seed: int


def simulate_policy(options: SimulateOptions) -> int:
    """Run, compare, print; return the exit code."""
    fleet = fleet_named(load_fleets([options.policy]), options.fleet)
    require_writable("--report", options.report)
    trace = trace_of(fleet, options)
    shown = Console(width=None if sys.stdout.isatty() else WIDE)
    aside = Console(stderr=True)
    for problem in trace.problems:
        aside.print(f"{trace.name}: {problem}", markup=False, highlight=False, soft_wrap=True)
    rng = np.random.default_rng(options.seed + WORKLOAD_SEED_OFFSET)
    workload = workload_of(trace, rng, step_seconds=min(FINE_STEP_SECONDS, fleet.tick_seconds), scale=scale_of(fleet, options))
    aside.print(what_is_read(fleet, trace, workload), markup=False, highlight=False, soft_wrap=True)
    results = run_all(fleet, workload, WorldSettings(shed=options.shed), options.seed)
    if options.as_json:
        sys.stdout.write(json_text([result.summary() for result in results]))
    else:
        shown.print(summary_table(results, fleet.slo.attainment))
        shown.print(f"{results[0].decisions:,} decisions; a floor is paid used or not; spilled work counts as within the SLO")
    if options.report is not None:
        from controlplane.sim.report_html import write_report

        title = f"tidegate simulate {options.policy.name}"
        write_report(report_of(results, title=title, unit=fleet.unit.value, attainment=fleet.slo.attainment), options.report)
        aside.print(f"report: {options.report}", markup=False, highlight=False, soft_wrap=True)
    return 0


def trace_of(fleet: Fleet, options: SimulateOptions) -> Trace:
    """Return the trace that was asked for, else the one that the policy replays."""
    source = fleet.demand_source
    name = options.trace or (str(source["trace"]) if source.get("kind") == "replay" else None)
    if name is None:
        raise PolicyError(
            f"fleet {fleet.name} replays no trace: give --trace a CSV file, a name that `tidegate traces` lists, or synthetic"
        )
    column = options.column
    if column is None and options.trace is None and source.get("column"):
        column = str(source["column"])
    if name == SYNTHETIC:
        return synthetic_trace(options.seed, mean_per_second=synthetic_mean(fleet))
    trace = read_trace(name, data_folders(environment_variables()), column=column)
    if not np.isfinite(trace.demand_per_second).any():
        raise TraceError(f"{name}: no row holds a usable demand")
    return trace


def synthetic_mean(fleet: Fleet) -> float:
    """Return a demand that keeps a fleet of any size busy: a fifth of all it may hold, work per second."""
    return 0.2 * sum(offer.max_replicas * offer.capacity_per_second for offer in fleet.offers)


def what_is_read(fleet: Fleet, trace: Trace, workload: Workload) -> str:
    """Return in one line what the trace was taken to say, so that a wrong column or unit is seen before its results are believed."""
    mean, peak = workload.offered / workload.span_seconds, float(workload.offered_per_second.max())
    rows = f"{len(trace.time_unix):,} rows, one each {format_duration(trace.step_seconds)}"
    return (
        f"{trace.name}: {rows}; {four_digits(mean)} {fleet.unit.value}/s on average, {four_digits(peak)} at most; "
        f"a decision each {format_duration(fleet.tick_seconds)} (spec.tick)"
    )


def scale_of(fleet: Fleet, options: SimulateOptions) -> float:
    """Return the factor on the trace: the option's, and the policy's where its own trace is replayed."""
    own = fleet.demand_source.get("scale") if options.trace is None else None
    return options.scale * float(str(own or 1.0))


def run_all(fleet: Fleet, workload: Workload, world: WorldSettings, seed: int) -> Sequence[RunResult]:
    """Return tidegate's run first, then each comparison's, on the same work and the same chance."""
    announced = [
        Launch(
            time=from_unix(workload.start_unix),
            fleet=fleet.name,
            name=plan.name,
            starts=from_unix(plan.starts_unix),
            peak_multiple=plan.peak_multiple,
            ramp_seconds=plan.ramp_seconds,
            half_life_seconds=plan.half_life_seconds,
        )
        for plan in fleet.launches
    ]
    jobs: list[tuple[str, Scaler, Fleet]] = [("tidegate", PipelineScaler(fleet), fleet)]
    jobs += [(chosen.name, chosen.scaler(chosen.fleet), chosen.fleet) for chosen in comparisons(fleet, workload)]
    total = int(np.ceil(workload.span_seconds / (world.decision_seconds or fleet.tick_seconds)))
    results = []
    columns = (TextColumn("{task.description:28}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        for name, scaler, chosen in jobs:
            task = progress.add_task(name, total=total)
            launches = announced if name == "tidegate" else []
            results.append(
                run_scaler(
                    name,
                    scaler,
                    chosen,
                    workload,
                    world,
                    seed=seed,
                    launches=launches,
                    keep_lines=name == "tidegate",
                    on_step=_advancing(progress, task),
                )
            )
    return results


def _advancing(progress: Progress, task: TaskID) -> OnStep:
    """Return what moves a progress bar on with each decision."""

    def step(_frame: Frame, _line: DecisionLine, _world: World) -> None:
        progress.advance(task)

    return step
