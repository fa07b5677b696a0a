"""The bars of the forecast on real launch waves and on ordinary tide; run beside `tidegate backtest`, which has the rest.

`python benchmarks/forecast_bars.py [TRACE ...]` prints, for each trace: onsets per month, and for waves that at least tripled
the tide, how the path to 24 h after three samples was covered and what in-wave pinball was against the two yardsticks.
"""

import os
import sys

import numpy as np

from controlplane.contracts.fleet import ForecastSettings
from controlplane.studies.backtest import QUANTILES
from controlplane.traces.library import Array, Trace, data_folders, read_trace
from forecasters.api import Batch
from forecasters.backtest import truth
from forecasters.combine import Combination
from forecasters.intake import Index
from forecasters.naive import naive_outcome
from forecasters.score import pinball

HOUR, DAY, MONTH = 3600.0, 86400.0, 30 * 86400.0
HORIZONS = np.array([300.0, 600.0, 1800.0, HOUR, 2 * HOUR, 4 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY])
SCORED = (6 * HOUR, DAY, 2 * DAY)
WAVES = ("mastodon_signups", "nab_twitter_mentions_5min#CRM", "nab_twitter_mentions_5min#UPS")
ORDINARY = ("azure_llm_2024_code_week", "servegen_m-large", "aws_elb", "nyc_taxi")
REAL_MULTIPLE, SAMPLES, LEAST_COVER, LEAST_SCORED = 3.0, 3, 0.85, 20
ZONES = {"nyc_taxi": "UTC", "nasa_http": "America/New_York"}


def follow(trace: Trace) -> tuple[Array, Array, Array]:
    """Return the forecasts f64[N, H, Q], the wave slot's kind f64[N] and the multiple f64[N] as production makes them."""
    zone = next((zone for name, zone in ZONES.items() if trace.name.startswith(name)), "UTC")
    method = Combination(ForecastSettings(time_zone=zone), HORIZONS, np.array(QUANTILES))
    state, said, kind, multiple = method.start(1), [], [], []
    for when, what in zip(trace.time_unix, trace.demand_per_second, strict=True):
        state = method.learn(state, Batch(np.array([when]), np.array([what])))
        said.append(method.forecast(state, float(when)).demand[0])
        kind.append(state.watch.wave.kind[0])
        multiple.append(state.over_now[0])
    return np.stack(said), np.array(kind), np.array(multiple)


def path_cover(trace: Trace, said: Array, origin: int) -> float:
    """Return the share of steps of the next 24 h at or below the 0.9 quantile as forecast at an origin."""
    steps = np.arange(trace.step_seconds, DAY + 1.0, trace.step_seconds)
    came = trace.demand_per_second[origin + 1 : origin + 1 + len(steps)]
    path = np.interp(np.log(steps), np.log(HORIZONS), said[origin, :, QUANTILES.index(0.9)])[: len(came)]
    known = ~np.isnan(came)
    return float((came[known] <= path[known]).mean()) if known.any() else float("nan")


def report(name: str) -> None:
    """Print one trace's lines."""
    trace = read_trace(name, data_folders(os.environ))
    said, kind, multiple = follow(trace)
    began = np.flatnonzero(np.diff(kind, prepend=0.0) > 0.0)
    ended = np.flatnonzero(np.diff(kind, append=0.0) < 0.0)
    real, covers = 0, []
    for start in began:
        end = int(ended[ended >= start][0]) + 1 if (ended >= start).any() else len(kind)
        if np.nanmax(multiple[start:end]) >= REAL_MULTIPLE:
            real += 1
            covers.append(path_cover(trace, said, min(int(start) + SAMPLES - 2, len(kind) - 1)))
    months = trace.span_seconds / MONTH
    small = (len(began) - real) / months
    print(f"{trace.name}: {len(began)} onsets in {months:.2f} months, {real} of at least x{REAL_MULTIPLE:g}, others {small:.2f} a month")
    if covers:
        enough, mean = np.mean(np.array(covers) >= LEAST_COVER), np.nanmean(covers)
        print(f"  path to 24 h, three samples after onset: {mean:.2f} of the steps covered, {enough:.0%} of waves at least {LEAST_COVER}")
    inside = np.flatnonzero(kind > 0.0)
    if len(inside) >= LEAST_SCORED:
        _losses(trace, said, inside)


def _losses(trace: Trace, said: Array, inside: Index) -> None:
    time, value, levels = trace.time_unix, trace.demand_per_second, np.array(QUANTILES)
    actual = truth(time, value, HORIZONS)
    naive = [naive_outcome(time, value, actual, HORIZONS, levels, inside, seasonal=one).demand for one in (False, True)]
    for horizon in SCORED:
        column = int(np.flatnonzero(horizon == HORIZONS)[0])
        came = actual.demand[inside, column]
        ours, last, day = (np.nanmean(pinball(came, part[:, column], levels)) for part in (said[inside], *naive))
        ratios = f"{ours / last:.2f} of persistence, {ours / day:.2f} of seasonal-naive, {2 * ours / (last + day):.2f} of their mean"
        print(f"  in a wave, {horizon / HOUR:g} h ahead: pinball {ratios}")


def main() -> None:
    """Report on the traces named, or on all."""
    for name in sys.argv[1:] or (*WAVES, *ORDINARY):
        report(name)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
