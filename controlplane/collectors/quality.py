"""How good a reading is: who was expected, who was heard, how old it is, and what is doubtful.

Owns every threshold of that kind. Missing is missing: a reading that heard too little has no demand, and one that heard a part says so.
Pure; `replicas` calls it.
"""

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from typing import Protocol

from controlplane.contracts.events import Flag

STEPS_OF_PATIENCE = 2.5
INTERVALS_OF_PATIENCE = 1.5
HOLD_SECONDS = 60.0
FORGET_SECONDS = 600.0
COVERAGE_AT_LEAST = 0.5
RESET_SHARE = 0.1
NEGATIVE_SHARE = 0.1
NEGATIVE_REQUESTS = 1.0


class Tracked(Protocol):
    """What is judged of one replica."""

    time_unix: float
    since_unix: float
    was_reset: bool
    gap_seconds: float


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a replica may be silent before it is not heard; for how long its last rate stands in; when it is forgotten."""

    heard_seconds: float
    hold_seconds: float
    forget_seconds: float = FORGET_SECONDS

    @classmethod
    def of(cls, interval_seconds: float, step_seconds: float | None) -> "Patience":
        """Return the patience for a reading each `interval_seconds` of samples that come each `step_seconds`."""
        heard = max(STEPS_OF_PATIENCE * (step_seconds or 0.0), INTERVALS_OF_PATIENCE * interval_seconds)
        return cls(heard, heard + min(HOLD_SECONDS, 4.0 * heard))


@dataclass(frozen=True, slots=True)
class Heard:
    """Replicas heard lately (`counted`: often enough for a rate), those that are there, and the age of the newest sample (None: never)."""

    fresh: frozenset[Hashable]
    counted: frozenset[Hashable]
    there: frozenset[Hashable]
    age_seconds: float | None
    coverage: float | None

    @classmethod
    def of(
        cls,
        tracks: Mapping[Hashable, Tracked],
        rates: Mapping[Hashable, float],
        now_unix: float,
        patience: Patience,
        expected: Collection[Hashable] | None,
    ) -> "Heard":
        """Compare who was heard with who is there."""
        newest = max((track.time_unix for track in tracks.values()), default=None)
        lately = {replica for replica, track in tracks.items() if now_unix - track.time_unix <= patience.heard_seconds}
        there = frozenset(expected) if expected is not None else frozenset(lately | set(rates))
        fresh = frozenset(lately & there)
        counted = fresh & frozenset(rates)
        coverage = len(counted) / len(there) if there else None
        return cls(fresh, counted, there, max(now_unix - newest, 0.0) if newest is not None else None, coverage)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether demand is known at all, and what is doubtful about it."""

    is_known: bool
    flags: frozenset[Flag]


def judge(
    tracks: Mapping[Hashable, Tracked], rates: Mapping[Hashable, float], heard: Heard, patience: Patience, implausible: bool
) -> Verdict:
    """Return the verdict on one reading.

    partial: somebody who is there was not heard, or was not for a while (its last rate stands in, or the mean over the gap counts).
    reset: replicas that took more than a tenth of the arrivals began to count anew, so what they lost is not in the figure.
    stale: nothing was heard lately. implausible: values that cannot be, or more leaving than ever arrived.
    """
    flags = set()
    seen = [replica for replica in rates if replica in tracks]
    known_there = heard.there & set(tracks)
    enough = not known_there or len(heard.counted & known_there) >= COVERAGE_AT_LEAST * len(known_there)
    if heard.age_seconds is None or heard.age_seconds > patience.heard_seconds:
        flags.add(Flag.STALE)
    if (heard.coverage is not None and heard.coverage < 1.0) or any(
        tracks[replica].gap_seconds > patience.heard_seconds for replica in seen
    ):
        flags.add(Flag.PARTIAL)
    total = sum(rates.values())
    reset = [replica for replica in seen if tracks[replica].was_reset]
    if reset and (total <= 0.0 or sum(rates[replica] for replica in reset) > RESET_SHARE * total):
        flags.add(Flag.RESET)
    positive = sum(rate for rate in rates.values() if rate > 0.0)
    if implausible or total < -max(NEGATIVE_SHARE * positive, NEGATIVE_REQUESTS):
        flags.add(Flag.IMPLAUSIBLE)
    return Verdict(bool(rates) and enough and Flag.STALE not in flags, frozenset(flags))
