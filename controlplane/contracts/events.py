"""The ten events, as frozen models: what every part of tidegate says to every other.

Owns their fields and units; the JSON schemas under docs/schemas are generated from here and a golden test guards them.
Fields ignore what they do not know, so that an older reader survives a newer writer. `subjects` says where each travels.
"""

from enum import StrEnum
from hashlib import blake2b
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from controlplane.contracts.fleet import Mode, Tier
from controlplane.contracts.units import Count, Name, NonNegative, Positive, Share, Time, Work


class Event(BaseModel):
    """What all events share: frozen, lenient to unknown fields, and an id derived from the content."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="null")
    kind: ClassVar[str]

    time: Time

    @property
    def type_name(self) -> str:
        """The CloudEvents type, such as `dev.tidegate.observation.v1`."""
        return f"dev.tidegate.{self.kind}.v1"

    @property
    def event_id(self) -> str:
        """The same inputs give the same id, on any machine: blake2b-128 of kind and body."""
        return blake2b(f"{self.kind}\n{self.model_dump_json()}".encode(), digest_size=16).hexdigest()


class Flag(StrEnum):
    """What is doubtful about an observation. `history` was read back from a store: it is learnt from and never decided on."""

    STALE = "stale"
    PARTIAL = "partial"
    RESET = "reset"
    IMPLAUSIBLE = "implausible"
    SYNTHETIC = "synthetic"
    HISTORY = "history"


class Observation(Event):
    """What a fleet was offered over the interval that ends at `time`. A missing figure is null, never zero."""

    kind = "observation"
    fleet: Name
    interval_seconds: Positive | None = Field(None, description="length of the interval, seconds; null: since the previous one")
    demand_per_second: Work | None = Field(description="mean offered work per second, the fleet's unit; null: not known")
    backlog: Work | None = Field(None, description="work waiting at the end of the interval, the fleet's unit")
    served_per_second: Work | None = Field(None, description="work served within the SLO, per second")
    late_per_second: Work | None = Field(None, description="work served outside the SLO or refused, per second")
    spilled_per_second: Work | None = Field(None, description="work that the gateway spilled, per second")
    ttft_seconds_p95: NonNegative | None = None
    itl_seconds_p95: NonNegative | None = None
    ttft_attained_share: Share | None = Field(None, description="share of requests whose first token came within the policy's TTFT")
    itl_attained_share: Share | None = Field(None, description="share of the times between tokens that were within the policy's ITL")
    kv_cache_used_share: Share | None = None
    input_tokens_mean: NonNegative | None = None
    output_tokens_mean: NonNegative | None = None
    running_requests: NonNegative | None = Field(None, description="requests being served at the end of the interval")
    startup_seconds: NonNegative | None = Field(None, description="start-up time of the newest replica, as its engine measured it")
    weight_load_seconds: NonNegative | None = Field(None, description="of that, the time to load the weights")
    gpu_used_share: Share | None = Field(None, description="mean use of the fleet's GPUs")
    gpu_memory_used_share: Share | None = None
    age_seconds: NonNegative | None = Field(None, description="how old the newest sample was when it was read")
    clock_offset_seconds: float | None = Field(None, description="how far the clock of what was read is ahead of ours")
    coverage: Share | None = Field(None, description="share of replicas heard")
    flags: tuple[Flag, ...] = ()
    source: str = Field("", description="the collector that made it")


class PoolStatus(Event):
    """What one offer really holds for one fleet. `draining` and failed replicas are in neither `ready` nor `pending`."""

    kind = "pool"
    fleet: Name
    offer: Name
    ready: Count
    pending: Count = Field(0, description="asked for and not yet serving, open purchase intents included")
    draining: Count = 0
    failed_replicas: Count = Field(0, description="paid for and serving nothing, until they are given back")
    usd_per_hour: NonNegative | None = Field(
        None, description="what ready, pending, draining and failed replicas cost per hour now, together; null: not known"
    )
    unavailable: bool = Field(False, description="the supplier refused lately: no stock, no quota or not reachable")
    unschedulable: Count = Field(0, description="of the pending, those that the scheduler cannot place")
    lead_time_seconds: NonNegative | None = Field(None, description="measured decision-to-serving time of the newest replica")
    message: str = ""


class Quote(Event):
    """An offer's price and stock now. Null is unknown, never zero."""

    kind = "quote"
    offer: Name
    usd_per_replica_hour: NonNegative | None = None
    usd_per_unit: NonNegative | None = Field(None, description="spill offers: USD per unit of work")
    stock_replicas: Count | None = None
    lead_time_seconds: NonNegative | None = None
    expires: Time | None = None


