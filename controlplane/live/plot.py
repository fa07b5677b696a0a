"""Plots out of block characters: stacked columns, eight steps to a character cell, two colours in a cell where they meet. Pure.

Owns the drawing of columns and the view's colours; what they mean is `controlplane.live`'s affair.
"""

from collections.abc import Sequence
from typing import NamedTuple

from rich.style import Style
from rich.text import Text

BLOCKS = " ▁▂▃▄▅▆▇█"
STEPS = len(BLOCKS) - 1
FLOOR_COLOUR, BURST_COLOUR, SPILL_COLOUR = "#2f7fb5", "#f0a830", "#c8386b"
GOOD, BAD, QUIET = "#5fbf7f", "#e05a5a", "#8a8f9c"


class Segment(NamedTuple):
    """A column from the top of the segment below it up to `top`; colour None is left empty."""

    top: float
    colour: str | None


Column = Sequence[Segment]


def plot(columns: Sequence[Column], height: int, ceiling: float) -> list[Text]:
    """Return `height` lines, the top one first, of columns whose segments rise; `ceiling` is the value at the upper edge."""
    steps = [_in_steps(column, height, ceiling) for column in columns]
    return [_line(steps, row) for row in range(height - 1, -1, -1)]


def _in_steps(column: Column, height: int, ceiling: float) -> list[tuple[int, str | None]]:
    """Return a column's segments with their tops in steps; what is worth showing at all takes one step at least."""
    scale = height * STEPS / ceiling if ceiling > 0.0 else 0.0
    tops: list[tuple[int, str | None]] = []
    below = 0
    for segment in column:
        top = round(segment.top * scale)
        if top == 0 and segment.top > 0.0 and segment.colour is not None:
            top = 1
        top = min(max(top, below), height * STEPS)
        if top > below:
            tops.append((top, segment.colour))
        below = top
    return tops


def _line(columns: Sequence[list[tuple[int, str | None]]], row: int) -> Text:
    line = Text(no_wrap=True, overflow="crop")
    for column in columns:
        line.append(*_cell(column, row))
    return line


def _cell(column: list[tuple[int, str | None]], row: int) -> tuple[str, Style]:
    """Return one character cell: the lower colour as its block, the upper one as its background."""
    foot = row * STEPS
    parts: list[tuple[int, str | None]] = []
    for place, (top, colour) in enumerate(column):
        below = column[place - 1][0] if place else 0
        share = min(top, foot + STEPS) - max(below, foot)
        if share > 0:
            parts.append((share, colour))
    empty = STEPS - sum(share for share, _ in parts)
    if empty:
        parts.append((empty, None))
    parts = _two_of(parts)
    if len(parts) == 1:
        colour = parts[0][1]
        return (" ", Style()) if colour is None else ("█", Style(color=colour))
    (share, lower), (_, upper) = parts
    if lower is None:
        # A block grows from the cell's foot: what hangs from its top is the background's turn.
        return BLOCKS[share], Style(color=upper, reverse=True)
    return BLOCKS[share], Style(color=lower, bgcolor=upper)


def _two_of(parts: list[tuple[int, str | None]]) -> list[tuple[int, str | None]]:
    """Merge neighbours of one colour, and keep the two largest of what is left: a cell has two colours."""
    merged: list[tuple[int, str | None]] = []
    for share, colour in parts:
        if merged and merged[-1][1] == colour:
            merged[-1] = (merged[-1][0] + share, colour)
        else:
            merged.append((share, colour))
    while len(merged) > 2:
        smallest = min(range(len(merged)), key=lambda place: merged[place][0])
        share, _ = merged.pop(smallest)
        neighbour = max(smallest - 1, 0)
        merged[neighbour] = (merged[neighbour][0] + share, merged[neighbour][1])
    return merged
