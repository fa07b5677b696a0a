"""Engines read without a Prometheus: right to 1 %, and to 1.5 % through a restart, replicas that come and go and one that does not answer.

The engines are real HTTP servers whose truth is known. Where they are found is in `test_engine_targets`.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from controlplane.collectors.api import SourceError
from controlplane.collectors.gateway import GatewayCounts, gateway_of
from controlplane.collectors.scrape import EngineSource
from controlplane.contracts.events import Flag, Observation
from controlplane.contracts.fleet import Fleet, Slo, Unit
from tests.integration.replay_exporter import (
    ENGINES,
    ITL_ATTAINED,
    ITL_P95,
    ITL_SLO,
    KV_SHARE,
    TTFT_ATTAINED,
    TTFT_P95,
    TTFT_SLO,
    VLLM,
    VLLM_OLD,
    Exporter,
    Replica,
    dcgm_page,
    litellm_page,
    swinging,
)

SCRAPE_SECONDS = 0.2
INTERVAL_SECONDS = 0.5


class MovableTargets:
    """Replicas as a test says."""

    def __init__(self, pages: set[str]) -> None:
        self.pages = pages
        self.is_broken = False

    async def find(self) -> frozenset[str]:
        if self.is_broken:
            raise SourceError("the resolver is away")
        return frozenset(self.pages)

    async def close(self) -> None:
        pass


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    with Exporter() as running:
        yield running


def fleet_of(preset: str, model: str, **more: object) -> Fleet:
    source = {
        "kind": "engines",
        "preset": preset,
        "match_labels": {"model_name": model},
        "interval_seconds": INTERVAL_SECONDS,
        "scrape_interval_seconds": SCRAPE_SECONDS,
        "refresh_seconds": 0.1,
        "timeout_seconds": 5.0,
        **more,
    }
    return Fleet(name="r1", slo=Slo(0.99, TTFT_SLO, ITL_SLO), unit=Unit.REQUESTS, offers=(), demand_source=source)


@asynccontextmanager
async def reading(fleet: Fleet, targets: MovableTargets | None = None) -> AsyncIterator[EngineSource]:
    source = EngineSource(fleet, targets)
    try:
        assert list(await source.read(time.time())) == []
        yield source
    finally:
        await source.close()


async def next_reading(source: EngineSource, seconds: float = INTERVAL_SECONDS) -> Observation:
    await asyncio.sleep(seconds)
    return (await source.read(time.time()))[-1]


async def read_steadily(exporter: Exporter, engine: str) -> tuple[float, Observation]:
    """Return the mean demand over three whole readings of a fleet of 600 per second, and the last of them."""
    targets = [f"http://{exporter.address}/{name}" for name in exporter.replicas if name.startswith(f"{engine}/")]
    async with reading(fleet_of(ENGINES[engine][0], engine, targets=targets)) as source:
        await next_reading(source, 1.5)
        whole: list[Observation] = []
        for _ in range(15):
            # A machine that is busy with other things may let a page time out: such a reading says so, and is not whole.
            seen = await next_reading(source, 1.0)
            whole = [*whole, seen] if seen.demand_per_second is not None and not seen.flags else []
            if len(whole) == 3:
                break
    counted = sum((each.demand_per_second or 0.0) * (each.interval_seconds or 0.0) for each in whole)
    return counted / sum(each.interval_seconds or 0.0 for each in whole), whole[-1]


async def test_every_preset_is_right_to_one_percent(exporter: Exporter) -> None:
    for engine, (_, names) in ENGINES.items():
        for index in range(3):
            exporter.replicas[f"{engine}/{index}"] = Replica(names, engine, *swinging(200.0, 0.0, 1.0), time.time() - 5.0)
    found = dict(zip(ENGINES, await asyncio.gather(*(read_steadily(exporter, engine) for engine in ENGINES)), strict=True))

    for engine, (demand, seen) in found.items():
        assert demand == pytest.approx(600.0, rel=0.01), engine
        assert seen.running_requests == pytest.approx(180.0, rel=0.01)
        assert seen.backlog == pytest.approx(120.0, abs=6.0), engine
        assert seen.kv_cache_used_share == pytest.approx(KV_SHARE)
        assert seen.ttft_seconds_p95 == pytest.approx(TTFT_P95, rel=0.01)
        assert seen.itl_seconds_p95 == pytest.approx(ITL_P95, rel=0.01)
        assert seen.ttft_attained_share == pytest.approx(TTFT_ATTAINED, rel=0.01)
        assert seen.itl_attained_share == pytest.approx(ITL_ATTAINED, rel=0.01)
        assert seen.output_tokens_mean == pytest.approx(200.0, rel=0.01)
        assert seen.coverage == 1.0
        assert not seen.flags
        assert seen.age_seconds is not None
        assert seen.age_seconds < 1.0, "sub-second freshness"


async def test_restarts_churn_and_silence_are_counted_to_one_and_a_half_percent(exporter: Exporter) -> None:
    start = time.time() - 5.0
    for index, names in enumerate((VLLM, VLLM_OLD, VLLM, VLLM)):
        exporter.replicas[str(index)] = Replica(names, "m", *swinging(150.0 + 25.0 * index, 0.15, 20.0), start)
    exporter.replicas["3"].started_unix, exporter.replicas["3"].is_cut_off = float("inf"), True
    page = {name: f"http://{exporter.address}/{name}/metrics" for name in exporter.replicas}
    targets = MovableTargets({page[name] for name in "012"})
    counted, flags, truth = 0.0, set(), 0.0
    # Ten pages an interval, where the defaults have fifteen: a crash takes along, and a newcomer shows late, what came in a page's time.
    async with reading(fleet_of("vllm", "m", interval_seconds=1.0, scrape_interval_seconds=0.1), targets) as source:
        await next_reading(source, 1.0)
        begun = time.time()
        for step in range(16):
            now = time.time()
            if step == 3:
                exporter.replicas["0"].restart(now)
            elif step == 5:
                exporter.replicas["3"].started_unix, exporter.replicas["3"].is_cut_off = now, False
                targets.pages.add(page["3"])
                exporter.replicas["1"].drained_unix = now
            elif step == 7:
                targets.pages.remove(page["1"])
            elif step in (9, 12):
                exporter.replicas["2"].is_cut_off = step == 9
            seen = await next_reading(source, 1.0)
            assert seen.demand_per_second is not None
            counted += seen.demand_per_second * (seen.interval_seconds or 0.0)
            flags |= set(seen.flags)
            truth = sum(replica.arrived(begun, seen.time.timestamp()) for replica in exporter.replicas.values())

    assert counted == pytest.approx(truth, rel=0.015), "three of sixteen readings miss a replica"
    assert flags == {Flag.RESET, Flag.PARTIAL}


async def test_nothing_heard_is_unknown_and_stale(exporter: Exporter) -> None:
    exporter.replicas["a"] = Replica(VLLM, "m", *swinging(100.0, 0.0, 1.0), time.time() - 5.0)
    async with reading(fleet_of("vllm", "m", targets=[f"http://{exporter.address}/a"])) as source:
        known = await next_reading(source, 1.0)
        exporter.replicas["a"].is_cut_off = True
        for _ in range(4):
            unknown = await next_reading(source)

    assert known.demand_per_second == pytest.approx(100.0, rel=0.05)
    assert unknown.demand_per_second is None
    assert {Flag.STALE, Flag.PARTIAL} <= set(unknown.flags)
    assert unknown.coverage == 0.0


async def test_when_replicas_cannot_be_looked_for_those_known_stay(exporter: Exporter) -> None:
    exporter.replicas["a"] = Replica(VLLM, "m", *swinging(100.0, 0.0, 1.0), time.time() - 5.0)
    targets = MovableTargets({f"http://{exporter.address}/a/metrics"})
    async with reading(fleet_of("vllm", "m"), targets) as source:
        await next_reading(source, 1.0)
        targets.is_broken = True
        seen = await next_reading(source, 1.0)

    assert seen.demand_per_second == pytest.approx(100.0, rel=0.05)


async def test_gateways_and_gpus_are_pages_too(exporter: Exporter) -> None:
    start = time.time() - 5.0
    exporter.replicas["a"] = Replica(VLLM, "m", *swinging(100.0, 0.0, 1.0), start)
    exporter.pages["litellm"] = lambda now: litellm_page(30.0 * (now - start), 10.0 * (now - start), 1.0)
    exporter.pages["dcgm"] = lambda now: dcgm_page(0.6, 60_000.0, 20_000.0)
    fleet = fleet_of(
        "vllm",
        "m",
        targets=[f"http://{exporter.address}/a"],
        gateways=[f"http://{exporter.address}/litellm/metrics"],
        gpus=[f"http://{exporter.address}/dcgm/metrics"],
        spilled="litellm",
        spilled_labels={"requested_model": "hosted"},
        shed_labels={"requested_model": "r1"},
    )
    async with reading(fleet) as source:
        await next_reading(source, 1.0)
        seen = await next_reading(source, 1.0)

    assert seen.spilled_per_second == pytest.approx(30.0, rel=0.02)
    assert seen.demand_per_second == pytest.approx(140.0, rel=0.02)
    assert (seen.gpu_used_share, seen.gpu_memory_used_share) == (pytest.approx(0.6), pytest.approx(0.75))


def test_a_gateway_that_falls_silent_is_unknown_and_not_zero() -> None:
    fleet = fleet_of("vllm", "m", spilled="envoy", spilled_labels={"envoy_cluster_name": "hosted"})
    gateway = gateway_of(fleet)
    assert gateway is not None
    counts = GatewayCounts(gateway)
    counts.take("a", 0.0, [("s", "spilled", 0.0)])
    counts.take("a", 15.0, [("s", "spilled", 30.0)])
    assert counts.close(15.0).spilled_per_second == 2.0
    counts.take("a", 30.0, [("s", "spilled", 15.0)])
    assert counts.close(30.0).spilled_per_second == 1.0, "after a reset it counts from zero"

    silent = counts.close(300.0)
    assert silent.spilled_per_second is None
    assert silent.was_heard
