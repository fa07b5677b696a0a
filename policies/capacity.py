"""What one replica carries within the SLO: a look-up in the table of measured serving profiles.

Owns the choice of a row: the largest throughput whose TTFT and ITL are inside the SLO, for the nearest measured request shape.
It must not guess beyond what was measured: no row means `Unresolved`, with what is there.
The rows are in `capacity_dense` and `capacity_moe`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from math import exp, log

from policies import capacity_dense, capacity_moe, fit_facts
from policies.problems import nearest

SOURCE = "ai-dynamo/aiconfigurator"
SHAPE_FACTOR_MAX = 2.0
MODELLED = "modelled"
"""What the source of a profile begins with that nobody measured."""
# What is known and not good enough is an answer; that nothing is known asks on.
FINAL = ("slo", "interconnect")
_SUFFIX = re.compile(r"(-instruct|-chat|-it|-hf|-fp8|-nvfp4|-fp4|-bf16|-\d{4})+$")
_VENDOR = re.compile(r"^(nvidia|meta)[-_ ]+")


@dataclass(frozen=True, slots=True)
class Point:
    """One measured operating point of one replica."""

    output_tokens_per_second: float
    ttft_seconds: float
    itl_seconds: float


@dataclass(frozen=True, slots=True)
class Profile:
    """One measured configuration and its operating points, slowest first."""

    model: str
    engine: str
    engine_version: str
    accelerator: str
    precision: str
    per_replica: int
    input_tokens: int
    output_tokens: int
    measured: str
    points: tuple[Point, ...]
    source: str = SOURCE

    @property
    def is_modelled(self) -> bool:
        """Whether nobody measured it."""
        return self.source.startswith(MODELLED)


@dataclass(frozen=True, slots=True)
class Want:
    """What is looked up. A precision of None: unknown, so the slowest measured one is taken.

    `interconnect` is what joins the GPUs of a replica, `nvlink` or `pcie`; None: nobody says, so the one measured is assumed.
    """

    model: str
    engine: str
    accelerator: str
    per_replica: int
    input_tokens: float
    output_tokens: float
    precision: str | None = None
    ttft_seconds: float | None = None
    itl_seconds: float | None = None
    interconnect: str | None = None


@dataclass(frozen=True, slots=True)
class Capacity:
    """The answer: output tokens per second of one replica, where it comes from, and what is doubtful about it."""

    output_tokens_per_second: float
    source: str
    doubt: str = ""
    precision: str = ""


@dataclass(frozen=True, slots=True)
class Unresolved:
    """No measured row fits: why, and what is measured. `field` is the part of the want that does not fit."""

    reason: str
    field: str


@cache
def profiles() -> tuple[Profile, ...]:
    """Return the built-in table."""
    return tuple(_read(line) for text in (capacity_dense.ROWS, capacity_moe.ROWS) for line in text.splitlines() if line)


@cache
def mixtures() -> frozenset[str]:
    """Return the keys of the models that are known to be mixtures of experts."""
    lines = (line.split("|") for line in fit_facts.MODELS.splitlines())
    return frozenset(model_key(name) for names, _, experts, *_ in lines if float(experts) for name in names.split())


def _read(line: str) -> Profile:
    model, engine, version, accelerator, precision, per_replica, input_tokens, output_tokens, measured, points = line.split("|")
    return Profile(
        model,
        engine,
        version,
        accelerator,
        precision,
        int(per_replica),
        int(input_tokens),
        int(output_tokens),
        "undated" if measured == "-" else measured,
        tuple(_read_point(point) for point in points.split()),
    )


def _read_point(text: str) -> Point:
    throughput, latencies = text.split("@")
    ttft_ms, itl_ms = latencies.split("/")
    return Point(float(throughput), float(ttft_ms) / 1000.0, float(itl_ms) / 1000.0)


def model_key(model: str) -> str:
    """Return what names of one architecture share: `meta-llama/Llama-3.1-70B-Instruct` is `llama-3.1-70b`."""
    name = _VENDOR.sub("", model.lower().rsplit("/", 1)[-1])
    return _SUFFIX.sub("", name)


def find_best_capacity(want: Want, own: Sequence[Profile] = ()) -> Capacity | Unresolved:
    """Return the capacity by the user's own measurements, else by the built-in ones, else by what the user has that is only modelled.

    An own profile that is outside the SLO is believed too: the built-in table does not overrule it.
    """
    found = _find_measured(want, [row for row in own if not row.is_modelled])
    modelled = [row for row in own if row.is_modelled]
    if isinstance(found, Capacity) or found.field in FINAL or not modelled:
        return found
    guessed = find_capacity(want, modelled)
    return guessed if isinstance(guessed, Capacity) or guessed.field in FINAL else found


def _find_measured(want: Want, own: Sequence[Profile]) -> Capacity | Unresolved:
    found = find_capacity(want, own) if own else None
    if found is not None and (isinstance(found, Capacity) or found.field in FINAL):
        return found
    built_in = find_capacity(want)
    if found is not None and isinstance(built_in, Unresolved) and built_in.field == "model":
        return found
    return built_in


def find_capacity(want: Want, table: Iterable[Profile] | None = None) -> Capacity | Unresolved:
    """Return the largest measured throughput within the SLO, for the nearest measured shape."""
    if want.interconnect == "pcie" and want.per_replica > 1 and model_key(want.model) in mixtures():
        return Unresolved(
            f"{want.model} is a mixture of experts: on {want.per_replica} GPUs every token crosses between them, and what is measured ran "
            f"over NVLink, so it says nothing of {want.accelerator} joined by PCIe",
            "interconnect",
        )
    rows = tuple(profiles() if table is None else table)
    narrowed = _narrow(rows, want)
    if isinstance(narrowed, Unresolved):
        return narrowed
    shape = min({(row.input_tokens, row.output_tokens) for row in narrowed}, key=lambda shape: (_distance(shape, want), shape))
    at_shape = [row for row in narrowed if (row.input_tokens, row.output_tokens) == shape]
    best: dict[str, tuple[Point, Profile]] = {}
    for row in at_shape:
        for point in row.points:
            inside = _inside(point, want)
            if inside and (row.precision not in best or point.output_tokens_per_second > best[row.precision][0].output_tokens_per_second):
                best[row.precision] = (point, row)
    if not best:
        return Unresolved(_too_tight(at_shape, want), "slo")
    point, row = min(best.values(), key=lambda pair: pair[0].output_tokens_per_second)
    too_slow = sorted({other.precision for other in at_shape} - best.keys())
    return Capacity(point.output_tokens_per_second, _source(point, row), _doubt(shape, want, row, too_slow), row.precision)


def _narrow(rows: tuple[Profile, ...], want: Want) -> tuple[Profile, ...] | Unresolved:
    """Return the rows of the model, engine, GPU, size and precision, or the first of these that none has."""
    key = model_key(want.model)
    of_model = tuple(row for row in rows if model_key(row.model) == key)
    if not of_model:
        names = sorted({row.model for row in rows})
        return Unresolved(f"no profile of the model {want.model}{nearest(want.model, names)} (measured: {', '.join(names)})", "model")
    of_engine = tuple(row for row in of_model if row.engine == want.engine)
    if not of_engine:
        return Unresolved(f"no profile of {want.model} on {want.engine} (measured: {_list(row.engine for row in of_model)})", "engine")
    accelerator = want.accelerator.upper()
    of_gpu = tuple(row for row in of_engine if row.accelerator == accelerator and row.per_replica == want.per_replica)
    if not of_gpu:
        there = _list(f"{row.per_replica} x {row.accelerator}" for row in of_engine)
        what = f"{want.model} with {want.engine} on {want.per_replica} x {want.accelerator}"
        return Unresolved(f"no profile of {what} (measured: {there})", "accelerator")
    if want.precision is None:
        return of_gpu
    of_precision = tuple(row for row in of_gpu if row.precision == want.precision)
    if not of_precision:
        return Unresolved(f"no profile in {want.precision} (measured: {_list(row.precision for row in of_gpu)})", "precision")
    return of_precision


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(set(names)))


def _inside(point: Point, want: Want) -> bool:
    ttft_kept = want.ttft_seconds is None or point.ttft_seconds <= want.ttft_seconds
    return ttft_kept and (want.itl_seconds is None or point.itl_seconds <= want.itl_seconds)


def _distance(shape: tuple[int, int], want: Want) -> float:
    """Return the distance in log space, the longer of the two sides."""
    return max(abs(log(shape[0] / want.input_tokens)), abs(log(shape[1] / want.output_tokens)))


def _doubt(shape: tuple[int, int], want: Want, row: Profile, too_slow: Sequence[str]) -> str:
    """Return what is doubtful; `too_slow` are precisions that the model may have too, and that have no point inside the SLO."""
    doubts = ["it is modelled, and the time to the first token may be several times longer"] if row.is_modelled else []
    if too_slow:
        doubts.append(f"it is for {row.precision}, and in {', '.join(too_slow)} no point is inside the SLO: state serving.precision")
    factor = exp(_distance(shape, want))
    if factor > SHAPE_FACTOR_MAX * 1.001:
        doubts.append(
            f"the nearest measured shape is {shape[0]} tokens in, {shape[1]} out, but serving.shape says "
            f"{want.input_tokens:g} in, {want.output_tokens:g} out ({factor:.1f} times off)"
        )
    return "; ".join(doubts)


def _too_tight(rows: Iterable[Profile], want: Want) -> str:
    points = [point for row in rows for point in row.points]
    fastest_ttft = min(point.ttft_seconds for point in points)
    fastest_itl = min(point.itl_seconds for point in points)
    return (
        f"no measured point of {want.model} with {want.engine} on {want.per_replica} x {want.accelerator} is inside the SLO "
        f"(shortest TTFT measured {fastest_ttft * 1000:.0f} ms, shortest ITL {fastest_itl * 1000:.1f} ms)"
    )


def _source(point: Point, row: Profile) -> str:
    engine = f"{row.engine} {row.engine_version}".removesuffix(" -")
    shape, when = f"{row.input_tokens}/{row.output_tokens}", row.measured if row.is_modelled else f"measured {row.measured}"
    return (
        f"{row.source}: {row.model}, {engine}, {row.per_replica} x {row.accelerator}, {row.precision}, {shape} tokens, "
        f"TTFT {point.ttft_seconds * 1000:.0f} ms, ITL {point.itl_seconds * 1000:g} ms, {when}"
    )
