"""The `kubernetes` block of an offer, as the policy compiled it.

Pure. Owns names and defaults; `policies.schema_actuators` owns what a user may write. Nothing secret is in it: who we are comes from
a kubeconfig or from the pod's service account.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from controlplane.contracts.fleet import Offer


@dataclass(frozen=True, slots=True)
class Target:
    """The object that is scaled, and how. `on_conflict` is yield, warn or takeOver; `is_fixed_pool`: no more than its nodes hold.

    `drain_grace_seconds` is how long replicas that are to go may still work on what they have, which `metrics_port` tells (0: none).
    """

    api_version: str
    kind: str
    namespace: str
    name: str
    on_conflict: str
    is_fixed_pool: bool
    node_labels: Mapping[str, str] | None
    drain_grace_seconds: float
    metrics_port: int = 0

    def __str__(self) -> str:
        """Print as `Deployment serving/r1`."""
        return f"{self.kind} {self.namespace}/{self.name}"


def target_of(offer: Offer) -> Target:
    """Return an offer's target. Unless the block says otherwise the floor's pool is fixed, and burst nodes come when they are needed."""
    block = offer.actuator_options
    labels = block.get("node_selector")
    return Target(
        api_version=str(block.get("api_version") or "apps/v1"),
        kind=str(block.get("kind") or "Deployment"),
        namespace=str(block.get("namespace") or "default"),
        name=str(block["name"]),
        on_conflict=str(block.get("conflict") or "yield"),
        is_fixed_pool=not offer.has_elastic_nodes,
        node_labels=labels if isinstance(labels, Mapping) and labels else None,
        drain_grace_seconds=float(str(block.get("drain_grace_seconds") or 0.0)),
        metrics_port=int(str(block.get("metrics_port") or 0)),
    )
