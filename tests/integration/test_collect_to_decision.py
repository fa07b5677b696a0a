"""From an engine's metrics page, through the services on NATS, to a Decision: nothing in between is a stand-in."""

import asyncio
import time
from pathlib import Path

import pytest

from controlplane.app import Settings, running
from controlplane.bus.watch import newest
from controlplane.config import load_fleets
from controlplane.contracts.events import Decision, Flag, Forecast, Observation
from controlplane.contracts.subjects import DECISION, FORECAST, INPUTS_STREAM, OBSERVATION, OUTPUTS_STREAM
from tests.integration.prometheus_process import PrometheusProcess
from tests.integration.replay_exporter import SGLANG, Exporter, Replica, swinging

POLICY = """\
apiVersion: tidegate.dev/v1alpha1
kind: Fleet
metadata: {{name: r1}}
spec:
  serving:
    model: m
    engine: sglang
    slo: {{ttft: 2s, itl: 50ms, attainment: 0.99}}
  demand:
    unit: requests
    {source}
  floor:
    - name: own
      accelerator: {{type: H200, perReplica: 8}}
      capacityPerSecond: 50
      replicas: {{min: 1, max: 20}}
      usdPerReplicaHour: 10
      leadTime: 1m
  tick: 1s
"""


def policy(folder: Path, source: str) -> Path:
    path = folder / "r1.yaml"
    path.write_text(POLICY.format(source=source))
    return path


async def decided(path: Path, folder: Path) -> tuple[Observation, Decision]:
    """Run everything until a decision was made on a demand that is known."""
    settings = Settings(fleets=load_fleets([path]), folder=folder / "up")
    async with running(settings) as plane:
        for _ in range(400):
            decision = await newest(plane.client, OUTPUTS_STREAM, DECISION.format(fleet="r1"))
            seen = await newest(plane.client, INPUTS_STREAM, OBSERVATION.format(fleet="r1"))
            forecast = await newest(plane.client, INPUTS_STREAM, FORECAST.format(fleet="r1"))
            if (
                isinstance(decision, Decision)
                and decision.demand_per_second
                and isinstance(seen, Observation)
                and isinstance(forecast, Forecast)
            ):
                return seen, decision
            await asyncio.sleep(0.05)
    raise AssertionError("no decision on a known demand within 20 s")


async def test_a_page_becomes_a_decision(tmp_path: Path) -> None:
    with Exporter() as exporter:
        exporter.replicas["a"] = Replica(SGLANG, "m", *swinging(100.0, 0.0, 1.0), time.time() - 5.0)
        source = f'engines: {{targets: ["http://{exporter.address}/a"], scrapeInterval: 200ms, interval: 500ms}}'
        seen, decision = await decided(policy(tmp_path, source), tmp_path)

    assert seen.source == "engines:sglang"
    assert decision.demand_per_second == pytest.approx(100.0, rel=0.25)
    assert decision.targets["own"] >= 1


@pytest.mark.needs("prometheus")
async def test_a_prometheus_becomes_a_decision(tmp_path: Path) -> None:
    with Exporter() as exporter, PrometheusProcess(tmp_path / "prometheus") as prometheus:
        exporter.replicas["a"] = Replica(SGLANG, "m", *swinging(100.0, 0.0, 1.0), time.time() - 5.0)
        prometheus.target(exporter.address, {"a": "/a/metrics"})
        source = f'prometheus: {{url: "{prometheus.url}", matchLabels: {{model_name: m}}, interval: 500ms, backfill: 1h}}'
        seen, decision = await decided(policy(tmp_path, source), tmp_path)

    assert Flag.HISTORY not in seen.flags
    assert decision.demand_per_second == pytest.approx(100.0, rel=0.25)
