"""What a policy means once read: every default in force, and the compiled fleet in figures that a person can check.

Owns the text of `tidegate validate --explain`.
It must not decide or warn: `advice` warns, `compile` has the formulas.
"""

from collections.abc import Iterator
from datetime import datetime

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from controlplane.contracts.fleet import Fleet, Offer, Tier
from controlplane.contracts.units import MILLION, format_duration
from policies.advice import usd_per_unit
from policies.problems import Path, path_text
from policies.reading import ReadPolicy
from policies.schema_offers import ProfileBlock


def explain(read: ReadPolicy) -> str:
    """Return the defaults in force and the compiled fleet, as lines of text."""
    lines = [f"fleet {read.fleet.name} ({read.document.file}:{read.document.line_of(())})", "  left out, and in force:"]
    lines += [f"    {path_text(path)}: {text}" for path, text in defaults_in_force(read.policy)] or ["    nothing: every field is stated"]
    return "\n".join([*lines, "  compiled:", *(f"    {line}" for line in fleet_lines(read.fleet))])


def defaults_in_force(model: BaseModel, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Yield path and value of every field that was left out, with what the value means where it is none."""
    for name, info in type(model).model_fields.items():
        value, here = getattr(model, name), (*path, info.alias or name)
        stated = name in model.model_fields_set
        if isinstance(value, BaseModel):
            if isinstance(value, ProfileBlock) and getattr(model, "capacity_per_second", None) is not None:
                continue  # the capacity is stated, so that no profile is asked
            yield from defaults_in_force(value, here)
        elif stated and isinstance(value, tuple):
            for index, entry in enumerate(value):
                if isinstance(entry, BaseModel):
                    yield from defaults_in_force(entry, (*here, index))
        elif not stated and (text := _default_text(name, info, value)):
            yield here, text


def _default_text(name: str, info: FieldInfo, value: object) -> str:
    """Return the default as text; empty where leaving the field out means nothing, as with an actuator that is not used."""
    if value is None:
        meaning = (info.description or "").partition("left out: ")[2]
        return f"none ({meaning})" if meaning else ""
    return "" if value == {} else field_text(name, value)


def field_text(name: str, value: object) -> str:
    """Print the value of a field as the policy would state it: seconds as durations, lists and mappings in flow style."""
    if name.endswith("_seconds") and isinstance(value, (int, float)):
        return format_duration(float(value))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}" if value < MILLION else f"{value:.0f}"
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, tuple):
        return "[" + ", ".join(str(entry) for entry in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {entry}" for key, entry in value.items()) + "}"
    return str(value)


def fleet_lines(fleet: Fleet) -> Iterator[str]:
    """Yield the compiled fleet: capacity and memory with their sources, USD per million units, what is not eligible, the critical ratio."""
    for offer in fleet.offers:
        yield f"{offer.tier.value} {offer.name}: {_size_text(offer)}, {offer.capacity_per_second:g} {fleet.unit.value}/s per replica"
        yield f"  capacity from {offer.capacity_source}"
        yield f"  memory: {offer.memory_fit or 'not checked: the size of the model or of the GPU is not known; see serving.memory'}"
        yield (
            f"  {_price_text(offer)}; lead time {_lead_text(offer)}, hold {format_duration(offer.hold_seconds)}, actuator {offer.actuator}"
        )
    for name, reason in fleet.ineligible.items():
        yield f"{name}: not eligible: {reason}"
    if fleet.spill:
        most = f"at most {fleet.spill.max_per_second:g}/s" if fleet.spill.max_per_second else "no rate limit"
        yield (
            f"spill {fleet.spill.name}: {fleet.spill.usd_per_unit * MILLION:.4g} USD per million {fleet.unit.value}, {most}, "
            f"actuator {fleet.spill.actuator}"
        )
    yield _ratio_text(fleet)


def _size_text(offer: Offer) -> str:
    lot = f" in lots of {offer.replicas_per_lot}" if offer.replicas_per_lot > 1 else ""
    gpus = f"{offer.accelerators_per_replica} x {offer.accelerator}"
    return f"{offer.min_replicas} to {offer.max_replicas} replicas of {gpus}{lot}"


def _price_text(offer: Offer) -> str:
    cost = usd_per_unit(offer)
    if cost is None:
        return "price not stated" if offer.tier is Tier.FLOOR else "price from quotes only"
    hourly = offer.usd_per_replica_hour if offer.usd_per_replica_hour is not None else offer.ceiling_usd_per_replica_hour
    what = "" if offer.usd_per_replica_hour is not None else " (the ceiling, until a quote comes)"
    return f"{hourly:g} USD per replica-hour{what} = {cost * MILLION:.4g} USD per million units when fully used"


def _lead_text(offer: Offer) -> str:
    stated = format_duration(offer.lead_time_seconds)
    return f"{stated} until enough starts were seen" if offer.learns_lead_time else stated


def _ratio_text(fleet: Fleet) -> str:
    costs = [(cost, offer.name) for offer in fleet.tier(Tier.BURST) if (cost := usd_per_unit(offer)) is not None]
    if fleet.spill is None:
        return f"no spill tier: the price of a miss is learnt until {fleet.slo.attainment:g} of the work is served within the SLO"
    if not costs or fleet.spill.usd_per_unit <= 0:
        return "critical ratio: not known before a burst price is"
    cost, name = min(costs)
    ratio = 1.0 - cost / fleet.spill.usd_per_unit
    meaning = (
        f"burst is held up to about the {ratio:.2f} quantile of demand at the lead time" if ratio > 0 else "spill is cheaper than burst"
    )
    return f"critical ratio 1 - burst/spill = {ratio:.3f} ({name}): {meaning}"
