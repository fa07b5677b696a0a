"""One fleet's signals out of a Prometheus: presets by raw samples, the policy's own queries, latencies, GPUs and the gateway.

Owns one read: which queries go out together, and how their answers become Observations. A server that was away for less than ten minutes
is caught up with, interval by interval. `replicas` folds, `work` composes, `promql` writes queries, `backfill` reads history.
"""

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Hashable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import structlog

from controlplane.collectors import backfill, dcgm, promql
from controlplane.collectors.api import Reading, SourceError
from controlplane.collectors.gateway import Diverted, Gateway, GatewayCounts, gateway_of
from controlplane.collectors.histograms import NOT_TIMED, Latency, latency_of
from controlplane.collectors.presets import PRESETS, Preset, Signal
from controlplane.collectors.prometheus_api import Labels, PrometheusApi, Series
from controlplane.collectors.replicas import Replica, Replicas, Sample
from controlplane.collectors.roles import Roles, bound_of
from controlplane.collectors.work import Composer, Gpus, as_history
from controlplane.contracts.events import Observation
from controlplane.contracts.fleet import Fleet

FIRST_WINDOW_SECONDS = 60.0
LONGEST_WINDOW_SECONDS = 600.0
LATENCY_WINDOW_SECONDS = 60.0
OFFSETS_KEPT = 5
OFFSET_NOTICED_SECONDS = 2.0

log = structlog.get_logger(__name__)


NOTHING_KNOWN = Gpus()


@dataclass(frozen=True, slots=True)
class _Heard:
    """The answers of one read."""

    samples: tuple[Series, ...] = ()
    gateway: tuple[Series, ...] = ()
    expected: frozenset[Replica] | None = None
    ttft: Latency = NOT_TIMED
    itl: Latency = NOT_TIMED
    gpus: Gpus = NOTHING_KNOWN
    own: tuple[tuple[str, float | None], ...] = ()


