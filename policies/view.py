"""What a decision sees and what it remembers: plain frozen data, time included.

Owns `View` (the world at one instant, as observed) and `Memory` (what cooldowns, holds, windows and budgets need to carry over).
It computes nothing; go on to `policies.decide`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import PlainSerializer, PlainValidator

from controlplane.contracts.events import Reason
from controlplane.contracts.fleet import Fleet, Offer


def _from_lists(value: object) -> NDArray[np.float64]:
    return np.asarray(value, dtype=np.float64)


def _to_lists(value: NDArray[np.float64]) -> object:
    return value.tolist()


# An array that a snapshot writes as nested lists; floats survive JSON exactly.
Array = Annotated[NDArray[np.float64], PlainValidator(_from_lists), PlainSerializer(_to_lists)]
Targets = dict[str, int]
Staged = tuple[Targets, tuple[Reason, ...]]

UNKNOWN_PRICE = float("inf")
EXPIRY_TICKS = 4.0
EXPIRY_SECONDS_AT_LEAST = 60.0


@dataclass(frozen=True, slots=True)
class Outlook:
    """Demand as a distribution by horizon: `demand` and `peak` are f64[horizon, quantile], work per second.

    `peak` is the running maximum from now to the horizon. Horizons rise and are seconds from the newest observation.
    """

    horizons_seconds: Array
    quantiles: Array
    demand: Array
    peak: Array


@dataclass(frozen=True, slots=True)
class OfferView:
    """One offer as it is now. `usd_per_replica_hour` is the live price, else the policy's, else its ceiling; None: unknown.

    `stock` is how many more replicas can be had, None where nobody says. `risk_usd_per_replica_hour` is what losing replicas of it costs
    on average; it bears on the choice between offers, never on budgets. `stuck` are asked
    for and cannot be placed: neither supply nor lost. `unserving` are paid and neither ready nor pending: draining, or failed and not given
    back yet. `paid_usd_per_hour` is what all of these cost now, None: not told. `untold`: nobody has said yet what is held; else it was
    said at `told_unix`, infinite where it is of now.
    """

    offer: Offer
    ready: int = 0
    pending: int = 0
    usd_per_replica_hour: float | None = None
    stock: int | None = None
    unavailable: bool = False
    risk_usd_per_replica_hour: float = 0.0
    stuck: int = 0
    unserving: int = 0
    paid_usd_per_hour: float | None = None
    untold: bool = False
    told_unix: float = float("inf")

    @property
    def held(self) -> int:
        """Ready and pending together: what a target is compared with."""
        return self.ready + self.pending

    @property
    def is_too_dear(self) -> bool:
        """Whether the price is above the offer's ceiling, above which nothing is bought."""
        ceiling, price = self.offer.ceiling_usd_per_replica_hour, self.usd_per_replica_hour
        return ceiling is not None and price is not None and price > ceiling

    @property
    def usd_per_unit(self) -> float:
        """USD per unit of work at full use, its risk included; infinite where the price is unknown."""
        if self.usd_per_replica_hour is None:
            return UNKNOWN_PRICE
        return (self.usd_per_replica_hour + self.risk_usd_per_replica_hour) / (self.offer.capacity_per_second * 3600.0)


@dataclass(frozen=True, slots=True)
class View:
    """The world at `now_unix`, for one fleet. `demand_age_seconds` is infinite before the first observation.

    `late_share` and `spilled_per_second` are of the work since the last decision; None: nobody says. `is_shadow`: what the offers hold is
    not what is there but what was decided last, as if every target had come true.
    """

    now_unix: float
    fleet: Fleet
    offers: tuple[OfferView, ...]
    outlook: Outlook | None
    demand_per_second: float | None = None
    demand_age_seconds: float = float("inf")
    backlog: float = 0.0
    late_share: float | None = None
    spilled_per_second: float | None = None
    lift_replicas: int = 0
    implausible: bool = False
    frozen: bool = False
    poke: bool = False
    is_shadow: bool = False


