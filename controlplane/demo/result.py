"""What came of a demo: the supplier's own ledger judged and billed, a table for the terminal, and the run as a result like any other.

Owns the turning of a watched run into a `RunResult`, so that it is shown like any simulated one; it must not watch anything itself.
`controlplane.sim.invariants` has the ledger's checks, `page` writes the HTML report.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.table import Table
from rich.text import Text

from controlplane.contracts.fleet import Tier
from controlplane.contracts.units import SECONDS_PER_HOUR, format_duration
from controlplane.demo.scenario import Scenario
from controlplane.live.model import ViewModel
from controlplane.sim.cloud_ledger import Entry
from controlplane.sim.cloud_model import Market, Replica
from controlplane.sim.invariants import bought_twice, orphans
from controlplane.sim.report import SUMMARY_COLUMNS, summary_rows
from controlplane.sim.run import RunResult, Steps

LEDGER_NOTE = "Cost of floor and burst: the simulated cloud's own ledger; spill: what was spilled, at the policy's price."


@dataclass(frozen=True, slots=True)
class LedgerChecks:
    """What must be zero in the supplier's ledger, whoever died in between."""

    bought_twice: int
    orphans: int

    @property
    def clean(self) -> bool:
        """Whether nothing was bought twice or forgotten."""
        return self.bought_twice == 0 and self.orphans == 0

    def __str__(self) -> str:
        """Say it as the demo prints it."""
        return f"bought twice: {self.bought_twice}, orphans: {self.orphans}"


def checked(ledger: Sequence[Entry], model: ViewModel) -> LedgerChecks:
    """Judge a ledger against what the control plane says it holds."""
    counted: Mapping[tuple[str, str], int] = {(model.fleet.name, offer): count for offer, count in model.held().items()}
    return LedgerChecks(len(bought_twice(ledger)), sum(orphans(ledger, counted).values()))


def result_of(model: ViewModel, scenario: Scenario, ledger: Sequence[Entry]) -> RunResult:
    """Return the watched run as a result, billed by the ledger up to its newest interval."""
    market = Market.replayed(ledger)
    until = model.rows[-1].time_unix
    fleet, totals = model.fleet, model.totals
    rented = sum(replica.bill_usd(until) for replica in market.replicas.values())
    hours = {offer.name: _held_hours(market, offer.name, until) for offer in fleet.offers}
    table = np.array(model.rows, dtype=np.float64).T
    time, seconds, demand, backlog, on_time, late, spilled, floor, burst = table[:9]
    return RunResult(
        name="tidegate",
        fleet=fleet.name,
        workload=scenario.title,
        synthetic=scenario.synthetic,
        seconds=until - scenario.start_unix,
        offered=totals.offered,
        on_time=totals.on_time,
        late=totals.late,
        spilled=totals.spilled,
        cost_usd_by_tier={
            # The cloud opened a little before the week; nothing is rented by then.
            Tier.FLOOR.value: market.bill_usd(until) - rented - market.bill_usd(scenario.start_unix),
            Tier.BURST.value: rented,
            Tier.SPILL.value: model.spill_usd,
        },
        replica_hours_by_offer=hours,
        gpu_hours=sum(hours[offer.name] * offer.accelerators_per_replica for offer in fleet.offers),
        scale_events=totals.scale_events,
        decisions=totals.decisions,
        steps=Steps(time, demand, backlog, on_time * seconds, late * seconds, spilled, floor, burst, table[9:12].sum(axis=0)),
        lines=tuple(model.lines),
    )


def _held_hours(market: Market, offer: str, until_unix: float) -> float:
    return sum(_held_seconds(replica, until_unix) for replica in market.replicas.values() if replica.offer == offer) / SECONDS_PER_HOUR


def _held_seconds(replica: Replica, until_unix: float) -> float:
    ends = [end for end in (until_unix, replica.released_unix, replica.lease.interrupted_unix) if end is not None]
    return max(0.0, min(ends) - replica.requested_unix)


def summary_of(results: Sequence[RunResult], attainment: float) -> Table:
    """Return the comparison with one column per autoscaler, so that it fits eighty columns."""
    first = results[0]
    title = f"{format_duration(round(first.seconds / 300.0) * 300.0)} of {first.workload}"
    table = Table(title=title, title_justify="left", header_style="bold", title_style="bold", caption=LEDGER_NOTE, caption_justify="left")
    rows = summary_rows(results)
    table.add_column("")
    for result in results:
        table.add_column(result.name, justify="right", style="bold" if result is first else "")
    for place, label in enumerate(SUMMARY_COLUMNS[1:], start=1):
        missed = label == "within SLO"
        cells = [
            Text(row[place], style="red" if missed and result.attainment < attainment else "")
            for row, result in zip(rows, results, strict=True)
        ]
        table.add_row(label, *cells)
    return table
