"""The tide by structural models, off the hot path: several are fitted, a forward backtest chooses, the choice becomes a tide.

Owns the candidates (vectorised harmonics, MSTL with damped trend, exponential smoothing, state space) and their choice.
It must not run for every observation: `Combination.adopt` takes its result, which is recorded as an input, and between refits
the recursion of `harmonic` carries on.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from forecasters.api import Array
from forecasters.harmonic import FEATURES, PRIOR, PRIOR_LEVEL, Harmonic, refit
from forecasters.intake import OFFSET_FLOOR, OFFSET_SHARE
from forecasters.zone import Zone

HOUR_SECONDS = 3600.0
DAY_HOURS, WEEK_HOURS = 24, 168
LEAST_DAYS = 4
HELD_OUT_HOURS = 24
FOLDS = 3
PROJECTION_WORTH = 4.0

Candidate = Callable[[Array, int], Array]


@dataclass(frozen=True, slots=True)
class Refit:
    """A fitted tide: `theta` f64[p] for `Combination.adopt`, which candidate won, and every candidate's mean absolute log error."""

    theta: Array
    chosen: str
    errors: Mapping[str, float]


def hourly(time_unix: Array, demand: Array) -> tuple[Array, Array]:
    """Return hour ends and the mean demand of each hour, NaN where nothing was observed."""
    hour = np.ceil(time_unix / HOUR_SECONDS).astype(np.int64)
    first = int(hour.min())
    known = np.isfinite(demand)
    count = np.bincount(hour[known] - first, minlength=int(hour.max()) - first + 1)
    total = np.bincount(hour[known] - first, weights=demand[known], minlength=len(count))
    ends: Array = np.asarray((first + np.arange(len(count))) * HOUR_SECONDS, dtype=np.float64)
    return ends, np.where(count > 0, total / np.maximum(count, 1), np.nan)


def fit_structural(time_unix: Array, demand: Array, zone: Zone) -> Refit:
    """Fit the tide of one fleet to its history; needs four days, with less the harmonics win unopposed.

    Each candidate forecasts the last days one after the other, each from what came before it; the lowest mean absolute log
    error wins, is fitted to everything, and the week it foresees is projected onto the harmonics of the recursion.
    """
    ends, mean = hourly(time_unix, demand)
    base = OFFSET_SHARE * float(np.nanmean(mean)) + OFFSET_FLOOR
    log = _filled(np.log(mean + base))
    whole = refit(ends, mean[None, :], zone)[0]
    if len(log) < LEAST_DAYS * DAY_HOURS:
        return Refit(whole, "harmonic", {})
    errors = {"harmonic": _harmonic_error(ends, mean, log, zone)}
    for name, candidate in CANDIDATES.items():
        error = _backtest(candidate, log)
        if np.isfinite(error):
            errors[name] = error
    chosen = min(errors, key=lambda name: errors[name])
    if chosen == "harmonic":
        return Refit(whole, chosen, errors)
    foreseen = _run(CANDIDATES[chosen], log, WEEK_HOURS)
    if foreseen is None:
        return Refit(whole, "harmonic", errors)
    ahead = ends[-1] + HOUR_SECONDS * (1.0 + np.arange(WEEK_HOURS))
    return Refit(_project(ahead, foreseen, zone), chosen, errors)


def _filled(log: Array) -> Array:
    """Fill gaps with the same hour of the day before, then with the mean."""
    out = log.copy()
    for place in np.flatnonzero(np.isnan(out)):
        out[place] = out[place - DAY_HOURS] if place >= DAY_HOURS else np.nan
    out[np.isnan(out)] = np.nanmean(out)
    return out


def _run(candidate: Candidate, log: Array, hours: int) -> Array | None:
    with np.errstate(all="ignore"):
        try:
            foreseen = np.asarray(candidate(log, hours), dtype=np.float64)
        except (ValueError, ArithmeticError, np.linalg.LinAlgError, IndexError):
            return None
    usable = len(foreseen) == hours and np.isfinite(foreseen).all() and np.abs(foreseen - log.mean()).max() < 10.0
    return foreseen if usable else None


