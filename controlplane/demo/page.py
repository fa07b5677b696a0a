"""The demo's HTML report: the watched run beside what it is compared with, on one page that needs nothing else.

Owns the words around the plots and the forecast band; it must not compute costs. `controlplane.sim.report` makes the page's data,
`controlplane.sim.report_html` draws it.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from controlplane.contracts.units import format_duration, from_unix
from controlplane.demo.result import LEDGER_NOTE, LedgerChecks
from controlplane.demo.scenario import Scenario
from controlplane.live.model import ViewModel
from controlplane.sim.report import report_of
from controlplane.sim.report_html import write_report
from controlplane.sim.run import RunResult
from controlplane.traces.library import Array


def write_page(path: Path, results: Sequence[RunResult], model: ViewModel, scenario: Scenario, checks: LedgerChecks) -> None:
    """Write the HTML report."""
    first = scenario.fleet.launches[0] if scenario.fleet.launches else None
    announced = f" Announced to the forecaster: {first.name}, from {from_unix(first.starts_unix):%a %d %b %H:%M} UTC." if first else ""
    notes = (
        f"Demand: {scenario.title}.{announced}",
        f"{LEDGER_NOTE} The cost curve is the watcher's own estimate. Ledger: {checks}.",
        "The comparisons are simulated on the same demand, decision interval, prices, lead times, failures and stock.",
    )
    report = report_of(
        results,
        title="tidegate demo",
        unit="requests",
        attainment=scenario.fleet.slo.attainment,
        notes=notes,
        band=_band_of(model, results[0].steps.time_unix),
    )
    write_report(report, path)


def _band_of(model: ViewModel, time_unix: Array) -> tuple[Array, Array, str] | None:
    """Return the band that was forecast for each moment a lead time before it; None before there is one."""
    if len(model.bands) < 2:
        return None
    made_for = np.array([band.time_unix for band in model.bands])
    low, high = (np.interp(time_unix, made_for, [getattr(band, name) for band in model.bands]) for name in ("low", "high"))
    return low, high, f"forecast {format_duration(model.lead_seconds)} ahead, 10–90 %"
