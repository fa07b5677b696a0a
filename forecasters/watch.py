"""Waves over the tide: opens a wave when one is announced or its onset is seen, follows it, closes it when it is over.

Owns the slot of each fleet (one wave at a time; further announcements count with their stated shape) and what the pool is told:
the multiple now, to be taken out of what the tide learns, and the multiples ahead. `onset` and `wave` do the sums.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isnan, log

import numpy as np

from controlplane.contracts.fleet import LaunchPlan
from forecasters.api import Array, Batch
from forecasters.harmonic import Harmonic, Tide
from forecasters.intake import COARSE_SECONDS, DEMAND_CEILING, FIRST, NONE, TIME_LIMIT, Index, Intake, offset
from forecasters.launch import PRIOR_HALF_LIFE_SECONDS, PRIOR_PEAK_MULTIPLE, PRIOR_RAMP_SECONDS, Waves, excess, is_beyond
from forecasters.onset import (
    ALARM_SIGMAS,
    LEAST_RATIO,
    SUSPECT_COUNT,
    SUSPECT_SHARE,
    YOUNG_SECONDS,
    Onset,
    follow,
    follow_one,
    start_onset,
    threshold,
)
from forecasters.over import Over
from forecasters.wave import (
    ANNOUNCED,
    DETECTED,
    IDLE,
    WaveState,
    close_wave,
    learn_wave,
    multiple_now,
    multiple_quantiles,
    open_announced,
    open_detected,
    start_wave,
)

AHEAD_SECONDS = 3 * 86400.0
LONGEST_SECONDS = 10 * 86400.0
OVER_LOG = 0.1
OVER_AFTER_SECONDS = 1800.0
NEVER_AFTER_SECONDS = 12 * 3600.0
NEVER_LOG = float(np.log(0.9))
SUSPECT_SECONDS = 240.0
SAME_LAUNCH_SECONDS = 6 * 3600.0
CHUNK = 400
NOTHING = np.zeros(0)


Past = Callable[[Index, Array], Array]


@dataclass(slots=True)
class WatchState:
    """Onset test and wave of each fleet, and the start of the newest announced launch that is over, f64[n]."""

    onset: Onset
    wave: WaveState
    done: Array


def start_watch(fleets: int) -> WatchState:
    """Return a watch that has seen nothing."""
    return WatchState(start_onset(fleets), start_wave(fleets), np.full(fleets, -np.inf))


class Watch:
    """Configuration: the tide that waves are measured against, horizons, quantiles."""

    def __init__(self, tide: Harmonic, horizons_seconds: Array, quantiles: Array) -> None:
        self._tide = tide
        self._horizons = horizons_seconds
        self._levels = np.concatenate((quantiles, [0.5]))

    def learn(self, state: WatchState, tide: Tide, intake: Intake, batch: Batch, waves: Waves, past: Past) -> Over | None:
        """Follow the batch; return what lies over the tide, None where nothing does. The tide is only read.

        `past(fleet, time)` is the highest demand that yesterday and the last alike day would explain.
        """
        self._open_announced(state, batch.time_unix, waves)
        fleet, demand, span = _gather(state.onset, intake, batch)
        if len(fleet):
            self._follow(state, tide, intake, fleet, batch.time_unix[fleet], demand, span, past)
        if self.is_quiet(state, batch.time_unix, waves):
            return None
        return self.over(state, batch.time_unix, waves)

    def _follow(
        self, state: WatchState, tide: Tide, intake: Intake, fleet: Index, time: Array, demand: Array, span: Array, past: Past
    ) -> None:
        if len(intake.count) == 1 and self._follow_calm(state, tide, intake, time, float(demand[0]), float(span[0])):
            return
        base = offset(intake, fleet)
        logs = np.log(demand + base)
        ratio = logs - self._tide.log_shape(tide, fleet, time) - state.onset.slow[fleet]
        began = state.onset.began[fleet]
        state.onset.began[fleet] = np.where(np.isnan(began), time, began)
        idle = state.wave.kind[fleet] == IDLE
        limit = threshold(state.onset.noise[fleet])
        suspect = idle & (ratio > SUSPECT_SHARE * limit)
        if suspect.any():
            at = np.flatnonzero(suspect)
            explained = past(fleet[at], time[at])
            above = np.minimum(logs[at] - np.log(explained + base[at]), ratio[at]) > limit[at]
            suspect[at] = above & (time[at] - began[at] > YOUNG_SECONDS)
        onset = state.onset
        first = suspect & (onset.suspects[fleet] == 0.0)
        onset.since[fleet] = np.where(first, time - span, onset.since[fleet])
        onset.suspects[fleet] = np.where(suspect, onset.suspects[fleet] + 1.0, 0.0)
        calm = idle & ~suspect
        if calm.all():
            follow(onset, fleet, ratio, span)
            return
        if calm.any():
            follow(onset, fleet[calm], ratio[calm], span[calm])
        alarm = suspect & (onset.suspects[fleet] >= SUSPECT_COUNT) & (time - onset.since[fleet] >= SUSPECT_SECONDS)
        for number in fleet[alarm]:
            open_detected(state.wave, int(number), float(onset.since[number]))
            onset.suspects[number] = 0.0
        active = ~idle | alarm
        if active.any():
            learn_wave(state.wave, fleet[active], time[active], ratio[active], onset.noise[fleet[active]])
            self._close(state, fleet[active], time[active])

    def _follow_calm(self, state: WatchState, tide: Tide, intake: Intake, time: Array, demand: float, span: float) -> bool:
        """Follow the one fleet there is, in plain numbers, where nothing is about nor suspect; False leaves it to `_follow`."""
        onset = state.onset
        if state.wave.kind[0] != IDLE or isnan(onset.began[0]):
            return False
        ratio = log(demand + float(intake.base[0])) - self._tide.log_shape_one(tide, time) - float(onset.slow[0])
        if ratio > SUSPECT_SHARE * max(LEAST_RATIO, ALARM_SIGMAS * float(onset.noise[0])):
            return False
        onset.suspects[0] = 0.0
        follow_one(onset, ratio, span)
        return True

    def _close(self, state: WatchState, fleet: Index, time: Array) -> None:
        wave = state.wave
        log = multiple_now(wave, fleet, time)
        age = time - wave.onset[fleet]
        kind = wave.kind[fleet]
        over = (log < OVER_LOG) & (age > np.where(kind == DETECTED, OVER_AFTER_SECONDS, NEVER_AFTER_SECONDS))
        over |= (wave.never[fleet] > NEVER_LOG) & ((kind == DETECTED) | (age > NEVER_AFTER_SECONDS))
        over |= age > LONGEST_SECONDS
        ended = fleet[over]
        starts = wave.plan_start[ended]
        state.done[ended] = np.where(np.isnan(starts), state.done[ended], np.maximum(state.done[ended], starts))
        close_wave(wave, ended)

    def _open_announced(self, state: WatchState, time: Array, waves: Waves) -> None:
        for number, plans in enumerate(waves):
            now, kind = float(time[number]), state.wave.kind[number]
            if kind == ANNOUNCED and _is_outdated(state.wave, number, now, plans):
                close_wave(state.wave, np.array([number]))
            for plan in sorted(plans, key=lambda plan: plan.starts_unix):
                if not plan.starts_unix > state.done[number] or not abs(plan.starts_unix - now) < LONGEST_SECONDS:
                    continue
                if state.wave.kind[number] == DETECTED and plan.starts_unix - state.wave.onset[number] < SAME_LAUNCH_SECONDS:
                    state.done[number] = plan.starts_unix
                elif state.wave.kind[number] == IDLE and plan.starts_unix - now < AHEAD_SECONDS:
                    _open(state.wave, number, plan)
        if not waves and state.wave.kind.any():
            state.wave.kind[(state.wave.kind == ANNOUNCED) & (time < state.wave.plan_start)] = IDLE

    def is_quiet(self, state: WatchState, time: Array, waves: Waves) -> bool:
        """Whether nothing lies over any tide, from each fleet's time f64[n] to the last horizon."""
        if np.count_nonzero(state.wave.kind):
            return False
        for number, plans in enumerate(waves):
            for plan in plans:
                if plan.starts_unix > state.done[number] and not is_beyond(plan, float(time[number]), float(self._horizons[-1])):
                    return False
        return True

    def over(self, state: WatchState, time: Array, waves: Waves) -> Over:
        """Return what lies over the tide for forecasts made at a time per fleet f64[n].

        What was announced otherwise since the newest `learn`, or called off, counts with what is said of it now.
        """
        fleets, horizons = len(time), len(self._horizons)
        now, ahead = np.zeros(fleets), np.zeros((fleets, horizons))
        spread = np.zeros((fleets, horizons, len(self._levels) - 1))
        known = np.where(np.isfinite(time), time, 0.0)
        outdated = [number for number, plans in enumerate(waves) if _is_outdated(state.wave, number, float(known[number]), plans)]
        active = np.flatnonzero(state.wave.kind)
        active = active[~np.isin(active, outdated)] if outdated else active
        for start in range(0, len(active), CHUNK):
            fleet = active[start : start + CHUNK]
            now[fleet] = multiple_now(state.wave, fleet, known[fleet])
            said = multiple_quantiles(state.wave, fleet, known[fleet, None] + self._horizons, known[fleet], self._levels)
            ahead[fleet] = said[:, :, -1]
            spread[fleet] = said[:, :, :-1] - said[:, :, -1:]
        for number, plans in enumerate(waves):
            for plan in plans:
                is_followed = plan.starts_unix == state.wave.plan_start[number] and number not in outdated
                if plan.starts_unix > state.done[number] and not is_followed:
                    now[number] = np.log(np.exp(now[number]) + excess(plan, known[number]))
                    ahead[number] = np.log(np.exp(ahead[number]) + excess(plan, known[number] + self._horizons))
        return Over(np.exp(now), np.exp(ahead), spread)


