"""Operating points that nobody measured, as NVIDIA's aiconfigurator models them: one sweep over concurrency per way to split the model.

Owns the translation of our words into aiconfigurator's and back, and the choice of one layout, since a replica runs only one. It is an
optional extra and is imported when first asked. It must not judge the figures: docs/benchmarks.md says how far off they are.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from controlplane.contracts.errors import TidegateError
from policies.capacity import MODELLED
from policies.fit import models, name_key, precision_in_name

EXTRA = "aiconfigurator"
MISSING = (
    "needs NVIDIA's aiconfigurator, which is not installed: pip install 'tidegate[aiconfigurator]' (Linux on x86-64, Python 3.12 or 3.13)"
)
SYSTEMS = {
    "A100": "a100_sxm", "H100": "h100_sxm", "H200": "h200_sxm", "B200": "b200_sxm", "B300": "b300_sxm", "GB200": "gb200", "GB300": "gb300",
    "L40S": "l40s", "L4": "l4", "RTX-PRO-6000": "rtx_pro_6000_server",
}  # fmt: skip
ENGINES = ("vllm", "sglang", "trtllm")
LAYOUTS = ("tp", "ep", "dp")
CONCURRENCIES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
QUANTIZED = {"bf16": "bfloat16", "fp16": "bfloat16", "fp8": "fp8", "fp4": "nvfp4", "int4": "int4_wo"}
# What its quantization modes contain, fewest bits first: w4a16_mxfp4, int4_wo, w4afp8, fp8_block, int8_wo, bfloat16.
_PRECISIONS = (("fp4", "fp4"), ("int4", "int4"), ("w4", "int4"), ("fp8", "fp8"), ("int8", "int8"), ("bfloat16", "bf16"))


@dataclass(frozen=True, slots=True)
class Case:
    """What is to be estimated. `layout` None: each of `LAYOUTS` is tried. `precision` None: as the model's own configuration says."""

    model: str
    gpu: str
    gpus: int
    engine: str
    input_tokens: int
    output_tokens: int
    precision: str | None = None
    layout: str | None = None
    ttft_ms: float | None = None
    itl_ms: float | None = None
    concurrencies: Sequence[int] = CONCURRENCIES


@dataclass(frozen=True, slots=True)
class Modelled:
    """One operating point of one replica, with what it was modelled for."""

    concurrency: int
    output_tokens_per_second: float
    ttft_ms: float
    itl_ms: float
    engine_version: str
    precision: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """The sweep of the layout that carries most within the SLO, and of the others why they were not taken."""

    layout: str
    points: tuple[Modelled, ...]
    passed_over: dict[str, str]
    source: str


@dataclass(frozen=True, slots=True)
class Tool:
    """aiconfigurator, or a test's stand-in: its estimate of one configuration, the models it knows by themselves, and its version."""

    ask: Callable[..., Any]
    model_names: tuple[str, ...]
    version: str


def estimate(case: Case, tool: Tool | None = None) -> Estimate:
    """Return the sweep of the best layout; TidegateError where the extra is missing, or no layout gives a point, with each one's reason."""
    if case.gpu.upper() not in SYSTEMS:
        raise TidegateError(f"aiconfigurator has no data of the GPU {case.gpu}; it has {', '.join(SYSTEMS)}")
    tool = tool or installed()
    sweeps: dict[str, tuple[Modelled, ...]] = {}
    why: dict[str, str] = {}
    for layout in layouts(case):
        sweeps[layout], why[layout] = _sweep(case, layout, tool)
    best = max(sweeps, key=lambda layout: (most_within(case, sweeps[layout]), len(sweeps[layout])))
    if not sweeps[best]:
        raise TidegateError(f"{case.model} on {case.gpus} x {case.gpu}: {'; '.join(f'{layout}: {said}' for layout, said in why.items())}")
    passed_over = {layout: why[layout] or f"{most_within(case, sweeps[layout]):.0f} tokens/s" for layout in sweeps if layout != best}
    return Estimate(
        best, sweeps[best], passed_over, f"{MODELLED} by aiconfigurator {tool.version} for {layout_text(case, best)}, not measured"
    )


def layouts(case: Case) -> tuple[str, ...]:
    """Return the ways to split a model over its GPUs that are worth trying: for a dense model, or on one GPU, there is one."""
    if case.layout is not None:
        return (case.layout,)
    known = models().get(name_key(case.model))
    return LAYOUTS[:1] if case.gpus == 1 or (known is not None and not known.experts) else LAYOUTS


