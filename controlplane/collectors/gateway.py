"""What a gateway spilled to a hosted endpoint and what it shed: the part of the demand that engines never see.

Owns the names at LiteLLM and Envoy and the counting. Counters of a gateway may not exist before the first event, so `pulse` names
what shows that it is heard: then absent is zero, else absent is unknown. `work` adds the result to the demand.
"""

import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field

from controlplane.contracts.fleet import Fleet

HEARD_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class GatewayPreset:
    """A gateway's names. `spilled` counts requests that the hosted endpoint served, `shed` those that nobody did."""

    name: str
    spilled: tuple[str, ...]
    shed: tuple[str, ...]
    pulse: tuple[str, ...]
    backend_label: str
    shed_where: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Return every sample name that is read."""
        return tuple(sorted({*self.spilled, *self.shed, *self.pulse}))


LITELLM = GatewayPreset(
    "litellm",
    spilled=("litellm_deployment_success_responses_total",),
    shed=("litellm_proxy_failed_requests_metric_total",),
    pulse=("litellm_proxy_total_requests_metric_total", "litellm_requests_metric_total"),
    backend_label="requested_model",
    shed_where={"exception_status": frozenset({"429", "503", "504"})},
)
# The stats of a cluster exist from its start on, so what is read is its own pulse.
ENVOY = GatewayPreset(
    "envoy",
    spilled=("envoy_cluster_upstream_rq_completed",),
    shed=("envoy_cluster_upstream_rq_pending_overflow",),
    pulse=(),
    backend_label="envoy_cluster_name",
)
GATEWAYS: Mapping[str, GatewayPreset] = {preset.name: preset for preset in (LITELLM, ENVOY)}


@dataclass(frozen=True, slots=True)
class Gateway:
    """One fleet's gateway: the preset and the labels of what is spilled and shed. Shedding without labels is not read."""

    preset: GatewayPreset
    spilled_labels: Mapping[str, str]
    shed_labels: Mapping[str, str]

    def part(self, name: str, labels: Mapping[str, str]) -> str:
        """Return what a sample counts for: `spilled`, `shed`, `pulse` or nothing."""
        if name in self.preset.spilled and _match(labels, self.spilled_labels):
            return "spilled"
        where = self.preset.shed_where
        if name in self.preset.shed and self.shed_labels and _match(labels, self.shed_labels):
            return "shed" if all(labels.get(label) in values for label, values in where.items()) else "pulse"
        return "pulse" if name in self.preset.names else ""


def gateway_of(fleet: Fleet) -> Gateway | None:
    """Return the gateway that a policy names; without labels, what is spilled is picked by the name of the spill backend."""
    kind = fleet.demand_source.get("spilled")
    if not isinstance(kind, str):
        return None
    preset = GATEWAYS[kind]
    labels = fleet.demand_source.get("spilled_labels") or {}
    shed = fleet.demand_source.get("shed_labels") or {}
    assert isinstance(labels, Mapping)
    assert isinstance(shed, Mapping)
    if not labels and fleet.spill is not None:
        labels = {preset.backend_label: str(fleet.spill.actuator_options.get("backend") or fleet.spill.name)}
    return Gateway(preset, dict(labels), dict(shed))


@dataclass(frozen=True, slots=True)
class Diverted:
    """Requests per second that the engines never saw. None: the gateway was not heard. `was_heard` says whether it ever was."""

    spilled_per_second: float | None = None
    shed_per_second: float | None = None
    was_heard: bool = False


class GatewayCounts:
    """Counts by series with resets. `take` each scrape of each gateway instance in order, then `close` the interval."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._totals: dict[Hashable, dict[Hashable, float]] = {}
        self._heard_unix: dict[Hashable, float] = {}
        self._since_unix: dict[Hashable, float] = {}
        self._added: dict[Hashable, dict[str, float]] = {}
        self._rates: dict[Hashable, dict[str, float]] = {}

    def take(self, instance: Hashable, time_unix: float, samples: Iterable[tuple[Hashable, str, float]]) -> None:
        """Fold one scrape: (series, part, value). An instance heard for the first time only sets what later ones are compared with."""
        if time_unix <= self._heard_unix.get(instance, -math.inf):
            return
        totals = {key: value for key, part, value in samples if part != "pulse" and 0.0 <= value < math.inf}
        parts = {key: part for key, part, _ in samples}
        before = self._totals.get(instance)
        if before is not None:
            added = self._added.setdefault(instance, {})
            restarted = any(value < before.get(key, value) for key, value in totals.items())
            for key, value in totals.items():
                grown = value if restarted else value - before.get(key, 0.0)
                added[parts[key]] = added.get(parts[key], 0.0) + grown
        else:
            self._since_unix[instance] = time_unix
        if parts:
            self._totals[instance] = totals
            self._heard_unix[instance] = time_unix

    def close(self, now_unix: float) -> Diverted:
        """Return the rates since the last call, and begin anew."""
        heard = {instance for instance, time_unix in self._heard_unix.items() if now_unix - time_unix <= HEARD_SECONDS}
        for instance in heard:
            span = self._heard_unix[instance] - self._since_unix[instance]
            if span > 0.0:
                added = self._added.pop(instance, {})
                self._rates[instance] = {part: value / span for part, value in added.items()}
                self._since_unix[instance] = self._heard_unix[instance]
        known = [self._rates[instance] for instance in heard if instance in self._rates]
        if not known:
            return Diverted(was_heard=bool(self._heard_unix))
        spilled = sum(rates.get("spilled", 0.0) for rates in known)
        shed = sum(rates.get("shed", 0.0) for rates in known) if self.gateway.shed_labels else None
        return Diverted(spilled, shed, was_heard=True)


def _match(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(labels.get(label) == value for label, value in wanted.items())
