"""Every preset against a real Prometheus and engines whose truth is known: right to 1 % through a restart, replicas that come and go,
a replica that does not answer, and a Prometheus that is killed and comes back.

All fleets live through one story together, a second standing for a minute; each test looks at one fleet.
"""

import asyncio
import math
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from controlplane.collectors.api import SourceError
from controlplane.collectors.prometheus import PrometheusSource
from controlplane.contracts.events import Flag, Observation
from controlplane.contracts.fleet import Fleet, Slo, Unit
from tests.integration.prometheus_process import PrometheusProcess
from tests.integration.replay_exporter import (
    ENGINES,
    INPUT_TOKENS,
    ITL_ATTAINED,
    ITL_P95,
    ITL_SLO,
    KV_SHARE,
    LATENCY_SECONDS,
    OUTPUT_TOKENS,
    RUNNING_AT_MOST,
    TTFT_ATTAINED,
    TTFT_P95,
    TTFT_SLO,
    Exporter,
    Replica,
    swinging,
)

pytestmark = pytest.mark.needs("prometheus")

INTERVAL_SECONDS = 1.0
SECONDS = 23
STEADY_PER_SECOND = 200.0


@dataclass
class Story:
    """What was read of each fleet, and the arrivals that were true."""

    read: dict[str, list[Observation]] = field(default_factory=dict)
    offered: dict[str, float] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)


def fleet_of(name: str, preset: str, url: str, unit: Unit = Unit.REQUESTS) -> Fleet:
    source = {
        "kind": "prometheus",
        "url": url,
        "preset": preset,
        "match_labels": {"model_name": name},
        "interval_seconds": INTERVAL_SECONDS,
        "timeout_seconds": 2.0,
        "input_tokens": 1.0,
        "output_tokens": 1.0,
        "input_token_weight": 0.1,
    }
    return Fleet(name=name, slo=Slo(0.99, TTFT_SLO, ITL_SLO), unit=unit, offers=(), demand_source=source)


def replicas_of(name: str, started: float) -> dict[str, Replica]:
    """Return three replicas of an eventful fleet, whose demand swings by 15 %, or two of a steady one."""
    engine = name.removesuffix("-steady")
    names = ENGINES[engine][1]
    if name.endswith("-steady"):
        return {f"{name}-{index}": Replica(names, name, *swinging(STEADY_PER_SECOND, 0.0, 1.0), started) for index in range(2)}
    found = {f"{name}-{index}": Replica(names, name, *swinging(180.0 + 20.0 * index, 0.15, 20.0), started) for index in range(3)}
    # Prometheus needs up to five seconds to see a new target, so that of a fourth replica is there before the replica is.
    return {**found, f"{name}-3": Replica(names, name, *swinging(220.0, 0.15, 20.0), math.inf, is_cut_off=True)}


class Stage:
    """The fleets, their engines and the Prometheus between them."""

    def __init__(self, exporter: Exporter, prometheus: PrometheusProcess) -> None:
        self.exporter, self.prometheus = exporter, prometheus
        self.fleets = [*ENGINES, *(f"{name}-steady" for name in ENGINES)]
        self.gone: list[str] = []
        for name in self.fleets:
            exporter.replicas |= replicas_of(name, time.time())
        self.show_targets()

    def show_targets(self) -> None:
        paths = {name: f"/{name}/metrics" for name in self.exporter.replicas if name not in self.gone}
        self.prometheus.target(self.exporter.address, paths)

    def happen(self, second: int) -> None:
        """Let the world do what it does at this second."""
        now, replicas = time.time(), self.exporter.replicas
        for name in ENGINES:
            if second == 3:
                replicas[f"{name}-1"].restart(now)
            elif second == 5:
                replicas[f"{name}-2"].drained_unix = now
                replicas[f"{name}-3"].started_unix, replicas[f"{name}-3"].is_cut_off = now, False
            elif second == 6:
                self.gone.append(f"{name}-2")
            elif second in (8, 10):
                replicas[f"{name}-0"].is_cut_off = second == 8
        if second == 6:
            self.show_targets()
        elif second == 11:
            self.prometheus.stop(signal.SIGKILL)
        elif second == 12:
            self.prometheus.start()


