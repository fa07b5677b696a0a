"""The policy YAML, apiVersion tidegate.dev/v1alpha1, kind Fleet: one document per fleet, shaped as a Kubernetes resource.

Owns the root, `metadata` and `spec.serving`; the other `schema_…` rooms own the rest.
Models only reject one field at a time; what several fields must agree on is in `check`, and what is merely odd in `advice`.
"""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from policies.schema_control import BehaviorBlock, ForecastBlock, GuardBlock, LaunchBlock
from policies.schema_demand import DemandBlock
from policies.schema_fields import Block, Flag, Name, NonNegative, Positive, PositiveCount, PositiveDuration, Text
from policies.schema_offers import BurstOffer, FloorOffer, SpillOffer
from policies.schema_quotes import QuotesBlock

API_VERSION = "tidegate.dev/v1alpha1"
KIND = "Fleet"

LabelKey = Annotated[str, StringConstraints(pattern=r"^([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")]
LabelValue = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$")]


class MetadataBlock(Block):
    """Who the fleet is, in Kubernetes' words."""

    name: Name = Field(description="the fleet's name, a DNS label: lower-case letters, digits and '-', at most 63")
    namespace: Name | None = Field(None, description="Kubernetes namespace of the custom resource; without meaning in a file")
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict, description="labels, as in Kubernetes")
    annotations: dict[LabelKey, str] = Field(default_factory=dict, description="annotations, as in Kubernetes; never secrets")


class SloBlock(Block):
    """The promise: which share of the work is served within which latencies."""

    ttft_seconds: PositiveDuration | None = Field(
        None, alias="ttft", description="longest time to the first token; left out: not promised, and not used to choose a profile"
    )
    itl_seconds: PositiveDuration | None = Field(
        None, alias="itl", description="longest time between tokens; left out: not promised, and not used to choose a profile"
    )
    attainment: Annotated[float, Field(strict=True, gt=0.0, le=1.0, allow_inf_nan=False)] = Field(
        0.99, description="share of the work, in (0, 1], that is to be served within ttft and itl"
    )


class ShapeBlock(Block):
    """The mean request: it turns requests into tokens and prices per token into prices per unit of work."""

    input_tokens: Positive = Field(1024.0, description="mean input length of a request, tokens")
    output_tokens: Positive = Field(1024.0, description="mean output length of a request, tokens")


class MemoryBlock(Block):
    """What a replica must hold on its GPUs. An offer whose GPUs cannot is not eligible; what is left out is of the known model."""

    parameters: Positive | None = Field(
        None, description="parameters in all, every expert counted, such as 671e9; left out: those of the known model, else not checked"
    )
    bytes_per_parameter: Positive | None = Field(None, description="bytes of one as served, 1 in fp8; left out: by the precision")
    kv_bytes_per_token: NonNegative | None = Field(
        None, description="KV cache of one token over all layers, bytes; left out: that of the known model in 16 bits"
    )
    context_tokens: Positive | None = Field(
        None, description="longest request that must fit, tokens in and out; left out: the mean request of serving.shape"
    )
    concurrency: PositiveCount = Field(8, description="requests that a replica must hold at once")
    usable_share: Annotated[float, Field(strict=True, gt=0.0, le=1.0, allow_inf_nan=False)] = Field(
        0.9, description="share of the GPUs' memory for weights and KV cache, as in vLLM's --gpu-memory-utilization, in (0, 1]"
    )


class ServingBlock(Block):
    """What is served, by which engine, and how well."""

    model: Text = Field(description="the model's name, best as on its hub: it finds the serving profile")
    engine: Literal["vllm", "sglang", "trtllm", "lmdeploy", "other"] = Field(
        "other", description="the serving engine: finds the profile and the metric names"
    )
    precision: Literal["bf16", "fp16", "fp8", "fp4", "int8", "int4"] | None = Field(
        None, description="precision of the weights; left out: the slowest of those measured is assumed"
    )
    memory: MemoryBlock = Field(default_factory=MemoryBlock, description="what a replica must hold on its GPUs")
    slo: SloBlock = Field(description="the promise to the users")
    shape: ShapeBlock = Field(default_factory=ShapeBlock, description="the mean request")
    correct_capacity: Flag = Field(
        False, description="correct the offers' capacities by what saturated replicas were seen to carry, between half and 1.25 times"
    )


class SpecBlock(Block):
    """What the fleet needs and what may be bought for it."""

    serving: ServingBlock = Field(description="what is served, and how well")
    demand: DemandBlock = Field(description="where the offered work is read, and its unit")
    floor: tuple[FloorOffer, ...] = Field((), max_length=64, description="committed capacity: paid, used or not")
    burst: tuple[BurstOffer, ...] = Field((), max_length=64, description="capacity rented by the hour, cheapest per unit of work first")
    spill: tuple[SpillOffer, ...] = Field((), max_length=1, description="serverless tokens of the same model; at most one entry for now")
    quotes: tuple[QuotesBlock, ...] = Field((), max_length=16, description="where prices and stock are known from, beside the actuators")
    forecast: ForecastBlock = Field(default_factory=ForecastBlock, description="how demand is forecast")
    launches: tuple[LaunchBlock, ...] = Field((), max_length=256, description="announced waves")
    behavior: BehaviorBlock = Field(default_factory=BehaviorBlock, description="how fast the fleet may move, in the HPA's words")
    guard: GuardBlock = Field(default_factory=GuardBlock, description="what keeps a decision safe")
    tick_seconds: PositiveDuration = Field(15.0, alias="tick", description="time between two decisions")


class FleetPolicy(Block):
    """One fleet: a model served to one SLO from a floor, a burst and a spill tier."""

    api_version: Literal["tidegate.dev/v1alpha1"] = Field(description="always tidegate.dev/v1alpha1")
    kind: Literal["Fleet"] = Field(description="always Fleet")
    metadata: MetadataBlock = Field(description="name, labels, annotations")
    spec: SpecBlock = Field(description="what the fleet needs and what may be bought for it")
