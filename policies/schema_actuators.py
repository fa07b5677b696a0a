"""The actuator blocks of the policy YAML: how an offer's replicas are really had, one block per offer or none.

Owns the settings of each kind; what they compile to is `Offer.actuator` and `Offer.actuator_options`, which `actuators` read.
An offer without a block is recommended and never acted on.
"""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from policies.schema_fields import Block, Duration, Name, Port, Text, Url

REPLICA_ACTUATORS = ("kubernetes", "aws", "market", "simulated")
SPILL_ACTUATORS = ("gateway", "simulated")


def _matching(pattern: str, wanted: str) -> AfterValidator:
    def read(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"must be {wanted}")
        return value

    return AfterValidator(read)


ApiVersion = Annotated[
    Text, _matching(r"([a-z0-9.-]+/)?v[0-9]+((alpha|beta)[0-9]+)?", "a group and a version, such as apps/v1 or leaderworkerset.x-k8s.io/v1")
]
KindName = Annotated[Text, _matching(r"[A-Z][A-Za-z0-9]*", "a kind as in a manifest, such as Deployment")]
ObjectName = Annotated[
    Text, _matching(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", "the name of an object: lower-case letters, digits, '-' and '.'")
]


class KubernetesBlock(Block):
    """The scale subresource of a workload."""

    api_version: ApiVersion = Field("apps/v1", description="apiVersion of the workload")
    kind: KindName = Field("Deployment", description="kind of the workload: anything that has a scale subresource")
    namespace: Name = Field("default", description="its namespace")
    name: ObjectName = Field(description="its name")
    context: Text | None = Field(None, description="kubeconfig context; left out: the pod's own cluster, outside a pod the current one")
    conflict: Literal["yield", "warn", "takeOver"] = Field(
        "yield",
        description="when somebody else (an autoscaler, a person) sets the number too: yield and say who, or write over it every 30s or 5s",
    )
    nodes: Literal["fixed", "elastic"] | None = Field(
        None, description="fixed: never ask for more than the nodes hold; elastic: nodes are added on demand; left out: fixed for a floor"
    )
    node_selector: dict[str, str] = Field(
        default_factory=dict, description="labels of the nodes that the pool is; left out: the nodeSelector of the workload's pods"
    )
    drain_grace_seconds: Duration = Field(
        0.0, alias="drainGrace", description="how long replicas that are to go may still work on what they have, beyond their own grace"
    )
    metrics_port: Port | None = Field(
        None, description="port of the pods' metrics page, which tells the requests in flight; left out: an annotation of the pods does"
    )


class SimulatedBlock(Block):
    """The simulated cloud over HTTP, for trials and for the demo."""

    url: Url | None = Field(None, description="address of the simulated cloud; left out: the one that tidegate starts itself")
    pool: Name | None = Field(None, description="name of the pool there; left out: the offer's own name")


class HttpRouteBlock(Block):
    """A Gateway API HTTPRoute."""

    namespace: Name = Field("default", description="its namespace")
    name: Text = Field(description="its name")


class GatewayBlock(Block):
    """Spill through a gateway that sends a share of the requests to the hosted endpoint."""

    http_route: HttpRouteBlock = Field(description="the HTTPRoute whose weights are set")
    backend: Text = Field(description="the backendRef of the hosted endpoint in that route")
    context: Text | None = Field(None, description="kubeconfig context; left out: the pod's own cluster, outside a pod the current one")
