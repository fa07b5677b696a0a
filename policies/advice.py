"""Likely mistakes in a policy that is valid: warnings, each with the figures and what would be right.

Owns what is merely odd; what cannot work is an error in `check`. Only what the user wrote is warned about, never a default.
It reads the compiled fleet, so that prices and capacities are per unit of work.
"""

from collections.abc import Iterator

from controlplane.contracts.fleet import Drain, Fleet, Mode, Offer, StepKind, Tier
from controlplane.contracts.units import MILLION, SECONDS_PER_HOUR, format_duration
from policies.eligible import offer_blocks
from policies.problems import Finding, Path, Severity
from policies.schema import FleetPolicy

LEAD_TIME_LONG_SECONDS = 3600.0
HOLD_LONG_SECONDS = 86400.0


def advise(policy: FleetPolicy, fleet: Fleet) -> list[Finding]:
    """Return every warning about a policy and the fleet it compiled to."""
    paths = {block.name: path for path, block in offer_blocks(policy.spec)}
    found = [
        *_about_times(policy, fleet, paths),
        *_about_budget(fleet),
        *_about_pace(fleet),
        *_about_prices(fleet, paths),
        *_about_the_rest(policy, fleet, paths),
    ]
    return [Finding(path, message, Severity.WARNING) for path, message in found]


def usd_per_unit(offer: Offer) -> float | None:
    """Return what a unit of work costs on a fully used replica, USD; None where the price is not known.

    63.30 USD per hour at 1918 tokens per second: 63.30 / 3600 / 1918 = 9.17e-6 USD.
    """
    price = offer.usd_per_replica_hour if offer.usd_per_replica_hour is not None else offer.ceiling_usd_per_replica_hour
    return None if price is None else price / SECONDS_PER_HOUR / offer.capacity_per_second


def _about_times(policy: FleetPolicy, fleet: Fleet, paths: dict[str, Path]) -> Iterator[tuple[Path, str]]:
    spec = policy.spec
    blocks = {block.name: block for _, block in offer_blocks(spec)}
    for offer in fleet.offers:
        path, lead = paths[offer.name], offer.lead_time_seconds
        quiet = offer.scale_down_cooldown_seconds
        if "scale_down_seconds" in blocks[offer.name].cooldown.model_fields_set and quiet < lead:
            shorter = f"is shorter than the lead time, {format_duration(lead)}"
            message = f"{shorter}: what is returned could be missed before a new one serves; use {format_duration(lead)} or more"
            yield (*path, "cooldown", "scaleDown"), message
        if offer.tier is Tier.BURST and lead > LEAD_TIME_LONG_SECONDS:
            yield (*path, "leadTime"), "is longer than an hour: burst will miss most waves; is it a floor offer, or a typing error?"
        if offer.hold_seconds > HOLD_LONG_SECONDS:
            yield (*path, "hold"), "is longer than a day: each replica is paid for at least that long; is it a floor offer?"
    down = spec.behavior.scale_down
    longest = max((offer.lead_time_seconds for offer in fleet.tier(Tier.BURST)), default=0.0)
    if "stabilization_window_seconds" in down.model_fields_set and down.stabilization_window_seconds < longest:
        shorter = f"is shorter than the longest burst lead time, {format_duration(longest)}"
        message = f"{shorter}: dips as short as a boot would be followed; use {format_duration(longest)} or more"
        yield ("spec", "behavior", "scaleDown", "stabilizationWindow"), message
    if fleet.guard.stale_after_seconds < 2 * fleet.tick_seconds:
        shorter = f"staleAfter is shorter than two ticks, {format_duration(2 * fleet.tick_seconds)}"
        message = f"{shorter}: one late sample would stop the fleet from shrinking; use {format_duration(4 * fleet.tick_seconds)} or more"
        stated = "stale_after_seconds" in spec.guard.model_fields_set
        yield ("spec", "guard", "staleAfter") if stated else ("spec", "tick"), message


def _about_pace(fleet: Fleet) -> Iterator[tuple[Path, str]]:
    budget = fleet.behavior.scale_down.budget
    if budget is None or budget.kind is not StepKind.REPLICAS:
        return
    larger = [offer for offer in fleet.offers if offer.replicas_per_lot > budget.value]
    if larger:
        lot = max(offer.replicas_per_lot for offer in larger)
        names = ", ".join(offer.name for offer in larger)
        message = f"is below a lot of {names}: one goes all the same, alone in its period and beyond the budget; use {lot} or more"
        yield ("spec", "behavior", "scaleDown", "budget", "value"), message


