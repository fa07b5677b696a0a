"""Forward backtests of the forecast on traces: predict, then learn; figures by horizon, beside persistence and seasonal-naive.

Owns the run over traces and the table; formulas are in `forecasters.backtest` and `forecasters.score`, the page in
`backtest_page`, slower peers in `backtest_peers`. It must not decide anything: the policy lends only its time zone and methods.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from controlplane.contracts.fleet import ForecastSettings
from controlplane.sim.report import four_digits
from controlplane.traces.library import Array, Trace
from forecasters.api import Batch, Quantiles
from forecasters.backtest import Figures, Mask, Outcome, Truth, replay, summarize, truth
from forecasters.combine import Combination
from forecasters.naive import naive_centre, naive_outcome
from forecasters.quantified import Quantified
from forecasters.registry import REGISTRY

HORIZONS_SECONDS = (60.0, 600.0, 3600.0, 21600.0, 86400.0, 172800.0)
QUANTILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
TRACKED_HORIZONS_SECONDS = (120, 300, 480, 900, 1200, 1800, 2700, 5400, 7200, 10800, 14400, 43200)
WARM_SHARE, WARM_SECONDS = 0.15, 2 * 86400.0
YARDSTICK_ORIGINS = 3000
BASELINES = ("persistence", "seasonal-naive")

OnProgress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Line:
    """One trace at one horizon: tidegate's figures, and its pinball loss over that of the best of each yardstick's two makings."""

    trace: str
    figures: Figures
    over_persistence: float
    over_seasonal_naive: float
    peers: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Backtest:
    """One trace's backtest: the lines, and what is needed to draw it."""

    trace: Trace
    outcome: Outcome
    actual: Truth
    lines: tuple[Line, ...]


def horizons_for(lead_time_seconds: float | None) -> Array:
    """Return the horizons that are reported: the standard six and the lead time."""
    return np.array(sorted({*HORIZONS_SECONDS, *([lead_time_seconds] if lead_time_seconds else [])}))


def run(trace: Trace, settings: ForecastSettings, horizons: Array, on_progress: OnProgress | None = None) -> Backtest:
    """Replay one trace and score it after a warm-up of 15 % of it, at most two days."""
    time, value = trace.time_unix, trace.demand_per_second
    quantiles = np.array(QUANTILES)
    outcome = replay(_counted(combined(settings, horizons), on_progress), time, value)
    actual = truth(time, value, horizons)
    warm = time >= time[0] + min(WARM_SHARE * (time[-1] - time[0]), WARM_SECONDS)
    naive_error = actual.demand - naive_centre(time, value, horizons, seasonal=True)
    figures = summarize(outcome, actual, horizons, quantiles, warm, naive_error)
    losses = {name: _baseline_losses(name, trace, settings, actual, horizons, warm, outcome) for name in BASELINES}
    lines = tuple(
        Line(trace.name, figure, float(losses["persistence"][column]), float(losses["seasonal-naive"][column]))
        for column, figure in enumerate(figures)
        if figure.scored
    )
    return Backtest(trace, outcome, actual, lines)


def combined(settings: ForecastSettings, horizons: Array) -> Callable[[float, float], Quantiles]:
    """Return a step over the combination as production runs it: its own grid of horizons, the reported ones among them."""
    grid = np.array(sorted({*TRACKED_HORIZONS_SECONDS, *horizons.tolist()}), dtype=np.float64)
    levels = np.array(sorted({0.05, 0.995, 0.999, *QUANTILES}))
    method = Combination(settings, grid, levels)
    rows, columns = np.searchsorted(grid, horizons), np.searchsorted(levels, np.array(QUANTILES))
    state = [method.start(1)]

    def step(when: float, what: float) -> Quantiles:
        state[0] = method.learn(state[0], Batch(np.array([when]), np.array([what])))
        said = method.forecast(state[0], when)
        return Quantiles(said.demand[:, rows][:, :, columns], said.peak[:, rows][:, :, columns])

    return step


def _single(method: Quantified, horizons: Array) -> Callable[[float, float], Quantiles]:
    levels, state = np.array(QUANTILES), [method.start(1)]

    def step(when: float, what: float) -> Quantiles:
        state[0] = method.learn(state[0], Batch(np.array([when]), np.array([what])))
        return method.forecast(state[0], when, horizons, levels)

    return step


