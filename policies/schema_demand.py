"""`spec.demand` of the policy YAML: the unit of work, and the one source that offered demand is read from.

Owns the blocks of the sources; `controlplane.collectors` read what they compile to.
That exactly one source is named, and that a spill tier has a signal, is checked in `check`.
"""

from typing import Literal

from pydantic import Field

from policies.schema_fields import (
    Block,
    Duration,
    EnvironmentName,
    Flag,
    NonNegative,
    Positive,
    PositiveDuration,
    Text,
    Url,
)

SOURCES = ("prometheus", "nats", "replay")


class QueriesBlock(Block):
    """PromQL per signal, each giving one number; a query here replaces the preset's."""

    demand: Text | None = Field(None, description="offered work per second in the demand's unit: arrivals, never completions")
    backlog: Text | None = Field(None, description="work waiting, in the demand's unit")
    served: Text | None = Field(None, description="work served within the SLO, per second")
    late: Text | None = Field(None, description="work served outside the SLO or refused, per second")
    spilled: Text | None = Field(None, description="work spilled by the gateway, per second")
    ttft: Text | None = Field(None, description="p95 of the time to the first token, seconds")
    itl: Text | None = Field(None, description="p95 of the time between tokens, seconds")


class PrometheusAuthBlock(Block):
    """Where the credentials are; the credentials themselves never stand in a policy."""

    bearer_token_env: EnvironmentName | None = Field(None, description="environment variable that holds a bearer token")
    bearer_token_file: Text | None = Field(None, description="mounted file that holds a bearer token, read again when it changes")
    username_env: EnvironmentName | None = Field(None, description="environment variable that holds the basic-auth user")
    password_env: EnvironmentName | None = Field(None, description="environment variable that holds the basic-auth password")
    ca_file: Text | None = Field(None, description="mounted file of the certificate authority")


class PrometheusBlock(Block):
    """Demand out of a Prometheus (or anything that speaks its query API)."""

    url: Url = Field(description="base address of the query API, without credentials")
    preset: Literal["vllm", "sglang", "trtllm", "lmdeploy"] | None = Field(
        None, description="metric names to read; left out: those of serving.engine"
    )
    match_labels: dict[str, str] = Field(default_factory=dict, description="labels that pick this fleet's series, exact match")
    spilled: Literal["litellm"] | None = Field(None, description="preset for what the gateway spilled; queries.spilled instead for another")
    queries: QueriesBlock = Field(default_factory=QueriesBlock, description="own PromQL per signal, over the preset's")
    interval_seconds: PositiveDuration | None = Field(None, alias="interval", description="time between two reads; left out: the tick")
    timeout_seconds: PositiveDuration = Field(5.0, alias="timeout", description="longest wait for one answer")
    backfill_seconds: Duration = Field(1209600.0, alias="backfill", description="history read at the start, for the forecast; 0s for none")
    headers: dict[str, str] = Field(default_factory=dict, description="extra HTTP headers such as a tenant id; never secrets")
    auth: PrometheusAuthBlock = Field(default_factory=PrometheusAuthBlock, description="where the credentials are")


class NatsBlock(Block):
    """Demand pushed as Observation events on tidegate.observation.<fleet>; nothing to set."""


class ReplayBlock(Block):
    """Demand out of a trace file, for trials and for the demo."""

    trace: Text = Field(description="a trace's name as `tidegate traces` lists it, or a path of a CSV file")
    column: Text | None = Field(None, description="the column that holds the work per row; left out: the trace's own")
    speed: Positive = Field(1.0, description="trace seconds per wall-clock second; 1 is real time")
    scale: Positive = Field(1.0, description="factor on the demand")
    interval_seconds: PositiveDuration | None = Field(
        None, alias="interval", description="trace time between two observations; left out: the tick"
    )
    start_seconds: Duration = Field(0.0, alias="start", description="trace time to begin at")
    loop: Flag = Field(False, description="begin again at the end of the trace")


class DemandBlock(Block):
    """The unit of work and where offered demand comes from: exactly one of prometheus, nats, replay."""

    unit: Literal["requests", "outputTokens", "weightedTokens"] = Field(
        description="what demand and capacity are counted in; weightedTokens = output tokens + inputTokenWeight x input tokens"
    )
    input_token_weight: NonNegative | None = Field(
        None, description="work of one input token, where an output token is 1; needed by, and only for, weightedTokens"
    )
    prometheus: PrometheusBlock | None = Field(None, description="read it from a Prometheus")
    nats: NatsBlock | None = Field(None, description="it is pushed on NATS: write `nats: {}`")
    replay: ReplayBlock | None = Field(None, description="replay it from a trace")
