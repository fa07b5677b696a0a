"""Slower peers for a backtest: statsmodels' ETS and SARIMAX, refitted at a few origins, on hourly means where the trace is finer.

Owns their fitting and their quantiles; they see the past that tidegate saw, three weeks of it at the most. statsforecast's AutoARIMA, MSTL
and AutoETS join where that package is installed. It must not be imported on the hot path: the libraries take seconds to load.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module

import numpy as np

from controlplane.contracts.errors import TraceError
from controlplane.contracts.fleet import ForecastSettings
from controlplane.studies.backtest import QUANTILES, Backtest, combined
from controlplane.traces.library import Array
from forecasters.backtest import replay, truth
from forecasters.intake import Index
from forecasters.score import pinball
from forecasters.structural import hourly

ORIGINS = 12
LEAST_HOURS, MOST_HOURS = 72, 21 * 24
DAY_HOURS = 24
SAMPLES = 300
HOUR_SECONDS = 3600.0

Peer = Callable[[Array, int], tuple[Array, Array]]


def require_known(names: Sequence[str]) -> None:
    """Raise TraceError where one of the peers is not known: ask before a backtest, which takes long."""
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        raise TraceError(f"no peer is named {unknown[0]!r}; there are {', '.join(PEERS)}")


def compare(result: Backtest, settings: ForecastSettings, names: Sequence[str]) -> Backtest:
    """Return the backtest with tidegate's pinball over each peer's, per horizon of an hour or more; both on hourly means."""
    require_known(names)
    time, value = hourly(result.trace.time_unix, result.trace.demand_per_second)
    lines = [line for line in result.lines if line.figures.horizon_seconds >= HOUR_SECONDS]
    horizons = np.array([line.figures.horizon_seconds for line in lines])
    usable = np.flatnonzero(np.arange(len(time)) >= LEAST_HOURS)
    if not len(usable) or not len(horizons):
        return result
    origins = np.unique(np.linspace(usable[0], max(len(time) - 2, usable[0]), ORIGINS).astype(np.int64))
    actual = truth(time, value, horizons)
    ours = replay(combined(settings, horizons), time, value)
    ratios = {name: loss_over(PEERS[name], value, horizons, origins, ours.demand, actual.demand) for name in names}
    changed = {line.figures.horizon_seconds: {name: float(ratios[name][i]) for name in names} for i, line in enumerate(lines)}
    every = {name: float("nan") for name in names}
    return replace(result, lines=tuple(replace(line, peers=changed.get(line.figures.horizon_seconds, every)) for line in result.lines))


def loss_over(peer: Peer, value: Array, horizons: Array, origins: Index, ours: Array, actual: Array) -> Array:
    """Return our pinball loss over a peer's by horizon, f64[H], at origins of hourly means f64[T]; NaN where the peer has no answer.

    The peer is asked for the hour in which a horizon ends, which is the one that both are scored on: 90 minutes ahead is the second.
    """
    levels = np.array(QUANTILES)
    steps = np.ceil(horizons / HOUR_SECONDS - 1e-9).astype(np.int64)
    theirs_lost, ours_lost = np.full((len(origins), len(horizons)), np.nan), np.full((len(origins), len(horizons)), np.nan)
    for row, origin in enumerate(origins):
        past = value[max(0, origin + 1 - MOST_HOURS) : origin + 1]
        base = 0.02 * float(np.nanmean(past)) + 1e-9
        log = np.log(past + base)
        log[np.isnan(log)] = np.nanmean(log)
        try:
            mean, deviation = peer(log, int(steps.max()))
        except (ValueError, ArithmeticError, np.linalg.LinAlgError):
            continue
        said = np.exp(mean[steps - 1, None] + deviation[steps - 1, None] * _normal(levels)) - base
        theirs_lost[row] = pinball(actual[origin], np.maximum(said, 0.0), levels).mean(axis=1)
        ours_lost[row] = pinball(actual[origin], ours[origin], levels).mean(axis=1)
    both = np.isfinite(theirs_lost) & np.isfinite(ours_lost)
    out: Array = np.where(both, ours_lost, 0.0).sum(axis=0) / np.maximum(np.where(both, theirs_lost, 0.0).sum(axis=0), 1e-12)
    return np.where(both.any(axis=0), out, np.nan)


def _normal(levels: Array) -> Array:
    from statistics import NormalDist

    return np.array([NormalDist().inv_cdf(level) for level in levels])


def _ets(log: Array, hours: int) -> tuple[Array, Array]:
    from statsmodels.tsa.holtwinters import ExponentialSmoothing

    model = ExponentialSmoothing(log, trend="add", damped_trend=True, seasonal="add", seasonal_periods=DAY_HOURS).fit()
    paths = np.asarray(model.simulate(hours, repetitions=SAMPLES, random_state=0, error="add"))
    return np.asarray(model.forecast(hours)), np.maximum(paths.std(axis=1), 1e-6)


def _sarimax(log: Array, hours: int) -> tuple[Array, Array]:
    from statsmodels.tsa.statespace.sarimax import SARIMAX

    model = SARIMAX(log, order=(1, 0, 1), seasonal_order=(0, 1, 1, DAY_HOURS), enforce_stationarity=False, enforce_invertibility=False)
    said = model.fit(disp=False, maxiter=30, method="lbfgs").get_forecast(hours)
    return np.asarray(said.predicted_mean), np.maximum(np.asarray(said.se_mean), 1e-6)


def _statsforecast(name: str) -> Peer:
    def peer(log: Array, hours: int) -> tuple[Array, Array]:
        try:
            models = import_module("statsforecast.models")
        except ImportError as missing:
            raise TraceError(f"peer {name!r} needs the package statsforecast: pip install statsforecast") from missing
        made = models.MSTL(season_length=[DAY_HOURS]) if name == "MSTL" else getattr(models, name)(season_length=DAY_HOURS)
        said = made.forecast(y=log, h=hours, level=[68.27])
        return np.asarray(said["mean"]), np.maximum(np.asarray(said["hi-68.27"]) - np.asarray(said["mean"]), 1e-6)

    return peer


PEERS: dict[str, Peer] = {
    "ets": _ets,
    "sarimax": _sarimax,
    "AutoARIMA": _statsforecast("AutoARIMA"),
    "AutoETS": _statsforecast("AutoETS"),
    "MSTL": _statsforecast("MSTL"),
}
