"""What a gateway spilled to a hosted endpoint and what it shed: the part of the demand that engines never see.

Owns the names at LiteLLM and Envoy and the counting. Counters of a gateway may not exist before the first event, so `pulse` names
what shows that it is heard: then absent is zero, else absent is unknown. `work` adds the result to the demand.
"""

import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field

from controlplane.contracts.fleet import Fleet

HEARD_SECONDS = 90.0
STEPS_OF_PATIENCE = 2.5
FORGET_SECONDS = 900.0


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


@dataclass(slots=True)
class _Instance:
    """One instance of a gateway: its newest totals, what was added since the last reading, and its last rates."""

    heard_unix: float
    since_unix: float
    totals: dict[Hashable, tuple[str, float]]
    patience_seconds: float = HEARD_SECONDS
    added: dict[str, float] = field(default_factory=dict)
    rates: dict[str, float] | None = None


class GatewayCounts:
    """Counts by series with resets. `take` each scrape of each gateway instance in order, then `close` the interval."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._instances: dict[Hashable, _Instance] = {}
        self._was_heard = False

    def take(self, instance: Hashable, time_unix: float, samples: Iterable[tuple[Hashable, str, float]]) -> None:
        """Fold one scrape: (series, part, value). An instance heard for the first time only sets what later ones are compared with."""
        known = self._instances.get(instance)
        found = [sample for sample in samples if 0.0 <= sample[2] < math.inf]
        if not found or (known is not None and time_unix <= known.heard_unix):
            return
        totals = {key: (part, value) for key, part, value in found if part != "pulse"}
        self._was_heard = True
        if known is None:
            self._instances[instance] = _Instance(time_unix, time_unix, totals)
            return
        before = {key: value for key, (_, value) in known.totals.items()}
        restarted = any(value < before.get(key, value) for key, (_, value) in totals.items())
        for key, (part, value) in totals.items():
            known.added[part] = known.added.get(part, 0.0) + (value if restarted else value - before.get(key, 0.0))
        known.patience_seconds = STEPS_OF_PATIENCE * (time_unix - known.heard_unix)
        known.totals, known.heard_unix = totals, time_unix

    def close(self, now_unix: float) -> Diverted:
        """Return the rates since the last call, and begin anew."""
        rates = []
        for name, instance in list(self._instances.items()):
            silent, span = now_unix - instance.heard_unix, instance.heard_unix - instance.since_unix
            if silent > FORGET_SECONDS:
                del self._instances[name]
                continue
            if span > 0.0:
                instance.rates = {part: value / span for part, value in instance.added.items()}
                instance.added, instance.since_unix = {}, instance.heard_unix
            if instance.rates is not None and silent <= instance.patience_seconds:
                rates.append(instance.rates)
        if not rates:
            return Diverted(was_heard=self._was_heard)
        spilled = sum(each.get("spilled", 0.0) for each in rates)
        shed = sum(each.get("shed", 0.0) for each in rates) if self.gateway.shed_labels else None
        return Diverted(spilled, shed, was_heard=True)


def _match(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(labels.get(label) == value for label, value in wanted.items())
