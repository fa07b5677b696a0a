"""Scores of a forecast: pinball loss, coverage with its confidence interval, MASE, width.

Owns the formulas only. It must not make or store forecasts; `backtest` feeds it, always predicting before learning.
"""

from dataclasses import dataclass

import numpy as np

from forecasters.api import Array

NORMAL_95 = 1.959963984540054


def pinball(actual: Array, forecast: Array, quantiles: Array) -> Array:
    """Return the pinball loss, the shape of `forecast` [..., Q] for `actual` [...]: at 0.9, 1 too low costs 0.9, too high 0.1."""
    miss = np.asarray(actual)[..., None] - forecast
    out: Array = np.maximum(quantiles * miss, (quantiles - 1.0) * miss)
    return out


def covered(actual: Array, forecast: Array) -> Array:
    """Return 1.0 where the actual is at most the forecast quantile, NaN where there is no actual; [..., Q]."""
    known = np.asarray(actual)[..., None]
    out: Array = np.where(np.isnan(known) | np.isnan(forecast), np.nan, (known <= forecast).astype(np.float64))
    return out


@dataclass(frozen=True, slots=True)
class Share:
    """A share with the ends of its 95 % confidence interval, and how many independent trials it counts as."""

    value: float
    low: float
    high: float
    trials: float


def coverage(hits: Array, overlap: float = 1.0) -> Share:
    """Return the mean of 0/1 `hits` with Wilson's interval; `overlap` consecutive forecasts count as one trial.

    Forecasts a day ahead made every ten minutes share their errors: 144 of them are about one trial.
    """
    known = hits[~np.isnan(hits)]
    if not len(known):
        return Share(float("nan"), 0.0, 1.0, 0.0)
    share = float(known.mean())
    trials = max(len(known) / max(overlap, 1.0), 1.0)
    weight = NORMAL_95**2 / trials
    centre = (share + weight / 2.0) / (1.0 + weight)
    half = NORMAL_95 * np.sqrt(share * (1.0 - share) / trials + weight / (4.0 * trials)) / (1.0 + weight)
    return Share(share, max(float(centre - half), 0.0), min(float(centre + half), 1.0), trials)


def mase(actual: Array, forecast: Array, seasonal_naive_error: Array) -> float:
    """Return the mean absolute error over that of seasonal-naive in the same places (Hyndman & Koehler 2006); below 1 is better."""
    scale = float(np.nanmean(np.abs(seasonal_naive_error)))
    if not scale > 0.0:
        return float("nan")
    return float(np.nanmean(np.abs(actual - forecast))) / scale


def width(forecast: Array, quantiles: Array, low: float = 0.1, high: float = 0.9) -> Array:
    """Return the distance between two quantiles, [...]; both must be among `quantiles`."""
    left, right = (int(np.argmin(np.abs(quantiles - level))) for level in (low, high))
    out: Array = forecast[..., right] - forecast[..., left]
    return out