def _about_budget(fleet: Fleet) -> Iterator[tuple[Path, str]]:
    path: Path = ("spec", "guard", "budget")
    budget = fleet.guard.budget
    floor = sum(offer.max_replicas * (offer.usd_per_replica_hour or 0.0) for offer in fleet.tier(Tier.FLOOR))
    dearest = max((_lot_usd_per_hour(offer) for offer in fleet.tier(Tier.BURST)), default=0.0)
    committed = sum(offer.min_replicas * (offer.usd_per_replica_hour or 0.0) for offer in fleet.tier(Tier.BURST))
    for key, limit, hours in (("usdPerHour", budget.usd_per_hour, 1.0), ("usdPerDay", budget.usd_per_day, 24.0)):
        if limit is None:
            continue
        if limit < dearest:
            message = f"does not pay for an hour of one lot of the dearest burst offer, {dearest:.2f} USD; raise it or remove that offer"
            yield (*path, key), message
        if limit < committed * hours:
            yield (*path, key), f"does not pay for the burst offers' replicas.min, {committed * hours:.2f} USD; raise it or lower min"
        if limit < floor * hours:
            message = f"is below the floor's cost, {floor * hours:.2f} USD; was the floor meant? The budget covers burst and spill only"
            yield (*path, key), message
    for index, window in enumerate(budget.windows):
        if window.usd_per_hour is not None and budget.usd_per_hour is not None and window.usd_per_hour >= budget.usd_per_hour:
            message = (
                f"is no tighter than the budget's usdPerHour, {budget.usd_per_hour:g}, which holds in the window too; raise that instead"
            )
            yield (*path, "windows", index, "usdPerHour"), message
    if budget.windows and budget.usd_per_hour is None and budget.usd_per_day is None:
        yield (*path, "windows"), "leave the hours outside them without any limit; give the budget a usdPerHour or usdPerDay as well"
    if budget.usd_per_hour and budget.usd_per_day and budget.usd_per_day < budget.usd_per_hour:
        yield (*path, "usdPerDay"), f"is below usdPerHour, {budget.usd_per_hour:g}: a day's money would be gone within the hour"


def _lot_usd_per_hour(offer: Offer) -> float:
    price = offer.usd_per_replica_hour if offer.usd_per_replica_hour is not None else offer.ceiling_usd_per_replica_hour
    return (price or 0.0) * offer.replicas_per_lot


def _about_prices(fleet: Fleet, paths: dict[str, Path]) -> Iterator[tuple[Path, str]]:
    burst = {offer.name: cost for offer in fleet.tier(Tier.BURST) if (cost := usd_per_unit(offer)) is not None}
    floor = {offer.name: cost for offer in fleet.tier(Tier.FLOOR) if (cost := usd_per_unit(offer)) is not None}
    if fleet.spill and burst:
        cheapest = min(burst, key=lambda name: (burst[name], name))
        if fleet.spill.usd_per_unit <= burst[cheapest]:
            spill_price, burst_price = fleet.spill.usd_per_unit * MILLION, burst[cheapest] * MILLION
            message = (
                f"costs {spill_price:.4g} USD per million units of work, no more than the cheapest burst offer, {cheapest}, at "
                f"{burst_price:.4g} when fully used: renting would never pay; check the prices, serving.shape and the capacity"
            )
            yield ("spec", "spill", 0), message
    for name, cost in burst.items():
        dearer = [other for other, price in floor.items() if price > 0 and cost < price]
        if dearer:
            yield (
                paths[name],
                f"is cheaper per unit of work than the floor offer {dearer[0]}, which is committed: check the prices, or reserve less",
            )


def _about_the_rest(policy: FleetPolicy, fleet: Fleet, paths: dict[str, Path]) -> Iterator[tuple[Path, str]]:
    if fleet.slo.attainment >= 1.0:
        message = "promises every request: no finite fleet keeps that, and the last tenths cost most; 0.999 is a strict promise"
        yield ("spec", "serving", "slo", "attainment"), message
    for offer in fleet.offers:
        path = paths[offer.name]
        if offer.max_replicas % offer.replicas_per_lot:
            usable = offer.max_replicas - offer.max_replicas % offer.replicas_per_lot
            yield (*path, "replicas", "max"), f"is not a multiple of replicasPerLot, {offer.replicas_per_lot}: at most {usable} can be held"
        if usd_per_unit(offer) is None and offer.tier is Tier.BURST:
            yield path, "has neither usdPerReplicaHour nor usdPerReplicaHourCeiling: nothing is bought until a quote comes; give a ceiling"
        if fleet.guard.mode is Mode.ACT and offer.actuator == "none":
            yield path, "has no actuator: mode act leaves it as it is; add kubernetes, aws, market or simulated"
    if fleet.guard.drain is not Drain.NONE:
        yield ("spec", "guard", "drain"), "is on: what it names is given back, nothing of it is bought, and no alert or minimum holds it up"
    total = fleet.guard.max_total_replicas
    least = sum(offer.min_replicas for offer in fleet.offers)
    if total is not None and total < least:
        yield ("spec", "guard", "maxReplicas"), f"is below the sum of all replicas.min, {least}; raise it or lower a min"
    real = any(offer.actuator not in ("none", "simulated") for offer in fleet.offers)
    if policy.spec.demand.replay is not None and fleet.guard.mode is Mode.ACT and real:
        yield ("spec", "demand", "replay"), "is a recording, and mode act would follow it with real capacity; use mode recommend"