def is_past(state: WatchState, number: int, now_unix: float, plan: LaunchPlan) -> bool:
    """Whether a launch changes no forecast from `now_unix` on: too long ago to be followed any more, and over or faded away."""
    if now_unix - plan.starts_unix < LONGEST_SECONDS:
        return False
    return bool(plan.starts_unix <= state.done[number]) or is_beyond(plan, now_unix, 0.0)


def _is_outdated(wave: WaveState, number: int, now: float, plans: Sequence[LaunchPlan]) -> bool:
    """Whether the slot holds a launch, yet to begin, that none of the plans announces so: it was called off or corrected since."""
    if wave.kind[number] != ANNOUNCED or now >= wave.plan_start[number]:
        return False
    return not any(
        plan.starts_unix == wave.plan_start[number] and np.array_equal(wave.told[number], _told(plan), equal_nan=True) for plan in plans
    )


def _told(plan: LaunchPlan) -> Array:
    stated = (plan.peak_multiple, plan.ramp_seconds, plan.half_life_seconds)
    return np.array([np.nan if value is None else value for value in stated])


def _open(wave: WaveState, number: int, plan: LaunchPlan) -> None:
    open_announced(
        wave,
        number,
        plan.starts_unix,
        (PRIOR_PEAK_MULTIPLE, False) if plan.peak_multiple is None else (plan.peak_multiple, True),
        (PRIOR_RAMP_SECONDS, False) if plan.ramp_seconds is None else (plan.ramp_seconds, True),
        (PRIOR_HALF_LIFE_SECONDS, False) if plan.half_life_seconds is None else (plan.half_life_seconds, True),
    )


