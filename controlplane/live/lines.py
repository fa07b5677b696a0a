"""The lines of the live view beside its plots: what is held, what was promised, what it costs, what was decided.

Owns their words and bars; it must not compute anything but shares. `controlplane.live` lays them out.
"""

from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from controlplane.contracts.fleet import Tier
from controlplane.contracts.units import from_unix
from controlplane.live.model import Change, ViewModel, costs_at
from controlplane.live.plot import BAD, BURST_COLOUR, FLOOR_COLOUR, GOOD, QUIET, SPILL_COLOUR
from controlplane.sim.report import percent
from controlplane.sim.run import RunResult


def fleet_of(model: ViewModel) -> Text:
    """Say what is held by offer, of how many, and how long the queue is."""
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append("fleet    ", "bold")
    for offer in model.fleet.offers:
        status = model.pools.get(offer.name)
        colour = FLOOR_COLOUR if offer.tier is Tier.FLOOR else BURST_COLOUR
        line.append(f"{offer.name} ", colour)
        line.append(f"{status.ready if status else 0:d}", "bold")
        if status is not None and status.pending:
            line.append(f"+{status.pending}", QUIET)
        if status is not None and status.unavailable:
            line.append(" refused", BAD)
        line.append("  ")
    row = model.rows[-1] if model.rows else None
    line.append("spilled ", SPILL_COLOUR)
    line.append(f"{row.spilled if row else 0.0:,.1f}/s  ", "bold")
    line.append("queue ", QUIET)
    line.append(f"{row.backlog if row else 0.0:,.0f}", "bold")
    return line


def promise_of(model: ViewModel) -> Text:
    """Say what was promised and what was kept so far."""
    totals, goal = model.totals, model.fleet.slo.attainment
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append("so far   ", "bold")
    line.append(percent(totals.attainment), f"bold {GOOD if totals.attainment >= goal else BAD}")
    line.append(f" within the SLO (policy {percent(goal)})  ")
    line.append(f"{percent(totals.spilled_share)}", "bold")
    line.append(" spilled  ")
    line.append(f"{totals.scale_events}", "bold")
    line.append(" changes")
    return line


def costs_of(model: ViewModel, compared: Sequence[RunResult], width: int) -> list[Text]:
    """Return a bar per autoscaler: what it has paid by this moment of the trace."""
    now = model.rows[-1].time_unix if model.rows else model.now_unix
    paid = [("tidegate", model.usd, model.totals.attainment, GOOD)]
    paid += [
        (result.name, usd, _attainment_at(result, now), QUIET) for result, usd in costs_at(compared, now) if "naive" not in result.name
    ]
    name_width = max(22, *(len(name) for name, *_ in paid)) + 1
    most = max(usd for _, usd, *_ in paid) or 1.0
    room = max(width - name_width - 42, 8)
    lines = []
    for name, usd, attainment, colour in paid:
        line = Text(no_wrap=True, overflow="crop")
        line.append(f"{name:<{name_width}}", "bold" if name == "tidegate" else "")
        bar = max(round(usd / most * room), 1 if usd > 0 else 0)
        line.append("█" * bar + " " * (room - bar), colour)
        line.append(f" ${usd:>9,.0f}", "bold")
        more = "" if name == "tidegate" or not model.usd else f"{usd / model.usd - 1.0:+.0%}"
        line.append(f" {more:>5}", BAD if more.startswith("+") else GOOD)
        line.append(f"  {percent(attainment):>8} in SLO", QUIET)
        lines.append(line)
    if not compared:
        lines += [Text("HPA 70% and all on demand: being computed …", QUIET), Text()]
    return lines


def _attainment_at(result: RunResult, time_unix: float) -> float:
    """Return the attainment that a comparison had reached by a moment."""
    steps = result.steps
    place = int(steps.time_unix.searchsorted(time_unix + 1e-6, side="right"))
    late = float(steps.late[:place].sum())
    seconds = result.seconds / max(len(steps.time_unix), 1)
    offered = float(steps.demand_per_second[:place].sum()) * seconds
    return 1.0 - late / offered if offered > 0.0 else 1.0


def decisions_of(model: ViewModel, count: int) -> list[RenderableType]:
    """Return the newest decisions that changed a target, the newest first."""
    table = Table.grid(padding=(0, 2), pad_edge=False)
    for _ in range(3):
        table.add_column(no_wrap=True, overflow="ellipsis")
    shown = list(reversed(model.changes[-count:]))
    for change in shown:
        table.add_row(Text(f"{from_unix(change.time_unix):%a %H:%M}", QUIET), _moves(change), Text(_reasons(change), QUIET))
    for _ in range(count - len(shown)):
        table.add_row("", "", "")
    return [Text("decisions and their reasons", "bold"), table]


def _moves(change: Change) -> Text:
    line = Text()
    for offer, before, after in change.moves:
        line.append(f"{offer} {before}→", "")
        line.append(f"{after}", f"bold {GOOD if after > before else SPILL_COLOUR}")
        line.append("  ")
    line.rstrip()
    return line


def _reasons(change: Change) -> str:
    words = ", ".join(reason.lower().replace("_", " ") for reason in change.reasons)
    return words if change.cause == "schedule" else f"{change.cause}: {words}"