def _counted(step: Callable[[float, float], Quantiles], on_progress: OnProgress | None) -> Callable[[float, float], Quantiles]:
    if on_progress is None:
        return step

    def counted(when: float, what: float) -> Quantiles:
        on_progress(1)
        return step(when, what)

    return counted


def _baseline_losses(
    name: str,
    trace: Trace,
    settings: ForecastSettings,
    actual: Truth,
    horizons: Array,
    warm: Mask,
    outcome: Outcome,
) -> Array:
    """Return tidegate's pinball over the yardstick's, f64[H]: the lower of the registry's and the plain empirical one counts."""
    quantiles = np.array(QUANTILES)
    own = replay(_single(REGISTRY[name](settings), horizons), trace.time_unix, trace.demand_per_second)
    every = summarize(own, actual, horizons, quantiles, warm)
    ours = summarize(outcome, actual, horizons, quantiles, warm)
    origins = np.flatnonzero(warm)
    origins = origins[:: max(len(origins) // YARDSTICK_ORIGINS, 1)]
    seasonal = name == "seasonal-naive"
    plain = naive_outcome(trace.time_unix, trace.demand_per_second, actual, horizons, quantiles, origins, seasonal=seasonal)
    at = Truth(actual.time_unix[origins], actual.demand[origins], actual.peak[origins])
    all_of_it = np.ones(len(origins), dtype=np.bool_)
    plainly = summarize(plain, at, horizons, quantiles, all_of_it)
    ours_there = summarize(Outcome(at.time_unix, outcome.demand[origins], outcome.peak[origins]), at, horizons, quantiles, all_of_it)
    with np.errstate(invalid="ignore", divide="ignore"):
        first = np.array([a.pinball / b.pinball if b.pinball else np.nan for a, b in zip(ours, every, strict=True)])
        second = np.array([a.pinball / b.pinball if b.pinball else np.nan for a, b in zip(ours_there, plainly, strict=True)])
    out: Array = np.fmax(first, second)
    return out


def table_rows(lines: Sequence[Line]) -> list[list[str]]:
    """Return the table as text: one row per trace and horizon, coverage in points off nominal with the worst week in brackets."""
    rows = []
    for line in lines:
        figures = line.figures
        row = [line.trace, span(figures.horizon_seconds), f"{figures.scored:,}", four_digits(figures.pinball)]
        row += [f"{line.over_persistence:.2f}", f"{line.over_seasonal_naive:.2f}", f"{figures.mase:.2f}", four_digits(figures.width)]
        row += [off_nominal(figures, level) for level in (0.5, 0.9, 0.95, 0.99)]
        row += [f"{_points(figures.peak_coverage[QUANTILES.index(0.9)].value - 0.9):+.1f}"]
        rows.append(row + ["–" if np.isnan(line.peers[name]) else f"{line.peers[name]:.2f}" for name in sorted(line.peers)])
    return rows


HEADINGS = (
    "trace", "ahead", "scored", "pinball", "÷ last", "÷ day", "MASE", "width",
    "cover .5", "cover .9", "cover .95", "cover .99", "peak .9",
)  # fmt: skip
LEGEND = (
    "÷ last and ÷ day: pinball loss (mean over the quantiles 0.1 to 0.99) over that of persistence and of seasonal-naive, "
    "below 1 is better. width: 0.1 to 0.9. cover: points off nominal ± half of the 95 % interval (worst week)."
)


def _points(share: float) -> float:
    """Return a share in points to a tenth; what rounds to nothing is 0.0 and never -0.0."""
    return round(100.0 * share, 1) + 0.0


def off_nominal(figures: Figures, level: float) -> str:
    """Return `+1.2 ±3.0 (2.5)`: points off nominal, half the 95 % interval, and the worst week."""
    place = QUANTILES.index(level)
    share = figures.coverage[place]
    weeks = figures.weekly[:, place]
    weeks = weeks[~np.isnan(weeks)]
    worst = f" ({100 * np.abs(weeks - level).max():.1f})" if len(weeks) else ""
    return f"{_points(share.value - level):+.1f} ±{50 * (share.high - share.low):.1f}{worst}"


def span(seconds: float) -> str:
    """Return a horizon as people say it: 600 is `10 min`, 21600 is `6 h`."""
    return f"{seconds / 60:g} min" if seconds < 3600 else f"{seconds / 3600:g} h"
