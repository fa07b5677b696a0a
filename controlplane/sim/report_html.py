"""A report as one HTML page that needs nothing else: plotly is inside, and it follows the reader's light or dark setting.

Owns the plots' looks; it must not compute results. The words around the plots are in `report.html.j2` beside this file.
"""

from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from controlplane.contracts.units import from_unix
from controlplane.sim.report import Report
from controlplane.traces.library import Array

FLOOR_COLOUR = "#2a6f97"
BURST_COLOUR = "#f0a830"
SPILL_COLOUR = "#c8386b"
DEMAND_COLOUR = "#808893"  # the page's script sets the ink of the reader's scheme
BAND_COLOUR = "rgba(128,136,147,0.45)"
COST_COLOURS = ("#1f9d74", "#8a6fd1", "#a7793d", "#6b7785", "#b0b7c0")
COST_DASHES = ("solid", "dash", "dashdot", "dot", "longdash")

GRID_COLOUR = "rgba(128,136,147,0.22)"
PLAIN_LAYOUT: dict[str, Any] = {
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "font": {"family": "Inter, system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 13},
    "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "#808893", "activecolor": FLOOR_COLOUR},
}


def render(report: Report, figure: Any = None) -> str:
    """Return the page; `figure` takes the place of the timeline's plots."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    tiers = [("floor", FLOOR_COLOUR), ("burst", BURST_COLOUR), ("spill", SPILL_COLOUR)]
    page = environment.get_template("report.html.j2")
    own, drawn = figure is not None, figure if figure is not None else _figure(report)
    return page.render(
        report=report, tiers=tiers, own_figure=own, plotly_js=get_plotlyjs(), figure_json=drawn.to_json().replace("</", "<\\/")
    )


def write_report(report: Report, path: Path) -> None:
    """Write the page to a file."""
    path.write_text(render(report), encoding="utf-8")


def _figure(report: Report) -> Any:
    unit = report.unit
    titles = (f"Demand and capacity, {unit} per second", f"Waiting in the queue, {unit}", "Cost so far, USD")
    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, vertical_spacing=0.1, row_heights=[0.55, 0.15, 0.30], subplot_titles=titles)
    _add_capacity(figure, report)
    _add_backlog(figure, report)
    _add_costs(figure, report)
    figure.update_layout(
        **PLAIN_LAYOUT,
        height=1000,
        margin={"l": 64, "r": 24, "t": 36, "b": 40},
        hovermode="x unified",
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.03, "x": 0, "traceorder": "normal"},
        legend2={"orientation": "h", "yanchor": "top", "y": -0.05, "x": 0},
    )
    figure.update_annotations(font_size=14, xanchor="left", x=0)
    figure.update_xaxes(showgrid=False, ticks="outside", ticklen=4, showticklabels=True, tickformatstops=_tick_formats(), showspikes=False)
    figure.update_yaxes(gridcolor=GRID_COLOUR, zerolinecolor="rgba(128,136,147,0.4)", rangemode="tozero", separatethousands=True)
    figure.update_yaxes(tickprefix="$", row=3, col=1)
    return figure


def _tick_formats() -> list[dict[str, object]]:
    return [
        {"dtickrange": [None, 60_000], "value": "%H:%M:%S"},
        {"dtickrange": [60_000, 86_400_000], "value": "%H:%M\n%d %b"},
        {"dtickrange": [86_400_000, None], "value": "%d %b"},
    ]


def _times(time_unix: Array) -> list[datetime]:
    return [from_unix(at).replace(tzinfo=None) for at in time_unix.tolist()]


def _add_capacity(figure: Any, report: Report) -> None:
    line = report.timeline
    times = _times(line.time_unix)
    tiers = (
        ("floor", line.floor_per_second, FLOOR_COLOUR),
        ("burst", line.burst_per_second, BURST_COLOUR),
        ("spilled", line.spilled_per_second, SPILL_COLOUR),
    )
    for name, values, colour in tiers:
        if len(values):
            area = {"width": 0, "shape": "hv"}
            area_style: dict[str, Any] = {"stackgroup": "capacity", "fillcolor": _faded(colour, 0.72), "line": area, "mode": "lines"}
            figure.add_trace(go.Scatter(x=times, y=_rounded(values), name=name, hovertemplate="%{y:,.1f}", **area_style), row=1, col=1)
    if len(line.band_low):
        edge = {"width": 0}
        low: dict[str, Any] = {
            "x": times,
            "y": _rounded(line.band_low),
            "line": edge,
            "showlegend": False,
            "hoverinfo": "skip",
            "mode": "lines",
        }
        high: dict[str, Any] = {
            "x": times,
            "y": _rounded(line.band_high),
            "line": edge,
            "fill": "tonexty",
            "fillcolor": BAND_COLOUR,
            "mode": "lines",
        }
        figure.add_trace(go.Scatter(**low), row=1, col=1)
        figure.add_trace(go.Scatter(**high, name=line.band_name, hovertemplate="%{y:,.1f}"), row=1, col=1)
    demand = {"color": DEMAND_COLOUR, "width": 1.3}
    style: dict[str, Any] = {"x": times, "y": _rounded(line.demand_per_second), "line": demand, "mode": "lines", "meta": "ink"}
    figure.add_trace(go.Scatter(**style, name="demand", hovertemplate="%{y:,.1f}"), row=1, col=1)


def _add_backlog(figure: Any, report: Report) -> None:
    line = report.timeline
    if not len(line.backlog):
        return
    style = {"line": {"color": SPILL_COLOUR, "width": 1.2}, "fill": "tozeroy", "fillcolor": _faded(SPILL_COLOUR, 0.2), "mode": "lines"}
    queue = go.Scatter(
        x=_times(line.time_unix), y=_rounded(line.backlog), name="queue", showlegend=False, hovertemplate="%{y:,.1f}", **style
    )
    figure.add_trace(queue, row=2, col=1)


def _add_costs(figure: Any, report: Report) -> None:
    times = _times(report.cost_time_unix)
    for at, (name, values) in enumerate(report.cost_usd.items()):
        line = {"color": COST_COLOURS[at % 5], "width": 2.6 if at == 0 else 1.6, "dash": COST_DASHES[at % 5]}
        style: dict[str, Any] = {"x": times, "y": _rounded(values), "line": line, "mode": "lines", "legend": "legend2"}
        figure.add_trace(go.Scatter(**style, name=name, hovertemplate="$%{y:,.0f}"), row=3, col=1)


def _rounded(values: Array) -> list[float]:
    return [float(f"{value:.5g}") for value in values.tolist()]


def _faded(colour: str, share: float) -> str:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},{share})"