class Launch(Event):
    """A wave that is announced, or was detected. Null fields are unknown: a stated prior is used."""

    kind = "launch"
    fleet: Name
    name: Annotated[str, Field(min_length=1, max_length=253)]
    starts: Time
    peak_multiple: Annotated[float, Field(ge=1.0, le=1000.0)] | None = None
    ramp_seconds: NonNegative | None = None
    half_life_seconds: Positive | None = None
    origin: Literal["announced", "detected"] = "announced"
    cancelled: bool = False


class AlertAction(StrEnum):
    """What an alert may do: raise the floor for a while, ask for an early decision, or stop changes."""

    LIFT = "lift"
    TICK = "tick"
    FREEZE = "freeze"
    NONE = "none"


class Alert(Event):
    """A Grafana or Alertmanager alert, already mapped to a fleet and a bounded, expiring action."""

    kind = "alert"
    fleet: Name
    name: Annotated[str, Field(min_length=1, max_length=253)]
    status: Literal["firing", "resolved"] = "firing"
    action: AlertAction = AlertAction.TICK
    lift_replicas: Count = 0
    expires: Time | None = None
    summary: str = ""


SCHEDULE = "schedule"


class Tick(Event):
    """The planner's clock, folded in stream order. A tick with a `cause` other than `schedule` is a poke: it never shrinks."""

    kind = "tick"
    cause: str = SCHEDULE
    fleet: Name | None = Field(None, description="null: all fleets")

    @property
    def is_poke(self) -> bool:
        """Whether something urgent asked for this tick."""
        return self.cause != SCHEDULE


class Forecast(Event):
    """Demand as a distribution by horizon: `demand_per_second[horizon][quantile]`, rising along both quantile axes.

    `peak_per_second` is the same for the maximum between now and the horizon. `weights` are each method's share.
    """

    kind = "forecast"
    fleet: Name
    observed: Time = Field(description="time of the newest observation that went in")
    horizons_seconds: tuple[NonNegative, ...]
    quantiles: tuple[Share, ...]
    demand_per_second: tuple[tuple[NonNegative, ...], ...]
    peak_per_second: tuple[tuple[NonNegative, ...], ...]
    weights: dict[str, Share] = Field(default_factory=dict)


class Tide(Event):
    """What a refit off the hot path found a fleet's daily and weekly shape to be. Folded by the forecaster, so that history replays alike.

    `coefficients` are of sines and cosines over the local day and week, for the log of demand; empty: what was learnt by then stands.
    """

    kind = "tide"
    fleet: Name
    observed: Time = Field(description="time of the newest observation that went in")
    time_zone: str = Field(description="where the day begins")
    season_seconds: Positive
    chosen: str = Field(description="the model that foresaw held-out days best; `recursion`: none was clearly better than what stands")
    errors: dict[str, NonNegative] = Field(default_factory=dict, description="each model's mean absolute error in the log of demand")
    coefficients: tuple[float, ...] = ()


class Reason(StrEnum):
    """Why a stage of a decision moved a number, or refused to."""

    LAYER_PAYS = "LAYER_PAYS"
    LAYER_HELD = "LAYER_HELD"
    LAYER_RELEASED = "LAYER_RELEASED"
    FLOOR_IS_SUNK = "FLOOR_IS_SUNK"
    BACKLOG = "BACKLOG"
    MINIMUM_HOLD = "MINIMUM_HOLD"
    WITHIN_TOLERANCE = "WITHIN_TOLERANCE"
    STABILIZED = "STABILIZED"
    STEP_LIMITED = "STEP_LIMITED"
    REMOVALS_LIMITED = "REMOVALS_LIMITED"
    COOLDOWN = "COOLDOWN"
    ROUNDED_TO_LOT = "ROUNDED_TO_LOT"
    RAISED_TO_FLOOR = "RAISED_TO_FLOOR"
    CLAMPED_TO_CEILING = "CLAMPED_TO_CEILING"
    CLAMPED_TO_STOCK = "CLAMPED_TO_STOCK"
    CLAMPED_TO_BUDGET = "CLAMPED_TO_BUDGET"
    OFFER_UNAVAILABLE = "OFFER_UNAVAILABLE"
    PRICE_UNKNOWN = "PRICE_UNKNOWN"
    PRICE_ABOVE_CEILING = "PRICE_ABOVE_CEILING"
    STALE_HOLD = "STALE_HOLD"
    IMPLAUSIBLE_HOLD = "IMPLAUSIBLE_HOLD"
    POKE_NEVER_SHRINKS = "POKE_NEVER_SHRINKS"
    ALERT_LIFT = "ALERT_LIFT"
    DRAINED = "DRAINED"
    FROZEN = "FROZEN"
    NO_DATA_YET = "NO_DATA_YET"
    SPILL_OPEN = "SPILL_OPEN"
    SPILL_CLOSED = "SPILL_CLOSED"
    STEADY = "STEADY"