def _gather(onset: Onset, intake: Intake, batch: Batch) -> tuple[Index, Array, Array]:
    """Return fleets, mean demand and its span where at least two minutes of new demand have come together."""
    time, demand = batch.time_unix, batch.demand_per_second
    if len(time) == 1:
        return _gather_one(onset, intake, float(time[0]), float(demand[0]))
    good = (demand >= 0.0) & (demand < DEMAND_CEILING) & (time > intake.time_unix) & (intake.count > 0.0) & (time < TIME_LIMIT)
    gap = np.minimum(time - intake.time_unix, 3.0 * intake.step_seconds)
    if good.all():
        onset.held_seconds += gap
        onset.held += demand * gap
    else:
        onset.held_seconds += np.where(good, gap, 0.0)
        onset.held += np.where(good, np.where(good, demand, 0.0) * np.where(good, gap, 0.0), 0.0)
    fleet = (good & (onset.held_seconds >= COARSE_SECONDS)).nonzero()[0]
    span = onset.held_seconds[fleet]
    mean = onset.held[fleet] / span
    onset.held[fleet] = 0.0
    onset.held_seconds[fleet] = 0.0
    return fleet, mean, span


def _gather_one(onset: Onset, intake: Intake, time: float, demand: float) -> tuple[Index, Array, Array]:
    before = float(intake.time_unix[0])
    if not (0.0 <= demand < DEMAND_CEILING and before < time < TIME_LIMIT and intake.count[0] > 0.0):
        return NONE, NOTHING, NOTHING
    gap = min(time - before, 3.0 * float(intake.step_seconds[0]))
    seconds, work = float(onset.held_seconds[0]) + gap, float(onset.held[0]) + demand * gap
    if seconds < COARSE_SECONDS:
        onset.held_seconds[0], onset.held[0] = seconds, work
        return NONE, NOTHING, NOTHING
    onset.held_seconds[0] = onset.held[0] = 0.0
    return FIRST, np.array([work / seconds]), np.array([seconds])
