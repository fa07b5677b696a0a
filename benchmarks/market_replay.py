"""Replay a real GPU marketplace: what the market's choice of supplier costs, against one supplier and against choice by list price.

The same targets for all (a day's tide between 4 and 24 replicas of 8 H100 SXM, seeded noise), every ten minutes, over the whole series of
prices and stock of six suppliers; the market is the production actuator. Usage: python benchmarks/market_replay.py [--report FILE.html]
"""

import argparse
import asyncio
import math
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import plotly.graph_objects as go

from actuators.api import Applied
from actuators.holdings import Supplier
from actuators.market import MarketActuator, MarketSettings, part_of
from actuators.purchasing import PurchasingActuator
from controlplane.contracts.fleet import Offer, Tier
from controlplane.sim.bench_market import PROVIDERS_FILE, SUPPLIERS, _find, _listings, _series
from controlplane.sim.cloud_config import CloudConfig, OfferWorld
from controlplane.sim.cloud_model import Market, ReplicaState
from controlplane.sim.drill import DrillStore
from controlplane.sim.drill_supplier import ModelSupplier
from controlplane.sim.report import Report, Table, Timeline
from controlplane.sim.report_html import BURST_COLOUR, COST_COLOURS, FLOOR_COLOUR, GRID_COLOUR, PLAIN_LAYOUT, SPILL_COLOUR, render
from controlplane.traces.library import data_folders

STEP_SECONDS = 600.0
LEAD_SECONDS = 480.0
LOW, HIGH = 4, 24
COLUMNS = ("choice", "USD", "served of what was wanted", "USD per replica-hour served")
COLOURS = (COST_COLOURS[0], SPILL_COLOUR, FLOOR_COLOUR, BURST_COLOUR, *COST_COLOURS[1:])
FLEET = "replayed"
OFFER = Offer("rented", Tier.BURST, 1.0, 0, 200, None, LEAD_SECONDS)


@dataclass
class Run:
    """One way to choose: its bill, and how much of what was wanted served at the end of each step, in replica-hours."""

    name: str
    usd: float = 0.0
    wanted_hours: float = 0.0
    served_hours: float = 0.0
    usd_by_step: list[float] = field(default_factory=list)

    @property
    def row(self) -> tuple[str, ...]:
        """Return the cells of the table, of `COLUMNS`."""
        each = self.usd / self.served_hours if self.served_hours else math.nan
        return self.name, f"{self.usd:,.0f}", f"{self.served_hours / self.wanted_hours:.1%}", f"{each:.2f}"


class Clock:
    """The series' time, unix seconds."""

    now_unix = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_unix


class ListPrice:
    """Choice by list price: the order of the first prices for good, the next on a refusal, back to the first as soon as it sells."""

    def __init__(self, suppliers: Mapping[str, Supplier], listed: Mapping[str, float], store: DrillStore) -> None:
        self._shops = [(name, PurchasingActuator(suppliers[name], store)) for name in sorted(suppliers, key=lambda name: listed[name])]

    async def apply(self, fleet: str, offer: Offer, target: int) -> None:
        """Hold the target as far as there is stock."""
        left = target
        for name, shop in self._shops:
            part = part_of(offer, name)
            status = await shop.observe(fleet, part)
            held = status.ready + status.pending
            result = await shop.apply(fleet, part, left)
            left -= max(0, held + (result.change if isinstance(result, Applied) else 0))
            left = max(left, 0)


def series(folders: Sequence[Path]) -> tuple[dict[str, OfferWorld], float, dict[str, float]]:
    """Return each supplier's world, how long the series is, and the first price of each."""
    table = _listings(_find(PROVIDERS_FILE, tuple(folders)))
    worlds, listed = {}, {}
    for name in SUPPLIERS:
        price, stock = _series(table, name, 0.0)
        supplier = name.replace("_", "-")
        listed[supplier] = price[0][1]
        worlds[supplier] = OfferWorld(
            usd_per_replica_hour=price[0][1],
            usd_by_seconds=price,
            stock_by_seconds=stock,
            stock_replicas=stock[0][1],
            lead_time_seconds=LEAD_SECONDS,
        )
    return worlds, float(table["seconds"].max()), listed


