"""How long replicas of an offer take from the decision to serving, learnt from the starts that were seen: `leadTime: auto`.

Owns what is kept of recent starts and the quantile that a decision reckons with; until enough were seen, a stated prior counts.
It must not choose anything. `controlplane.planning` folds pools through `see_pool` and puts `lead_time_seconds` into the view.
"""

from math import ceil
from typing import NamedTuple

from policies.view import Cohort

# A boot that comes late is served at spill's price or missed, one that comes early costs its rent: reckon with four in five.
QUANTILE = 0.8
ENOUGH_STARTS = 5
RECENT_STARTS = 32
# Replicas asked for together tend to start together: so many of them count, lest one purchase outvote all others.
COUNTED_AT_ONCE = 4
OPEN_ASKS_AT_MOST = 64
# What has not started after so long is stuck, and says nothing about starting.
LONGEST_SECONDS = 6 * 3600.0
SHORTEST_SECONDS = 1.0


class Starts(NamedTuple):
    """What was seen of one offer: its pool last time, what was asked for and does not serve yet, and recent lead times, oldest first.

    Of the pending, those beyond `asked` have served before, or replace what has. `measured_seconds` is the actuator's last measurement.
    """

    ready: int = 0
    pending: int = 0
    asked: tuple[Cohort, ...] = ()
    recent_seconds: tuple[float, ...] = ()
    measured_seconds: float | None = None


def see_pool(
    known: Starts | None, ready: int, pending: int, now_unix: float, asked_unix: float, measured_seconds: float | None = None
) -> Starts:
    """Return what is known after a pool of `ready` and `pending` replicas was seen at `now_unix`.

    What the pool has grown by since the last time was asked for at `asked_unix`; whoever was asked first starts first. What only stops
    being ready and is again was not asked for, is the first to be ready again, and teaches nothing. The time that the actuator measured
    of the newest replica stands for one start, once, and not where it is longer than was seen: that was another's.
    """
    if known is None:
        asked = (Cohort(asked_unix, pending),) if pending else ()
        return Starts(ready, pending, asked, measured_seconds=measured_seconds)
    if ready == known.ready and pending == known.pending:
        return known
    was_asked = sum(cohort.replicas for cohort in known.asked)
    started = max(ready - known.ready, 0)
    started -= min(started, max(known.pending - was_asked, 0))
    open_asks, seconds = _start(known.asked, started, now_unix)
    grown = max(ready + pending - known.ready - known.pending, 0)
    at_once = min(max(started - was_asked, 0), grown)
    seconds += [now_unix - asked_unix] * min(at_once, COUNTED_AT_ONCE)
    if measured_seconds is not None and measured_seconds != known.measured_seconds and seconds:
        seconds[-1] = min(measured_seconds, seconds[-1])
    recent = (*known.recent_seconds, *(_bounded(value) for value in seconds))[-RECENT_STARTS:]
    if measured_seconds is None:
        measured_seconds = known.measured_seconds
    return Starts(ready, pending, _asks_of(open_asks, grown - at_once, pending, asked_unix), recent, measured_seconds)


def lead_time_seconds(known: Starts | None, prior_seconds: float, now_unix: float) -> float:
    """Return the lead time to reckon with: the 0.8 quantile of recent starts, the prior until five were seen.

    What was asked for longer ago than that and still does not serve counts as a start that takes at least as long, so that boots that
    have become slower are believed before the first of them ends.
    """
    if known is None or len(known.recent_seconds) < ENOUGH_STARTS:
        return prior_seconds
    usual = _quantile(known.recent_seconds)
    late = [
        now_unix - cohort.since_unix
        for cohort in known.asked
        if usual < now_unix - cohort.since_unix <= LONGEST_SECONDS
        for _ in range(min(cohort.replicas, COUNTED_AT_ONCE))
    ]
    return _quantile((*known.recent_seconds, *late)) if late else usual


def _start(asked: tuple[Cohort, ...], started: int, now_unix: float) -> tuple[list[Cohort], list[float]]:
    """Return the asks that are still open once the oldest have started, and how long those took."""
    still: list[Cohort] = []
    seconds: list[float] = []
    for cohort in asked:
        done = min(started, cohort.replicas)
        started -= done
        seconds += [now_unix - cohort.since_unix] * min(done, COUNTED_AT_ONCE)
        if cohort.replicas > done:
            still.append(Cohort(cohort.since_unix, cohort.replicas - done))
    return still, seconds


def _asks_of(open_asks: list[Cohort], new: int, pending: int, asked_unix: float) -> tuple[Cohort, ...]:
    """Return the asks that are open with `new` ones, of `pending` replicas at the most: what is more has been called off, newest first."""
    if new > 0:
        open_asks.append(Cohort(asked_unix, new))
    more = pending - sum(cohort.replicas for cohort in open_asks)
    while more < 0:
        newest = open_asks.pop()
        if newest.replicas > -more:
            open_asks.append(Cohort(newest.since_unix, newest.replicas + more))
        more += newest.replicas
    return tuple(open_asks[-OPEN_ASKS_AT_MOST:])


def _bounded(seconds: float) -> float:
    return min(max(seconds, SHORTEST_SECONDS), LONGEST_SECONDS)


def _quantile(seconds: tuple[float, ...]) -> float:
    """Return the smallest value that at least `QUANTILE` of them do not exceed."""
    return sorted(seconds)[ceil(QUANTILE * len(seconds)) - 1]