def layout_text(case: Case, layout: str) -> str:
    """Say a layout as engines do: `tp8`, `tp8 ep8`, or `dp8 ep8` for attention that is data parallel."""
    return {"tp": f"tp{case.gpus}", "ep": f"tp{case.gpus} ep{case.gpus}", "dp": f"dp{case.gpus} ep{case.gpus}"}[layout]


def most_within(case: Case, points: Sequence[Modelled]) -> float:
    """Return the largest throughput inside the SLO, output tokens per second; 0 where no point is."""
    return max((point.output_tokens_per_second for point in points if is_inside(case, point)), default=0.0)


def is_inside(case: Case, point: Modelled) -> bool:
    """Whether a point keeps the SLO, where one is asked for."""
    ttft_kept = case.ttft_ms is None or point.ttft_ms <= case.ttft_ms
    return ttft_kept and (case.itl_ms is None or point.itl_ms <= case.itl_ms)


def installed(find: Callable[[str], object] = find_spec) -> Tool:
    """Return aiconfigurator; TidegateError where `find` does not find it among what is installed."""
    if find(EXTRA) is None:
        raise TidegateError(f"this {MISSING}")
    from aiconfigurator.cli.api import cli_estimate
    from aiconfigurator.sdk.common import DefaultHFModels

    for name in ("aiconfigurator", "aiconfigurator_core"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return Tool(cli_estimate, tuple(sorted(DefaultHFModels)), version(EXTRA))


def _sweep(case: Case, layout: str, tool: Tool) -> tuple[tuple[Modelled, ...], str]:
    """Return the points of one layout, by rising concurrency up to the first outside the SLO or the memory, and what ended them."""
    points: list[Modelled] = []
    ranks = case.gpus if layout == "dp" else 1
    for concurrency in case.concurrencies:
        if concurrency % ranks:
            continue
        try:
            result = tool.ask(**arguments(case, layout, concurrency // ranks, tool.model_names))
        except Exception as error:
            # It raises its own errors, ValueError and RuntimeError alike: what it says is what there is to say.
            return tuple(points), str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        points.append(_point(result, concurrency))
        if not is_inside(case, points[-1]):
            break
    return tuple(points), ""


def arguments(case: Case, layout: str, requests_per_rank: int, names: Iterable[str] = ()) -> dict[str, object]:
    """Return a case in aiconfigurator's words. Only where no model of its own has the precision is the model quantized for it."""
    name, is_shared = their_name(case, names), layout != "dp"
    found: dict[str, object] = {
        "model_path": name,
        "system_name": SYSTEMS[case.gpu.upper()],
        "backend_name": case.engine,
        "isl": case.input_tokens,
        "osl": case.output_tokens,
        "batch_size": requests_per_rank,
        "tp_size": case.gpus if is_shared else 1,
        "attention_dp_size": 1 if is_shared else case.gpus,
        "moe_tp_size": case.gpus if layout == "tp" else 1,
        "moe_ep_size": 1 if layout == "tp" else case.gpus,
    }
    if case.precision not in (None, published(name)):
        mode = QUANTIZED[case.precision or "bf16"]
        found |= {"gemm_quant_mode": mode, "moe_quant_mode": mode}
    return found


def their_name(case: Case, names: Iterable[str]) -> str:
    """Return the name under which aiconfigurator knows a model, in the wanted precision where it has that, else the name as it is."""
    if case.model in names:
        return case.model
    wanted = case.precision or precision_in_name(case.model)
    known = models().get(name_key(case.model))
    same = [
        name for name in names if name_key(name) == name_key(case.model) or (known is not None and models().get(name_key(name)) is known)
    ]
    return min(same, key=lambda name: (published(name) != wanted, precision_in_name(name) is not None, name), default=case.model)


def published(name: str) -> str | None:
    """Return the precision that a model is published in, as its name or the table of known models says."""
    known = models().get(name_key(name))
    return precision_in_name(name) or (known.precision if known is not None else None)


def _point(result: Any, concurrency: int) -> Modelled:
    kinds = [str(result.raw.get(part, "")) for part in ("gemm", "moe")]
    precision = next((ours for theirs, ours in _PRECISIONS if any(theirs in kind for kind in kinds)), "unstated")
    figures = (float(result.tokens_per_second), float(result.ttft), float(result.tpot))
    return Modelled(concurrency, *figures, str(result.backend_version), precision)
