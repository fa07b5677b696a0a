"""From each replica's samples to what the fleet was offered: both ways of reading, Prometheus and direct scrape, fold through here.

Owns the arithmetic: arrivals of a replica are what it finished plus the change of what it holds; totals by increase with resets, levels
by sum, histograms merged. Pure: time is an argument. `quality` owns what is expected, heard and doubtful; `presets` the names.
"""

import math
from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass, field

from controlplane.collectors.api import Reading
from controlplane.collectors.histograms import Latency, latency_of, merged
from controlplane.collectors.presets import LARGEST, Signal
from controlplane.collectors.quality import Heard, Patience, judge
from controlplane.collectors.roles import Role
from controlplane.contracts.fleet import Slo

Replica = Hashable
Sample = tuple[Hashable, Role, float]
LEVELS_IN_FLIGHT = (Signal.RUNNING, Signal.WAITING)
NEW_REPLICA_FACTOR = 4.0
NEW_REPLICA_REQUESTS = 20.0
BRIDGED_SHARE_AT_MOST = 0.5
LEFT_SHARE_AT_LEAST = 0.5
UNFINISHED_SECONDS = 60.0
NOTHING_PROMISED = Slo(attainment=0.0)


@dataclass(slots=True)
class Track:
    """One replica: its newest totals and levels, and what was added since the last reading."""

    born_unix: float
    time_unix: float
    since_unix: float
    is_new: bool = False
    totals: dict[tuple[Hashable, Role], float] = field(default_factory=dict)
    levels: dict[tuple[Signal, int], list[float]] = field(default_factory=dict)
    in_flight: float | None = None
    arrivals: float = 0.0
    increases: dict[Role, float] = field(default_factory=dict)
    rate: float | None = None
    was_reset: bool = False
    gap_seconds: float = 0.0
    bridged: float = 0.0
    bridged_seconds: float = 0.0
    unfinished_since: float | None = None

    def best(self, signal: Signal) -> list[float] | None:
        """Return the levels of the first alternative of a signal that this replica exports."""
        options = [option for known, option in self.levels if known is signal]
        return self.levels[signal, min(options)] if options else None

    def added(self, signal: Signal) -> dict[Role, float]:
        """Return what the first exported alternative of a signal grew by since the last reading."""
        options = [role.option for _, role in self.totals if role.signal is signal]
        best = min(options, default=0)
        return {role: value for role, value in self.increases.items() if role.signal is signal and role.option == best}