def targets(seconds: float) -> list[int]:
    """Return the replicas wanted at each step."""
    dice = random.Random("market-replay")
    wanted = []
    for step in range(int(seconds / STEP_SECONDS)):
        tide = 0.5 - 0.5 * math.cos(2.0 * math.pi * step * STEP_SECONDS / 86400.0)
        wanted.append(round((LOW + (HIGH - LOW) * tide) * dice.uniform(0.85, 1.15)))
    return wanted


async def play(name: str, worlds: Mapping[str, OfferWorld], listed: Mapping[str, float], wanted: Sequence[int], *, by_list: bool) -> Run:
    """Play one way to choose over the series."""
    clock, store, result = Clock(), DrillStore(), Run(name)
    markets = {one: Market.open(CloudConfig(offers={part_of(OFFER, one).name: world}), 7, 0.0) for one, world in worlds.items()}
    suppliers = {one: ModelSupplier(market, clock) for one, market in markets.items()}
    settings = MarketSettings(refused_for_seconds=STEP_SECONDS, banned_for_seconds=3600.0)
    buyer = ListPrice(suppliers, listed, store) if by_list else MarketActuator(suppliers, store, settings, clock)
    for target in wanted:
        if isinstance(buyer, MarketActuator):
            await buyer.quote(OFFER)  # as before each decision: nothing is bought above it
        await buyer.apply(FLEET, OFFER, target)
        clock.now_unix += STEP_SECONDS
        replicas = [one for market in markets.values() for one in market.replicas.values()]
        ready = sum(one.state(clock.now_unix) is ReplicaState.READY for one in replicas)
        result.wanted_hours += target * STEP_SECONDS / 3600.0
        result.served_hours += min(ready, target) * STEP_SECONDS / 3600.0
        result.usd_by_step.append(sum(market.bill_usd(clock.now_unix) for market in markets.values()))
    result.usd = result.usd_by_step[-1]
    return result


def plot(runs: Sequence[Run], file: Path) -> None:
    """Write the bills over time as a page, with the figures that are printed."""
    days = [step * STEP_SECONDS / 86400.0 for step in range(len(runs[0].usd_by_step))]
    figure = go.Figure()
    for at, run in enumerate(runs):
        line = {"color": COLOURS[at % len(COLOURS)], "width": 2.6 if at == 0 else 1.6, "dash": "dash" if at == 1 else "solid"}
        figure.add_trace(go.Scatter(x=days, y=run.usd_by_step, name=run.name, mode="lines", line=line))
    legend = {"orientation": "h", "yanchor": "top", "y": -0.14, "x": 0}
    figure.update_layout(**PLAIN_LAYOUT, height=640, margin={"l": 64, "r": 24, "t": 36, "b": 48}, legend=legend)
    figure.update_xaxes(title="days", gridcolor=GRID_COLOUR)
    figure.update_yaxes(title="bill so far, USD", gridcolor=GRID_COLOUR, tickformat="$,.3~s")
    nothing = np.empty(0)
    report = Report(
        title="What the same targets cost on a real GPU marketplace",
        subtitle=f"{days[-1]:.1f} days of recorded prices and stock of {len(runs) - 2} suppliers of 8 × H100 SXM; purchases simulated",
        key_figures=(),
        timeline=Timeline(nothing, nothing, nothing, nothing, nothing, nothing),
        cost_time_unix=nothing,
        cost_usd={},
        tables=(Table("By choice of supplier", COLUMNS, tuple(run.row for run in runs), COLUMNS[1:]),),
        notes=("A supplier alone that bills little served little: compare USD per replica-hour served, and how much was served.",),
    )
    file.write_text(render(report, figure), encoding="utf-8")


def main() -> None:
    """Replay and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    worlds, seconds, listed = series(data_folders(os.environ))
    wanted = targets(seconds)
    runs = [asyncio.run(play("market", worlds, listed, wanted, by_list=False))]
    runs.append(asyncio.run(play("by list price", worlds, listed, wanted, by_list=True)))
    runs += [asyncio.run(play(f"{name} alone", {name: worlds[name]}, listed, wanted, by_list=False)) for name in worlds]
    print(f"{seconds / 86400.0:.1f} days, {len(wanted)} steps, six suppliers of 8 × H100 SXM")
    print(f"| {' | '.join(COLUMNS)} |\n|---|---:|---:|---:|")
    print("\n".join(f"| {' | '.join(run.row)} |" for run in runs))
    if options.report:
        plot(runs, options.report)


if __name__ == "__main__":
    main()
