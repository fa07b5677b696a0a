"""The two yardsticks of a backtest, made independently of the rest: last value and same time yesterday, plain empirical errors.

Owns nothing that production uses: their errors are additive and from a sliding window, not the calibrated ones of the registry.
So a comparison does not flatter: the better of these and the registry's own counts as the baseline. See `backtest`.
"""

import numpy as np

from forecasters.api import Array
from forecasters.backtest import Outcome, Truth
from forecasters.intake import Index

WINDOW = 1500
LEAST_ERRORS = 20
DAY_SECONDS = 86400.0


def naive_centre(time_unix: Array, value: Array, horizons_seconds: Array, *, seasonal: bool) -> Array:
    """Return f64[N, H]: the last value, or the newest value a whole number of days before each target."""
    if not seasonal:
        return np.repeat(value[:, None], len(horizons_seconds), axis=1)
    target = time_unix[:, None] + horizons_seconds
    days = np.maximum(np.ceil(horizons_seconds / DAY_SECONDS), 1.0)
    source = target - days * DAY_SECONDS
    step = float(np.median(np.diff(time_unix))) if len(time_unix) > 1 else 1.0
    place = np.minimum(np.searchsorted(time_unix, source - 1e-6 * step), np.arange(len(time_unix))[:, None])
    out: Array = np.where(source >= time_unix[0], value[place], value[:, None])
    return out


def naive_outcome(
    time_unix: Array, value: Array, actual: Truth, horizons_seconds: Array, quantiles: Array, origins: Index, *, seasonal: bool
) -> Outcome:
    """Return the yardstick's forecasts at some origins; each uses only errors that were known by then."""
    centre = naive_centre(time_unix, value, horizons_seconds, seasonal=seasonal)
    error = actual.demand - centre
    said = np.zeros((len(origins), len(horizons_seconds), len(quantiles)))
    for column, horizon in enumerate(horizons_seconds):
        known_by = np.searchsorted(time_unix, time_unix[origins] - horizon, side="right")
        for number, (origin, until) in enumerate(zip(origins, known_by, strict=True)):
            past = error[max(0, int(until) - WINDOW) : int(until), column]
            past = past[~np.isnan(past)]
            shift = np.quantile(past, quantiles) if len(past) >= LEAST_ERRORS else np.zeros(len(quantiles))
            said[number, column] = np.maximum(centre[origin, column] + shift, 0.0)
    return Outcome(time_unix[origins], said, np.maximum.accumulate(said, axis=1))
