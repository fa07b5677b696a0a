"""The live terminal view of the demo: demand and its forecast, capacity by tier, queue, cost, the last decisions, progress.

Owns the layout, from 80x24 upwards; every number is the `ViewModel`'s, and every comparison was computed elsewhere. It must not hear
events itself. `plot` draws the columns, `lines` writes the lines.
"""

from collections.abc import Sequence
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from controlplane.contracts.fleet import Tier
from controlplane.contracts.units import SECONDS_PER_HOUR, format_duration, from_unix
from controlplane.live.lines import costs_of, decisions_of, fleet_of, promise_of
from controlplane.live.model import Band, Row, ViewModel
from controlplane.live.plot import BAD, BURST_COLOUR, FLOOR_COLOUR, QUIET, SPILL_COLOUR, Column, Segment, plot
from controlplane.sim.run import RunResult

DEMAND_COLOUR, BAND_COLOUR, BOTH_COLOUR = "#4f9d8f", "#5a5f73", "#86cbbd"
AHEAD_COLOUR, AHEAD_UPPER_COLOUR = "#454a5c", "#5a5f73"
SHOWN_SECONDS = 24 * SECONDS_PER_HOUR
LABEL_WIDTH = 7
SMALLEST_PLOT = 3
FIXED_LINES = 8  # title, progress, fleet, SLO, the two plots' headings, the decisions' heading, the foot
MOST_DECISIONS = 14


