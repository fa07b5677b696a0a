"""What to reserve, as one HTML page: what each layer costs otherwise against the break-even lines, and the saving by what is reserved.

Owns the plots and the words around them; it must not compute a figure that `controlplane.studies.floor_sizing` does not.
"""

from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from controlplane.contracts.units import format_duration, from_unix
from controlplane.sim.report import Report, Table, Timeline, percent
from controlplane.sim.report_html import BURST_COLOUR, COST_COLOURS, COST_DASHES, FLOOR_COLOUR, GRID_COLOUR, PLAIN_LAYOUT, render
from controlplane.studies.floor_sizing import Sizing
from policies.floor import FloorChoice

MOST_LAYERS_LISTED = 200
FIRST_YEAR = 1980
DAYS_ARE_WEEKS_SECONDS = 2 * 86400.0  # the history is parted into whole weeks or into days: see `policies.floor.parts_of`
BAND = "rgba(42,111,151,0.18)"
ABOUT = (
    "A layer is one lot of replicas on top of those below it. Not reserved, it costs the cheaper of renting it whenever it is needed "
    "(boots and minimum holds included) and of spilling its work. It is worth reserving where that is above the committed price: "
    "the break-even line. The range is over the weeks of the history (days, where there are fewer than two weeks)."
)
CHOICE_COLUMNS = ("term", "USD per replica-hour", "reserve", "range", "saves USD/h", "range of the saving", "over the term")
LAYER_COLUMNS = ("replicas", "needed", "used", "USD/h otherwise", "lowest", "highest")


def write_floor_page(sizing: Sizing, path: Path) -> None:
    """Write the page to a file; it needs nothing else."""
    nothing = np.empty(0)
    best, trace = sizing.best, sizing.trace
    report = Report(
        title="How many replicas to reserve",
        subtitle=f"fleet {sizing.fleet.name}, offer {sizing.reserved.name} · {trace.name} · {_period(sizing)}",
        key_figures=(
            ("Reserve", f"{best.replicas * sizing.lot}", f"replicas, {best.term.name}; the policy's floor is {sizing.held * sizing.lot}"),
            ("Saves", f"${best.saving_usd_per_hour:,.2f}/h", _range(sizing)),
            ("Over the term", f"${best.saving_usd:,.0f}", "against reserving nothing, if it is like the history"),
        ),
        timeline=Timeline(nothing, nothing, nothing, nothing, nothing, nothing),
        cost_time_unix=nothing,
        cost_usd={},
        tables=(
            Table("By term", CHOICE_COLUMNS, choice_rows(sizing), CHOICE_COLUMNS[1:], ABOUT),
            Table("Layer by layer", LAYER_COLUMNS, layer_rows(sizing), LAYER_COLUMNS),
        ),
        synthetic=trace.synthetic,
        notes=(),
    )
    path.write_text(render(report, _figure(sizing)), encoding="utf-8")


def choice_rows(sizing: Sizing) -> tuple[tuple[str, ...], ...]:
    """Return one row of text per term, the one that saves most first; counts and prices are of single replicas."""
    return tuple(
        (
            choice.term.name,
            f"{choice.term.usd_per_replica_hour / sizing.lot:,.2f}",
            f"{choice.replicas * sizing.lot}",
            f"{choice.replicas_low * sizing.lot}–{choice.replicas_high * sizing.lot}",
            f"{choice.saving_usd_per_hour:,.2f}",
            f"{choice.saving_low_usd_per_hour:,.2f} to {choice.saving_high_usd_per_hour:,.2f}",
            f"{choice.saving_usd:,.0f}",
        )
        for choice in sizing.choices
    )


def layer_rows(sizing: Sizing) -> tuple[tuple[str, ...], ...]:
    """Return one row of text per layer, from the bottom."""
    use = sizing.use
    low, high = _spread(sizing)
    return tuple(
        (
            f"{layer * sizing.lot + 1}–{(layer + 1) * sizing.lot}" if sizing.lot > 1 else f"{layer + 1}",
            percent(float(use.needed[layer])),
            percent(float(use.used[layer])),
            *(f"{float(values[layer]):,.2f}" for values in (use.usd_per_hour, low, high)),
        )
        for layer in range(min(len(use.used), MOST_LAYERS_LISTED))
    )


