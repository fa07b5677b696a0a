"""What tidegate sees, decides and does, as Prometheus metrics, named by the Prometheus conventions.

Owns one registry, fed by events (`hear`), by the HTTP routes (`request`, `took`) and by what this process runs (`WorkFigures`, read
at each scrape). Nothing in the core or in a service knows of it. A server counts the events since it started, whichever process said them.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from controlplane.contracts.events import SWEEP, Actuation, Alert, Decision, Event, Observation, PoolStatus, Quote, Tick
from controlplane.web.intake import Taken

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
QUANTILES = ("0.5", "0.9", "0.99")
# The time of birth of each series is of no use here, and doubles the page.
disable_created_metrics()  # type: ignore[no-untyped-call]


@dataclass(slots=True)
class Outcome:
    """The HTTP status that a request ended with."""

    status: int


class WorkFigures(NamedTuple):
    """One service's work for one fleet in this process; lag and counts are None for work that folds nothing."""

    service: str
    fleet: str
    is_active: bool
    folded: int | None = None
    set_aside: int | None = None
    lag: int | None = None


class Meter:
    """The registry and its feeders. `works` is asked at each scrape, `connected` too."""

    def __init__(
        self, version: str, works: Callable[[], tuple[WorkFigures, ...]] = tuple, connected: Callable[[], bool] = lambda: True
    ) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self.registry.register(_Works(works))
        self._sees()
        self._decides()
        self._does()
        build = Gauge("tidegate_build_info", "Always 1; the version is a label.", ["version"], registry=self.registry)
        build.labels(version).set(1)
        nats = Gauge("tidegate_nats_connected", "Whether this process is connected to NATS.", registry=self.registry)
        nats.set_function(lambda: float(connected()))

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"tidegate_{name}", text, labels, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"tidegate_{name}", text, labels, registry=self.registry)

    def _sees(self) -> None:
        self._observations = self._counter("observations_total", "Observations heard.", "fleet")
        self._flags = self._counter("observation_flags_total", "Observations by what is doubtful about them.", "fleet", "flag")
        self._observed = self._gauge("observation_timestamp_seconds", "End of the newest observation, unix seconds.", "fleet")
        self._age = self._gauge("observation_age_seconds", "Age of the newest sample when it was read.", "fleet")
        self._coverage = self._gauge("observation_coverage_ratio", "Share of replicas heard.", "fleet")
        self._demand = self._gauge("demand_per_second", "Offered work per second, in the fleet's unit.", "fleet")
        self._backlog = self._gauge("backlog", "Work that waits, in the fleet's unit.", "fleet")
        self._attained = self._gauge("slo_attained_ratio", "Share of latencies within the policy's bound, lately.", "fleet", "latency")
        self._work = self._gauge("work_per_second", "Work per second by what became of it.", "fleet", "outcome")
        self._replicas = self._gauge("replicas", "Replicas held, by state.", "fleet", "offer", "state")
        self._unavailable = self._gauge("offer_unavailable", "Whether the supplier refused lately.", "fleet", "offer")
        self._price = self._gauge("offer_usd_per_replica_hour", "Quoted price.", "offer")
        self._stock = self._gauge("offer_stock_replicas", "Quoted stock.", "offer")
        self._alerts = self._counter("alerts_total", "Alerts heard, by what they may do.", "fleet", "action", "status")
        self._taken = self._counter("webhook_alerts_total", "Alerts in webhooks, by what became of them.", "sender", "outcome")
        self._requests = self._counter("http_requests_total", "HTTP requests.", "route", "code")
        self._seconds = Histogram(
            "tidegate_http_request_duration_seconds", "Time to answer.", ["route"], buckets=REQUEST_SECONDS, registry=self.registry
        )

    def _decides(self) -> None:
        self._ticks = self._counter("ticks_total", "Ticks heard, by cause.", "fleet", "cause")
        self._decisions = self._counter("decisions_total", "Decisions, by cause.", "fleet", "cause")
        self._reasons = self._counter("decision_reasons_total", "Decisions that gave a reason.", "fleet", "reason")
        self._decided = self._gauge("decision_timestamp_seconds", "Time of the newest decision, unix seconds.", "fleet")
        self._expires = self._gauge("decision_expires_timestamp_seconds", "When the newest decision expires, unix seconds.", "fleet")
        self._targets = self._gauge("target_replicas", "Replicas that the newest decision wants.", "fleet", "offer", "tier")
        self._forecast = self._gauge("forecast_demand_per_second", "Demand at the lead time, by quantile.", "fleet", "level")
        self._spill = self._gauge("spill_allowed_per_second", "Work per second that may be spilled.", "fleet")
        self._usd = self._gauge("target_usd_per_hour", "What the targets cost.", "fleet")

    def _does(self) -> None:
        self._actuations = self._counter("actuations_total", "What actuators answered.", "fleet", "offer", "outcome")
        self._orphans = self._gauge("orphaned_replicas", "Machines held for an offer that no policy names any more.", "fleet", "offer")
        self._changed = self._counter("actuated_replicas_total", "Replicas asked for or given back.", "fleet", "offer", "direction")

    def hear(self, event: Event) -> None:
        """Count one event."""
        match event:
            case Observation():
                self._observed_now(event)
            case PoolStatus():
                for state in ("ready", "pending", "draining"):
                    self._replicas.labels(event.fleet, event.offer, state).set(getattr(event, state))
                self._replicas.labels(event.fleet, event.offer, "failed").set(event.failed_replicas)
                self._unavailable.labels(event.fleet, event.offer).set(event.unavailable)
            case Decision():
                self._decided_now(event)
            case Actuation():
                if event.decision == SWEEP:
                    self._orphans.labels(event.fleet, event.offer).set(event.before + event.change)
                self._actuations.labels(event.fleet, event.offer, event.outcome.value).inc()
                if event.change:
                    direction = "up" if event.change > 0 else "down"
                    self._changed.labels(event.fleet, event.offer, direction).inc(abs(event.change))
            case Alert():
                self._alerts.labels(event.fleet, event.action.value, event.status).inc()
            case Quote():
                _set(self._price.labels(event.offer), event.usd_per_replica_hour)
                _set(self._stock.labels(event.offer), event.stock_replicas)
            case Tick():
                self._ticks.labels(event.fleet or "", event.cause[:32]).inc()
            case _:
                pass

    def _observed_now(self, seen: Observation) -> None:
        self._observations.labels(seen.fleet).inc()
        for flag in seen.flags:
            self._flags.labels(seen.fleet, flag.value).inc()
        self._observed.labels(seen.fleet).set(seen.time.timestamp())
        _set(self._age.labels(seen.fleet), seen.age_seconds)
        _set(self._coverage.labels(seen.fleet), seen.coverage)
        _set(self._demand.labels(seen.fleet), seen.demand_per_second)
        _set(self._backlog.labels(seen.fleet), seen.backlog)
        _set(self._attained.labels(seen.fleet, "ttft"), seen.ttft_attained_share)
        _set(self._attained.labels(seen.fleet, "itl"), seen.itl_attained_share)
        _set(self._work.labels(seen.fleet, "on_time"), seen.served_per_second)
        _set(self._work.labels(seen.fleet, "late"), seen.late_per_second)
        _set(self._work.labels(seen.fleet, "spilled"), seen.spilled_per_second)

    def _decided_now(self, decision: Decision) -> None:
        fleet = decision.fleet
        self._decisions.labels(fleet, decision.cause[:32]).inc()
        for reason in decision.reasons:
            self._reasons.labels(fleet, reason.value).inc()
        self._decided.labels(fleet).set(decision.time.timestamp())
        self._expires.labels(fleet).set(decision.expires.timestamp())
        for offer, target in decision.targets.items():
            tier = decision.tiers.get(offer)
            self._targets.labels(fleet, offer, tier.value if tier is not None else "").set(target)
        for quantile in QUANTILES:
            _set(self._forecast.labels(fleet, quantile), decision.demand_quantiles.get(quantile))
        self._spill.labels(fleet).set(decision.spill_per_second)
        _set(self._usd.labels(fleet), decision.usd_per_hour)

    def took(self, sender: str, taken: Taken) -> None:
        """Count what became of the alerts of one webhook."""
        for outcome in ("accepted", "duplicates", "recorded", "truncated"):
            self._taken.labels(sender, outcome).inc(getattr(taken, outcome))

    @contextmanager
    def request(self, route: str) -> Iterator[Outcome]:
        """Time a request, and count it by the status that it is given."""
        started, outcome = time.perf_counter(), Outcome(500)
        try:
            yield outcome
        finally:
            self._seconds.labels(route).observe(time.perf_counter() - started)
            self._requests.labels(route, str(outcome.status)).inc()

    def text(self) -> bytes:
        """Return all metrics in the text format."""
        return generate_latest(self.registry)


def _set(gauge: Gauge, value: float | None) -> None:
    # What is not known is NaN, which no alert rule takes for zero.
    gauge.set(float("nan") if value is None else value)


class _Works(Collector):
    """The services in this process, read when they are asked for."""

    def __init__(self, works: Callable[[], tuple[WorkFigures, ...]]) -> None:
        self._works = works

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Yield one family for each figure."""
        labels = ["service", "fleet"]
        active = GaugeMetricFamily("tidegate_service_active", "Whether this process holds the lease.", labels=labels)
        folded = CounterMetricFamily("tidegate_fold_messages", "Inputs folded.", labels=labels)
        aside = CounterMetricFamily("tidegate_fold_set_aside", "Inputs that could not be folded.", labels=labels)
        lag = GaugeMetricFamily("tidegate_fold_lag_messages", "Inputs in the stream that are not folded yet.", labels=labels)
        for work in self._works():
            names = [work.service, work.fleet]
            active.add_metric(names, float(work.is_active))
            for family, value in ((folded, work.folded), (aside, work.set_aside), (lag, work.lag)):
                if value is not None:
                    family.add_metric(names, float(value))
        yield from (active, folded, aside, lag)