def _folds(count: int) -> list[int]:
    return [count - HELD_OUT_HOURS * fold for fold in range(FOLDS, 0, -1) if count - HELD_OUT_HOURS * fold >= 2 * DAY_HOURS]


def _backtest(candidate: Candidate, log: Array) -> float:
    errors = []
    for cut in _folds(len(log)):
        foreseen = _run(candidate, log[:cut], HELD_OUT_HOURS)
        if foreseen is None:
            return float("inf")
        errors.append(np.abs(foreseen - log[cut : cut + HELD_OUT_HOURS]).mean())
    return float(np.mean(errors))


def _harmonic_error(ends: Array, mean: Array, log: Array, zone: Zone) -> float:
    tide = Harmonic(zone)
    state = tide.start(1)
    errors = []
    for cut in _folds(len(log)):
        state.theta[:] = refit(ends[:cut], mean[None, :cut], zone)
        foreseen = [
            tide.log_shape(state, np.array([0]), ends[hour : hour + 1] - HOUR_SECONDS / 2)[0] for hour in range(cut, cut + HELD_OUT_HOURS)
        ]
        errors.append(np.abs(np.array(foreseen) - log[cut : cut + HELD_OUT_HOURS]).mean())
    return float(np.mean(errors))


def _project(time_unix: Array, log: Array, zone: Zone) -> Array:
    """Return the harmonics that come closest to a week of log demand, by ridge regression with the recursion's prior."""
    design = Harmonic(zone).features_at(time_unix - HOUR_SECONDS / 2)
    prior = np.concatenate(([PRIOR_LEVEL], PRIOR, PRIOR)) ** -2.0
    gram = PROJECTION_WORTH * design.T @ design / 0.1 + np.diag(prior)
    out: Array = np.linalg.solve(gram, PROJECTION_WORTH * design.T @ log / 0.1)
    assert out.shape == (FEATURES,)
    return out


def _mstl(log: Array, hours: int) -> Array:
    from statsmodels.tsa.holtwinters import ExponentialSmoothing
    from statsmodels.tsa.seasonal import MSTL

    periods = (DAY_HOURS, WEEK_HOURS) if len(log) >= 2 * WEEK_HOURS + 1 else (DAY_HOURS,)
    parts = MSTL(log, periods=periods, stl_kwargs={"robust": True}).fit()
    seasonal = np.asarray(parts.seasonal).reshape(len(log), -1)
    rest = ExponentialSmoothing(log - seasonal.sum(axis=1), trend="add", damped_trend=True).fit().forecast(hours)
    repeated = [np.resize(seasonal[-period:, column], hours) for column, period in enumerate(periods)]
    return np.asarray(rest) + np.sum(repeated, axis=0)


def _ets(log: Array, hours: int) -> Array:
    from statsmodels.tsa.holtwinters import ExponentialSmoothing

    season = WEEK_HOURS if len(log) >= 3 * WEEK_HOURS else DAY_HOURS
    fitted = ExponentialSmoothing(log, trend="add", damped_trend=True, seasonal="add", seasonal_periods=season).fit()
    return np.asarray(fitted.forecast(hours))


def _state_space(log: Array, hours: int) -> Array:
    from statsmodels.tsa.statespace.structural import UnobservedComponents

    seasons = [{"period": DAY_HOURS, "harmonics": 4}]
    if len(log) >= 2 * WEEK_HOURS:
        seasons.append({"period": WEEK_HOURS, "harmonics": 3})
    model = UnobservedComponents(log, level="llevel", freq_seasonal=seasons, stochastic_freq_seasonal=[False] * len(seasons))
    return np.asarray(model.fit(disp=False, maxiter=50).forecast(hours))


CANDIDATES: dict[str, Candidate] = {"mstl": _mstl, "ets": _ets, "state-space": _state_space}
