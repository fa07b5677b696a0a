"""Scores of a forecast: pinball loss, coverage with its confidence interval, MASE, width.

Owns the formulas only. It must not make or store forecasts; `backtest` feeds it, always predicting before learning.
"""

from dataclasses import dataclass

import numpy as np

from forecasters.api import Array

NORMAL_95 = 1.959963984540054
ROUNDING = 1e-9


def pinball(actual: Array, forecast: Array, quantiles: Array) -> Array:
    """Return the pinball loss, the shape of `forecast` [..., Q] for `actual` [...]: at 0.9, 1 too low costs 0.9, too high 0.1."""
    miss = np.asarray(actual)[..., None] - forecast
    out: Array = np.maximum(quantiles * miss, (quantiles - 1.0) * miss)
    return out


def covered(actual: Array, forecast: Array, quantiles: Array, grain: float = 0.0) -> Array:
    """Return 1.0 where the actual is below the forecast quantile, 0.0 above, NaN where there is no actual; [..., Q].

    Demand that is counted comes in multiples of a `grain`, and no quantile can be below zero: with 73 % empty seconds "at most"
    would count 73 % for the median whatever it says. So where zero came and several quantiles say less than one grain, the forecast
    gives zero a share of the whole probability, and each level counts what it takes of that share: the mean of the randomised
    probability integral transform (Czado, Gneiting & Held 2009). If the quantiles 0.1 to 0.6 say 0 and 0.7 says 1, zero has 0.65:
    when it comes, the level 0.5 counts 0.5 / 0.65 = 0.77, so that with 65 % zeros it counts 0.5 in all.
    """
    known = np.asarray(actual)[..., None]
    tied = (known == forecast) | ((known == 0.0) & (forecast < grain))
    counted: Array = (known <= forecast).astype(np.float64)
    several = tied.sum(axis=-1, keepdims=True) > 1
    if several.any():
        borders = np.concatenate(([0.0], 0.5 * (quantiles[1:] + quantiles[:-1]), [1.0]))
        first = np.argmax(tied, axis=-1)
        past = tied.shape[-1] - np.argmax(tied[..., ::-1], axis=-1)
        below, above = borders[first][..., None], borders[past][..., None]
        counted = np.where(several & tied, np.clip((quantiles - below) / (above - below), 0.0, 1.0), counted)
    out: Array = np.where(np.isnan(known) | np.isnan(forecast), np.nan, counted)
    return out


def grain_of(values: Array) -> float:
    """Return the least difference between two values that were observed: of counts per step one count, else next to nothing."""
    apart = np.diff(np.unique(values[np.isfinite(values)]))
    apart = apart[apart > ROUNDING * np.abs(values[np.isfinite(values)]).max(initial=0.0)]
    return float(apart.min()) if len(apart) else 0.0


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