def _period(sizing: Sizing) -> str:
    """Return from when to when the history goes; a trace that starts at no date (at second 0) has its length only."""
    begun, ended = (from_unix(float(at)) for at in sizing.trace.time_unix[[0, -1]])
    length = f"{format_duration(round(sizing.trace.span_seconds))} of history"
    return length if begun.year < FIRST_YEAR else f"{length}, {begun:%Y-%m-%d %H:%M} – {ended:%Y-%m-%d %H:%M} UTC"


def _range(sizing: Sizing) -> str:
    low, high = sizing.best.saving_low_usd_per_hour, sizing.best.saving_high_usd_per_hour
    count = len(sizing.part_uses)
    part = "week" if sizing.trace.span_seconds / count > DAYS_ARE_WEEKS_SECONDS else "day"
    return f"{low:,.2f} to {high:,.2f} from {part} to {part}" if count > 1 else "of the whole history"


def _spread(sizing: Sizing) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and highest USD per hour of each layer over the parts of the history."""
    parts = np.stack([use.usd_per_hour for use in sizing.part_uses])
    return parts.min(axis=0), parts.max(axis=0)


def _figure(sizing: Sizing) -> Any:
    titles = ("USD/h per layer, against the break-even lines", "USD per hour saved, by replicas reserved")
    figure = make_subplots(rows=2, cols=1, vertical_spacing=0.14, subplot_titles=titles)
    layers = sizing.lot * np.arange(1, len(sizing.use.used) + 1)
    low, high = _spread(sizing)
    _band(figure, layers, low, high, 1)
    style: dict[str, Any] = {"mode": "lines", "line": {"color": BURST_COLOUR, "width": 2.4, "shape": "hvh"}}
    figure.add_trace(go.Scatter(x=layers, y=sizing.use.usd_per_hour, name="rented or spilled", **style), row=1, col=1)
    for at, choice in enumerate(sizing.choices):
        _draw_choice(figure, sizing, choice, at)
    figure.update_layout(
        **PLAIN_LAYOUT,
        height=820,
        margin={"l": 64, "r": 24, "t": 60, "b": 48},
        legend={"orientation": "h", "yanchor": "top", "y": -0.1, "x": 0},
    )
    figure.update_annotations(font_size=14, xanchor="left", x=0)
    figure.update_xaxes(gridcolor=GRID_COLOUR, title="replicas")
    figure.update_yaxes(gridcolor=GRID_COLOUR, tickformat="$,.3~r")
    return figure


def _draw_choice(figure: Any, sizing: Sizing, choice: FloorChoice, at: int) -> None:
    """Draw a term's break-even line, its saving, and where it is largest; the first term's range as a band."""
    colour = FLOOR_COLOUR if at == 0 else COST_COLOURS[at % 5]
    counts = sizing.lot * np.arange(len(sizing.use.used) + 1)
    line = {"color": colour, "width": 1.6, "dash": COST_DASHES[at % 5]}
    price = [choice.term.usd_per_replica_hour] * 2
    even = go.Scatter(x=[counts[0], counts[-1]], y=price, name=f"{choice.term.name} committed", mode="lines", line=line)
    figure.add_trace(even, row=1, col=1)
    if at == 0:
        parts = np.stack([sizing.savings(use, choice) for use in sizing.part_uses])
        _band(figure, counts, parts.min(axis=0), parts.max(axis=0), 2)
    saved = go.Scatter(x=counts, y=sizing.savings(sizing.use, choice), mode="lines", line=line, showlegend=False, name=choice.term.name)
    figure.add_trace(saved, row=2, col=1)
    top = {"color": colour, "size": 11}
    x, y = [choice.replicas * sizing.lot], [choice.saving_usd_per_hour]
    figure.add_trace(go.Scatter(x=x, y=y, mode="markers", marker=top, showlegend=False, name=f"{choice.term.name}: reserve"), row=2, col=1)


def _band(figure: Any, x: np.ndarray, low: np.ndarray, high: np.ndarray, row: int) -> None:
    edge: dict[str, Any] = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    figure.add_trace(go.Scatter(x=x, y=low, showlegend=False, **edge), row=row, col=1)
    named: dict[str, Any] = {"name": "range over the history", "showlegend": row == 1}
    figure.add_trace(go.Scatter(x=x, y=high, fill="tonexty", fillcolor=BAND, **named, **edge), row=row, col=1)
