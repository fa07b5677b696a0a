"""History at the start: what a Prometheus remembers of a fleet's demand, read by range queries, oldest first, a chunk at a time.

Owns the resolution (a minute for the last day, five before it), the chunks, and that what the server does not know stays missing.
Every observation is marked as history: forecasters learn it, nobody decides on it. What is already on the stream is not asked for again.
"""

import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from controlplane.collectors import promql
from controlplane.collectors.presets import Signal
from controlplane.contracts.events import Flag, Observation
from controlplane.contracts.fleet import Unit
from controlplane.contracts.units import from_unix

if TYPE_CHECKING:
    from controlplane.collectors.prometheus import PrometheusSource

FINE_STEP_SECONDS = 60.0
COARSE_STEP_SECONDS = 300.0
FINE_SPAN_SECONDS = 86_400.0
POINTS_PER_CHUNK = 1440
SCRAPES_PER_STEP = 4.0

Values = Mapping[float, float]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of history at one resolution: points at `start_unix`, + step, … up to `end_unix`."""

    start_unix: float
    end_unix: float
    step_seconds: float
    scrape_seconds: float


def chunks_of(start_unix: float, end_unix: float, scrape_seconds: float = 15.0) -> list[Chunk]:
    """Return the chunks of a span, oldest first; a step holds at least four scrapes."""
    fine = max(FINE_STEP_SECONDS, SCRAPES_PER_STEP * scrape_seconds)
    coarse = max(COARSE_STEP_SECONDS, fine)
    border = max(end_unix - FINE_SPAN_SECONDS, start_unix)
    chunks = []
    for first, last, step in ((start_unix, border, coarse), (border, end_unix, fine)):
        at = first + step
        while at <= last:
            end = min(at + (POINTS_PER_CHUNK - 1) * step, last)
            chunks.append(Chunk(at, end, step, scrape_seconds))
            at = end - (end - at) % step + step
    return chunks


async def history_of(source: "PrometheusSource", start_unix: float, end_unix: float) -> AsyncIterator[tuple[float, Sequence[Observation]]]:
    """Yield (share done, observations) of a span, by our clock."""
    scrape = FINE_STEP_SECONDS / SCRAPES_PER_STEP
    if source.preset is not None:
        found = await source.api.instant(promql.scrape_seconds(source.preset, source.labels))
        scrape = found[0].points[0][1] if found else scrape
    chunks = chunks_of(start_unix, end_unix, scrape)
    for index, chunk in enumerate(chunks):
        yield (index + 1) / len(chunks), await _observations(source, chunk)


async def _observations(source: "PrometheusSource", chunk: Chunk) -> list[Observation]:
    demand, is_partial = await _demand(source, chunk)
    flags = (Flag.HISTORY, Flag.PARTIAL) if is_partial else (Flag.HISTORY,)
    offset = source.clock_offset_seconds
    return [
        Observation(
            fleet=source.fleet.name,
            time=from_unix(at - offset),
            interval_seconds=chunk.step_seconds,
            demand_per_second=value,
            flags=flags,
            source=f"{source.name}:history",
        )
        for at, value in sorted(demand.items())
        if 0.0 <= value < float("inf")
    ]


async def _demand(source: "PrometheusSource", chunk: Chunk) -> tuple[Values, bool]:
    """Return demand by time in the fleet's unit, and whether a part of it (what a gateway diverted) is not known."""
    if "demand" in source.queries:
        return await _values(source, source.queries["demand"], chunk), False
    if source.preset is None:
        return {}, False
    requests = await _values(source, promql.offered_history(source.preset, source.labels, chunk.step_seconds, chunk.scrape_seconds), chunk)
    work = await _work_per_request(source, chunk)
    if "spilled" in source.queries:
        own = await _values(source, source.queries["spilled"], chunk)
        return {at: rate * _at(work, at, source.composer.work_per_request) + own.get(at, 0.0) for at, rate in requests.items()}, not own
    diverted = await _diverted(source, chunk)
    offered = {at: (rate + diverted.get(at, 0.0)) * _at(work, at, source.composer.work_per_request) for at, rate in requests.items()}
    return offered, source.gateway is not None and not diverted


async def _diverted(source: "PrometheusSource", chunk: Chunk) -> Values:
    """Return requests per second that the gateway spilled or shed, by time."""
    gateway = source.gateway
    if gateway is None:
        return {}
    preset = gateway.preset
    queries = [promql.counted_history(preset.spilled, gateway.spilled_labels.items(), chunk.step_seconds)]
    if gateway.shed_labels:
        one_of = [[(name, value) for value in sorted(values)] for name, values in preset.shed_where.items()]
        picked = [(*gateway.shed_labels.items(), *where) for where in itertools.product(*one_of)]
        queries += [promql.counted_history(preset.shed, labels, chunk.step_seconds) for labels in picked]
    total: dict[float, float] = {}
    for query in queries:
        for at, rate in (await _values(source, query, chunk)).items():
            total[at] = total.get(at, 0.0) + rate
    return total


async def _work_per_request(source: "PrometheusSource", chunk: Chunk) -> Values:
    """Return units of work per request by time, as far as it was measured; nothing for requests, which are 1."""
    assert source.preset is not None
    if source.fleet.unit is Unit.REQUESTS:
        return {}
    query = promql.tokens_per_request
    outputs = await _values(source, query(source.preset, Signal.OUTPUT_TOKENS, source.labels, chunk.step_seconds), chunk)
    if source.fleet.unit is Unit.OUTPUT_TOKENS:
        return outputs
    weight = float(source.options.get("input_token_weight") or 0.0)
    inputs = await _values(source, query(source.preset, Signal.INPUT_TOKENS, source.labels, chunk.step_seconds), chunk)
    return {at: value + weight * inputs[at] for at, value in outputs.items() if at in inputs}


async def _values(source: "PrometheusSource", query: str, chunk: Chunk) -> dict[float, float]:
    answer = await source.api.range(query, chunk.start_unix, chunk.end_unix, chunk.step_seconds)
    return dict(answer[0].points) if len(answer) == 1 else {}


def _at(values: Values, at: float, otherwise: float) -> float:
    return values.get(at, otherwise)
