"""Back-fill from a real Prometheus that holds more than a day of made-up history, and the collector service that reads it once.

The history is written by promtool out of text with timestamps, so that its truth is known: a counter reset, an outage, a gateway.
"""

import asyncio
import json
import math
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from nats.aio.client import Client

from controlplane.bus.connect import connect
from controlplane.bus.embedded import EmbeddedServer
from controlplane.bus.streams import ensure_streams
from controlplane.clocks import SystemClock
from controlplane.collectors.backfill import chunks_of
from controlplane.collectors.prometheus import PrometheusSource
from controlplane.commands.floor import FloorOptions, size_a_floor
from controlplane.contracts.events import Flag, Observation
from controlplane.contracts.fleet import Fleet, Slo, Unit
from controlplane.contracts.subjects import INPUTS_STREAM
from controlplane.contracts.units import from_unix
from controlplane.forecasting import Forecasting
from controlplane.planning import Planning
from controlplane.services.collecting import SourceCollector, collector_of
from tests.integration.prometheus_process import PrometheusProcess

HOURS = 30
SCRAPE_SECONDS = 15
LEVEL, SWING = 40.0, 0.5
SPILLED_PER_SECOND = 3.0
TOKENS = 250.0
OUTAGE_HOURS = (20.0, 20.0 + 5.0 / 60.0)
RESET_HOUR = 12.0
FLOOR_POLICY = """\
apiVersion: tidegate.dev/v1alpha1
kind: Fleet
metadata: {name: r1}
spec:
  serving: {model: r1, engine: vllm, slo: {ttft: 2s}}
  demand: {unit: requests, prometheus: {url: "ADDRESS", matchLabels: {model_name: r1}, timeout: 10s}}
  floor:
    - {name: own, accelerator: {type: H200}, capacityPerSecond: 2, replicas: {max: 4}}
  burst:
    - {name: rent, accelerator: {type: H200}, capacityPerSecond: 2, replicas: {max: 99}, usdPerReplicaHour: 60, leadTime: 1m, hold: 1m}
"""


def rate(at: float) -> float:
    return LEVEL * (1.0 + SWING * math.sin(2.0 * math.pi * at / 86_400.0))


def offered(since: float, until: float) -> float:
    turn = 2.0 * math.pi / 86_400.0
    return LEVEL * (until - since) - LEVEL * SWING / turn * (math.cos(turn * until) - math.cos(turn * since))


def history_text(start: float, end: float) -> str:
    """Return OpenMetrics text of one vLLM engine and a LiteLLM gateway, with timestamps."""
    target = 'instance="a",job="engines"'
    labels = f'{{{target},model_name="r1"}}'
    columns: dict[str, list[str]] = {}

    def write(name: str, kind: str, series: str, value: float, at: float) -> None:
        columns.setdefault(name, [f"# TYPE {name.removesuffix('_total')} {kind}"]).append(f"{series} {value:.3f} {at:.0f}")

    at, reset = start, start + RESET_HOUR * 3600.0
    while at <= end:
        hour = (at - start) / 3600.0
        if not OUTAGE_HOURS[0] <= hour < OUTAGE_HOURS[1]:
            done = offered(reset if at >= reset else start, at)
            write("vllm:num_requests_running", "gauge", f"vllm:num_requests_running{labels}", rate(at) * 0.5, at)
            write("vllm:num_requests_waiting", "gauge", f"vllm:num_requests_waiting{labels}", 0.0, at)
            write("vllm:request_success_total", "counter", f"vllm:request_success_total{labels}", done, at)
            write("vllm:generation_tokens_total", "counter", f"vllm:generation_tokens_total{labels}", done * TOKENS, at)
            series = f'litellm_deployment_success_responses_total{{{target},requested_model="hosted"}}'
            write("litellm_deployment_success_responses_total", "counter", series, SPILLED_PER_SECOND * (at - start), at)
        at += SCRAPE_SECONDS
    return "\n".join("\n".join(lines) for lines in columns.values()) + "\n# EOF\n"


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PrometheusProcess, float, float]]:
    """A Prometheus with a past, and its span."""
    folder = tmp_path_factory.mktemp("past")
    end = math.floor(time.time() / 300.0) * 300.0
    start = end - HOURS * 3600.0
    (folder / "history.txt").write_text(history_text(start, end))
    command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(folder / "history.txt"), str(folder / "data")]
    subprocess.run(command, check=True, capture_output=True)
    with PrometheusProcess(folder, arguments=["--storage.tsdb.retention.time=90d"]) as prometheus:
        yield prometheus, start, end


