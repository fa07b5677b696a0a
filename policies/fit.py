"""Whether the GPUs of one replica can hold a model: its weights as served, the KV cache of some requests, and room for the runtime.

Owns the reckoning: KV cache in 16 bits unless the policy says otherwise, counted once, although tensor parallelism over more GPUs than KV
heads stores copies, and weights spread over all GPUs. What cannot fit so is not eligible. The facts are in `fit_facts`.
"""

import re
from dataclasses import dataclass
from functools import cache, lru_cache

from policies.capacity import model_key
from policies.fit_facts import GPUS, MODELS

MIB, GIGA = 1 << 20, 1e9
BYTES_PER_PARAMETER = {"bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "int8": 1.0, "fp4": 0.5625, "int4": 0.5625}
"""As checkpoints store them: four bits come with a scale of eight bits for 16 of them (NVFP4) or of 16 bits for 32 (int4)."""
FOUR_BITS = ("fp4", "int4")
_IN_A_NAME = (
    ("fp4", re.compile(r"[-_](nv|mx)?fp4(?![a-z0-9])")),
    ("int4", re.compile(r"[-_](awq|gptq|int4|w4a16|w4a8)(?![a-z0-9])")),
    ("fp8", re.compile(r"[-_]fp8(?![a-z0-9])")),
    ("int8", re.compile(r"[-_](int8|w8a8)(?![a-z0-9])")),
    ("bf16", re.compile(r"[-_]bf16(?![a-z0-9])")),
)


@dataclass(frozen=True, slots=True)
class Model:
    """A known model; `experts` and `embedding` are parts of its `parameters`. It is published in `precision`, at `bytes_as_published`."""

    names: tuple[str, ...]
    parameters: float
    experts: float
    embedding: float
    precision: str
    bytes_as_published: float
    kv_bytes_per_token: float
    source: str


@dataclass(frozen=True, slots=True)
class Gpu:
    """A known GPU and the memory of one, bytes."""

    names: tuple[str, ...]
    memory_bytes: float
    source: str


@dataclass(frozen=True, slots=True)
class Load:
    """What a replica is to hold. None: as in the table of known models, or for `precision` as published, and as `model`'s name says.

    `parameters`, `bytes_per_parameter` and `kv_bytes_per_token` stand for what the table does not know, or knows otherwise.
    """

    model: str
    tokens_per_request: float
    requests: float = 8.0
    precision: str | None = None
    parameters: float | None = None
    bytes_per_parameter: float | None = None
    kv_bytes_per_token: float | None = None


@dataclass(frozen=True, slots=True)
class Fit:
    """The reckoning, bytes: what is needed, and what of the GPUs' memory is usable for it. `text` says it, `source` where it is from."""

    weights_bytes: float
    kv_bytes: float
    usable_bytes: float
    text: str
    source: str

    @property
    def holds(self) -> bool:
        """Whether what is needed fits."""
        return self.weights_bytes + self.kv_bytes <= self.usable_bytes


@cache
def models() -> dict[str, Model]:
    """Return the known models by the keys of their names."""
    found: dict[str, Model] = {}
    for line in MODELS.splitlines():
        names, total, experts, embedding, precision, stored, kv, source = line.split("|")
        sizes = (GIGA * float(total), GIGA * float(experts), GIGA * float(embedding))
        model = Model(tuple(names.split()), *sizes, precision, float(stored), float(kv), source)
        found |= {name_key(name): model for name in model.names}
    return found


@cache
def gpus() -> dict[str, Gpu]:
    """Return the known GPUs by their names in upper case."""
    found: dict[str, Gpu] = {}
    for line in GPUS.splitlines():
        names, mib, source = line.split("|")
        gpu = Gpu(tuple(names.split()), float(mib) * MIB, source)
        found |= {name.upper(): gpu for name in gpu.names}
    return found


@lru_cache(maxsize=4096)
def name_key(name: str) -> str:
    """Return what names of one architecture share, however it is quantized: `RedHatAI/Llama-3.3-70B-Instruct-AWQ` is `llama-3.3-70b`."""
    plain = name.lower()
    for _, pattern in _IN_A_NAME:
        plain = pattern.sub("", plain)
    return model_key(plain)


@lru_cache(maxsize=4096)
def precision_in_name(name: str) -> str | None:
    """Return the precision that a model's name states, such as int4 for `…-AWQ`; None where it states none."""
    return next((precision for precision, pattern in _IN_A_NAME if pattern.search(name.lower())), None)


def is_quantized_as_published(name: str) -> bool:
    """Whether a known model is published in eight or four bits: nobody serves it in less under the same name."""
    model = models().get(name_key(name))
    return model is not None and model.bytes_as_published < BYTES_PER_PARAMETER["bf16"]


def weights_bytes(model: Model, precision: str) -> float:
    """Return the size of a known model's weights.

    In eight bits the embedding and the head stay in 16, in four bits all but the routed experts of a mixture do: DeepSeek-R1 has 672.9 GB
    in fp8 and 402 GB in fp4, Llama 3.1 70B 72.7 GB in fp8.
    """
    each = model.bytes_as_published if precision == model.precision else BYTES_PER_PARAMETER[precision]
    if each >= 2.0:
        return model.parameters * each
    small = model.experts if precision in FOUR_BITS and model.experts else model.parameters - model.embedding
    return small * each + (model.parameters - small) * 2.0


def reckon(load: Load, accelerator: str, count: int, memory_gib: float | None = None, usable_share: float = 0.9) -> Fit | None:
    """Return whether `count` GPUs hold a load; None where neither the table nor the load knows the size of the model or of the GPU.

    `usable_share` of the memory is for weights and KV cache, the rest for the runtime: context, communication buffers, graphs, activations.
    """
    gpu, model = gpus().get(accelerator.upper()), models().get(name_key(load.model))
    memory = memory_gib * 1024 * MIB if memory_gib is not None else gpu.memory_bytes if gpu else None
    precision = load.precision or precision_in_name(load.model) or (model.precision if model else "bf16")
    weights = _weights(load, model, precision)
    if memory is None or weights is None:
        return None
    per_token = load.kv_bytes_per_token if load.kv_bytes_per_token is not None else model.kv_bytes_per_token if model else 0.0
    kv, usable = load.requests * load.tokens_per_request * per_token, count * memory * usable_share
    return Fit(
        weights,
        kv,
        usable,
        f"{load.model} in {precision} needs {(weights + kv) / GIGA:.1f} GB: weights {weights / GIGA:.1f} GB, KV cache {kv / GIGA:.1f} GB "
        f"({load.requests:g} requests of {load.tokens_per_request:g} tokens at {per_token:g} bytes); {count} x {accelerator} have "
        f"{count * memory / GIGA:.1f} GB, {usable / GIGA:.1f} GB of it usable ({usable_share:.0%})",
        "; ".join(
            (
                f"model: {'the policy' if load.parameters is not None or model is None else model.source}",
                f"GPU: {'the policy' if memory_gib is not None or gpu is None else gpu.source}",
            )
        ),
    )


def _weights(load: Load, model: Model | None, precision: str) -> float | None:
    parameters = load.parameters if load.parameters is not None else model.parameters if model else None
    if parameters is None:
        return None
    if load.bytes_per_parameter is not None:
        return parameters * load.bytes_per_parameter
    if load.parameters is None and model is not None:
        return weights_bytes(model, precision)
    return parameters * BYTES_PER_PARAMETER[precision]