class Cohort(NamedTuple):
    """Replicas of one offer that were first seen together: holds are counted from here."""

    since_unix: float
    replicas: int


class Extent(NamedTuple):
    """The lowest and highest total recommended around one moment; `last_unix` is the newest of them."""

    last_unix: float
    low: int
    high: int


class Change(NamedTuple):
    """Replicas added and taken away, by target, around one moment; `last_unix` is the newest of them."""

    last_unix: float
    added: int
    removed: int


class OpenWindow(NamedTuple):
    """A budget window that is open, since when, and what burst and spill have cost since then."""

    name: str
    opened_unix: float
    spent_usd: float


class Experience(NamedTuple):
    """What an offer has taught: what it held last, refusals in a row and until when it is left alone, replicas lost and hours held."""

    held: int | None = None
    refusals: int = 0
    refused_until_unix: float = 0.0
    lost: float = 0.0
    replica_hours: float = 0.0


class Asked(NamedTuple):
    """What was asked for last of an offer: a purchase on its way that no pool may have told of yet."""

    since_unix: float
    replicas: int
    usd_per_replica_hour: float


class Headroom(NamedTuple):
    """What a fleet without spill has learnt: the factor on its forecast, its typical demand and recent peak, work per second.

    `missed_share` is what missed the SLO over the last weeks.
    """

    log_factor: float
    typical_per_second: float
    peak_per_second: float
    seen_seconds: float
    missed_share: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Rehearsal:
    """What candidate rules would have done, f64[columns], in units of work (per second): see `policies.rehearsal`.

    `column` is that of the rule in use, `late_share` what it was late with last. `slots` f64[slots, columns] is the least that was held
    from each of `slots_unix` to the next. `missed` is the share of work that would have missed the SLO over the last weeks, `paid` the
    capacity paid for. `queued_share` of late work waits on instead of being shed, as `late_seconds` of it say. Feedback counts from
    `neutral_log_factor` on.
    """

    column: int
    held: Array
    backlog: Array
    slots_unix: tuple[float, ...]
    slots: Array
    missed: Array
    paid: Array
    late_share: float = 0.0
    queued_share: float = 1.0
    late_seconds: float = 0.0
    seen_seconds: float = 0.0
    neutral_log_factor: float = 0.0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rehearsal) and all(
            np.array_equal(getattr(self, name.name), getattr(other, name.name)) for name in fields(self)
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def is_queueing(self) -> bool:
        """Whether what is late rather waits than is shed."""
        return self.queued_share >= 0.5


@dataclass(frozen=True, slots=True)
class Memory:
    """What one decision leaves for the next. All of it survives a restart in the snapshot, and none of it grows without bound.

    `lift_floor` is the total that firing alerts hold up now, for `lift_replicas` of them.
    """

    recommendations: tuple[Extent, ...] = ()
    changes: tuple[Change, ...] = ()
    cohorts: Mapping[str, tuple[Cohort, ...]] = field(default_factory=dict)
    raised_unix: Mapping[str, float] = field(default_factory=dict)
    lowered_unix: Mapping[str, float] = field(default_factory=dict)
    targets: Mapping[str, int] = field(default_factory=dict)
    lift_replicas: int = 0
    lift_floor: int = 0
    spill_per_second: float = 0.0
    day: int = -1
    spent_usd_today: float = 0.0
    metered_unix: float | None = None
    interval_seconds: float = 0.0
    headroom: Headroom | None = None
    rehearsal: Rehearsal | None = None
    offers: Mapping[str, Experience] = field(default_factory=dict)
    windows: tuple[OpenWindow, ...] = ()
    asked: Mapping[str, Asked] = field(default_factory=dict)


def expiry_seconds(fleet: Fleet) -> float:
    """Return how long a decision may be acted on: four ticks, a minute at least."""
    return max(EXPIRY_TICKS * fleet.tick_seconds, EXPIRY_SECONDS_AT_LEAST)