def fleet_of(url: str, unit: Unit = Unit.REQUESTS, **more: object) -> Fleet:
    source = {
        "kind": "prometheus",
        "url": url,
        "preset": "vllm",
        "match_labels": {"model_name": "r1"},
        "interval_seconds": 1.0,
        "timeout_seconds": 10.0,
        "backfill_seconds": HOURS * 3600.0 - 600.0,
        "output_tokens": 1000.0,
        **more,
    }
    return Fleet(name="r1", slo=Slo(0.99), unit=unit, offers=(), demand_source=source)


async def read_back(fleet: Fleet, start: float, end: float) -> list[Observation]:
    source = PrometheusSource(fleet)
    try:
        return [each async for _, chunk in source.history(start, end) for each in chunk]
    finally:
        await source.close()


@pytest.mark.needs("prometheus")
async def test_history_is_right_to_one_percent_and_marked(past: tuple[PrometheusProcess, float, float]) -> None:
    prometheus, start, end = past
    found = await read_back(fleet_of(prometheus.url), start + 600.0, end)

    assert len(found) > 1400
    assert all(Flag.HISTORY in each.flags for each in found)
    assert [each.time for each in found] == sorted(each.time for each in found)
    for each in found:
        at, interval = each.time.timestamp(), each.interval_seconds or 0.0
        if abs(at - start - RESET_HOUR * 3600.0) <= 2 * interval or abs(at - start - OUTAGE_HOURS[1] * 3600.0) <= 400.0:
            continue
        assert each.demand_per_second == pytest.approx(offered(at - interval, at) / interval, rel=0.01), each
    total = sum((each.demand_per_second or 0.0) * (each.interval_seconds or 0.0) for each in found)
    assert total == pytest.approx(offered(start + 600.0, end) - offered(*(start + hour * 3600.0 for hour in OUTAGE_HOURS)), rel=0.01)


@pytest.mark.needs("prometheus")
async def test_an_outage_in_the_past_is_missing_never_zero(past: tuple[PrometheusProcess, float, float]) -> None:
    prometheus, start, end = past
    found = await read_back(fleet_of(prometheus.url), start + 600.0, end)
    first, last = (start + hour * 3600.0 for hour in OUTAGE_HOURS)

    inside = [each for each in found if first + 60.0 < each.time.timestamp() <= last]
    assert not inside
    around = [each.demand_per_second or 0.0 for each in found if abs(each.time.timestamp() - first) < 3600.0]
    assert min(around) > 0.95 * min(rate(first - 3600.0), rate(first), rate(last + 3600.0))


@pytest.mark.needs("prometheus")
async def test_units_and_what_was_spilled_are_in_the_history(past: tuple[PrometheusProcess, float, float]) -> None:
    prometheus, _, end = past
    fleet = fleet_of(prometheus.url, Unit.OUTPUT_TOKENS, spilled="litellm", spilled_labels={"requested_model": "hosted"})
    found = await read_back(fleet, end - 7200.0, end)

    assert len(found) == 120
    for each in found:
        at = each.time.timestamp()
        assert each.demand_per_second == pytest.approx((rate(at) + SPILLED_PER_SECOND) * TOKENS, rel=0.01)
        assert each.flags == (Flag.HISTORY,)


@pytest.mark.needs("prometheus")
async def test_a_query_of_the_policy_is_read_back_as_it_stands(past: tuple[PrometheusProcess, float, float]) -> None:
    prometheus, _, end = past
    query = 'sum(rate(vllm:request_success_total{model_name="r1"}[5m])) * 7'
    found = await read_back(fleet_of(prometheus.url, queries={"demand": query}), end - 7200.0, end)

    assert found[-1].demand_per_second == pytest.approx(rate(end) * 7, rel=0.02)