class LiveView:
    """The demo on a terminal. Use it as a context manager and call `show` a few times a second."""

    def __init__(
        self, title: str, start_unix: float, end_unix: float, seconds: float, *, synthetic: bool, console: Console | None = None
    ) -> None:
        """`seconds` is the wall time of the whole."""
        self._title, self._synthetic, self._seconds = title, synthetic, seconds
        self._start_unix, self._end_unix = start_unix, end_unix
        self._console = console or Console()
        self._live = Live(console=self._console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        self._first_seconds: float | None = None

    def __enter__(self) -> Self:
        """Take the terminal."""
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Give the terminal back as it was."""
        self._live.stop()

    def show(self, model: ViewModel, compared: Sequence[RunResult], age_seconds: float) -> None:
        """Draw the state of things."""
        if self._first_seconds is None and model.decision is not None:
            self._first_seconds = age_seconds
        self._live.update(self.picture(model, compared, *self._console.size), refresh=True)

    def picture(self, model: ViewModel, compared: Sequence[RunResult], width: int, height: int) -> RenderableType:
        """Return the whole view for a terminal of this size."""
        costs = costs_of(model, compared, width)
        decisions = 5 if height < 30 else min(MOST_DECISIONS, 6 + (height - 30) // 3)
        left = height - FIXED_LINES - len(costs) - decisions
        lower = max(SMALLEST_PLOT, left // 2)
        upper = max(SMALLEST_PLOT, left - lower)
        return Group(
            self._head(model, width),
            self._progress(model, width),
            *_demand(model, width, upper),
            *_capacity(model, width, lower),
            fleet_of(model),
            promise_of(model),
            *costs,
            *decisions_of(model, decisions),
            self._foot(model),
        )

    def _head(self, model: ViewModel, width: int) -> Text:
        now = from_unix(model.now_unix)
        head = Text(no_wrap=True, overflow="ellipsis")
        head.append("tidegate demo ", "bold")
        if self._synthetic:
            head.append("SYNTHETIC DEMAND ", f"bold {BAD}")
        head.append(f"{now:%a %d %b %H:%M} ", f"bold {BURST_COLOUR}")
        room = width - head.cell_len
        head.append(self._title if len(self._title) <= room else self._title[: max(room - 1, 0)] + "…", QUIET)
        return head

    def _progress(self, model: ViewModel, width: int) -> Text:
        share = min(max((model.now_unix - self._start_unix) / (self._end_unix - self._start_unix), 0.0), 1.0)
        day = min(int(share * 7) + 1, 7)
        words = f" day {day} of 7  {share:4.0%}  {(1.0 - share) * self._seconds:3.0f} s left"
        room = max(width - len(words), 10)
        done = round(share * room)
        return Text.assemble(("━" * done, DEMAND_COLOUR), ("━" * (room - done), AHEAD_COLOUR), (words, QUIET), no_wrap=True)

    def _foot(self, model: ViewModel) -> Text:
        totals = model.totals
        first = "" if self._first_seconds is None else f" · the first after {self._first_seconds:.1f} s"
        words = f"{totals.observations:,} observations · {totals.decisions:,} decisions{first} · Ctrl-C stops"
        return Text(words, QUIET, no_wrap=True, overflow="ellipsis")


def _heading(title: str, parts: Sequence[tuple[str, str]], after: str = "") -> Text:
    """Return a plot's heading with its legend."""
    heading = Text(no_wrap=True, overflow="ellipsis")
    heading.append(title, "bold")
    for name, colour in parts:
        heading.append("  ■ ", colour)
        heading.append(name, QUIET)
    heading.append(after)
    return heading


def _plotted(columns: Sequence[Column], height: int, ceiling: float) -> list[Text]:
    """Return a plot with its scale on the left."""
    lines = plot(columns, height, ceiling)
    labels = {0: f"{ceiling:,.0f}", height - 1: "0"}
    if height >= 6 and height % 2 == 0:
        labels[height // 2] = f"{ceiling * (1.0 - (height // 2) / height):,.0f}"
    return [
        Text(f"{labels.get(place, ''):>{LABEL_WIDTH - 2}} ▏", QUIET, no_wrap=True).append_text(line) for place, line in enumerate(lines)
    ]


def _demand(model: ViewModel, width: int, height: int) -> list[Text]:
    """Plot demand over the last day with the band that was forecast for each moment, and what is forecast for the next hours."""
    room = width - LABEL_WIDTH
    ahead_room = room // 5
    back = room - ahead_room
    columns: list[Column] = [_demand_column(row, band) if row else () for row, band in _last_day(model, back)]
    slot = SHOWN_SECONDS / back
    columns += [_ahead_column(model.ahead, model.now_unix + slot * (place + 1)) for place in range(ahead_room)]
    ceiling = _ceiling(columns)
    row, band = (model.rows[-1] if model.rows else None), (model.bands[-1] if model.bands else None)
    now = f"   {row.demand:,.1f}/s now" if row else ""
    expected = f", {band.low:,.0f}-{band.high:,.0f} in {format_duration(model.lead_seconds)}" if band else ""
    legend = (("offered", DEMAND_COLOUR), (f"forecast {format_duration(model.lead_seconds)} before, 10-90 %", BAND_COLOUR))
    return [_heading("demand", legend, now + expected), *_plotted(columns, height, ceiling)]


def _demand_column(row: Row, band: Band | None) -> Column:
    """Return demand as a bar, lighter where it lies within the band, and the band above it darker."""
    if band is None or band.high <= 0.0:
        return (Segment(row.demand, DEMAND_COLOUR),)
    low, high = min(band.low, band.high), band.high
    if row.demand <= low:
        return (Segment(row.demand, DEMAND_COLOUR), Segment(low, None), Segment(high, BAND_COLOUR))
    inside = Segment(min(row.demand, high), BOTH_COLOUR)
    rest = Segment(high, BAND_COLOUR) if row.demand < high else Segment(row.demand, DEMAND_COLOUR)
    return (Segment(low, DEMAND_COLOUR), inside, rest)


def _ahead_column(ahead: Sequence[Band], time_unix: float) -> Column:
    """Return the forecast for a moment to come: the band, split at its median."""
    later = next((place for place, band in enumerate(ahead) if band.time_unix >= time_unix), None)
    if later is None:
        return ()
    after = ahead[later]
    before = ahead[max(later - 1, 0)]
    span = after.time_unix - before.time_unix
    share = 1.0 if span <= 0.0 else (time_unix - before.time_unix) / span
    low, middle, high = (b + (a - b) * share for a, b in zip(after[1:], before[1:], strict=True))
    return (Segment(low, None), Segment(middle, AHEAD_COLOUR), Segment(high, AHEAD_UPPER_COLOUR))


def _capacity(model: ViewModel, width: int, height: int) -> list[Text]:
    """Plot what was ready over the last day, the floor below, burst on it, and what was spilled on top."""
    room = width - LABEL_WIDTH
    back = room - room // 5
    columns = [_capacity_column(row) if row else () for row, _ in _last_day(model, back)]
    legend = (("floor", FLOOR_COLOUR), ("burst", BURST_COLOUR), ("spilled", SPILL_COLOUR))
    ready = model.capacity(Tier.FLOOR) + model.capacity(Tier.BURST)
    return [_heading("capacity", legend, f"   {ready:,.0f}/s ready"), *_plotted(columns, height, _ceiling(columns))]


def _capacity_column(row: Row) -> Column:
    floor, both = row.floor_capacity, row.floor_capacity + row.burst_capacity
    return (Segment(floor, FLOOR_COLOUR), Segment(both, BURST_COLOUR), Segment(both + row.spilled, SPILL_COLOUR))


def _last_day(model: ViewModel, columns: int) -> list[tuple[Row | None, Band | None]]:
    """Return for each column of the last day its highest interval, None where there is none, and the band for that moment."""
    slot = SHOWN_SECONDS / columns
    newest: dict[int, Row] = {}
    last = (model.rows[-1].time_unix if model.rows else model.now_unix) // slot
    for row in reversed(model.rows):
        place = int(last - row.time_unix // slot)
        if place >= columns:
            break
        if place not in newest or row.demand > newest[place].demand:
            newest[place] = row
    bands: dict[int, Band] = {}
    for band in reversed(model.bands):
        place = int(last - band.time_unix // slot)
        if place >= columns:
            break
        if place in newest and (place not in bands or band.high > bands[place].high):
            bands[place] = band
    return [(newest.get(place), bands.get(place)) for place in range(columns - 1, -1, -1)]


def _ceiling(columns: Sequence[Column]) -> float:
    """Return a round number above all columns."""
    top = max((segment.top for column in columns for segment in column), default=0.0)
    for step in (10, 20, 30, 40, 60, 80, 100, 150, 200, 300, 400, 500, 600, 800, 1000, 1500, 2000):
        if top <= step:
            return float(step)
    return top