class PrometheusSource:
    """Reads one fleet. `api` is where it asks; the fleet's `demand_source` says what."""

    def __init__(self, fleet: Fleet, api: PrometheusApi | None = None) -> None:
        options: dict[str, Any] = dict(fleet.demand_source)
        self.options = options
        self.api = api or PrometheusApi(options)
        self.preset: Preset | None = PRESETS.get(str(options.get("preset") or ""))
        self.gateway: Gateway | None = gateway_of(fleet)
        self.queries: dict[str, str] = dict(options.get("queries") or {})
        self.labels: dict[str, str] = dict(options.get("match_labels") or {})
        self.name = f"prometheus:{self.preset.name}" if self.preset else "prometheus"
        self.fleet = fleet
        self.clock_offset_seconds = 0.0
        self._interval_seconds = float(options["interval_seconds"])
        self.composer = Composer(fleet, self.name, has_gateway=self.gateway is not None)
        self._replicas = Replicas(fleet.slo)
        self._roles = Roles(self.preset, self.labels) if self.preset else None
        self._gateway_counts = GatewayCounts(self.gateway) if self.gateway else None
        self._offsets: deque[float] = deque(maxlen=OFFSETS_KEPT)
        self._closed_unix: float | None = None
        self._noticed_offset = False
        self._warned: set[str] = set()

    async def read(self, now_unix: float) -> Sequence[Observation]:
        """Return what came in since the last read, with what was missed in between, oldest first."""
        if self._closed_unix is not None and now_unix <= self._closed_unix:
            # The clock was set back: begin anew from here.
            self._closed_unix = now_unix
            return []
        heard = await self._ask(now_unix)
        offset = self.clock_offset_seconds
        ends = self._ends(now_unix)
        samples, diverted_samples = _by_scrape(heard.samples), _by_scrape(heard.gateway)
        made: list[Observation] = []
        for end, start in zip(ends, [self._closed_unix, *ends], strict=False):
            interval = max(end - start if start is not None else self._interval_seconds, 1e-3)
            self._fold(samples, diverted_samples, end + offset)
            is_last = end == ends[-1]
            reading = self._reading(end + offset, interval, heard if is_last else _Heard())
            diverted = self._gateway_counts.close(end + offset) if self._gateway_counts else None
            made.append(self._observation(replace(reading, time_unix=end), diverted, heard if is_last else None))
            self._closed_unix = end
        return [*map(as_history, made[:-1]), made[-1]]

    def history(self, start_unix: float, end_unix: float) -> AsyncIterator[tuple[float, Sequence[Observation]]]:
        """Yield (share done, observations) of the past."""
        return backfill.history_of(self, start_unix, end_unix)

    async def close(self) -> None:
        """Let connections go."""
        await self.api.close()

    def _ends(self, now_unix: float) -> list[float]:
        """Return the ends of the intervals since the last read; a gap longer than raw samples are asked for is one interval."""
        if self._closed_unix is None or now_unix - self._closed_unix > LONGEST_WINDOW_SECONDS or "demand" in self.queries:
            return [now_unix]
        missed = max(math.ceil((now_unix - self._closed_unix) / self._interval_seconds - 0.5) - 1, 0)
        return [*(self._closed_unix + (index + 1) * self._interval_seconds for index in range(missed)), now_unix]

    async def _ask(self, now_unix: float) -> _Heard:
        """Ask everything at once. Samples must come; what else fails is unknown this time."""
        # The clock goes first: a server that does not answer it is not asked anything else.
        await self._notice_clock()
        window = self._window(now_unix)
        needed = asyncio.gather(self._samples(window), self._own())
        slo = self.fleet.slo
        latencies = asyncio.gather(
            _unless_it_fails(self._latency(Signal.TTFT, slo.ttft_seconds), NOT_TIMED),
            _unless_it_fails(self._latency(Signal.ITL, slo.itl_seconds), NOT_TIMED),
        )
        gateway, expected, gpus = await asyncio.gather(
            _unless_it_fails(self._gateway_samples(window), []),
            _unless_it_fails(self._expected(), None),
            _unless_it_fails(self._gpus(), Gpus()),
        )
        (samples, own), (ttft, itl) = await needed, await latencies
        return _Heard(tuple(samples), tuple(gateway), expected, ttft, itl, gpus, tuple(own.items()))

    def _window(self, now_unix: float) -> float:
        step = self._replicas.step_seconds or 0.0
        if self._closed_unix is None:
            return max(FIRST_WINDOW_SECONDS, 4.0 * self._interval_seconds)
        return min(max(now_unix - self._closed_unix, self._interval_seconds) + 4.0 * max(step, 1.0), LONGEST_WINDOW_SECONDS)

    async def _notice_clock(self) -> None:
        self._offsets.append(await self.api.clock_offset())
        self.clock_offset_seconds = median(self._offsets)
        noticed = abs(self.clock_offset_seconds) > OFFSET_NOTICED_SECONDS
        if noticed and not self._noticed_offset:
            log.warning(
                "the clocks of Prometheus and of this machine differ",
                fleet=self.fleet.name,
                ahead_seconds=round(self.clock_offset_seconds, 3),
            )
        self._noticed_offset = noticed

    async def _samples(self, window: float) -> list[Series]:
        if self.preset is None:
            return []
        return await self.api.instant(promql.raw(promql.live_names(self.preset), self.labels, window))

    async def _gateway_samples(self, window: float) -> list[Series]:
        return await self.api.instant(promql.raw(self.gateway.preset.names, {}, window)) if self.gateway else []

    async def _expected(self) -> frozenset[Replica] | None:
        """Return the scrape targets; None where the server has no `up`, as behind a remote write."""
        if self.preset is None:
            return None
        targets = await self.api.instant(promql.expected(self.preset, self.labels))
        return frozenset(replica_of(series.labels) for series in targets) or None

    async def _latency(self, signal: Signal, bound_seconds: float | None) -> Latency:
        if self.preset is None or signal.value in self.queries:
            return NOT_TIMED
        window = max(LATENCY_WINDOW_SECONDS, 2.0 * self._interval_seconds)
        buckets = await self.api.instant(promql.buckets(self.preset, signal, self.labels, window))
        counts = {bound: series.points[-1][1] for series in buckets if series.points and (bound := bound_of(series.labels)) is not None}
        return latency_of(counts, bound_seconds) if all(0.0 <= count < math.inf for count in counts.values()) else NOT_TIMED

    async def _gpus(self) -> Gpus:
        if "gpus" not in self.options:
            return Gpus()
        used, memory = dcgm.queries(dict(self.options["gpus"].get("match_labels") or {}))
        busy, full = await asyncio.gather(self.api.instant(used), self.api.instant(memory))
        return Gpus(dcgm.share(self._one(busy, "gpus")), dcgm.share(self._one(full, "gpu memory")))

    async def _own(self) -> dict[str, float | None]:
        answers = await asyncio.gather(*(self.api.instant(query) for query in self.queries.values()))
        return {name: self._one(answer, name) for name, answer in zip(self.queries, answers, strict=True)}

    def _one(self, answer: list[Series], what: str) -> float | None:
        """Return the one number of an answer. An empty answer, NaN, a negative or several numbers are unknown, never zero."""
        if len(answer) > 1 and what not in self._warned:
            self._warned.add(what)
            log.warning("a query must give one number and gives several series: sum them", fleet=self.fleet.name, signal=what)
        if len(answer) != 1 or not answer[0].points:
            return None
        value = answer[0].points[-1][1]
        return value if 0.0 <= value < math.inf else None

    def _fold(self, samples: "_Scrapes", gateway: "_Scrapes", until_unix: float) -> None:
        """Fold the scrapes up to a time, by the server's clock."""
        while samples and samples[0][0] <= until_unix:
            at, replica, values = samples.popleft()
            if self._roles is not None:
                self._replicas.take(replica, at, _played(values, self._roles))
        while gateway and gateway[0][0] <= until_unix:
            at, instance, values = gateway.popleft()
            if self._gateway_counts is not None and self.gateway is not None:
                part = self.gateway.part
                parts = [(key, found, value) for key, labels, value in values if (found := part(labels["__name__"], labels))]
                self._gateway_counts.take(instance, at, parts)

    def _reading(self, end_unix: float, interval: float, heard: _Heard) -> Reading:
        if self.preset is None:
            return Reading(end_unix, interval)
        reading = self._replicas.close(end_unix, interval, heard.expected)
        return replace(reading, ttft=heard.ttft, itl=heard.itl)

    def _observation(self, reading: Reading, diverted: Diverted | None, heard: _Heard | None) -> Observation:
        own = dict(heard.own) if heard is not None else {}
        gpus = heard.gpus if heard is not None else None
        return self.composer.compose(reading, diverted, gpus, own, round(self.clock_offset_seconds, 6))


