"""Which offers may serve a fleet at all, and what one replica of each carries: worked out once, when a policy is read.

Owns the order of the questions: is the capacity stated or measured, do the GPUs hold the model, are they joined as it needs. A measurement
is proof that a model fits, unless `serving.memory` asks for more than was measured. An offer that may not is `Barred`, with the figures.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from policies.capacity import Capacity, Profile, Unresolved, Want, find_best_capacity
from policies.fit import BYTES_PER_PARAMETER, Fit, Load, is_quantized_as_published, precision_in_name, reckon
from policies.problems import Finding, Path
from policies.schema import ServingBlock, SpecBlock
from policies.schema_offers import BurstOffer, FloorOffer, ProfileBlock

SMALLEST_PRECISION = "int4"


@dataclass(frozen=True, slots=True)
class Carries:
    """What one replica carries, in the fleet's unit, where the figure comes from, and what is known of the memory that it takes."""

    per_second: float
    source: str
    doubt: str = ""
    fit: Fit | None = None


@dataclass(frozen=True, slots=True)
class Barred:
    """An offer that cannot serve the fleet: where in the policy that is said, and why, with the figures."""

    path: Path
    reason: str


def offer_blocks(spec: SpecBlock) -> list[tuple[Path, FloorOffer | BurstOffer]]:
    """Return the offers of floor and burst with their paths, in the policy's order."""
    floor: list[tuple[Path, FloorOffer | BurstOffer]] = [(("spec", "floor", index), block) for index, block in enumerate(spec.floor)]
    return floor + [(("spec", "burst", index), block) for index, block in enumerate(spec.burst)]


def tokens_to_work(spec: SpecBlock) -> float:
    """Return units of work per output token, at the policy's request shape.

    requests: 1 / output tokens; outputTokens: 1; weightedTokens: 1 + weight x input / output tokens (0.1 at 3000 in, 1000 out: 1.3).
    """
    shape = spec.serving.shape
    if spec.demand.unit == "requests":
        return 1.0 / shape.output_tokens
    if spec.demand.unit == "outputTokens":
        return 1.0
    return 1.0 + (spec.demand.input_token_weight or 0.0) * shape.input_tokens / shape.output_tokens


def carries_of(spec: SpecBlock, block: FloorOffer | BurstOffer, path: Path, own: Sequence[Profile] = ()) -> Carries | Barred | Finding:
    """Return what one replica of an offer carries, as stated, else as measured; Barred where it cannot serve, a Finding where none says."""
    found = find(spec.serving, block, own)
    fit = fit_of(spec.serving, block, found)
    if (barred := _barred(spec.serving, path, found, fit)) is not None:
        return barred
    if isinstance(found, Unresolved):
        return _missing(found, path)
    if found is None:
        doubt = _doubt_of_precision(spec.serving, block)
        return Carries(block.capacity_per_second or 0.0, "capacityPerSecond of the policy", doubt, fit)
    return replace(_scaled(found, block.profile.share, tokens_to_work(spec)), fit=fit)


def look_up(serving: ServingBlock, block: FloorOffer | BurstOffer, path: Path, own: Sequence[Profile] = ()) -> Barred | Finding | None:
    """Return what is wrong with an offer by itself: it cannot serve the model, or nobody says what it carries; None: nothing."""
    found = find(serving, block, own)
    barred = _barred(serving, path, found, fit_of(serving, block, found))
    return _missing(found, path) if barred is None and isinstance(found, Unresolved) else barred


def find(serving: ServingBlock, block: FloorOffer | BurstOffer, own: Sequence[Profile] = ()) -> Capacity | Unresolved | None:
    """Look the capacity of an offer up in the user's own profiles and the built-in ones; None where the policy states it."""
    if block.capacity_per_second is not None:
        return None
    profile = block.profile
    return find_best_capacity(
        Want(
            model=profile.model or serving.model,
            engine=profile.engine or serving.engine,
            accelerator=block.accelerator.type,
            per_replica=block.accelerator.per_replica,
            input_tokens=serving.shape.input_tokens,
            output_tokens=serving.shape.output_tokens,
            precision=profile.precision or serving.precision,
            ttft_seconds=serving.slo.ttft_seconds,
            itl_seconds=serving.slo.itl_seconds,
            interconnect=block.accelerator.interconnect,
        ),
        own,
    )


