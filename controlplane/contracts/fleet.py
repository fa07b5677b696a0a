"""A fleet as the core sees it: plain frozen data in SI units, compiled once from a policy file.

Owns the normalised form only; `policies.schema` owns the YAML a user writes and its compilation into this.
The core (`policies`, `forecasters`, `controlplane.pipeline`) reads a `Fleet` and never the YAML.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property


class Tier(StrEnum):
    """How capacity is bought: committed, by the hour, or by the token."""

    FLOOR = "floor"
    BURST = "burst"
    SPILL = "spill"


class Mode(StrEnum):
    """`recommend` publishes decisions and touches nothing; `act` lets actuators follow them."""

    RECOMMEND = "recommend"
    ACT = "act"


class Unit(StrEnum):
    """The unit of work that demand and capacity are counted in."""

    REQUESTS = "requests"
    OUTPUT_TOKENS = "outputTokens"
    WEIGHTED_TOKENS = "weightedTokens"


@dataclass(frozen=True, slots=True)
class Slo:
    """The promise to the user: `attainment` is the share of work served within `ttft_seconds` and `itl_seconds`."""

    attainment: float
    ttft_seconds: float | None = None
    itl_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Offer:
    """One way to buy a replica, in tier floor or burst.

    `usd_per_replica_hour` is the policy's price, None where only quotes know it; an unknown price counts as
    `ceiling_usd_per_replica_hour` (and, where that is None too, the offer is not bought from).
    A floor's marginal price is `opportunity_usd_per_replica_hour`: 0 where the pool is sunk.
    `lead_time_seconds` is decision to serving; with `learns_lead_time` it is only the prior, until enough starts were seen.
    `most_usd_per_replica_hour` and `most_usd_per_hour` (of everything held) bound purchases to what the decision that is followed reckoned
    with: who applies it sets them, a policy never does.
    `hold_seconds` is the shortest time a replica is kept, from the request on.
    """

    name: str
    tier: Tier
    capacity_per_second: float
    min_replicas: int
    max_replicas: int
    usd_per_replica_hour: float | None
    lead_time_seconds: float
    hold_seconds: float = 0.0
    replicas_per_lot: int = 1
    opportunity_usd_per_replica_hour: float = 0.0
    ceiling_usd_per_replica_hour: float | None = None
    scale_up_cooldown_seconds: float = 0.0
    scale_down_cooldown_seconds: float = 0.0
    actuator: str = "none"
    actuator_options: Mapping[str, object] = field(default_factory=dict)
    accelerator: str = ""
    accelerators_per_replica: int = 1
    capacity_source: str = ""
    memory_fit: str = ""
    learns_lead_time: bool = False
    most_usd_per_replica_hour: float | None = None
    most_usd_per_hour: float | None = None

    @property
    def has_floating_price(self) -> bool:
        """Whether what is held already may become dearer, up to the ceiling: spot."""
        return self.actuator_options.get("purchase") == "spot"

    @property
    def has_elastic_nodes(self) -> bool:
        """Whether nodes for its replicas are added on demand. Where the policy says nothing, those of a floor are fixed."""
        return self.actuator_options.get("nodes", "fixed" if self.tier is Tier.FLOOR else "elastic") == "elastic"


@dataclass(frozen=True, slots=True)
class Spill:
    """Serverless work at a hosted endpoint of the same model: `usd_per_unit` of work, at once, up to `max_per_second`."""

    name: str
    usd_per_unit: float
    max_per_second: float | None = None
    actuator: str = "none"
    actuator_options: Mapping[str, object] = field(default_factory=dict)


class StepKind(StrEnum):
    """What a step limit counts, in the HPA's words."""

    REPLICAS = "Replicas"
    PERCENT = "Percent"


class Select(StrEnum):
    """Which of several step limits wins, in the HPA's words."""

    MAX = "Max"
    MIN = "Min"
    DISABLED = "Disabled"


@dataclass(frozen=True, slots=True)
class StepLimit:
    """At most `value` replicas (or percent of the replicas at the period's start) in any `period_seconds`."""

    kind: StepKind
    value: int
    period_seconds: float


