"""A policy model → the `Fleet` that the core decides with: SI units, capacities resolved, prices per unit of work.

Owns every conversion, so that none happens in the core; the formulas are in the docstrings.
It must not read files: `controlplane.config` does, and calls `compile_fleet`.
"""

from collections.abc import Sequence

from controlplane.contracts.errors import PolicyError
from controlplane.contracts.fleet import (
    Behavior,
    Budget,
    BudgetWindow,
    Direction,
    Drain,
    Fleet,
    ForecastSettings,
    Guard,
    LaunchPlan,
    Mode,
    Offer,
    Select,
    Slo,
    Spill,
    StepKind,
    StepLimit,
    Tier,
    Unit,
)
from controlplane.contracts.units import MILLION
from policies.capacity import Profile
from policies.eligible import Barred, Carries, carries_of, offer_blocks, tokens_to_work
from policies.problems import Finding, path_text
from policies.schema import FleetPolicy, SpecBlock
from policies.schema_actuators import REPLICA_ACTUATORS, SPILL_ACTUATORS
from policies.schema_control import DAYS, DirectionBlock, ScaleDownBlock, StepPolicyBlock
from policies.schema_demand import SOURCES
from policies.schema_fields import AUTO, Block
from policies.schema_offers import BURST_LEAD_TIME_SECONDS, FLOOR_LEAD_TIME_SECONDS, BurstOffer, FloorOffer, SpillOffer


def compile_fleet(policy: FleetPolicy, own: Sequence[Profile] = ()) -> Fleet:
    """Return the fleet that a policy describes; PolicyError lists every offer whose capacity no profile covers.

    The user's `own` profiles come before the built-in ones. Offers that may not serve are named as ineligible, and are no offers of it.
    """
    spec = policy.spec
    offers: list[Offer] = []
    ineligible: dict[str, str] = {}
    ineligible_offers: list[Offer] = []
    wrong: list[str] = []
    for path, block in offer_blocks(spec):
        carries = carries_of(spec, block, path, own)
        if isinstance(carries, Finding):
            wrong.append(f"{path_text(carries.path)}: {carries.message}")
        elif isinstance(carries, Barred):
            ineligible[block.name] = carries.reason
            ineligible_offers.append(_offer(block, Carries(0.0, "not eligible")))
        else:
            offers.append(_offer(block, carries))
    if not offers:
        wrong += [f"{name}: not eligible: {reason}" for name, reason in ineligible.items()]
    if wrong:
        raise PolicyError("\n".join(wrong))
    return Fleet(
        name=policy.metadata.name,
        slo=Slo(spec.serving.slo.attainment, spec.serving.slo.ttft_seconds, spec.serving.slo.itl_seconds),
        unit=Unit(spec.demand.unit),
        offers=tuple(offers),
        spill=_spill(spec, spec.spill[0]) if spec.spill else None,
        behavior=Behavior(_direction(spec.behavior.scale_up), _direction(spec.behavior.scale_down)),
        guard=_guard(spec),
        forecast=ForecastSettings(spec.forecast.methods, spec.forecast.time_zone, spec.forecast.season_seconds),
        launches=_launches(spec),
        tick_seconds=spec.tick_seconds,
        model=spec.serving.model,
        demand_source=_demand_source(spec),
        corrects_capacity=spec.serving.correct_capacity,
        quotes=tuple(block.options() for block in spec.quotes),
        ineligible=ineligible,
        ineligible_offers=tuple(ineligible_offers),
    )


def usd_per_unit(spec: SpecBlock, block: SpillOffer) -> float:
    """Return the spill price of one unit of work, USD.

    A request costs (input tokens x input price + output tokens x output price) / 1e6 and is output tokens x `tokens_to_work` units:
    at 1024 in, 1024 out and 0.55 / 2.19 USD per million, one output token costs 2.74e-6 USD.
    """
    if block.usd_per_million_tokens is None:
        return block.usd_per_unit or 0.0
    shape, price = spec.serving.shape, block.usd_per_million_tokens
    usd_per_request = (shape.input_tokens * price.input + shape.output_tokens * price.output) / MILLION
    return usd_per_request / (shape.output_tokens * tokens_to_work(spec))


def _actuator(block: Block, kinds: tuple[str, ...]) -> tuple[str, dict[str, object]]:
    for kind in kinds:
        options = getattr(block, kind, None)
        if isinstance(options, Block):
            return kind, dict(options.options())
    return "none", {}


