"""A backtest as one HTML page: the trace with the forecast bands made for it, coverage and loss by horizon, the table.

Owns the page's looks; it must not compute figures. See `backtest` for what is drawn.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from controlplane.studies.backtest import HEADINGS, LEGEND, QUANTILES, Backtest, span, table_rows

MOST_POINTS = 2000
INK, BAND, LINE = "#808893", "rgba(42,111,151,0.25)", "#2a6f97"
STYLE = """
:root { color-scheme: light dark }
body { font: 14px/1.5 Inter, system-ui, sans-serif; margin: 2rem auto; max-width: 1200px; padding: 0 1rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums } th, td { padding: .2rem .6rem; text-align: right }
th:first-child, td:first-child { text-align: left } tr { border-bottom: 1px solid #8884 } .wide { overflow-x: auto }
"""


def write_page(results: Sequence[Backtest], path: Path) -> None:
    """Write the page to a file; it needs nothing else."""
    rows = table_rows([line for result in results for line in result.lines])
    extra = sorted({name for result in results for line in result.lines for name in line.peers})
    head = "".join(f"<th>{escape(name)}</th>" for name in (*HEADINGS, *(f"÷ {name}" for name in extra)))
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    plots = "".join(
        f"<h2>{escape(result.trace.name)}</h2>" + _figure(result).to_html(full_html=False, include_plotlyjs=False) for result in results
    )
    note = "Predict, then learn. " + LEGEND
    page = (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>tidegate backtest</title><style>{STYLE}</style>"
        f"<script>{get_plotlyjs()}</script></head><body><h1>tidegate backtest</h1><p>{note}</p>"
        f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{plots}</body></html>"
    )
    path.write_text(page, encoding="utf-8")


def _figure(result: Backtest) -> go.Figure:
    shown = [line.figures.horizon_seconds for line in result.lines]
    titles = [f"{result.trace.name}: {span(horizon)} ahead, 0.1 to 0.9" for horizon in shown] + ["Coverage by nominal quantile"]
    figure = make_subplots(rows=len(shown) + 1, cols=1, subplot_titles=titles, vertical_spacing=0.04)
    every = max(len(result.outcome.time_unix) // MOST_POINTS, 1)
    low, middle, high = (QUANTILES.index(level) for level in (0.1, 0.5, 0.9))
    for row, (column, horizon) in enumerate(enumerate(shown), start=1):
        when = (1000.0 * (result.outcome.time_unix[::every] + horizon)).astype("datetime64[ms]")
        said = result.outcome.demand[::every, column]
        figure.add_scatter(x=when, y=said[:, high], line={"width": 0}, showlegend=False, row=row, col=1)
        figure.add_scatter(x=when, y=said[:, low], line={"width": 0}, fill="tonexty", fillcolor=BAND, showlegend=False, row=row, col=1)
        figure.add_scatter(x=when, y=said[:, middle], line={"width": 1, "color": LINE}, showlegend=False, row=row, col=1)
        figure.add_scatter(
            x=when, y=result.actual.demand[::every, column], line={"width": 1, "color": INK}, showlegend=False, row=row, col=1
        )
    nominal = np.array(QUANTILES)
    for line in result.lines:
        cover = [share.value for share in line.figures.coverage]
        figure.add_scatter(x=nominal, y=cover, mode="lines+markers", name=span(line.figures.horizon_seconds), row=len(shown) + 1, col=1)
    figure.add_scatter(x=[0, 1], y=[0, 1], line={"dash": "dot", "color": INK}, name="perfect", row=len(shown) + 1, col=1)
    transparent = "rgba(0,0,0,0)"
    figure.update_layout(height=260 * (len(shown) + 1), paper_bgcolor=transparent, plot_bgcolor=transparent, font={"color": INK})
    return figure