class Replicas:
    """One fleet's replicas. `take` each scrape in the order of its time, then `close` an interval.

    `slo` states the bounds within which latencies are counted as attained.
    """

    def __init__(self, slo: Slo = NOTHING_PROMISED) -> None:
        self._slo = slo
        self.tracks: dict[Replica, Track] = {}
        self.step_seconds: float | None = None
        self._closed_unix: float | None = None
        self._implausible = False

    def take(self, replica: Replica, time_unix: float, samples: Iterable[Sample]) -> None:
        """Fold one scrape of one replica; one that is not newer than the last changes nothing."""
        track = self.tracks.get(replica)
        if track is not None and time_unix <= track.time_unix:
            return
        totals, levels = self._sorted(samples)
        in_flight = _in_flight(levels)
        if in_flight is None:
            return
        if track is None:
            self.tracks[replica] = self._first(time_unix, totals, levels, in_flight)
            return
        self._learn_step(time_unix - track.time_unix)
        track.gap_seconds = max(track.gap_seconds, time_unix - track.time_unix)
        restarted = any(value < track.totals.get(key, value) for key, value in totals.items())
        before = {} if restarted else track.totals
        finished: dict[int, float] = {}
        for key, value in totals.items():
            grown = value - before.get(key, 0.0)
            if grown:
                role = key[1]
                track.increases[role] = track.increases.get(role, 0.0) + grown
                if role.signal is Signal.FINISHED:
                    finished[role.option] = finished.get(role.option, 0.0) + grown
        counted = min((key[1].option for key in totals if key[1].signal is Signal.FINISHED), default=0)
        held_before = 0.0 if restarted or track.in_flight is None else track.in_flight
        track.arrivals += finished.get(counted, 0.0) + in_flight - held_before
        track.was_reset |= restarted
        counts = any(key[1].signal is Signal.FINISHED for key in totals)
        track.unfinished_since = None if counts or not in_flight else track.unfinished_since or time_unix
        track.totals, track.levels, track.in_flight, track.time_unix = totals, levels, in_flight, time_unix

    def close(self, now_unix: float, interval_seconds: float, expected: Collection[Replica] | None = None) -> Reading:
        """Return what was heard since the last reading. `expected` are the replicas that are there; None: nobody knows."""
        patience = Patience.of(interval_seconds, self.step_seconds)
        rates: dict[Replica, float] = {}
        for replica, track in list(self.tracks.items()):
            rate = self._rate(track, now_unix, interval_seconds, patience, gone=expected is not None and replica not in expected)
            if rate is not None:
                rates[replica] = rate
        heard = Heard.of(self.tracks, rates, now_unix, patience, expected)
        reading = self._reading(now_unix, interval_seconds, heard, rates, patience)
        if reading.requests_per_second is not None:
            self._note_bridged(rates, interval_seconds)
        self._forget(now_unix, patience, expected)
        self._closed_unix, self._implausible = now_unix, False
        return reading

    def _sorted(self, samples: Iterable[Sample]) -> tuple[dict[tuple[Hashable, Role], float], dict[tuple[Signal, int], list[float]]]:
        totals: dict[tuple[Hashable, Role], float] = {}
        levels: dict[tuple[Signal, int], list[float]] = {}
        for key, role, value in samples:
            if not 0.0 <= value < math.inf:
                self._implausible = True
            elif role.is_gauge:
                levels.setdefault((role.signal, role.option), []).append(value)
            else:
                totals[key, role] = value
        return totals, levels

    def _first(
        self,
        time_unix: float,
        totals: dict[tuple[Hashable, Role], float],
        levels: dict[tuple[Signal, int], list[float]],
        in_flight: float,
    ) -> Track:
        """Return a replica heard for the first time. One that came to life since the last reading has counted from zero."""
        track = Track(time_unix, time_unix, time_unix, totals=totals, levels=levels, in_flight=in_flight)
        if self._closed_unix is None or time_unix < self._closed_unix - 1.5 * (self.step_seconds or 0.0):
            return track
        by_option: dict[int, float] = {}
        for (_, role), value in totals.items():
            if role.signal is Signal.FINISHED:
                by_option[role.option] = by_option.get(role.option, 0.0) + value
        arrivals = by_option.get(min(by_option, default=0), 0.0) + in_flight
        usual = max((other.rate for other in self.tracks.values() if other.rate is not None), default=0.0)
        lived = max(time_unix - self._closed_unix, 0.0) + (self.step_seconds or 0.0)
        if arrivals <= NEW_REPLICA_FACTOR * usual * lived + NEW_REPLICA_REQUESTS:
            track.is_new, track.arrivals = True, arrivals
            track.increases = {}
            for (_, role), value in totals.items():
                track.increases[role] = track.increases.get(role, 0.0) + value
        return track

    def _rate(self, track: Track, now_unix: float, interval_seconds: float, patience: Patience, *, gone: bool) -> float | None:
        """Return one replica's arrivals per second; the last known while it is not heard for a short time; None when not known."""
        span = track.time_unix - track.since_unix
        if track.unfinished_since is not None and now_unix - track.unfinished_since > UNFINISHED_SECONDS:
            # It works and never says that anything was finished: what it takes is not known, and certainly not nothing.
            track.rate = None
        elif gone or track.is_new:
            # It lived for a part of the interval: what it took counts once, spread over all of it.
            track.rate = track.arrivals / interval_seconds
        elif span > 0.0:
            # What stood in for a short silence is taken off again, unless that would leave next to nothing to go by.
            track.rate = track.arrivals / span
            if 0.0 < track.bridged_seconds <= BRIDGED_SHARE_AT_MOST * span:
                left = (track.arrivals - track.bridged) / (span - track.bridged_seconds)
                track.rate = left if left >= LEFT_SHARE_AT_LEAST * track.rate else track.rate
            track.bridged = track.bridged_seconds = 0.0
        elif now_unix - track.time_unix > patience.hold_seconds:
            track.rate = None
        return track.rate

    def _note_bridged(self, rates: dict[Replica, float], interval_seconds: float) -> None:
        """Remember for whom the last known rate stood in, in a reading that counted."""
        for replica, rate in rates.items():
            track = self.tracks[replica]
            if track.time_unix <= track.since_unix and not track.is_new:
                track.bridged += rate * interval_seconds
                track.bridged_seconds += interval_seconds

    def _reading(self, now_unix: float, interval_seconds: float, heard: Heard, rates: dict[Replica, float], patience: Patience) -> Reading:
        fresh = [track for replica, track in self.tracks.items() if replica in heard.fresh]
        verdict = judge(self.tracks, rates, heard, patience, self._implausible)
        finished = self._total(Signal.FINISHED)
        spans = sum(max(track.time_unix - track.since_unix, 0.0) for track in fresh)
        return Reading(
            time_unix=now_unix,
            interval_seconds=interval_seconds,
            requests_per_second=max(sum(rates.values()), 0.0) if verdict.is_known else None,
            finished_per_second=finished * len(fresh) / spans if verdict.is_known and spans > 0.0 else None,
            running=_sum(fresh, Signal.RUNNING),
            waiting=_sum(fresh, Signal.BACKLOG),
            input_tokens=self._total(Signal.INPUT_TOKENS),
            output_tokens=self._total(Signal.OUTPUT_TOKENS),
            finished=finished,
            kv_cache_used_share=_mean(fresh, Signal.KV_CACHE),
            ttft=self._latency(Signal.TTFT, self._slo.ttft_seconds),
            itl=self._latency(Signal.ITL, self._slo.itl_seconds),
            startup_seconds=_newest(fresh, Signal.STARTUP),
            weight_load_seconds=_newest(fresh, Signal.WEIGHT_LOAD),
            age_seconds=heard.age_seconds,
            coverage=heard.coverage,
            flags=verdict.flags,
        )

    def _total(self, signal: Signal) -> float:
        return sum(sum(track.added(signal).values()) for track in self.tracks.values())

    def _latency(self, signal: Signal, bound_seconds: float | None) -> Latency:
        of_each = []
        for track in self.tracks.values():
            added = track.added(signal)
            if added:
                buckets = {role.bound: 0.0 for _, role in track.totals if role.signal is signal}
                of_each.append({**buckets, **{role.bound: value for role, value in added.items()}})
        return latency_of(merged(of_each), bound_seconds)

    def _forget(self, now_unix: float, patience: Patience, expected: Collection[Replica] | None) -> None:
        """Begin a new interval, and let go of replicas that are no more."""
        for replica, track in list(self.tracks.items()):
            silent = now_unix - track.time_unix
            there = replica in expected if expected is not None else silent <= patience.hold_seconds
            if not there or silent > patience.forget_seconds:
                del self.tracks[replica]
                continue
            track.since_unix, track.arrivals, track.is_new, track.was_reset, track.gap_seconds = track.time_unix, 0.0, False, False, 0.0
            track.increases = {}

    def _learn_step(self, seconds: float) -> None:
        """Follow the shortest usual time between two samples of a replica: down fast, up slowly."""
        if self.step_seconds is None:
            self.step_seconds = seconds
        elif seconds < self.step_seconds:
            self.step_seconds = max(seconds, 0.5 * self.step_seconds)
        else:
            self.step_seconds += 0.02 * (min(seconds, 4.0 * self.step_seconds) - self.step_seconds)


def _in_flight(levels: dict[tuple[Signal, int], list[float]]) -> float | None:
    """Return requests running and waiting; None where the replica does not say."""
    total, is_known = 0.0, False
    for signal in LEVELS_IN_FLIGHT:
        options = [option for known, option in levels if known is signal]
        if options:
            total += sum(levels[signal, min(options)])
            is_known |= signal is Signal.RUNNING
    return total if is_known else None


def _values(tracks: list[Track], signal: Signal) -> list[list[float]]:
    return [values for track in tracks if (values := track.best(signal)) is not None]


def _sum(tracks: list[Track], signal: Signal) -> float | None:
    values = _values(tracks, signal)
    return sum(map(sum, values)) if values else None


def _mean(tracks: list[Track], signal: Signal) -> float | None:
    values = [value for each in _values(tracks, signal) for value in each]
    return min(sum(values) / len(values), 1.0) if values else None


def _newest(tracks: list[Track], signal: Signal) -> float | None:
    """Return what the replica that was heard first last says; of several ranks the slowest."""
    assert signal in LARGEST
    ordered = sorted((track for track in tracks if track.best(signal)), key=lambda track: track.born_unix)
    return max(ordered[-1].best(signal) or [0.0]) if ordered else None