@pytest.mark.needs("prometheus")
def test_a_floor_is_sized_from_what_prometheus_remembers(
    past: tuple[PrometheusProcess, float, float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The history alone, without a trace: it comes to one grid, and an outage in it is no demand of zero."""
    prometheus, start, end = past
    policy = tmp_path / "policy.yaml"
    policy.write_text(FLOOR_POLICY.replace("ADDRESS", prometheus.url))
    assert size_a_floor(FloorOptions(policy, history="40h", terms=("1y=20",), as_json=True)) == 0
    answer = json.loads(capsys.readouterr().out)
    lowest = min(rate(at) for at in range(int(start) + 7200, int(end), 600))
    (choice,) = answer["choices"]
    assert choice["replicas"] >= int(lowest / 2.0), "what is always needed is owned"
    assert answer["layers"][0]["needed"] == 1.0
    assert answer["layers"][-1]["needed"] < 0.5


async def observations(client: Client) -> list[Observation]:
    stream = client.jetstream()
    info = await stream.stream_info(INPUTS_STREAM)
    return [
        Observation.model_validate_json((await stream.get_msg(INPUTS_STREAM, seq + 1)).data or b"") for seq in range(info.state.last_seq)
    ]


async def run_for_a_reading(collector: SourceCollector, client: Client) -> list[Observation]:
    """Run a collector until it has published something live after what was there, and stop it."""
    before = (await client.jetstream().stream_info(INPUTS_STREAM)).state.last_seq
    running = asyncio.ensure_future(collector.run())
    for _ in range(400):
        published = (await observations(client))[before:]
        if any(Flag.HISTORY not in each.flags for each in published):
            break
        await asyncio.sleep(0.05)
    collector.stop()
    await running
    return (await observations(client))[before:]


@pytest.mark.needs("prometheus")
async def test_the_service_reads_history_once_and_later_only_the_gap(past: tuple[PrometheusProcess, float, float], tmp_path: Path) -> None:
    prometheus, _, end = past
    fleet = fleet_of(prometheus.url, backfill_seconds=10_800.0)
    async with EmbeddedServer(tmp_path / "nats") as server:
        client = await connect(server.url)
        await ensure_streams(client.jetstream())
        first = await run_for_a_reading(collector_of(client, fleet, SystemClock()), client)
        known = Observation(fleet="r1", time=from_unix(end - 1800.0), demand_per_second=1.0)
        await client.jetstream().publish("tidegate.observation.r1", known.model_dump_json().encode())
        second = await run_for_a_reading(collector_of(client, fleet, SystemClock()), client)
        await client.close()

    past_ones = [each for each in first if Flag.HISTORY in each.flags]
    assert len(past_ones) >= 150
    assert first.index(past_ones[-1]) == len(past_ones) - 1, "history comes before what is live"
    assert 25 <= len([each for each in second if Flag.HISTORY in each.flags]) <= 31, "only what came after the newest that was known"


def test_history_is_learnt_and_never_decided_on() -> None:
    fleet = fleet_of("http://127.0.0.1:9")
    seen = Observation(fleet="r1", time=from_unix(1e9), demand_per_second=40.0, flags=(Flag.HISTORY,))
    forecasting, planning = Forecasting(fleet), Planning(fleet)

    learnt, forecasts = forecasting.step(forecasting.start(), seen)
    state, decisions = planning.step(planning.start(), seen)

    assert learnt.observed_unix == 1e9
    assert not forecasts
    assert not decisions
    assert state == planning.start()


def test_chunks_cover_the_span_once_coarse_first_and_in_order() -> None:
    chunks = chunks_of(0.0, 14 * 86_400.0)
    points = [
        chunk.start_unix + k * chunk.step_seconds
        for chunk in chunks
        for k in range(round((chunk.end_unix - chunk.start_unix) / chunk.step_seconds) + 1)
    ]

    assert points == sorted(set(points))
    assert len(points) == 13 * 288 + 1440
    assert {chunk.step_seconds for chunk in chunks} == {300.0, 60.0}
    assert chunks_of(0.0, 10.0) == []
