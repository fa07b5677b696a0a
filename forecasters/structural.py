"""The tide by structural models, off the hot path: several are fitted, a forward backtest chooses, the choice becomes a tide.

Owns the candidates (vectorised harmonics, MSTL with damped trend, exponential smoothing, state space) and their choice: what
`harmonic`'s recursion has itself learnt by then stands unless one of them foresees the days held out clearly better.
It must not run for every observation: `Combination.adopt` takes its result, which is recorded as an input.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from forecasters.api import Array
from forecasters.harmonic import FEATURES, PRIOR, PRIOR_LEVEL, Harmonic, refit
from forecasters.intake import EVERY, FIRST, OFFSET_FLOOR, OFFSET_SHARE, Seen, start_intake
from forecasters.zone import Zone

HOUR_SECONDS, HALF_HOUR, DAY_SECONDS = 3600.0, 1800.0, 86400.0
DAY_HOURS, WEEK_HOURS = 24, 168
LEAST_DAYS = 7
HELD_OUT_HOURS = 24
MOST_FOLDS = 4
PROJECTION_WORTH = 4.0
# What was learnt by the hour is only given up for what would have foreseen the days held out with a seventh less error.
CLEARLY = 0.85
KEPT = "recursion"

Candidate = Callable[[Array, int], Array]


@dataclass(frozen=True, slots=True)
class Refit:
    """A fitted tide: `theta` f64[p] for `Combination.adopt`, which candidate won, and every candidate's mean absolute log error.

    `chosen` is `KEPT` where none was clearly better than the recursion: then there is nothing to adopt, and `theta` is the recursion's
    own over that history.
    """

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


def fit_structural(time_unix: Array, demand: Array, zone: Zone, season_seconds: float = DAY_SECONDS) -> Refit:
    """Fit the tide of one fleet to its history, NaN where unknown or in a wave; with less than a week the recursion stands.

    Each candidate foresees the last days one after the other, each from what came before it, and as it would be adopted: the week
    it foresees is projected onto the harmonics of the recursion, which say the next day. The lowest mean absolute log error wins.
    The library's models know a day of 24 hours; where `season_seconds` is another, only the harmonics stand against the recursion.
    """
    ends, mean = hourly(time_unix, demand)
    base = OFFSET_SHARE * float(np.nanmean(mean)) + OFFSET_FLOOR
    log = np.log(mean + base)
    tide = Harmonic(zone, season_seconds)
    cuts = [len(log) - HELD_OUT_HOURS * fold for fold in range(MOST_FOLDS, 0, -1) if len(log) - HELD_OUT_HOURS * fold >= 3 * DAY_HOURS]
    learnt = _recursion(tide, ends, mean, base, (*cuts, len(log)))
    if len(log) < LEAST_DAYS * DAY_HOURS:
        return Refit(learnt[-1], KEPT, {})
    tides: dict[str, Candidate] = {
        "harmonic": lambda _, hours: refit(ends[:hours] - HALF_HOUR, mean[None, :hours], zone, season_seconds)[0]
    }
    if season_seconds == DAY_SECONDS:
        filled = _filled(log)
        tides |= {name: _projected(candidate, filled, ends, tide) for name, candidate in CANDIDATES.items()}
    errors = {KEPT: _error(learnt[:-1], cuts, ends, log, tide)}
    for name, fitted in tides.items():
        error = _error([fitted(log, cut) for cut in cuts], cuts, ends, log, tide)
        if np.isfinite(error):
            errors[name] = error
    chosen = min(errors, key=lambda name: errors[name] * (CLEARLY if name == KEPT else 1.0))
    theta = learnt[-1] if chosen == KEPT else tides[chosen](log, len(log))
    return Refit(theta, chosen, errors) if np.isfinite(theta).all() else Refit(learnt[-1], KEPT, errors)


def _filled(log: Array) -> Array:
    """Fill gaps with the same hour of the day before, then with the mean."""
    out = log.copy()
    for place in np.flatnonzero(np.isnan(out)):
        out[place] = out[place - DAY_HOURS] if place >= DAY_HOURS else np.nan
    out[np.isnan(out)] = np.nanmean(out)
    return out


def _recursion(tide: Harmonic, ends: Array, mean: Array, base: float, cuts: Sequence[int]) -> list[Array]:
    """Return what the recursion has learnt by the hour, one tide f64[p] for the hours before each cut."""
    state, intake, out = tide.start(1), start_intake(1), []
    intake.base[:] = base
    span = np.array([HOUR_SECONDS])
    for hour in range(len(ends) + 1):
        out += [state.theta[0].copy() for cut in cuts if cut == hour]
        if hour < len(ends) and np.isfinite(mean[hour]):
            tide.learn(state, intake, Seen(EVERY, FIRST, ends[hour : hour + 1], mean[hour : hour + 1], span, span))
    return out


def _error(thetas: Sequence[Array], cuts: Sequence[int], ends: Array, log: Array, tide: Harmonic) -> float:
    """Return the mean absolute log error of tides over the day after each cut; infinite where one could not be fitted."""
    missed = [
        np.abs(tide.features_at(ends[cut : cut + HELD_OUT_HOURS] - HALF_HOUR) @ theta - log[cut : cut + HELD_OUT_HOURS])
        for theta, cut in zip(thetas, cuts, strict=True)
    ]
    missed = [day[np.isfinite(log[cut : cut + HELD_OUT_HOURS])] for day, cut in zip(missed, cuts, strict=True)]
    every = np.concatenate(missed) if missed else np.zeros(0)
    return float(every.mean()) if len(every) and np.isfinite(every).all() else float("inf")


def _projected(candidate: Candidate, filled: Array, ends: Array, tide: Harmonic) -> Candidate:
    """Return a candidate whose answer from the hours before a cut is a tide f64[p], NaN where it has none."""

    def fitted(_: Array, cut: int) -> Array:
        foreseen = _run(candidate, filled[:cut], WEEK_HOURS)
        if foreseen is None:
            return np.full(FEATURES, np.nan)
        return _project(ends[cut - 1] + HOUR_SECONDS * (1.0 + np.arange(WEEK_HOURS)), foreseen, tide)

    return fitted


def _run(candidate: Candidate, log: Array, hours: int) -> Array | None:
    with np.errstate(all="ignore"):
        try:
            foreseen = np.asarray(candidate(log, hours), dtype=np.float64)
        except (ValueError, ArithmeticError, np.linalg.LinAlgError, IndexError):
            return None
    usable = len(foreseen) == hours and np.isfinite(foreseen).all() and np.abs(foreseen - log.mean()).max() < 10.0
    return foreseen if usable else None


def _project(time_unix: Array, log: Array, tide: Harmonic) -> Array:
    """Return the harmonics that come closest to a week of log demand, by ridge regression with the recursion's prior."""
    design = tide.features_at(time_unix - HALF_HOUR)
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