_Scrapes = deque[tuple[float, Replica, list[tuple[Hashable, Labels, float]]]]


def replica_of(labels: Labels) -> Replica:
    """Return who a series belongs to: its scrape target; where there is none, whatever names a place."""
    target = (labels.get("job"), labels.get("instance"))
    return target if any(target) else tuple(labels.get(name) for name in promql.TARGET_LABELS)


def _by_scrape(answer: Sequence[Series]) -> _Scrapes:
    """Return the samples of each scrape together, in the order of their times: what one scrape brought has one timestamp."""
    scrapes: dict[tuple[float, Replica], list[tuple[Hashable, Labels, float]]] = {}
    for series in answer:
        replica, key = replica_of(series.labels), tuple(sorted(series.labels.items()))
        for at, value in series.points:
            scrapes.setdefault((at, replica), []).append((key, series.labels, value))
    ordered = sorted(scrapes.items(), key=lambda entry: entry[0][0])
    return deque((at, replica, values) for (at, replica), values in ordered)


def _played(values: list[tuple[Hashable, Labels, float]], roles: Roles) -> list[Sample]:
    return [(key, role, value) for key, labels, value in values for role in roles.of(labels["__name__"], labels)]


async def _unless_it_fails[T](answer: Awaitable[T], otherwise: T) -> T:
    """Return an answer that is not vital, or what stands for not knowing it."""
    try:
        return await answer
    except SourceError as error:
        log.debug("a query failed", reason=str(error))
        return otherwise
