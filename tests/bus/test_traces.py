"""A trace goes on through the ordered folds: what was observed, forecast and decided share one id, and history makes no span twice."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from nats.aio.client import Client
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from controlplane import tracing
from controlplane.bus.publish import Publisher
from controlplane.clocks import SystemClock
from controlplane.contracts.events import Observation
from controlplane.contracts.fleet import Fleet, Slo, Unit
from controlplane.contracts.subjects import DECISION, FORECAST, INPUTS_STREAM, OUTPUTS_STREAM
from controlplane.contracts.units import from_unix
from controlplane.services.forecaster import forecaster_of
from controlplane.services.planner import Planner
from tests.bus.conftest import Eventually
from tests.contract.actuator_rigs import offer_with

FLEET = "r1"


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """Every span that ends."""
    kept, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    with tracing.using(provider):
        yield kept


def named(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.name == name]


def trace_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.trace_id


async def observe(client: Client, demand_per_second: float) -> None:
    """Publish an observation as a collector does."""
    seen = Observation(time=from_unix(time.time()), fleet=FLEET, interval_seconds=1.0, demand_per_second=demand_per_second)
    with tracing.span("observe", fleet=FLEET):
        await Publisher(client, "tidegate/test").publish(seen)


@asynccontextmanager
async def planned(client: Client) -> AsyncIterator[None]:
    """Forecast and plan one fleet for as long as the block lasts."""
    fleet = Fleet(FLEET, Slo(0.99), Unit.REQUESTS, (offer_with(),))
    forecaster, planner = forecaster_of(client, fleet, SystemClock()), Planner(client, fleet, SystemClock())
    works = (forecaster, planner)
    tasks = [asyncio.create_task(work.run()) for work in works]
    try:
        for fold in (forecaster, planner.fold):
            await fold.caught_up.wait()
        yield
    finally:
        for work in works:
            work.stop()
        await asyncio.gather(*tasks)


async def test_an_observation_its_forecast_and_the_decision_are_one_trace(
    client: Client, spans: InMemorySpanExporter, eventually: Eventually
) -> None:
    async with planned(client):
        await observe(client, 5.0)
        await eventually(lambda: any(span.parent is not None for span in named(spans, "decide")))
    observed, forecast = named(spans, "observe")[0], named(spans, "forecast")[0]
    decided = next(span for span in named(spans, "decide") if span.parent is not None)
    assert trace_of(observed) == trace_of(forecast) == trace_of(decided)
    assert (forecast.attributes or {})["tidegate.input"] == "observation"
    assert (decided.attributes or {})["tidegate.input"] == "tick"
    js = client.jetstream()
    said = [await js.get_last_msg(stream, subject.format(fleet=FLEET)) for stream, subject in SAID]
    assert [f"{trace_of(observed):032x}" in (message.headers or {})["traceparent"] for message in said] == [True, True]


SAID = ((INPUTS_STREAM, FORECAST), (OUTPUTS_STREAM, DECISION))


async def test_history_folded_again_after_a_restart_makes_no_span_again(
    client: Client, spans: InMemorySpanExporter, eventually: Eventually
) -> None:
    fleet = Fleet(FLEET, Slo(0.99), Unit.REQUESTS, (offer_with(),))
    await observe(client, 5.0)
    for times in (1, 2):
        fold = forecaster_of(client, fleet, SystemClock())
        task = asyncio.create_task(fold.run())
        await eventually(fold.caught_up.is_set)
        if times == 1:
            await asyncio.sleep(1.0)
            await observe(client, 6.0)
            await eventually(lambda fold=fold: fold.counts.published == 2)
        # Cut off as by a crash: there is no snapshot to go on from.
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert fold.counts.folded == 2
    assert len(named(spans, "forecast")) == 1


async def test_while_tracing_is_off_no_message_carries_a_trace(client: Client) -> None:
    await observe(client, 5.0)
    message = await client.jetstream().get_last_msg(INPUTS_STREAM, f"tidegate.observation.{FLEET}")
    assert "traceparent" not in (message.headers or {})
