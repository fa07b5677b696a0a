"""The blocks of what is rented: AWS, and the market of GPU suppliers, with how a machine of theirs is known to serve.

Owns the settings of each; `actuators` reads what they compile to. API keys are never here: a block names the environment variable or
the file that holds one. What a block's fields must agree on is in `check_suppliers`.
"""

from typing import Literal

from pydantic import Field

from policies.schema_fields import Block, EnvironmentName, Flag, Name, Positive, PositiveCount, PositiveDuration, Text, Url

SUPPLIERS = ("lambda", "runpod")


class ReadinessBlock(Block):
    """How a rented machine is known to serve, before it counts."""

    url: Url | None = Field(
        None,
        description="page that answers 200 once the engine serves, such as `http://{ip}:8000/health`; {ip} and {id} are the machine's; "
        "left out: the supplier's word that it runs",
    )
    within_seconds: PositiveDuration = Field(
        1800.0, alias="within", description="a machine that does not serve so long after its request has failed and is given back"
    )


class CapacityBlockBlock(Block):
    """Capacity Blocks for ML: booked ahead, paid at once, never given back."""

    duration_seconds: PositiveDuration = Field(86400.0, alias="duration", description="how long a block is, in whole days")
    starts_within_seconds: PositiveDuration = Field(7 * 86400.0, alias="startsWithin", description="how far ahead a block may begin")
    max_usd: Positive = Field(description="most money for the blocks held at any time together, USD")
    confirm: Flag = Field(True, description="a person buys, with `tidegate capacity-block`; false: tidegate buys by itself within maxUsd")


class AwsBlock(Block):
    """EC2 instances; an instance is one lot, `replicasPerLot` replicas."""

    region: Text = Field(description="AWS region, such as us-east-1")
    instance_types: tuple[Text, ...] = Field(min_length=1, description="instance types that make one lot, most wanted first")
    purchase: Literal["onDemand", "spot", "capacityReservation", "capacityBlock"] = Field("onDemand", description="purchase option")
    launch_template: Text = Field(description="name of the launch template that starts the serving engine")
    launch_template_version: Text = Field("$Default", description="version of the launch template")
    subnet_ids: tuple[Text, ...] = Field((), description="subnets to spread over; empty: those of the launch template")
    availability_zone: Text | None = Field(None, description="zone of a capacity reservation, such as us-east-1a")
    capacity_block: CapacityBlockBlock | None = Field(None, description="length and money limit of capacity blocks")
    notices_queue: Url | None = Field(
        None, description="SQS queue that EventBridge fills with spot interruption warnings and rebalance recommendations"
    )
    readiness: ReadinessBlock = Field(default_factory=ReadinessBlock, description="how an instance is known to serve")


class LambdaBlock(Block):
    """Lambda Cloud, on demand: an instance is one lot."""

    instance_type: Text = Field(description="instance type, such as gpu_8x_h100_sxm5")
    ssh_key_names: tuple[Text, ...] = Field(min_length=1, max_length=1, description="the SSH key that Lambda puts on the instance")
    api_key_env: EnvironmentName = Field("LAMBDA_API_KEY", description="environment variable that holds the API key")
    api_key_file: Text | None = Field(None, description="file that holds the API key, instead of the environment")
    url: Url = Field("https://cloud.lambda.ai/api/v1", description="address of the API")
    readiness: ReadinessBlock = Field(default_factory=ReadinessBlock, description="how an instance is known to serve")


class RunpodBlock(Block):
    """RunPod pods, on demand: a pod is one lot."""

    gpu_type: Text = Field(description="GPU type id of the catalogue, such as NVIDIA H200")
    gpu_count: PositiveCount = Field(1, description="GPUs of one pod")
    image: Text = Field(description="container image that starts the serving engine")
    args: Text | None = Field(None, description="arguments of the container, such as `--model m`; `template` is not for pods")
    cloud: Literal["SECURE", "COMMUNITY"] = Field("SECURE", description="whose machines")
    data_center_ids: tuple[Text, ...] = Field((), description="data centres, such as EU-RO-1; empty: any that `regions` allows")
    disk_gb: PositiveCount = Field(200, description="container disk, GB")
    ports: tuple[Text, ...] = Field(("8000/http",), description="ports to expose, as port/protocol")
    api_key_env: EnvironmentName = Field("RUNPOD_API_KEY", description="environment variable that holds the API key")
    api_key_file: Text | None = Field(None, description="file that holds the API key, instead of the environment")
    url: Url = Field("https://api.runpod.io", description="address of the API")
    readiness: ReadinessBlock = Field(
        default_factory=ReadinessBlock,
        description="how a pod is known to serve; it has an {id} and no {ip}: `https://{id}-8000.proxy.runpod.net/health`",
    )


class MarketBlock(Block):
    """Several GPU suppliers behind one interface; the cheapest with stock is taken."""

    suppliers: tuple[Name, ...] = Field(
        min_length=1, description="names of the suppliers that may be bought from: lambda, runpod, simulated"
    )
    regions: tuple[Text, ...] = Field(
        (), description="beginnings of the names of regions where replicas may be, for data residency, such as eu; empty: anywhere"
    )
    template: Text | None = Field(None, description="file of a bootstrap template (cloud-init) that starts the serving engine; lambda")
    template_values: dict[str, str] = Field(default_factory=dict, description="what stands for ${name} in the template; never secrets")
    price_advantage: Positive = Field(0.1, le=1.0, description="share by which another supplier must be cheaper before moving to it")
    refused_for_seconds: PositiveDuration = Field(120.0, alias="refusedFor", description="a supplier that refused is left alone so long")
    banned_for_seconds: PositiveDuration = Field(
        6 * 3600.0, alias="bannedFor", description="a supplier whose machines failed to start is left alone so long"
    )
    lambda_: LambdaBlock | None = Field(None, alias="lambda", description="Lambda Cloud")
    runpod: RunpodBlock | None = Field(None, description="RunPod")
    simulated: dict[Name, Url] = Field(default_factory=dict, description="simulated clouds by name, for trials; name them in suppliers")
