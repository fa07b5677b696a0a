"""The command line: one function per command, each a thin door to the room that does the work.

Owns arguments, exit codes and what is printed; it must not hold logic. Heavy imports are inside the commands, so that --help is quick.
Exit codes: 0 done, 1 a problem that the message explains, 2 bad arguments or bad input lines.
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from controlplane.cli_studies import explained, studies
from controlplane.cli_suppliers import suppliers
from controlplane.contracts.errors import TidegateError

app = typer.Typer(
    name="tidegate",
    help="Event-driven autoscaling for LLM inference fleets on GPUs: own the floor, rent the burst, spill the rest.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Policies = Annotated[list[Path], typer.Argument(help="policy files or folders", show_default=False)]
NatsOption = Annotated[
    str | None,
    typer.Option("--nats", help="nats://host:4222 or tls://…, several with commas; left out: TIDEGATE_NATS, else an embedded server"),
]
NatsOnlyOption = Annotated[
    str | None, typer.Option("--nats", help="nats://host:4222 or tls://…, several with commas; left out: TIDEGATE_NATS")
]
CloudOption = Annotated[str | None, typer.Option("--cloud", help="address of a running simulated cloud, for offers that name none")]
FolderOption = Annotated[Path | None, typer.Option("--folder", help="where the embedded server and the simulated cloud keep their data")]
ListenOption = Annotated[
    str | None,
    typer.Option("--listen", help="host:port for webhooks, launches, status, metrics and health; left out: no HTTP"),
]
WebOption = Annotated[
    str | None, typer.Option("--web", help="address of a running tidegate, http://host:port; left out: http://127.0.0.1:8080")
]
QuotesOption = Annotated[
    list[str] | None, typer.Option("--quotes", help="JSON file or http(s) address with prices, stock and lead times; may be repeated")
]
ModeOption = Annotated[str | None, typer.Option("--mode", help="recommend or act, for all fleets; left out: what each policy says")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, the process's own where none is given; errors raised on purpose are one message and exit code 1."""
    try:
        app(args=arguments, prog_name="tidegate")
    except TidegateError as error:
        print(f"tidegate: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


@app.command()
def demo(
    headless: Annotated[bool, typer.Option("--headless", help="logs only; taken by itself where there is no terminal")] = False,
    folder: Annotated[Path, typer.Option("--folder", help="where the run keeps its data and its report")] = Path(".demo"),
    resume: Annotated[bool, typer.Option("--resume", help="go on with a run that was cut off, on the same folder")] = False,
    seconds: Annotated[float, typer.Option("--seconds", help="wall-clock seconds that the week takes", min=20, max=3600)] = 100.0,
) -> None:
    """Play a week of traffic with a launch wave on a simulated cloud.

    A real trace where one is at hand (`tidegate traces`), else a synthetic one, on an embedded NATS server.
    """
    from controlplane.demo.command import DemoOptions, run_demo

    raise typer.Exit(run_demo(DemoOptions(folder=folder, headless=headless, resume=resume, seconds=seconds)))


@app.command()
def up(
    policies: Policies,
    nats: NatsOption = None,
    folder: FolderOption = None,
    mode: ModeOption = None,
    cloud: CloudOption = None,
    listen: ListenOption = None,
    quotes: QuotesOption = None,
) -> None:
    """Run every service for these fleets in one process."""
    from controlplane.serve import ServeOptions, serve

    options = ServeOptions(tuple(policies), nats, folder, mode=mode, cloud_url=cloud, listen=listen, quotes=tuple(quotes or ()))
    raise typer.Exit(serve(options))


@app.command()
def run(
    service: Annotated[str, typer.Argument(help="collector, forecaster, planner, actuator or web")],
    policies: Policies,
    nats: NatsOnlyOption = None,
    mode: ModeOption = None,
    cloud: CloudOption = None,
    listen: ListenOption = None,
    quotes: QuotesOption = None,
) -> None:
    """Run one service alone, against a NATS server.

    A second one of the same service stands by, but for web, which any number may be.
    """
    from controlplane.serve import ServeOptions, serve

    options = ServeOptions(tuple(policies), nats, service=service, mode=mode, cloud_url=cloud, listen=listen, quotes=tuple(quotes or ()))
    raise typer.Exit(serve(options))


@app.command()
def decide(
    policies: Policies,
    state: Annotated[Path | None, typer.Option("--state", help="load the state from this file, and save it there at the end")] = None,
) -> None:
    """Answer observations on stdin with decisions on stdout.

    One JSON line each, in event time: docs/pipe.md.
    """
    from controlplane.commands.decide import decide_lines

    with explained():
        raise typer.Exit(decide_lines(policies, state))


@app.command()
def simulate(
    policy: Annotated[Path, typer.Argument(help="a policy file", show_default=False)],
    trace: Annotated[
        str | None, typer.Option("--trace", help="a CSV file, a trace's name, or synthetic; left out: the policy's own replay")
    ] = None,
    column: Annotated[str | None, typer.Option("--column", help="the column of the trace to read")] = None,
    scale: Annotated[float, typer.Option("--scale", help="factor on the demand", min=1e-9)] = 1.0,
    fleet: Annotated[str | None, typer.Option("--fleet", help="which fleet of the policy; left out: its only one")] = None,
    report: Annotated[Path | None, typer.Option("--report", help="write an HTML report to this file")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON")] = False,
    shed: Annotated[bool, typer.Option("--shed", help="work that cannot be served in time is lost instead of queued")] = False,
    seed: Annotated[int, typer.Option("--seed", help="seed of the world's chance")] = 0,
) -> None:
    """Run a policy over a trace on a virtual clock, beside an HPA.

    Without NATS. The HPA aims at 70 %. A month takes minutes: a decision each tick, for each of four autoscalers.
    """
    from controlplane.commands.simulate import SimulateOptions, simulate_policy

    options = SimulateOptions(policy, trace, column, scale, fleet, report, as_json, shed, seed)
    with explained():
        raise typer.Exit(simulate_policy(options))


@app.command()
def backtest(
    traces: Annotated[list[str], typer.Argument(help="traces' names, or CSV or Parquet files of your own", show_default=False)],
    policy: Annotated[Path | None, typer.Option("--policy", help="take time zone, season and methods from this policy")] = None,
    fleet: Annotated[str | None, typer.Option("--fleet", help="which fleet of the policy; left out: its only one")] = None,
    column: Annotated[str | None, typer.Option("--column", help="the column that counts demand; left out: found by its name")] = None,
    time_column: Annotated[str | None, typer.Option("--time-column", help="the column of times; left out: found by its name")] = None,
    time_zone: Annotated[str | None, typer.Option("--time-zone", help="where the day begins, such as America/New_York")] = None,
    lead_time: Annotated[float | None, typer.Option("--lead-time", help="one more horizon, seconds", min=1.0)] = None,
    step: Annotated[float | None, typer.Option("--step", help="average a finer trace to so many seconds first", min=1.0)] = None,
    peers: Annotated[
        list[str] | None, typer.Option("--peer", help="ets, sarimax, AutoARIMA, AutoETS or MSTL, minutes each; may be repeated")
    ] = None,
    report: Annotated[Path | None, typer.Option("--report", help="write an HTML page with plots to this file")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the figures as JSON")] = False,
) -> None:
    """Score the forecast on traces: at every observation predict first, learn after; beside persistence and seasonal-naive."""
    from controlplane.commands.backtest import BacktestOptions, backtest_traces

    options = BacktestOptions(
        tuple(traces), policy, fleet, column, time_column, time_zone, lead_time, step, tuple(peers or ()), report, as_json
    )
    with explained():
        raise typer.Exit(backtest_traces(options))


@app.command()
def validate(
    policies: Policies,
    explain: Annotated[bool, typer.Option("--explain", help="print every default in force and the compiled fleet")] = False,
) -> None:
    """Check policy files and name every error and warning at once.

    Each with file, line, path, value and what would be right.
    """
    from controlplane.commands.policy import validate_paths

    text, code = validate_paths(policies, explain)
    print(text)
    raise typer.Exit(code)


@app.command()
def schema() -> None:
    """Print the JSON Schema of the policy file."""
    from controlplane.commands.policy import schema_text

    print(schema_text())


@app.command()
def asyncapi() -> None:
    """Print the AsyncAPI document of everything on NATS."""
    from controlplane.bus.asyncapi import asyncapi_document

    print(json.dumps(asyncapi_document(), indent=2))


@app.command()
def traces(as_json: Annotated[bool, typer.Option("--json", help="print the list as JSON")] = False) -> None:
    """List the traces at hand, and where the others can be had."""
    from controlplane.commands.traces import list_command

    print(list_command(as_json))


@app.command()
def events(
    nats: NatsOnlyOption = None,
    subjects: Annotated[str, typer.Option("--subjects", help="NATS subject filter")] = "tidegate.decision.*",
    as_json: Annotated[bool, typer.Option("--json", help="print each event's body")] = False,
) -> None:
    """Follow events on NATS until interrupted; decisions by default."""
    from controlplane.serve import follow_events

    with explained():
        raise typer.Exit(asyncio.run(follow_events(nats, subjects, as_json)))


@app.command()
def status(
    fleet: Annotated[str | None, typer.Argument(help="all about one fleet, with --json; left out: every fleet")] = None,
    web: WebOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the body")] = False,
) -> None:
    """Ask a running tidegate where its fleets stand."""
    from controlplane.commands.ask import Where, status_lines
    from controlplane.commands.ask import status as ask

    body = ask(Where(web), fleet)
    print(json.dumps(body, indent=2) if as_json else status_lines(body))


launch = typer.Typer(help="Announce launches, so that capacity is there before the wave.", no_args_is_help=True)
app.add_typer(launch, name="launch")
app.add_typer(studies)
app.add_typer(suppliers)


@launch.command("announce")
def launch_announce(
    fleet: Annotated[str, typer.Argument(help="which fleet", show_default=False)],
    name: Annotated[str, typer.Argument(help="the launch's name; announcing it again replaces it", show_default=False)],
    starts: Annotated[str, typer.Option("--starts", help="when, RFC 3339, such as 2026-11-23T17:00:00Z")],
    peak: Annotated[float | None, typer.Option("--peak", help="peak demand as a multiple of the usual; left out: a prior")] = None,
    ramp: Annotated[str | None, typer.Option("--ramp", help="from start to peak, such as 30m")] = None,
    half_life: Annotated[str | None, typer.Option("--half-life", help="of the decay after the peak, such as 10h")] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="call it off")] = False,
    web: WebOption = None,
    nats: NatsOnlyOption = None,
) -> None:
    """Announce a launch to a running tidegate, over HTTP unless --nats or TIDEGATE_NATS says otherwise."""
    from controlplane.commands.ask import Where, announce

    fields = {"fleet": fleet, "name": name, "starts": starts, "peak_multiple": peak, "ramp": ramp, "half_life": half_life}
    print(announce(Where(web, nats), {**fields, "cancelled": cancel}))


@app.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as installed

    print(f"tidegate {installed('tidegate')}")


if __name__ == "__main__":
    main()
