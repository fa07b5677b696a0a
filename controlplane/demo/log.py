"""What the demo says outside its live view: the log file, and plain lines where there is no terminal.

Owns the form of both; it must not compute. `controlplane.live` is the counterpart for a terminal.
"""

import logging
import sys
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any, Self

import structlog

from controlplane.contracts.units import from_unix
from controlplane.live.model import ViewModel, costs_at
from controlplane.sim.report import percent
from controlplane.sim.run import RunResult

LINE_EVERY_SECONDS = 6 * 3600.0
WARNINGS = ("warning", "error", "critical")


def log_to_file(path: Path, *, echo_warnings: bool) -> None:
    """Send every log line to a file; warnings and worse to standard error too, where asked for."""
    file = path.open("a", encoding="utf-8", buffering=1)

    def echo(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if event.get("level") in WARNINGS:
            told = " ".join(f"{name}={value}" for name, value in event.items() if name not in ("level", "timestamp", "event", "exc_info"))
            sys.stderr.write(f"{event['level']}: {event['event']} {told}".rstrip() + "\n")
        return event

    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([echo] if echo_warnings else []),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(stream=file, level=logging.WARNING, force=True)


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class PlainLines:
    """The demo without a terminal: the first decision at once, then a line for every six simulated hours."""

    def __init__(self) -> None:
        """Start silent."""
        self._said_first = False
        self._due_unix = float("-inf")

    def __enter__(self) -> Self:
        """Take no terminal."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give none back."""

    def show(self, model: ViewModel, compared: Sequence[RunResult], age_seconds: float) -> None:
        """Print what is due. `age_seconds` is the age of the process."""
        if not self._said_first and model.decision is not None:
            self._said_first = True
            say(f"first decision after {age_seconds:.1f} s: {model.decision.summary}")
        if model.rows and model.rows[-1].time_unix >= self._due_unix:
            self._due_unix = (model.rows[-1].time_unix // LINE_EVERY_SECONDS + 1.0) * LINE_EVERY_SECONDS
            say(line_of(model, compared))


def line_of(model: ViewModel, compared: Sequence[RunResult]) -> str:
    """Return where the demo stands, in one line."""
    row, totals = model.rows[-1], model.totals
    held = "  ".join(f"{name} {count}" for name, count in model.held().items())
    band = next((band for band in reversed(model.bands) if band.time_unix <= row.time_unix), None)
    forecast = f" (forecast {band.low:.0f}-{band.high:.0f})" if band else ""
    costs = "".join(f", {result.name} ${usd:,.0f}" for result, usd in costs_at(compared, row.time_unix))
    return (
        f"{from_unix(row.time_unix):%a %d %b %H:%M}  demand {row.demand:.1f}/s{forecast}  {held}  queue {row.backlog:.0f}"
        f"  within SLO {percent(totals.attainment)}  spilled {percent(totals.spilled_share)}  ${row.usd:,.0f}{costs}"
    )
