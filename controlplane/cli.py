"""The command line: one function per command, each a thin door to the room that does the work.

Owns arguments, exit codes and what is printed; it must not hold logic. Heavy imports are inside the commands, so that --help is quick.
Exit codes: 0 done, 1 a problem that the message explains, 2 bad arguments or bad input lines.
"""

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

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
FolderOption = Annotated[Path | None, typer.Option("--folder", help="where the embedded server and the simulated cloud keep their data")]
ModeOption = Annotated[str | None, typer.Option("--mode", help="recommend or act, for all fleets; left out: what each policy says")]


def main() -> None:
    """Run the command line; errors that tidegate raises on purpose are one message and exit code 1."""
    try:
        app()
    except TidegateError as error:
        print(f"tidegate: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


@contextmanager
def _explained() -> Iterator[None]:
    """Turn a broken pipe on standard output into a quiet end, as tools in a pipe do."""
    try:
        yield
    except BrokenPipeError:
        sys.stderr.close()
        raise typer.Exit(0) from None


@app.command()
def demo(
    headless: Annotated[bool, typer.Option("--headless", help="logs only; taken by itself where there is no terminal")] = False,
    folder: Annotated[Path, typer.Option("--folder", help="where the run keeps its data and its report")] = Path(".demo"),
    resume: Annotated[bool, typer.Option("--resume", help="go on with a run that was cut off, on the same folder")] = False,
    seconds: Annotated[float, typer.Option("--seconds", help="wall-clock seconds that the week takes", min=20, max=3600)] = 100.0,
) -> None:
    """Play a week of real traffic with a launch wave, on an embedded NATS and a simulated cloud."""
    from controlplane.demo import DemoOptions, run_demo

    raise typer.Exit(run_demo(DemoOptions(folder=folder, headless=headless, resume=resume, seconds=seconds)))


@app.command()
def up(
    policies: Policies,
    nats: NatsOption = None,
    folder: FolderOption = None,
    mode: ModeOption = None,
    cloud: Annotated[str | None, typer.Option("--cloud", help="address of a running simulated cloud, for offers that name none")] = None,
) -> None:
    """Run every service for these fleets in one process."""
    from controlplane.serve import ServeOptions, serve

    raise typer.Exit(serve(ServeOptions(tuple(policies), nats_url=nats, folder=folder, mode=mode, cloud_url=cloud)))


@app.command()
def run(
    service: Annotated[str, typer.Argument(help="collector, forecaster, planner or actuator")],
    policies: Policies,
    nats: NatsOption = None,
    mode: ModeOption = None,
    cloud: Annotated[str | None, typer.Option("--cloud", help="address of a running simulated cloud, for offers that name none")] = None,
) -> None:
    """Run one service alone, against a NATS server; a second one of the same service stands by."""
    from controlplane.serve import ServeOptions, serve

    raise typer.Exit(serve(ServeOptions(tuple(policies), nats_url=nats, service=service, mode=mode, cloud_url=cloud)))


@app.command()
def decide(
    policies: Policies,
    state: Annotated[Path | None, typer.Option("--state", help="load the state from this file, and save it there at the end")] = None,
) -> None:
    """Answer observations on standard input with decisions on standard output, one JSON line each, in event time."""
    from controlplane.commands_decide import decide_lines

    with _explained():
        raise typer.Exit(decide_lines(policies, state))


@app.command()
def simulate(
    policy: Annotated[Path, typer.Argument(help="a policy file", show_default=False)],
    trace: Annotated[str | None, typer.Option("--trace", help="a trace's name or a CSV file; left out: the policy's own replay")] = None,
    column: Annotated[str | None, typer.Option("--column", help="the column of the trace to read")] = None,
    scale: Annotated[float, typer.Option("--scale", help="factor on the demand", min=1e-9)] = 1.0,
    fleet: Annotated[str | None, typer.Option("--fleet", help="which fleet of the policy; left out: its only one")] = None,
    report: Annotated[Path | None, typer.Option("--report", help="write an HTML report to this file")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the result as JSON")] = False,
    shed: Annotated[bool, typer.Option("--shed", help="work that cannot be served in time is lost instead of queued")] = False,
    seed: Annotated[int, typer.Option("--seed", help="seed of the world's chance")] = 0,
) -> None:
    """Run a policy over a trace on a virtual clock, without NATS, and compare it with an HPA at 70 %."""
    from controlplane.commands_simulate import SimulateOptions, simulate_policy

    options = SimulateOptions(policy, trace, column, scale, fleet, report, as_json, shed, seed)
    with _explained():
        raise typer.Exit(simulate_policy(options))


@app.command()
def validate(
    policies: Policies,
    explain: Annotated[bool, typer.Option("--explain", help="print every default in force and the compiled fleet")] = False,
) -> None:
    """Check policy files: every error and warning at once, with file, line, path and what would be right."""
    from controlplane.commands_policy import validate_paths

    text, code = validate_paths(policies, explain)
    print(text)
    raise typer.Exit(code)


@app.command()
def schema() -> None:
    """Print the JSON Schema of the policy file."""
    from controlplane.commands_policy import schema_text

    print(schema_text())


@app.command()
def asyncapi() -> None:
    """Print the AsyncAPI document of everything on NATS."""
    from controlplane.bus.asyncapi import asyncapi_document

    print(json.dumps(asyncapi_document(), indent=2))


@app.command()
def traces(as_json: Annotated[bool, typer.Option("--json", help="print the list as JSON")] = False) -> None:
    """List the demand traces that are at hand, and where the others can be had."""
    from controlplane.commands_traces import list_command

    print(list_command(as_json))


@app.command()
def events(
    nats: NatsOption = None,
    subjects: Annotated[str, typer.Option("--subjects", help="NATS subject filter")] = "tidegate.decision.*",
    as_json: Annotated[bool, typer.Option("--json", help="print each event's body")] = False,
) -> None:
    """Follow events on NATS, decisions unless told otherwise, until interrupted."""
    from controlplane.serve import follow_events

    with _explained():
        raise typer.Exit(asyncio.run(follow_events(nats, subjects, as_json)))


@app.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as installed

    print(f"tidegate {installed('tidegate')}")


if __name__ == "__main__":
    main()
