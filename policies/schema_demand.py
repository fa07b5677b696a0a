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
    Port,
    Positive,
    PositiveDuration,
    Text,
    Url,
)

SOURCES = ("prometheus", "engines", "nats", "replay")
ENGINE_LISTS = ("targets", "dns", "pods")
EnginePreset = Literal["vllm", "sglang", "trtllm", "lmdeploy"]
GatewayPreset = Literal["litellm", "envoy"]


class QueriesBlock(Block):
    """PromQL per signal, each giving one number; a query here replaces the preset's."""

    demand: Text | None = Field(None, description="offered work per second in the demand's unit: arrivals, never completions")
    backlog: Text | None = Field(None, description="work waiting, in the demand's unit")
    served: Text | None = Field(None, description="work served within the SLO, per second")
    late: Text | None = Field(None, description="work served outside the SLO or refused, per second")
    spilled: Text | None = Field(None, description="work spilled by the gateway, per second; with a preset it is added to the demand")
    ttft: Text | None = Field(None, description="p95 of the time to the first token, seconds")
    itl: Text | None = Field(None, description="p95 of the time between tokens, seconds")


class MetricsAuthBlock(Block):
    """Where the credentials are; the credentials themselves never stand in a policy."""

    bearer_token_env: EnvironmentName | None = Field(None, description="environment variable that holds a bearer token")
    bearer_token_file: Text | None = Field(None, description="mounted file that holds a bearer token, read again when it changes")
    username_env: EnvironmentName | None = Field(None, description="environment variable that holds the basic-auth user")
    password_env: EnvironmentName | None = Field(None, description="environment variable that holds the basic-auth password")
    ca_file: Text | None = Field(None, description="mounted file of the certificate authority")
    cert_file: Text | None = Field(None, description="mounted file of our certificate, for mutual TLS")
    key_file: Text | None = Field(None, description="mounted file of its private key")


class GpusBlock(Block):
    """GPU use and memory from the DCGM exporter, as Prometheus scrapes it."""

    match_labels: dict[str, str] = Field(default_factory=dict, description="labels that pick this fleet's GPUs, exact match")


class SignalsBlock(Block):
    """What the two ways of reading engines have in common."""

    preset: EnginePreset | None = Field(None, description="metric names to read; left out: those of serving.engine")
    match_labels: dict[str, str] = Field(default_factory=dict, description="labels that pick this fleet's series, exact match")
    spilled: GatewayPreset | None = Field(None, description="preset for what the gateway spilled; queries.spilled instead for another")
    spilled_labels: dict[str, str] = Field(
        default_factory=dict, description="labels that pick the spill backend; left out: its name, as requested_model or envoy_cluster_name"
    )
    shed_labels: dict[str, str] = Field(
        default_factory=dict, description="labels that pick what the gateway refused of this fleet's; left out: not read"
    )
    interval_seconds: PositiveDuration | None = Field(
        None, alias="interval", description="time between two observations; left out: the tick"
    )
    headers: dict[str, str] = Field(default_factory=dict, description="extra HTTP headers; never secrets")
    auth: MetricsAuthBlock = Field(default_factory=MetricsAuthBlock, description="where the credentials are")


class PrometheusBlock(SignalsBlock):
    """Demand out of a Prometheus, or of anything that speaks its query API (Thanos, Mimir, VictoriaMetrics)."""

    url: Url = Field(description="base address of the query API, without credentials")
    queries: QueriesBlock = Field(default_factory=QueriesBlock, description="own PromQL per signal, over the preset's")
    gpus: GpusBlock | None = Field(None, description="GPU use and memory from the DCGM exporter; `gpus: {}` takes all")
    timeout_seconds: PositiveDuration = Field(5.0, alias="timeout", description="longest wait for one answer")
    backfill_seconds: Duration = Field(1209600.0, alias="backfill", description="history read at the start, for the forecast; 0s for none")
    tenant: Text | None = Field(None, description="tenant of Mimir or Thanos, sent as X-Scope-OrgID")


class DnsBlock(Block):
    """Replicas by DNS: every address of a name, such as a headless service."""

    name: Text = Field(description="host name whose addresses (A and AAAA) are the replicas")
    port: Port = Field(description="port of their metrics")
    scheme: Literal["http", "https"] = Field("http", description="how they are asked")


class PodsBlock(Block):
    """Replicas by label selector: every running, ready pod."""

    namespace: Text = Field(description="where the pods are")
    selector: Text = Field(description="label selector, such as app=r1,role!=router")
    port: Port = Field(description="port of their metrics")
    scheme: Literal["http", "https"] = Field("http", description="how they are asked")
    context: Text | None = Field(
        None, description="context of the kubeconfig; left out: the cluster this runs in, else the current context"
    )


class EnginesBlock(SignalsBlock):
    """Demand read from the engines' own metrics pages, several times a tick and without a Prometheus."""

    targets: tuple[Url, ...] = Field((), max_length=10_000, description="a fixed list of replicas, such as http://10.0.0.1:8000")
    dns: DnsBlock | None = Field(None, description="the addresses of a DNS name")
    pods: PodsBlock | None = Field(None, description="the pods of a label selector")
    path: Text = Field("/metrics", description="path of the metrics page")
    scrape_interval_seconds: PositiveDuration = Field(1.0, alias="scrapeInterval", description="time between two scrapes of a replica")
    timeout_seconds: PositiveDuration = Field(2.0, alias="timeout", description="longest wait for one page")
    refresh_seconds: PositiveDuration = Field(10.0, alias="refresh", description="time between two looks for replicas that came or went")
    gateways: tuple[Url, ...] = Field((), max_length=100, description="metrics pages of the gateway's instances, for spilled")
    gpus: tuple[Url, ...] = Field((), max_length=10_000, description="metrics pages of DCGM exporters, whole addresses")


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
    """The unit of work and where offered demand comes from: exactly one of prometheus, engines, nats, replay."""

    unit: Literal["requests", "outputTokens", "weightedTokens"] = Field(
        description="what demand and capacity are counted in; weightedTokens = output tokens + inputTokenWeight x input tokens"
    )
    input_token_weight: NonNegative | None = Field(
        None, description="work of one input token, where an output token is 1; needed by, and only for, weightedTokens"
    )
    prometheus: PrometheusBlock | None = Field(None, description="read it from a Prometheus")
    engines: EnginesBlock | None = Field(None, description="read it from the engines themselves")
    nats: NatsBlock | None = Field(None, description="it is pushed on NATS: write `nats: {}`")
    replay: ReplayBlock | None = Field(None, description="replay it from a trace")
