"""The comparison as one HTML page: each case's ratios to the clairvoyant as dots, and the figures behind them.

Owns the plot and the tables; it must not compute a ratio that `controlplane.sim.bench` does not. The page is that of `report_html`.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import plotly.graph_objects as go

from controlplane.sim.bench import Outcome
from controlplane.sim.report import Report, Table, Timeline, percent
from controlplane.sim.report_html import COST_COLOURS, GRID_COLOUR, PLAIN_LAYOUT, render

PEER_SYMBOLS = ("circle-open", "square-open", "diamond-open", "triangle-up-open", "triangle-down-open", "x-thin-open", "cross-thin-open")

ABOUT = (
    "With a spill tier peers stand behind a gateway that spills whatever would miss the SLO. Without one, costs are compared at the "
    "policy's attainment, a peer's interpolated between two settings of its knob."
)
ABOUT_TABLE = (
    "All over the clairvoyant's cost. What is above the floor leaves out what the floor costs either way. Nothing at all can be below the "
    "proven bound."
)


def write_bench_page(outcomes: Sequence[Outcome], path: Path) -> None:
    """Write the page to a file."""
    nothing = np.empty(0)
    report = Report(
        title="tidegate against its peers, each at its best in hindsight",
        subtitle=f"cost over the clairvoyant's; peers tuned for each case, tidegate not at all · {_world(outcomes)}",
        key_figures=_figures(outcomes),
        timeline=Timeline(nothing, nothing, nothing, nothing, nothing, nothing),
        cost_time_unix=nothing,
        cost_usd={},
        tables=(_table(outcomes),),
        notes=(ABOUT,),
    )
    path.write_text(render(report, _dots(outcomes)), encoding="utf-8")


def _figures(outcomes: Sequence[Outcome]) -> tuple[tuple[str, str, str], ...]:
    own = fmean(outcome.ratio(outcome.own) for outcome in outcomes)
    best = [outcome.ratio(outcome.best_peer) for outcome in outcomes if outcome.best_peer is not None]
    kept = sum(outcome.own.attainment >= outcome.case.attainment for outcome in outcomes)
    return (
        ("tidegate, mean", f"{own:.3f}×", "the clairvoyant's cost, untuned"),
        ("Best peer of each case, mean", f"{fmean(best):.3f}×" if best else "none", "tuned in hindsight"),
        ("Kept the attainment", f"{kept} of {len(outcomes)}", "cases, tidegate"),
        ("Changes a day", *_changes(outcomes)),
    )


def _world(outcomes: Sequence[Outcome]) -> str:
    """Return how much of each trace was played, and in whose chance."""
    days = max(outcome.case.max_days for outcome in outcomes)
    seeds = ", ".join(str(seed) for seed in sorted({outcome.case.seed for outcome in outcomes}))
    return f"at most {days:g} days of a trace, seed {seeds}"


def _changes(outcomes: Sequence[Outcome]) -> tuple[str, str]:
    """Return the mean changes of a target per day, and beside them those of the HPA on the same cases."""
    compared = [(outcome.own.scale_events_per_day, outcome.hpa.scale_events_per_day) for outcome in outcomes if outcome.hpa is not None]
    if not compared:
        return f"{fmean(outcome.own.scale_events_per_day for outcome in outcomes):.0f}", "tidegate; no HPA was run"
    own, other = (fmean(values) for values in zip(*compared, strict=True))
    return f"{own:.0f}", f"the HPA {other:.0f}, at the same attainment"


def _table(outcomes: Sequence[Outcome]) -> Table:
    columns = (
        "case",
        "tidegate",
        "above the floor",
        "within SLO",
        "changes/day",
        "HPA's changes/day",
        "best peer",
        "its ratio",
        "its changes/day",
        "proven bound",
    )
    rows = []
    for outcome in outcomes:
        own, best = outcome.own, outcome.best_peer
        peer = (best.name, f"{outcome.ratio(best):.3f}", f"{best.scale_events_per_day:.0f}") if best else ("none keeps it", "–", "–")
        cells = (
            f"{outcome.ratio(own):.3f}",
            f"{outcome.controllable(own):.3f}",
            percent(own.attainment),
            f"{own.scale_events_per_day:.0f}",
            f"{outcome.hpa.scale_events_per_day:.0f}" if outcome.hpa else "–",
        )
        rows.append((outcome.case.name, *cells, *peer, f"{outcome.bound.bound_usd / outcome.reference_usd:.3f}"))
    return Table("Case by case", columns, tuple(rows), tuple(name for name in columns if name not in ("case", "best peer")), ABOUT_TABLE)


def _dots(outcomes: Sequence[Outcome]) -> Any:
    figure = go.Figure()
    names = list(dict.fromkeys(point.name for outcome in outcomes for point in outcome.peers if point is not None))
    for at, name in enumerate(names):
        found = [(o.ratio(p), o.case.name) for o in outcomes for p in o.peers if p is not None and p.name == name]
        marker = {"symbol": PEER_SYMBOLS[at % 7], "size": 9, "color": COST_COLOURS[1 + at % 4], "line": {"width": 1.6}}
        figure.add_trace(_row_of(found, name, marker))
    own = [(outcome.ratio(outcome.own), outcome.case.name) for outcome in outcomes]
    figure.add_trace(_row_of(own, "tidegate", {"symbol": "circle", "size": 13, "color": COST_COLOURS[0]}))
    figure.add_vline(x=1.0, line={"color": "#808893", "width": 1.2, "dash": "dot"})
    figure.update_layout(
        **PLAIN_LAYOUT,
        height=180 + 44 * len(outcomes),
        margin={"l": 64, "r": 24, "t": 30, "b": 48},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0},
    )
    figure.update_xaxes(title="cost ÷ clairvoyant", gridcolor=GRID_COLOUR, tickformat=".2f", ticksuffix="×")
    # A case's name stands above its dots, so that they keep the width of a small page.
    figure.update_yaxes(autorange="reversed", gridcolor=GRID_COLOUR, showticklabels=False)
    for outcome in outcomes:
        figure.add_annotation(text=outcome.case.name, y=outcome.case.name, x=0, xref="paper", xanchor="left", yshift=15, showarrow=False)
    return figure


def _row_of(found: list[tuple[float, str]], name: str, marker: dict[str, Any]) -> Any:
    hover = "%{x:.3f}× · " + name + "<extra></extra>"
    return go.Scatter(x=[x for x, _ in found], y=[y for _, y in found], name=name, mode="markers", marker=marker, hovertemplate=hover)