def _offer(block: FloorOffer | BurstOffer, carries: Carries) -> Offer:
    actuator, options = _actuator(block, REPLICA_ACTUATORS)
    floor, stated = isinstance(block, FloorOffer), block.lead_time_seconds
    prior = FLOOR_LEAD_TIME_SECONDS if floor else BURST_LEAD_TIME_SECONDS
    return Offer(
        name=block.name,
        tier=Tier.FLOOR if floor else Tier.BURST,
        capacity_per_second=carries.per_second,
        min_replicas=block.replicas.min,
        max_replicas=block.replicas.max,
        usd_per_replica_hour=block.usd_per_replica_hour,
        lead_time_seconds=stated if isinstance(stated, float) else prior,
        hold_seconds=block.hold_seconds,
        replicas_per_lot=block.replicas_per_lot,
        opportunity_usd_per_replica_hour=block.opportunity_usd_per_replica_hour if isinstance(block, FloorOffer) else 0.0,
        ceiling_usd_per_replica_hour=block.usd_per_replica_hour_ceiling if isinstance(block, BurstOffer) else None,
        scale_up_cooldown_seconds=block.cooldown.scale_up_seconds,
        scale_down_cooldown_seconds=block.cooldown.scale_down_seconds,
        actuator=actuator,
        actuator_options=options,
        accelerator=block.accelerator.type,
        accelerators_per_replica=block.accelerator.per_replica,
        capacity_source=carries.source,
        memory_fit=f"{carries.fit.text}; {carries.fit.source}" if carries.fit is not None else "",
        learns_lead_time=stated == AUTO,
    )


def _spill(spec: SpecBlock, block: SpillOffer) -> Spill:
    actuator, options = _actuator(block, SPILL_ACTUATORS)
    return Spill(block.name, usd_per_unit(spec, block), block.max_per_second, actuator, options)


def _direction(block: DirectionBlock) -> Direction:
    return Direction(
        stabilization_window_seconds=block.stabilization_window_seconds,
        tolerance=block.tolerance,
        steps=tuple(_step(step) for step in block.policies),
        select=Select(block.select_policy),
        budget=_step(block.budget) if isinstance(block, ScaleDownBlock) and block.budget is not None else None,
    )


def _step(block: StepPolicyBlock) -> StepLimit:
    return StepLimit(StepKind(block.type), block.value, block.period_seconds)


def _guard(spec: SpecBlock) -> Guard:
    guard = spec.guard
    return Guard(
        mode=Mode(guard.mode),
        stale_after_seconds=guard.stale_after_seconds,
        budget=_budget(spec),
        max_total_replicas=guard.max_replicas,
        frozen=guard.frozen,
        drain=Drain(guard.drain),
        ends_orphans=guard.orphans == "end",
    )


def _budget(spec: SpecBlock) -> Budget:
    budget = spec.guard.budget
    windows = tuple(
        BudgetWindow(
            block.name, tuple(DAYS.index(day) for day in block.days), block.from_seconds, block.to_seconds, block.usd_per_hour, block.usd
        )
        for block in budget.windows
    )
    return Budget(budget.usd_per_hour, budget.usd_per_day, windows, spec.forecast.time_zone)


def _launches(spec: SpecBlock) -> tuple[LaunchPlan, ...]:
    return tuple(
        LaunchPlan(launch.name, launch.starts.timestamp(), launch.peak_multiple, launch.ramp_seconds, launch.half_life_seconds)
        for launch in spec.launches
    )


def _demand_source(spec: SpecBlock) -> dict[str, object]:
    """Return `{"kind": "replay", "trace": ..., "speed": 60.0, ...}`: the source's block in snake_case and SI units.

    Added to every kind: unit, input_token_weight, input_tokens and output_tokens (the mean request), for conversions in collectors.
    """
    kind, options = _actuator(spec.demand, SOURCES)
    if kind in ("prometheus", "engines"):
        options.setdefault("preset", spec.serving.engine if spec.serving.engine != "other" else None)
    if kind in ("prometheus", "engines", "replay"):
        options.setdefault("interval_seconds", spec.tick_seconds)
    return {
        "kind": kind,
        "unit": spec.demand.unit,
        "input_token_weight": spec.demand.input_token_weight,
        "input_tokens": spec.serving.shape.input_tokens,
        "output_tokens": spec.serving.shape.output_tokens,
        **options,
    }