class Stage(BaseModel):
    """One step of a decision: replicas per offer before and after, and why."""

    model_config = ConfigDict(frozen=True)
    name: str
    before: dict[str, int]
    after: dict[str, int]
    reasons: tuple[Reason, ...] = ()


class Decision(Event):
    """Absolute targets per offer (ready and pending together), with an expiry, the evidence, and every stage's reason.

    An actuator that holds an expired decision neither buys nor releases, and spill closes.
    `spill_per_second` is the highest rate the gateway may spill until `spill_until`, not what it must.
    """

    kind = "decision"
    fleet: Name
    mode: Mode
    expires: Time
    targets: dict[Name, Count]
    tiers: dict[Name, Tier] = Field(default_factory=dict)
    spill_per_second: NonNegative = 0.0
    spill_until: Time | None = None
    cause: str = SCHEDULE
    reasons: tuple[Reason, ...] = ()
    stages: tuple[Stage, ...] = ()
    demand_per_second: NonNegative | None = None
    backlog: NonNegative | None = None
    horizon_seconds: NonNegative | None = Field(None, description="the horizon that `demand_quantiles` are for: the lead time")
    demand_quantiles: dict[str, NonNegative] = Field(default_factory=dict, description="quantile → demand per second at the horizon")
    lead_times_seconds: dict[Name, NonNegative] = Field(
        default_factory=dict, description="lead time that was reckoned with, of the offers that learn theirs (`leadTime: auto`)"
    )
    capacity_share: NonNegative | None = Field(
        None, description="share of the stated capacity that replicas were reckoned to carry, 0.5 to 1.25; null: not corrected"
    )
    ineligible: dict[Name, str] = Field(
        default_factory=dict, description="offers of the policy that cannot serve the fleet, with the reason; they have no target"
    )
    usd_per_hour: NonNegative | None = Field(None, description="what the targets cost per hour, floor included")
    most_usd_per_replica_hour: dict[Name, NonNegative] = Field(
        default_factory=dict, description="USD per replica-hour that was reckoned with, of rented offers: nothing dearer is bought on it"
    )
    most_usd_per_hour: dict[Name, NonNegative] = Field(
        default_factory=dict,
        description="the most that everything held of a rented offer may cost per hour, purchases included; absent: no hourly budget",
    )
    inputs_sequence: Count | None = Field(None, description="stream sequence of the tick that it answers; null outside NATS")
    summary: str = Field("", description="one sentence for a person")


class Outcome(StrEnum):
    """What came of one attempt to make an offer be what a decision says."""

    APPLIED = "applied"
    SKIPPED = "skipped"
    FAILED = "failed"


SWEEP = "sweep"


class Actuation(Event):
    """What an actuator did for one offer, and what it found. No silent success.

    One whose `decision` is `sweep` is about an offer that no policy names any more: `before` replicas are held all the same.
    """

    kind = "actuation"
    fleet: Name
    offer: Name
    decision: str = Field(description="the event id of the decision followed; sweep: nobody decides for the offer any more")
    outcome: Outcome
    target: Count
    before: Count = Field(description="ready and pending together, as observed")
    change: int = Field(0, description="replicas asked for (positive) or given back (negative)")
    intent: str = Field("", description="the numbered purchase intent, where one was opened")
    reason: str = ""
    error: str = ""
    retryable: bool = False


EVENTS: tuple[type[Event], ...] = (Observation, PoolStatus, Quote, Launch, Alert, Tick, Forecast, Tide, Decision, Actuation)
EVENT_BY_KIND: dict[str, type[Event]] = {event.kind: event for event in EVENTS}
