"""`spec.floor`, `spec.burst` and `spec.spill` of the policy YAML: every way to serve a unit of work, with price and delay.

Owns the offers; their actuators are in `schema_actuators`.
Capacity left out comes from a serving profile, which `capacity` looks up and `compile` writes into the fleet.
"""

from typing import Annotated, Literal

from pydantic import Field

from policies.schema_actuators import GatewayBlock, KubernetesBlock, SimulatedBlock
from policies.schema_fields import Block, Count, Duration, LeadTime, Name, NonNegative, Positive, PositiveCount, Text
from policies.schema_suppliers import AwsBlock, MarketBlock

FLOOR_LEAD_TIME_SECONDS = 300.0
BURST_LEAD_TIME_SECONDS = 600.0
BURST_HOLD_SECONDS = 600.0
LEAD_TIME = "time from decision to serving; `auto`: learnt from the starts seen, from the default on"


class AcceleratorBlock(Block):
    """The GPUs of one replica."""

    type: Text = Field(description="GPU type as in the serving profiles: A100, H100, H200, B200, B300, GB200, ...")
    per_replica: PositiveCount = Field(1, description="GPUs per replica")
    memory_gib: Positive | None = Field(None, description="memory of one GPU, GiB; left out: that of the type, where it is known")
    interconnect: Literal["nvlink", "pcie"] | None = Field(
        None, description="what joins the GPUs of a replica; left out: as in the profile. A mixture of experts is not placed over PCIe"
    )


class ProfileBlock(Block):
    """Which measured serving profile the capacity comes from, where it is not that of `spec.serving`."""

    model: Text | None = Field(None, description="model to look up, for a fine-tune of a measured one; left out: serving.model")
    engine: Literal["vllm", "sglang", "trtllm", "lmdeploy"] | None = Field(None, description="engine to look up; left out: serving.engine")
    precision: Literal["bf16", "fp16", "fp8", "fp4", "int8", "int4"] | None = Field(
        None, description="precision; left out: serving.precision"
    )
    share: Annotated[float, Field(strict=True, gt=0.0, le=1.0)] = Field(
        1.0, description="share of the measured throughput to count on, in (0, 1]"
    )


class ReplicasBlock(Block):
    """The bounds of an offer."""

    min: Count = Field(0, description="fewest replicas held")
    max: Count = Field(description="most replicas held, the quota; 0 gives back what is held, before the offer is taken out of the policy")


class CooldownBlock(Block):
    """Quiet time of one offer after an action."""

    scale_up_seconds: Duration = Field(0.0, alias="scaleUp", description="time without growing after it last grew")
    scale_down_seconds: Duration = Field(0.0, alias="scaleDown", description="time without shrinking after it last shrank")


class ReplicaOffer(Block):
    """What floor and burst offers share."""

    name: Name = Field(description="a DNS label, unique in the fleet over all tiers")
    accelerator: AcceleratorBlock = Field(description="the GPUs of one replica")
    capacity_per_second: Positive | None = Field(
        None, description="work per second of one replica within the SLO, in demand.unit; left out: from a serving profile"
    )
    profile: ProfileBlock = Field(default_factory=ProfileBlock, description="where to look the capacity up, if not stated")
    replicas: ReplicasBlock = Field(description="the bounds, in replicas")
    usd_per_replica_hour: NonNegative | None = Field(None, description="price of one replica, USD per hour; left out: only quotes know it")
    replicas_per_lot: PositiveCount = Field(1, description="replicas bought and returned together: a node, a rack")
    cooldown: CooldownBlock = Field(default_factory=CooldownBlock, description="quiet time after an action")
    kubernetes: KubernetesBlock | None = Field(None, description="scale a workload on Kubernetes")
    aws: AwsBlock | None = Field(None, description="buy EC2 instances")
    market: MarketBlock | None = Field(None, description="buy from GPU suppliers")
    simulated: SimulatedBlock | None = Field(None, description="buy from the simulated cloud")


class FloorOffer(ReplicaOffer):
    """Committed capacity: paid, used or not."""

    opportunity_usd_per_replica_hour: NonNegative = Field(
        0.0, description="what a replica given back is worth to someone else, USD per hour; 0: the pool is sunk and always kept at its max"
    )
    lead_time_seconds: LeadTime = Field(FLOOR_LEAD_TIME_SECONDS, alias="leadTime", description=LEAD_TIME)
    hold_seconds: Duration = Field(0.0, alias="hold", description="shortest time a replica is kept, from the request on")


class BurstOffer(ReplicaOffer):
    """Capacity rented by the hour."""

    usd_per_replica_hour_ceiling: NonNegative | None = Field(
        None, description="price that an unknown price counts as, and above which nothing is bought, USD per hour"
    )
    lead_time_seconds: LeadTime = Field(BURST_LEAD_TIME_SECONDS, alias="leadTime", description=LEAD_TIME)
    hold_seconds: Duration = Field(BURST_HOLD_SECONDS, alias="hold", description="shortest time a replica is kept, from the request on")


class TokenPriceBlock(Block):
    """A hosted endpoint's price list."""

    input: NonNegative = Field(description="USD per million input tokens")
    output: NonNegative = Field(description="USD per million output tokens")


class SpillOffer(Block):
    """A hosted endpoint of the same model, paid by the token, there at once. State one of the two prices."""

    name: Name = Field(description="a DNS label, unique in the fleet over all tiers")
    usd_per_million_tokens: TokenPriceBlock | None = Field(
        None, description="price list; becomes a price per unit of work through serving.shape"
    )
    usd_per_unit: Positive | None = Field(None, description="price of one unit of work (demand.unit), USD")
    max_per_second: Positive | None = Field(
        None, description="most work per second that may be spilled, in demand.unit; left out: no limit but the budget"
    )
    gateway: GatewayBlock | None = Field(None, description="set weights on a gateway")
    simulated: SimulatedBlock | None = Field(None, description="the simulated endpoint of the demo")
