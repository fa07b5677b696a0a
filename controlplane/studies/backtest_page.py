"""A backtest as one HTML page: each trace with the forecast bands made for it, coverage by horizon, and the table.

Owns the plots; it must not compute figures. See `backtest` for what is drawn. The page is that of `report_html`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from plotly.subplots import make_subplots

from controlplane.contracts.units import format_duration, from_unix
from controlplane.sim.report import Report, Table, Timeline
from controlplane.sim.report_html import COST_COLOURS, FLOOR_COLOUR, GRID_COLOUR, PLAIN_LAYOUT, render
from controlplane.studies.backtest import HEADINGS, LEGEND, QUANTILES, Backtest, span, table_rows

MOST_POINTS = 2000
ROW_PIXELS = 240
INK, BAND = "#808893", "rgba(42,111,151,0.25)"
COLOURS = (FLOOR_COLOUR, *COST_COLOURS)


def write_page(results: Sequence[Backtest], path: Path) -> None:
    """Write the page to a file; it needs nothing else."""
    nothing = np.empty(0)
    extra = sorted({name for result in results for line in result.lines for name in line.peers})
    columns = (*HEADINGS, *(f"÷ {name}" for name in extra))
    rows = tuple(tuple(row) for row in table_rows([line for result in results for line in result.lines]))
    report = Report(
        title="How good the forecast is: tidegate backtest",
        subtitle="at every observation predict first, learn after · " + " · ".join(_period(result) for result in results),
        key_figures=(),
        timeline=Timeline(nothing, nothing, nothing, nothing, nothing, nothing),
        cost_time_unix=nothing,
        cost_usd={},
        tables=(Table("By horizon", columns, rows, columns[1:], LEGEND),),
        synthetic=any(result.trace.synthetic for result in results),
    )
    path.write_text(render(report, _figure(results)), encoding="utf-8")


def _period(result: Backtest) -> str:
    times = result.trace.time_unix
    begun, ended = (from_unix(float(at)).strftime("%Y-%m-%d %H:%M") for at in (times[0], times[-1]))
    return f"{result.trace.name}, {format_duration(round(result.trace.span_seconds))}, {begun} – {ended} UTC"


def _figure(results: Sequence[Backtest]) -> Any:
    titles = [
        title
        for result in results
        for title in (
            *(f"{span(line.figures.horizon_seconds)} ahead, work per second · {result.trace.name}" for line in result.lines),
            f"Coverage by nominal quantile · {result.trace.name}",
        )
    ]
    count = len(titles)
    # Pixels between plots, as the share of the whole that plotly wants.
    figure = make_subplots(rows=count, cols=1, subplot_titles=titles, vertical_spacing=min(70.0 / (ROW_PIXELS * count), 0.2))
    row = 1
    for result in results:
        for column in range(len(result.lines)):
            _draw_horizon(figure, result, column, row)
            row += 1
        _draw_coverage(figure, result, row)
        row += 1
    legend = {"orientation": "h", "yanchor": "bottom", "y": 1.0 + 30.0 / (ROW_PIXELS * count), "x": 0, "traceorder": "normal"}
    figure.update_layout(
        **{**PLAIN_LAYOUT, "modebar": {**PLAIN_LAYOUT["modebar"], "orientation": "v"}},
        height=ROW_PIXELS * count + 120,
        margin={"l": 64, "r": 40, "t": 48, "b": 60},
        legend=legend,
    )
    figure.update_annotations(font_size=14, xanchor="left", x=0)
    figure.update_xaxes(gridcolor=GRID_COLOUR)
    figure.update_yaxes(gridcolor=GRID_COLOUR, rangemode="tozero")
    return figure


def _draw_horizon(figure: Any, result: Backtest, column: int, row: int) -> None:
    every = max(len(result.outcome.time_unix) // MOST_POINTS, 1)
    low, middle, high = (QUANTILES.index(level) for level in (0.1, 0.5, 0.9))
    horizon, said = result.lines[column].figures.horizon_seconds, result.outcome.demand[::every, column]
    shared: dict[str, Any] = {
        "x": (1000.0 * (result.outcome.time_unix[::every] + horizon)).astype("datetime64[ms]"),
        "mode": "lines",
        "showlegend": row == 1,
    }
    figure.add_scatter(y=said[:, high], line={"width": 0}, hoverinfo="skip", **{**shared, "showlegend": False}, row=row, col=1)
    figure.add_scatter(
        y=said[:, low], line={"width": 0}, fill="tonexty", fillcolor=BAND, name="forecast, 10–90 %", **shared, row=row, col=1
    )
    figure.add_scatter(y=said[:, middle], line={"width": 1, "color": FLOOR_COLOUR}, name="forecast, middle", **shared, row=row, col=1)
    came = result.actual.demand[::every, column]
    figure.add_scatter(y=came, line={"width": 1, "color": INK}, meta="ink", name="what came", **shared, row=row, col=1)


def _draw_coverage(figure: Any, result: Backtest, row: int) -> None:
    first = row == len(result.lines) + 1
    for line, colour in zip(result.lines, COLOURS * len(result.lines), strict=False):
        cover = [share.value for share in line.figures.coverage]
        name = f"{span(line.figures.horizon_seconds)} ahead"
        style: dict[str, Any] = {"mode": "lines+markers", "line": {"color": colour}, "name": name, "showlegend": first}
        figure.add_scatter(x=list(QUANTILES), y=cover, **style, row=row, col=1)
    right: dict[str, Any] = {"mode": "lines", "line": {"dash": "dot", "color": INK}, "name": "as it should be", "showlegend": first}
    figure.add_scatter(x=[0, 1], y=[0, 1], **right, row=row, col=1)
