"""Traces: one of them leads from the webhook to the purchase, across processes and NATS; a collector that is away costs nothing."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from controlplane.sim.cloud_process import end_running_cloud
from tests.e2e.programs import Program, eventually
from tests.e2e.trace_collector import Received, trace_collector

POLICY = """\
apiVersion: tidegate.dev/v1alpha1
kind: Fleet
metadata: {name: alerted}
spec:
  serving: {model: test/model, engine: other, slo: {ttft: 2s, attainment: 0.99}}
  demand: {unit: requests, nats: {}}
  floor:
    - {name: owned, accelerator: {type: H200}, capacityPerSecond: 2.0, replicas: {min: 1, max: 2}, usdPerReplicaHour: 5, simulated: {}}
  burst:
    - {name: rented, accelerator: {type: H200}, capacityPerSecond: 2.0, replicas: {max: 9}, usdPerReplicaHour: 10, simulated: {}}
  guard: {mode: act}
"""
SENT_TRACE, SENT_SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where tidegate keeps its data; a cloud that it had to leave behind is ended."""
    yield tmp_path / "run"
    end_running_cloud(tmp_path / "run" / "cloud" / "cloud.json")


def alert() -> dict[str, object]:
    labels = {"alertname": "Burning", "tidegate_fleet": "alerted", "tidegate_action": "lift", "tidegate_lift_replicas": "2"}
    one = {"status": "firing", "labels": labels, "annotations": {}, "startsAt": datetime.now(UTC).isoformat(), "fingerprint": "f"}
    return {"version": "4", "groupKey": "g", "status": "firing", "alerts": [one]}


def told(program: Program, key: str) -> str:
    lines = [json.loads(line) for line in program.log.read_text().splitlines() if "tidegate is up" in line]
    return str(lines[0][key])


async def pools_are_known(client: httpx.AsyncClient) -> None:
    """Wait until the actuators have told of every offer: before that, the planner leaves an offer as it is."""
    for _ in range(600):
        offers = (await client.get("/api/fleets")).json()["fleets"][0]["offers"]
        if all(offer["ready"] is not None for offer in offers):
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the pools were not told of within 30 s")


def ancestors(spans: list[Received], name: str) -> list[str]:
    """Return the names of a span and of those that it came of, from the first on."""
    by_id = {span.span: span for span in spans}
    span: Received | None = next(span for span in spans if span.name == name)
    names = []
    while span is not None:
        names.append(span.name)
        span = by_id.get(span.parent)
    return names[::-1]


async def test_one_trace_leads_from_the_webhook_to_the_purchase_across_processes(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    with trace_collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=here")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        with Program(tmp_path, "up", str(policy), "--folder", str(folder)) as up:
            await up.up()
            monkeypatch.setenv("OTEL_SERVICE_NAME", "tidegate-web")
            with Program(tmp_path, "run", "web", str(policy), "--nats", told(up, "nats"), "--listen", "127.0.0.1:0") as web:
                await web.up()
                headers = {"traceparent": f"00-{SENT_TRACE}-{SENT_SPAN}-01"}
                async with httpx.AsyncClient(base_url=told(web, "web"), trust_env=False) as client:
                    await pools_are_known(client)
                    answer = await client.post("/webhooks/alertmanager", json=alert(), headers=headers)
                assert answer.json()["accepted"] == 1
                await eventually(lambda: {"alert", "outcome"} <= {span.name for span in collector.trace_with("alert")}, "the trace")
                assert web.stop() == 0
            assert up.stop() == 0
    spans = collector.trace_with("alert")
    decided = ["alert", "decide", "tidegate.decision.alerted process", "actuate"]
    assert ancestors(spans, "request") == [*decided, "request"]
    assert ancestors(spans, "outcome") == [*decided, "outcome"]
    by_name = {span.name: span for span in spans}
    assert (by_name["alert"].trace, by_name["alert"].parent) == (SENT_TRACE, SENT_SPAN)
    assert by_name["outcome"].attributes["tidegate.outcome"] == "applied"
    assert by_name["alert"].resource["service.name"] == "tidegate-web"
    assert by_name["decide"].resource["service.name"] == "tidegate"
    assert by_name["decide"].resource["service.instance.id"] == "here"


async def test_a_collector_that_is_away_holds_up_neither_a_decision_nor_the_end(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    with Program(tmp_path, "up", str(policy), "--folder", str(folder), "--listen", "127.0.0.1:0") as up:
        await up.up()
        async with httpx.AsyncClient(base_url=told(up, "web"), trust_env=False) as client:
            await pools_are_known(client)
            assert (await client.post("/webhooks/alertmanager", json=alert())).json()["accepted"] == 1
        await eventually(lambda: up.says('"outcome": "applied"'), "the purchase")
        assert up.stop() == 0