@dataclass(frozen=True, slots=True)
class Direction:
    """The HPA's behavior for one direction; `tolerance` is a share of the current total.

    `budget` bounds what is taken away of all offers together, replaced elsewhere or not; steps bound the change of the total.
    """

    stabilization_window_seconds: float = 0.0
    tolerance: float = 0.05
    steps: tuple[StepLimit, ...] = ()
    select: Select = Select.MAX
    budget: StepLimit | None = None


@dataclass(frozen=True, slots=True)
class Behavior:
    """How fast a fleet may move, fleet-wide and in replicas of floor and burst together."""

    scale_up: Direction = Direction()
    scale_down: Direction = Direction()


EVERY_DAY = (0, 1, 2, 3, 4, 5, 6)


@dataclass(frozen=True, slots=True)
class BudgetWindow:
    """Hours of the week with limits of their own: `usd_per_hour` while it is open, `usd` in all from its opening to its end.

    `days` are those it starts on, Monday 0; `from_seconds` and `to_seconds` are times of day by the wall clock of the budget's zone.
    """

    name: str
    days: tuple[int, ...] = EVERY_DAY
    from_seconds: float = 0.0
    to_seconds: float = 86400.0
    usd_per_hour: float | None = None
    usd: float | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """Hard limits on burst + spill, USD; None is no limit. A day is a UTC day. All hold at once, windows' too while they are open."""

    usd_per_hour: float | None = None
    usd_per_day: float | None = None
    windows: tuple[BudgetWindow, ...] = ()
    time_zone: str = "UTC"


class Drain(StrEnum):
    """The drain switch: nothing, what is rented, or the whole fleet is given back and nothing new is bought."""

    NONE = "none"
    BURST = "burst"
    FLEET = "fleet"


@dataclass(frozen=True, slots=True)
class Guard:
    """What keeps a decision safe. `stale_after_seconds`: older demand holds or grows, never shrinks."""

    mode: Mode = Mode.RECOMMEND
    stale_after_seconds: float = 120.0
    budget: Budget = Budget()
    max_total_replicas: int | None = None
    frozen: bool = False
    drain: Drain = Drain.NONE
    ends_orphans: bool = False


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """An announced launch. None = unknown, a stated prior is used."""

    name: str
    starts_unix: float
    peak_multiple: float | None = None
    ramp_seconds: float | None = None
    half_life_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class ForecastSettings:
    """`methods` are names in `forecasters.registry`; `time_zone` is where the day is measured (IANA name)."""

    methods: tuple[str, ...] = ("persistence", "seasonal-naive", "harmonic")
    time_zone: str = "UTC"
    season_seconds: float = 86400.0


@dataclass(frozen=True)
class Fleet:
    """One model served to one SLO: everything the core needs to decide for it.

    `ineligible` are the policy's offers that cannot serve it, each with the reason; they are none of its `offers`. `ineligible_offers` are
    the same as they would be: what they hold from before is still theirs.
    """

    name: str
    slo: Slo
    unit: Unit
    offers: tuple[Offer, ...]
    spill: Spill | None = None
    behavior: Behavior = Behavior()
    guard: Guard = Guard()
    forecast: ForecastSettings = ForecastSettings()
    launches: tuple[LaunchPlan, ...] = ()
    tick_seconds: float = 15.0
    model: str = ""
    demand_source: Mapping[str, object] = field(default_factory=dict)
    corrects_capacity: bool = False
    quotes: tuple[Mapping[str, object], ...] = ()
    ineligible: Mapping[str, str] = field(default_factory=dict)
    ineligible_offers: tuple[Offer, ...] = ()

    @cached_property
    def offer_by_name(self) -> dict[str, Offer]:
        """Offers of floor and burst by name."""
        return {offer.name: offer for offer in self.offers}

    def tier(self, tier: Tier) -> tuple[Offer, ...]:
        """Offers of one tier, in the policy's order."""
        return tuple(offer for offer in self.offers if offer.tier is tier)