def _barred(serving: ServingBlock, path: Path, found: Capacity | Unresolved | None, fit: Fit | None) -> Barred | None:
    """Return why an offer cannot serve the model; None where it can. Requests that the policy states may be more than was measured."""
    if isinstance(found, Unresolved) and found.field == "interconnect":
        return Barred((*path, "accelerator", "interconnect"), found.reason)
    is_proved = isinstance(found, Capacity) and not {"context_tokens", "concurrency"} & serving.memory.model_fields_set
    if fit is None or fit.holds or is_proved:
        return None
    return Barred((*path, "accelerator"), f"the model does not fit: {fit.text}")


def fit_of(serving: ServingBlock, block: FloorOffer | BurstOffer, found: Capacity | Unresolved | None) -> Fit | None:
    """Return whether the GPUs of a replica hold the model; None where its size or the GPU's is not known.

    Where nobody says the precision, a model is refused only if four bits do not fit either: engines quantize as they load. One that is
    published quantized is taken as published, unless the policy states a capacity, so that somebody must have seen it run.
    """
    load = load_of(serving, block.profile, found)
    fit = _reckon(serving, block, load)
    is_open = load.precision is None and load.bytes_per_parameter is None and (found is None or not is_quantized_as_published(load.model))
    if fit is not None and not fit.holds and is_open:
        return _reckon(serving, block, replace(load, precision=SMALLEST_PRECISION))
    return fit


def load_of(serving: ServingBlock, profile: ProfileBlock, found: Capacity | Unresolved | None) -> Load:
    """Return what a replica of an offer must hold, in the precision that the policy, a measurement or the model's name states."""
    memory, shape = serving.memory, serving.shape
    measured = found.precision if isinstance(found, Capacity) and found.precision in BYTES_PER_PARAMETER else None
    model = profile.model or serving.model
    return Load(
        model=model,
        tokens_per_request=memory.context_tokens or shape.input_tokens + shape.output_tokens,
        requests=memory.concurrency,
        precision=profile.precision or serving.precision or measured or precision_in_name(serving.model) or precision_in_name(model),
        parameters=memory.parameters,
        bytes_per_parameter=memory.bytes_per_parameter,
        kv_bytes_per_token=memory.kv_bytes_per_token,
    )


def _reckon(serving: ServingBlock, block: FloorOffer | BurstOffer, load: Load) -> Fit | None:
    gpus = block.accelerator
    return reckon(load, gpus.type, gpus.per_replica, gpus.memory_gib, serving.memory.usable_share)


def _doubt_of_precision(serving: ServingBlock, block: FloorOffer | BurstOffer) -> str:
    """Return what is doubtful of an offer with a stated capacity that holds the model in four bits only, where nobody says that it is."""
    as_published = _reckon(serving, block, load_of(serving, block.profile, None))
    if as_published is None or as_published.holds:
        return ""
    return f"the model fits in four bits only; {as_published.text}; state serving.precision"


def _missing(found: Unresolved, path: Path) -> Finding:
    message = f"is required until a profile covers it (demand.unit per second of one replica within the SLO): {found.reason}"
    return Finding((*path, "capacityPerSecond"), message)


def _scaled(found: Capacity, share: float, work_per_token: float) -> Carries:
    counted = f", {share:.0%} of it counted on" if share < 1.0 else ""
    doubt = f"{found.doubt}; state capacityPerSecond if you have measured it" if found.doubt else ""
    return Carries(found.output_tokens_per_second * share * work_per_token, found.source + counted, doubt)
