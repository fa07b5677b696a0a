"""The body of `tidegate bench`: tidegate, untuned, against its peers at their best in hindsight and the clairvoyant.

Owns which cases are run, progress and output; `controlplane.sim.bench` judges. The world and its chance come from the seed.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from controlplane.commands.destination import json_text, require_writable
from controlplane.config import environment_variables
from controlplane.contracts.errors import TidegateError, TraceError
from controlplane.sim.baselines_peers import PEERS, Peer
from controlplane.sim.bench import Outcome, Point, bench, cheapest_at, outcomes_table, own_point, sweep
from controlplane.sim.bench_cases import WEEK_TRACES, Case, matrix
from controlplane.sim.bench_market import ListPriceBuyer, market_case
from controlplane.sim.bench_page import write_bench_page
from controlplane.sim.pipeline_scaler import PipelineScaler
from controlplane.sim.report import percent
from controlplane.traces.library import data_folders, find_trace

WIDE = 190
MARKET = "market"


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What the command line said. `cases` are names, or words that a name must all hold; empty: a lead of 8 minutes on the first trace."""

    cases: tuple[str, ...] = ()
    traces: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    days: float = 14.0
    seed: int = 1
    html: Path | None = None
    as_json: bool = False
    only_list: bool = False


@dataclass(frozen=True, slots=True)
class MarketOutcome:
    """The market scenario: tidegate, and who buys by list price at the best of its settings in hindsight (None: none keeps the SLO)."""

    own: Point
    by_list_price: Point | None

    @property
    def saved(self) -> float | None:
        """Return the share by which tidegate is cheaper."""
        return 1.0 - self.own.cost_usd / self.by_list_price.cost_usd if self.by_list_price is not None else None


def run_bench(options: BenchOptions) -> int:
    """Run the chosen cases, print each as it is done, then all of them; return the exit code."""
    folders, aside = data_folders(environment_variables()), Console(stderr=True)
    known = [replace(case, seed=options.seed) for case in matrix(options.traces or WEEK_TRACES, max_days=options.days)]
    if options.only_list:
        sys.stdout.write("\n".join([*(case.name for case in known), MARKET]) + "\n")
        return 0
    require_writable("--html", options.html)
    peers = chosen_peers(options.peers)
    wanted = [text for text in options.cases if text != MARKET]
    cases = chosen_cases(known, wanted) if wanted or not options.cases else []
    if not cases and options.html is not None:
        raise TidegateError("--html shows cases against the clairvoyant, which the market scenario has none of; add a --case")
    for name in dict.fromkeys(case.trace for case in cases):
        _require(name, folders)

    def told(outcome: Outcome) -> None:
        best = outcome.best_peer
        peer = f"best peer {best.name} {outcome.ratio(best):.3f}" if best is not None else "no peer keeps it"
        line = f"{outcome.case.name}: {outcome.ratio(outcome.own):.3f} × clairvoyant, {percent(outcome.own.attainment)}; {peer}"
        aside.print(line, markup=False, highlight=False, soft_wrap=True)

    outcomes = bench(PipelineScaler, cases, folders, peers=peers, on_outcome=told)
    market = run_market(Case((options.traces or WEEK_TRACES)[0], max_days=options.days, seed=options.seed), folders) if (
        MARKET in options.cases
    ) else None  # fmt: skip
    _show(outcomes, market, options, aside)
    return 0


def chosen_cases(known: Sequence[Case], texts: Sequence[str]) -> list[Case]:
    """Return the cases whose names are given, or hold every word of one; without any, a lead of 8 minutes on the first trace at 99.5 %."""
    if not texts:
        first = [case for case in known if case.trace == known[0].trace and case.lead_seconds == known[0].lead_seconds]
        return [case for case in first if case.launch_multiple == 1.0 and case.attainment == Case("").attainment]
    chosen: list[Case] = []
    for text in texts:
        exact = [case for case in known if case.name == text]
        found = exact or [case for case in known if all(word in case.name for word in text.split())]
        if not found:
            raise TidegateError(f"--case {text}: no case's name holds all these words; `tidegate bench --list` names them")
        chosen += [case for case in found if case not in chosen]
    return chosen


def chosen_peers(names: Sequence[str]) -> tuple[Peer, ...]:
    """Return the peers named, all of them where none is."""
    by_name = {peer.name.lower(): peer for peer in PEERS}
    for name in names:
        if name.lower() not in by_name:
            raise TidegateError(f"--peer {name}: known are {', '.join(peer.name for peer in PEERS)}")
    return tuple(by_name[name.lower()] for name in names) or PEERS


def run_market(case: Case, folders: tuple[Path, ...]) -> MarketOutcome:
    """Run the market scenario: several suppliers with real prices and stock, a spot offer, and who buys by list price."""
    built = market_case(case, folders)
    points = sweep(Peer("list price", ListPriceBuyer), built)
    return MarketOutcome(own_point(PipelineScaler, built), cheapest_at(points, case.attainment))


def _require(name: str, folders: tuple[Path, ...]) -> None:
    """Raise before hours are spent where a later trace is not here."""
    try:
        find_trace(name.partition("#")[0], folders)
    except TraceError as error:
        raise TidegateError(f"{error}; `--trace` takes others, a CSV file of your own too") from error


def _show(outcomes: Sequence[Outcome], market: MarketOutcome | None, options: BenchOptions, aside: Console) -> None:
    if options.as_json:
        rows = [outcome.row() for outcome in outcomes]
        sys.stdout.write(json_text(rows + ([_market_row(market)] if market is not None else [])))
    else:
        shown = Console(width=None if sys.stdout.isatty() else WIDE)
        if outcomes:
            shown.print(outcomes_table(outcomes))
        if market is not None:
            shown.print(_market_text(market), markup=False, highlight=False, soft_wrap=True)
    if options.html is not None:
        write_bench_page(outcomes, options.html)
        aside.print(f"page: {options.html}", markup=False, highlight=False, soft_wrap=True)


def _market_text(market: MarketOutcome) -> str:
    own, other = market.own, market.by_list_price
    text = f"market: {own.cost_usd:,.0f} USD, {percent(own.attainment)} within the SLO, {percent(own.spilled_share)} spilled"
    if other is None or market.saved is None:
        return text + "; buying by list price keeps the SLO at no setting"
    return text + f"; by list price {other.cost_usd:,.0f} USD at its best, {percent(other.attainment)}: {market.saved:.0%} less"


def _market_row(market: MarketOutcome) -> dict[str, object]:
    other = market.by_list_price
    return {
        "case": MARKET,
        "own_cost_usd": market.own.cost_usd,
        "own_attainment": market.own.attainment,
        "own_spilled_share": market.own.spilled_share,
        "own_scale_events_per_day": market.own.scale_events_per_day,
        "list_price_cost_usd": other.cost_usd if other is not None else None,
        "list_price_attainment": other.attainment if other is not None else None,
        "saved_share": market.saved,
    }
