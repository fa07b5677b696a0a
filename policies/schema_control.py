"""`spec.forecast`, `spec.launches`, `spec.behavior` and `spec.guard` of the policy YAML: how the fleet may be moved.

Owns these blocks; their defaults are those of `controlplane.contracts.fleet`, so that there is one place to change one.
It must not know offers or sources.
"""

from typing import Annotated, Literal

from pydantic import Field

from controlplane.contracts.fleet import Direction, ForecastSettings, Guard
from policies.schema_fields import (
    Block,
    Duration,
    Flag,
    Moment,
    Name,
    NonNegative,
    Positive,
    PositiveCount,
    PositiveDuration,
    Text,
    TimeOfDay,
)

DAYS: tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DIRECTION = Direction()
_FORECAST = ForecastSettings()
_GUARD = Guard()


class ForecastBlock(Block):
    """How demand is forecast."""

    methods: tuple[Name, ...] = Field(_FORECAST.methods, min_length=1, description="forecasters to combine, by name")
    time_zone: Text = Field(_FORECAST.time_zone, description="where the day is measured, an IANA name such as Europe/Berlin")
    season_seconds: PositiveDuration = Field(_FORECAST.season_seconds, alias="season", description="length of the main season")


class LaunchBlock(Block):
    """An announced wave; what is left out is unknown and a stated prior is used."""

    name: Text = Field(description="its name, unique in the fleet")
    starts: Moment = Field(description="when it starts, RFC 3339 with an offset, such as 2026-11-23T17:00:00Z")
    peak_multiple: Annotated[float, Field(strict=True, ge=1.0, le=1000.0, allow_inf_nan=False)] | None = Field(
        None, description="demand at the peak as a multiple of the usual, 1 to 1000"
    )
    ramp_seconds: Duration | None = Field(None, alias="ramp", description="time from the start to the peak")
    half_life_seconds: PositiveDuration | None = Field(None, alias="halfLife", description="time for the wave to fall by half")


class StepPolicyBlock(Block):
    """One step limit: at most `value` replicas, or percent, in any `period`."""

    type: Literal["Replicas", "Percent"] = Field(
        description="what value counts: replicas, or percent of the replicas at the period's start"
    )
    value: PositiveCount = Field(description="the limit, replicas or percent")
    period_seconds: PositiveDuration = Field(alias="period", description="the span it holds for")


class DirectionBlock(Block):
    """One direction of the HPA's behavior."""

    stabilization_window_seconds: Duration = Field(
        _DIRECTION.stabilization_window_seconds,
        alias="stabilizationWindow",
        description="span whose most cautious recommendation wins; 0s: none",
    )
    tolerance: Annotated[float, Field(strict=True, ge=0.0, le=1.0, allow_inf_nan=False)] = Field(
        _DIRECTION.tolerance, description="change, as a share of the current total, that is not acted on; the HPA's default is 0.1"
    )
    select_policy: Literal["Max", "Min", "Disabled"] = Field(
        "Max", description="which of several policies wins; Disabled: no change in this direction"
    )
    policies: tuple[StepPolicyBlock, ...] = Field((), max_length=16, description="step limits; empty: no limit")


class ScaleDownBlock(DirectionBlock):
    """Shrinking: the HPA's behavior, and a budget for every replica that goes."""

    budget: StepPolicyBlock | None = Field(
        None, description="most replicas taken away of all offers together in any period, replaced elsewhere or not; left out: no limit"
    )


class BehaviorBlock(Block):
    """How fast the fleet may move, floor and burst together."""

    scale_up: DirectionBlock = Field(default_factory=DirectionBlock, description="growing")
    scale_down: ScaleDownBlock = Field(default_factory=ScaleDownBlock, description="shrinking")


class BudgetWindowBlock(Block):
    """Hours of the week with tighter limits, by the wall clock of forecast.timeZone; they hold beside the others, the tightest counts."""

    name: Name = Field(description="its name, unique in the budget")
    days: tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...] = Field(
        DAYS, min_length=1, max_length=7, description="days that it starts on; left out: every day"
    )
    from_seconds: TimeOfDay = Field(0.0, alias="from", description="when it opens, HH:MM")
    to_seconds: TimeOfDay = Field(86400.0, alias="to", description="when it ends, HH:MM; at or before `from`: on the next day")
    usd_per_hour: NonNegative | None = Field(None, description="most USD per hour while it is open; left out: no tighter than outside it")
    usd: NonNegative | None = Field(None, description="most USD from its opening to its end; left out: no limit of its own")


class BudgetBlock(Block):
    """Hard limits on burst and spill together; the floor is committed and not counted."""

    usd_per_hour: Positive | None = Field(None, description="most USD per hour; left out: no limit")
    usd_per_day: Positive | None = Field(None, description="most USD per UTC day; left out: no limit")
    windows: tuple[BudgetWindowBlock, ...] = Field((), max_length=32, description="tighter limits at some hours of the week")


class GuardBlock(Block):
    """What keeps a decision safe."""

    mode: Literal["recommend", "act"] = Field(
        "recommend", description="recommend publishes decisions and touches nothing; act follows them"
    )
    stale_after_seconds: PositiveDuration = Field(
        _GUARD.stale_after_seconds, alias="staleAfter", description="older demand holds or grows the fleet, and never shrinks it"
    )
    max_replicas: PositiveCount | None = Field(
        None, description="most replicas of floor and burst together; left out: the sum of the offers'"
    )
    frozen: Flag = Field(False, description="the kill switch: no change at all")
    drain: Literal["none", "burst", "fleet"] = Field(
        "none", description="the drain switch: give back what is rented (burst) or everything (fleet), and buy nothing of it"
    )
    orphans: Literal["report", "end"] = Field(
        "report", description="what becomes of machines marked as this fleet's that none of its offers wants any more"
    )
    budget: BudgetBlock = Field(default_factory=BudgetBlock, description="hard limits on burst and spill, USD")
