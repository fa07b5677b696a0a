"""The commands that study rather than run: how much to reserve, how autoscalers compare, which offer serves tokens cheapest.

Owns their arguments only, as `controlplane.cli` does for the others and adds these to them; it must not hold logic.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

studies = typer.Typer()


@contextmanager
def explained() -> Iterator[None]:
    """Turn a broken pipe on standard output into a quiet end, as tools in a pipe do."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our lines has seen enough; without this, closing standard output would complain once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None


@studies.command()
def floor(
    policy: Annotated[Path, typer.Argument(help="a policy file", show_default=False)],
    trace: Annotated[
        str | None, typer.Option("--trace", help="a CSV file, a trace's name, or synthetic; left out: the policy's own source")
    ] = None,
    column: Annotated[str | None, typer.Option("--column", help="the column of the trace to read")] = None,
    scale: Annotated[float, typer.Option("--scale", help="factor on the demand", min=1e-9)] = 1.0,
    history: Annotated[str, typer.Option("--history", help="how far back to read the policy's Prometheus, without --trace")] = "28d",
    term: Annotated[
        list[str] | None,
        typer.Option("--term", help="[NAME:]LENGTH=USD per replica-hour, such as 1y=24.50; may be repeated; left out: the policy's price"),
    ] = None,
    offer: Annotated[str | None, typer.Option("--offer", help="which offer to reserve; left out: the policy's first floor offer")] = None,
    fleet: Annotated[str | None, typer.Option("--fleet", help="which fleet of the policy; left out: its only one")] = None,
    report: Annotated[Path | None, typer.Option("--report", help="write an HTML page with plots to this file")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the figures, layer by layer, as JSON")] = False,
) -> None:
    """Say how many replicas to reserve, for which term, and what it saves.

    From a history of demand, layer by layer: a layer is worth reserving when renting or spilling it as needed costs more.
    """
    from controlplane.commands.floor import FloorOptions, size_a_floor

    options = FloorOptions(policy, fleet, trace, column, scale, history, tuple(term or ()), offer, report, as_json)
    with explained():
        raise typer.Exit(size_a_floor(options))


@studies.command()
def bench(
    case: Annotated[
        list[str] | None,
        typer.Option("--case", help="a case's name or words of it, or market; may be repeated; left out: lead 8m, 99.5 %, first trace"),
    ] = None,
    trace: Annotated[
        list[str] | None, typer.Option("--trace", help="traces to build cases on, names or CSV files; may be repeated")
    ] = None,
    peer: Annotated[list[str] | None, typer.Option("--peer", help="peers to compare with; may be repeated; left out: all")] = None,
    days: Annotated[float, typer.Option("--days", help="cut longer traces", min=0.5)] = 14.0,
    seed: Annotated[int, typer.Option("--seed", help="seed of the world's chance")] = 1,
    html: Annotated[Path | None, typer.Option("--html", help="write a page with plots to this file")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the figures as JSON")] = False,
    only_list: Annotated[bool, typer.Option("--list", help="name the cases and run none")] = False,
) -> None:
    """Compare tidegate, untuned, with other autoscalers at their best in hindsight.

    All over the clairvoyant's cost, at equal attainment, in a seeded world. Minutes a case: each peer is run at a dozen settings.
    """
    from controlplane.commands.bench import BenchOptions, run_bench

    options = BenchOptions(tuple(case or ()), tuple(trace or ()), tuple(peer or ()), days, seed, html, as_json, only_list)
    with explained():
        raise typer.Exit(run_bench(options))


profile = typer.Typer(help="Look at serving profiles: what a replica carries within the SLO.", no_args_is_help=True)
studies.add_typer(profile, name="profile")


@profile.command("rank")
def profile_rank(
    policy: Annotated[Path, typer.Argument(help="a policy file", show_default=False)],
    fleet: Annotated[str | None, typer.Option("--fleet", help="which fleet of the policy; left out: its only one")] = None,
    profiles: Annotated[
        Path | None, typer.Option("--profiles", help="CSV of your own measurements; left out: the one that TIDEGATE_PROFILES names")
    ] = None,
    price: Annotated[
        list[str] | None,
        typer.Option("--price", help="GPU=USD per GPU-hour: rank what is measured on that GPU too, such as H200=3.40; may be repeated"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the figures as JSON")] = False,
) -> None:
    """Order offers by USD per million tokens within the SLO, with the reason where one is not eligible."""
    from controlplane.commands.profile import RankOptions, rank_offers

    with explained():
        raise typer.Exit(rank_offers(RankOptions(policy, fleet, profiles, tuple(price or ()), as_json)))
