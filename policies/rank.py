"""Which offer serves tokens cheapest within the SLO: the policy's own offers, and GPUs that could be rented at a price that is named.

Owns the figures of `tidegate profile rank`: USD per million output tokens of a replica that is fully used. It must not print.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controlplane.contracts.fleet import Tier
from controlplane.contracts.units import MILLION, SECONDS_PER_HOUR
from policies.capacity import Capacity, Profile, Want, find_best_capacity, model_key, profiles
from policies.compile import usd_per_unit
from policies.eligible import Barred, carries_of, load_of, offer_blocks, tokens_to_work
from policies.fit import reckon
from policies.problems import Finding
from policies.schema import SpecBlock
from policies.schema_offers import FloorOffer, ProfileBlock

POSSIBLE = "could be rented"
GPUS_OF_A_NODE = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class Ranked:
    """One way to serve the fleet's tokens. `output_tokens_per_second` is of one replica within the SLO, None at a hosted endpoint.

    `usd_per_million` None: not eligible, or without a price, and `why` says so; else `why` is where the capacity comes from.
    """

    name: str
    where: str
    accelerators: str
    output_tokens_per_second: float | None
    usd_per_replica_hour: float | None
    usd_per_million: float | None
    why: str


def rank(spec: SpecBlock, own: Sequence[Profile] = (), usd_per_gpu_hour: Mapping[str, float] | None = None) -> tuple[Ranked, ...]:
    """Return every way to serve, the cheapest per million output tokens first, those that are not eligible last.

    `own` profiles come before the built-in ones; `usd_per_gpu_hour` adds all measured configurations of the model on those GPUs.
    """
    rows = [*_offers(spec, own), *_spills(spec)]
    for gpu, usd in (usd_per_gpu_hour or {}).items():
        rows += _possible(spec, own, gpu.upper(), usd)
    return tuple(sorted(rows, key=lambda row: (row.usd_per_million is None, row.usd_per_million or 0.0, row.name)))


def _offers(spec: SpecBlock, own: Sequence[Profile]) -> list[Ranked]:
    rows = []
    for path, block in offer_blocks(spec):
        tier = Tier.FLOOR if isinstance(block, FloorOffer) else Tier.BURST
        ceiling = None if isinstance(block, FloorOffer) else block.usd_per_replica_hour_ceiling
        usd = block.usd_per_replica_hour if block.usd_per_replica_hour is not None else ceiling
        gpus = f"{block.accelerator.per_replica} x {block.accelerator.type}"
        carries = carries_of(spec, block, path, own)
        if isinstance(carries, (Barred, Finding)):
            reason = carries.reason if isinstance(carries, Barred) else carries.message.partition(": ")[2]
            rows.append(Ranked(block.name, tier.value, gpus, None, usd, None, f"not eligible: {reason}"))
            continue
        tokens = carries.per_second / tokens_to_work(spec)
        why = carries.source + (f"; {carries.doubt}" if carries.doubt else "")
        rows.append(
            Ranked(block.name, tier.value, gpus, tokens, usd, _per_million(usd, tokens), why if usd is not None else f"no price; {why}")
        )
    return rows


def _spills(spec: SpecBlock) -> list[Ranked]:
    return [
        Ranked(block.name, Tier.SPILL.value, "hosted", None, None, usd_per_unit(spec, block) * tokens_to_work(spec) * MILLION, "its price")
        for block in spec.spill
    ]


def _possible(spec: SpecBlock, own: Sequence[Profile], gpu: str, usd_per_gpu_hour: float) -> list[Ranked]:
    """Return each known configuration of the model on a GPU type, with the policy's engine unless it names none."""
    serving, rows = spec.serving, []
    of_model = [row for row in (*own, *profiles()) if model_key(row.model) == model_key(serving.model) and row.accelerator == gpu]
    kinds = sorted({(row.engine, row.precision, row.per_replica) for row in of_model if serving.engine in ("other", row.engine)})
    if not kinds:
        why = f"not eligible: no profile of {serving.model} with {serving.engine} on {gpu}{_smallest(spec, gpu)}"
        return [Ranked(gpu, POSSIBLE, gpu, None, None, None, why)]
    for engine, precision, per_replica in kinds:
        want = Want(
            serving.model, engine, gpu, per_replica, serving.shape.input_tokens, serving.shape.output_tokens, precision,
            serving.slo.ttft_seconds, serving.slo.itl_seconds,
        )  # fmt: skip
        found, usd = find_best_capacity(want, own), usd_per_gpu_hour * per_replica
        name, gpus = f"{engine} {precision}", f"{per_replica} x {gpu}"
        if isinstance(found, Capacity):
            tokens = found.output_tokens_per_second
            why = found.source + (f"; {found.doubt}" if found.doubt else "")
            rows.append(Ranked(name, POSSIBLE, gpus, tokens, usd, _per_million(usd, tokens), why))
        else:
            rows.append(Ranked(name, POSSIBLE, gpus, None, usd, None, f"not eligible: {found.reason}"))
    return rows


def _smallest(spec: SpecBlock, gpu: str) -> str:
    """Return how many GPUs of a type would hold the model, of a node's 1, 2, 4 or 8; empty where its size or theirs is not known."""
    sizes = [
        fit
        for count in GPUS_OF_A_NODE
        if (fit := reckon(load_of(spec.serving, ProfileBlock(), None), gpu, count, None, spec.serving.memory.usable_share)) is not None
    ]
    if not sizes:
        return ""
    fit = next((fit for fit in sizes if fit.holds), sizes[-1])
    return f"; the model {'would fit' if fit.holds else 'does not fit'}: {fit.text}"


def _per_million(usd_per_hour: float | None, tokens_per_second: float) -> float | None:
    """Return USD per million tokens: 63.30 USD per hour at 1918 tokens per second are 9.17."""
    return None if usd_per_hour is None else usd_per_hour / SECONDS_PER_HOUR / tokens_per_second * MILLION