async def live_through(stage: Stage, story: Story) -> None:
    url = stage.prometheus.url
    units = {"vllm-steady": Unit.OUTPUT_TOKENS, "sglang-steady": Unit.WEIGHTED_TOKENS}
    fleets = [fleet_of(name, ENGINES[name.removesuffix("-steady")][0], url, units.get(name, Unit.REQUESTS)) for name in stage.fleets]
    sources = {fleet.name: PrometheusSource(fleet) for fleet in fleets}
    waiting = sources["vllm"].api
    for _ in range(100):
        answer = await waiting.instant("count(up == 1)")
        if answer and answer[0].points[0][1] == 5 * len(ENGINES):
            break
        await asyncio.sleep(0.1)
    await asyncio.sleep(1.0)
    begun = dict.fromkeys(sources, 0.0)
    start = time.monotonic()
    for second in range(SECONDS):
        stage.happen(second)
        now = time.time()

        async def read(name: str, now: float = now) -> None:
            try:
                observations = await sources[name].read(now)
            except SourceError:
                story.failed[name] = story.failed.get(name, 0) + 1
                return
            if not begun[name]:
                begun[name] = now
                return
            story.read.setdefault(name, []).extend(observations)
            of_fleet = [replica for replica in stage.exporter.replicas.values() if replica.model == name]
            story.offered[name] = sum(replica.arrived(begun[name], now) for replica in of_fleet)

        await asyncio.gather(*map(read, sources))
        await asyncio.sleep(max(start + (second + 1) * INTERVAL_SECONDS - time.monotonic(), 0.0))
    for source in sources.values():
        await source.close()


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """The story, told once."""
    told = Story()
    with Exporter() as exporter, PrometheusProcess(tmp_path_factory.mktemp("prometheus")) as prometheus:
        asyncio.run(live_through(Stage(exporter, prometheus), told))
    return told


@pytest.mark.parametrize("name", ENGINES)
def test_all_that_was_offered_is_counted_to_one_percent(story: Story, name: str) -> None:
    counted = sum((each.demand_per_second or 0.0) * (each.interval_seconds or 0.0) for each in story.read[name])

    assert counted == pytest.approx(story.offered[name], rel=0.01)


@pytest.mark.parametrize("name", ENGINES)
def test_no_reading_is_zero_or_a_spike(story: Story, name: str) -> None:
    known = [each.demand_per_second for each in story.read[name] if each.demand_per_second is not None]

    assert len(known) >= SECONDS - 10
    assert min(known) > 0.5 * 400.0
    assert max(known) < 1.5 * 800.0


@pytest.mark.parametrize("name", ENGINES)
def test_what_was_doubtful_is_marked(story: Story, name: str) -> None:
    flags = {flag for each in story.read[name] for flag in each.flags}

    assert story.failed[name] >= 1, "while Prometheus was dead"
    assert any(Flag.STALE in each.flags and each.demand_per_second is None for each in story.read[name]), "while it scraped nobody"
    assert {Flag.RESET, Flag.PARTIAL} <= flags
    assert Flag.IMPLAUSIBLE not in flags
    assert any(Flag.HISTORY in each.flags for each in story.read[name]), "what was missed was caught up with"
    assert min(each.coverage for each in story.read[name] if each.coverage is not None) < 1.0


@pytest.mark.parametrize("name", ENGINES)
def test_the_other_signals_are_right_to_one_percent(story: Story, name: str) -> None:
    steady = story.read[f"{name}-steady"]
    before = steady[6]
    in_flight = 2 * STEADY_PER_SECOND * LATENCY_SECONDS
    output = {"vllm": OUTPUT_TOKENS, "sglang": OUTPUT_TOKENS + 0.1 * INPUT_TOKENS}.get(name, 1.0)

    # A scrape that comes 10 ms late makes the rate of one second wrong by a hundredth, and the next one by as much the other way.
    seconds = [each.interval_seconds or 0.0 for each in steady[1:9]]
    demand = sum((each.demand_per_second or 0.0) * span for each, span in zip(steady[1:9], seconds, strict=True)) / sum(seconds)
    assert demand == pytest.approx(2 * STEADY_PER_SECOND * output, rel=0.01)
    assert before.running_requests == pytest.approx(2 * RUNNING_AT_MOST, rel=0.01)
    assert before.backlog == pytest.approx((in_flight - 2 * RUNNING_AT_MOST) * output, rel=0.01, abs=2.0 * output), (
        "whole requests, on two replicas"
    )
    assert before.kv_cache_used_share == pytest.approx(KV_SHARE)
    assert before.ttft_seconds_p95 == pytest.approx(TTFT_P95, rel=0.01)
    assert before.itl_seconds_p95 == pytest.approx(ITL_P95, rel=0.01)
    assert before.ttft_attained_share == pytest.approx(TTFT_ATTAINED, rel=0.01)
    assert before.itl_attained_share == pytest.approx(ITL_ATTAINED, rel=0.01)
    assert before.input_tokens_mean == pytest.approx(INPUT_TOKENS, rel=0.01)
    assert before.output_tokens_mean == pytest.approx(OUTPUT_TOKENS, rel=0.01)
    assert before.startup_seconds == (93.5 if name.startswith("sglang") else None)
    assert before.coverage == 1.0
    assert not before.flags
    assert before.age_seconds is not None
    assert before.age_seconds < 1.0
    assert before.clock_offset_seconds is not None
    assert abs(before.clock_offset_seconds) < 1.0
