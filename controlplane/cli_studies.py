"""The commands that study rather than run: how much to reserve, how autoscalers compare, which offer serves tokens cheapest.

Owns their arguments only, as `controlplane.cli` does for the others and adds these to them; it must not hold logic.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

studies = typer.Typer()
# A shell adds the signal's number to it.
ENDED_BY_A_SIGNAL = 128


@contextmanager
def explained() -> Iterator[None]:
    """Turn a broken pipe on standard output into a quiet end, with the status that a shell shows for one that SIGPIPE ended."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our lines has seen enough; without this, closing what is broken would complain once more.
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except BrokenPipeError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise typer.Exit(ENDED_BY_A_SIGNAL + signal.SIGPIPE) from None


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


@profile.command("estimate")
def profile_estimate(
    model: Annotated[str, typer.Option("--model", help="the model's name on its hub")],
    gpu: Annotated[str, typer.Option("--gpu", help="GPU type, such as H200")],
    engine: Annotated[str, typer.Option("--engine", help="vllm, sglang or trtllm")],
    gpus: Annotated[int, typer.Option("--gpus", help="GPUs of one replica", min=1, max=72)] = 1,
    isl: Annotated[int, typer.Option("--isl", help="input tokens of a request", min=1)] = 1024,
    osl: Annotated[int, typer.Option("--osl", help="output tokens of a request", min=2)] = 1024,
    ttft: Annotated[str | None, typer.Option("--ttft", help="longest time to the first token, such as 2s; left out: any")] = None,
    itl: Annotated[str | None, typer.Option("--itl", help="longest time between tokens, such as 50ms; left out: any")] = None,
    precision: Annotated[str | None, typer.Option("--precision", help="of the weights; left out: as the model is published")] = None,
    layout: Annotated[
        str | None, typer.Option("--layout", help="tp, ep (experts apart) or dp (attention apart too); left out: the best is taken")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="profile file to write, or to add to; left out: standard output")] = None,
) -> None:
    """Model what a replica carries where nobody measured it, and write it as a profile file.

    By NVIDIA's aiconfigurator (pip install 'tidegate[aiconfigurator]'). Half a minute to minutes; measurements always come before it.
    """
    from controlplane.commands.estimate import EstimateOptions, estimate_profile

    options = EstimateOptions(model, gpu, gpus, engine, isl, osl, ttft, itl, precision, layout, out)
    with explained():
        raise typer.Exit(estimate_profile(options))
