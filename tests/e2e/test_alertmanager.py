"""A real Prometheus rule fires, a real Alertmanager posts it, and tidegate buys: signal to replica over everything in between.

The rules and the receiver are those that `deploy/alerting` ships, with the addresses of this test. NATS is taken away once, on purpose.
"""

import asyncio
import contextlib
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
import yaml

from controlplane.app import Plane, Settings, running
from controlplane.bus.embedded import EmbeddedServer
from controlplane.config import load_fleets
from controlplane.web.settings import Limits, Secrets, WebSettings
from tests.e2e.programs import ROOT

ALERTING = ROOT / "deploy" / "alerting"
TOKEN = "the-token-of-this-test-0123456789"
POLICY = """\
apiVersion: tidegate.dev/v1alpha1
kind: Fleet
metadata: {name: r1}
spec:
  serving: {model: test/model, engine: other, slo: {ttft: 2s, attainment: 0.99}}
  demand: {unit: requests, nats: {}}
  floor:
    - {name: owned, accelerator: {type: H200}, capacityPerSecond: 2.0, replicas: {min: 1, max: 2}, usdPerReplicaHour: 5, simulated: {}}
  burst:
    - {name: rented, accelerator: {type: H200}, capacityPerSecond: 2.0, replicas: {max: 20}, usdPerReplicaHour: 10, simulated: {}}
  guard: {mode: act}
  tick: 5s
"""


class Engine:
    """What an engine's /metrics says; `waiting` is set by hand."""

    def __init__(self) -> None:
        self.waiting = 0
        engine = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = f'vllm:num_requests_waiting{{model_name="r1"}} {engine.waiting}\n'.encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> "Engine":
        Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])


@contextlib.contextmanager
def program(log: Path, *command: str) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def read(name: str) -> Any:
    return yaml.safe_load((ALERTING / name).read_text())


@contextlib.contextmanager
def alertmanager(folder: Path, tidegate: str) -> Iterator[str]:
    """Run Alertmanager on the shipped file, made to post to `tidegate`; hands out its address."""
    config = read("alertmanager.yml")
    (folder / "token").write_text(TOKEN)
    webhook = config["receivers"][1]["webhook_configs"][0]
    webhook["url"] = webhook["url"].replace("http://tidegate:8080", tidegate)
    webhook["http_config"]["authorization"]["credentials_file"] = str(folder / "token")
    config["route"]["routes"][0]["group_interval"] = "1s"
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    name = shutil.which("alertmanager") or shutil.which("prometheus-alertmanager") or ""
    options = [f"--config.file={folder / 'alertmanager.yml'}", f"--storage.path={folder / 'am'}", "--cluster.listen-address="]
    with program(folder / "alertmanager.log", name, *options, f"--web.listen-address={address}"):
        yield address


@contextlib.contextmanager
def prometheus(folder: Path, engine: str, manager: str) -> Iterator[str]:
    """Run Prometheus on the shipped rules, quicker, scraping `engine`."""
    rules = read("prometheus-rules.yml")
    rules["groups"][0]["interval"] = "200ms"
    rules["groups"][0]["rules"][0]["for"] = "0s"
    (folder / "rules.yml").write_text(yaml.safe_dump(rules))
    config = {
        "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "200ms"},
        "rule_files": [str(folder / "rules.yml")],
        "scrape_configs": [{"job_name": "engines", "static_configs": [{"targets": [engine]}]}],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [manager]}]}]},
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    options = [f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}", f"--web.listen-address={address}"]
    with program(folder / "prometheus.log", "prometheus", *options):
        yield address


@contextlib.asynccontextmanager
async def tidegate(folder: Path, nats_url: str | None = None, port: int = 0) -> AsyncIterator[Plane]:
    (folder / "policy.yaml").write_text(POLICY)
    web = WebSettings(port=port, secrets=Secrets(token="another-token-0123456789", webhook_token=TOKEN), limits=Limits())
    settings = Settings(load_fleets([folder / "policy.yaml"]), folder / "run", nats_url=nats_url, web=web, cloud_seconds=300.0)
    async with running(settings) as plane:
        yield plane


class Asking:
    """Asks a running tidegate over its own API."""

    def __init__(self, url: str | None) -> None:
        self._client = httpx.AsyncClient(base_url=url or "", headers={"Authorization": "Bearer another-token-0123456789"}, timeout=10.0)

    async def until(self, holds: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Return what is said of the fleet once it is as wanted; waits 45 s at most."""
        said: dict[str, Any] = {}
        for _ in range(450):
            said = (await self._client.get("/api/fleets/r1")).json()
            if holds(said):
                return said
            await asyncio.sleep(0.1)
        raise AssertionError(f"it did not come to that: {said}")

    async def until_counted(self, series: str) -> None:
        """Wait, for 45 s at most, until /metrics has a series."""
        for _ in range(450):
            if series in await self.metrics():
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"{series} did not come")

    async def metrics(self) -> str:
        return (await self._client.get("/metrics")).text

    async def close(self) -> None:
        await self._client.aclose()


def rented(said: dict[str, Any]) -> int:
    return next(offer["pending"] + offer["ready"] for offer in said["offers"] if offer["name"] == "rented" and offer["pending"] is not None)


@pytest.mark.needs("prometheus")
@pytest.mark.needs("alertmanager")
async def test_a_rule_fires_and_replicas_are_bought_then_it_resolves(tmp_path: Path) -> None:
    with Engine() as engine:
        async with tidegate(tmp_path) as plane:
            with alertmanager(tmp_path, plane.web_url or "") as manager, prometheus(tmp_path, engine.address, manager):
                asking = Asking(plane.web_url)
                before = await asking.until(lambda said: said["decision"] and said["offers"][0]["pending"])
                assert before["alerts"] == []
                assert before["decision"]["targets"].get("rented", 0) == 0

                engine.waiting = 500
                lifted = await asking.until(lambda said: said["alerts"] and rented(said) == 3)
                (alert,) = lifted["alerts"]
                assert (alert["action"], alert["lift_replicas"], alert["summary"]) == ("lift", 3, "500 requests wait")
                decision = next(made for made in lifted["decisions"] if made["cause"] == "alert")
                assert "ALERT_LIFT" in decision["reasons"]
                assert decision["targets"]["rented"] == 3

                engine.waiting = 0
                await asking.until(lambda said: not said["alerts"])
                text = await asking.metrics()
                assert 'tidegate_webhook_alerts_total{outcome="accepted",sender="alertmanager"} 2.0' in text
                assert 'tidegate_decisions_total{cause="alert",fleet="r1"}' in text
                await asking.close()


@pytest.mark.needs("alertmanager")
async def test_while_nats_is_away_alertmanager_tries_again_and_the_alert_counts_once(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "nats")
    await server.start()
    try:
        async with tidegate(tmp_path, server.url) as plane:
            asking = Asking(plane.web_url)
            with alertmanager(tmp_path, plane.web_url or "") as manager:
                async with httpx.AsyncClient(base_url=f"http://{manager}") as client:
                    await _ready(client)
                    await server.stop()
                    labels = {"alertname": "QueueIsLong", "tidegate_fleet": "r1", "tidegate_action": "lift"}
                    (await client.post("/api/v2/alerts", json=[{"labels": labels}])).raise_for_status()
                    await asking.until_counted('tidegate_http_requests_total{code="503",route="webhooks"}')
                    await server.start()
                    said = await asking.until(lambda said: said["alerts"])
            assert len(said["alerts"]) == 1
            assert 'outcome="accepted",sender="alertmanager"} 1.0' in await asking.metrics()
            await asking.close()
    finally:
        await server.stop()


async def _ready(client: httpx.AsyncClient) -> None:
    async def answers() -> bool:
        with contextlib.suppress(httpx.TransportError):
            return (await client.get("/-/ready")).is_success
        return False

    for _ in range(200):
        if await answers():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("Alertmanager did not start")


@pytest.mark.needs("prometheus")
def test_the_shipped_rules_are_right(tmp_path: Path) -> None:
    checked = subprocess.run(
        ["promtool", "check", "rules", str(ALERTING / "prometheus-rules.yml")], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    fires = {
        "rule_files": [str(ALERTING / "prometheus-rules.yml")],
        "evaluation_interval": "5s",
        "tests": [
            {
                "interval": "5s",
                "input_series": [{"series": 'vllm:num_requests_waiting{model_name="r1",pod="a"}', "values": "0 500x20"}],
                "alert_rule_test": [
                    {
                        "eval_time": "1m",
                        "alertname": "QueueIsLong",
                        "exp_alerts": [
                            {
                                "exp_labels": {
                                    "model_name": "r1",
                                    "tidegate_fleet": "r1",
                                    "tidegate_action": "lift",
                                    "tidegate_lift_replicas": "3",
                                },
                                "exp_annotations": {"summary": "500 requests wait", "tidegate_expires": "15m"},
                            }
                        ],
                    }
                ],
            }
        ],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(fires))
    tested = subprocess.run(["promtool", "test", "rules", str(tmp_path / "test.yml")], capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_the_shipped_grafana_contact_point_signs_as_tidegate_checks() -> None:
    settings = read("grafana-contact-point.yaml")["contactPoints"][0]["receivers"][0]["settings"]
    believed = Secrets()
    assert settings["hmacConfig"]["header"].lower() in believed.signature_headers
    assert settings["hmacConfig"]["timestampHeader"].lower() == believed.timestamp_header
    assert settings["httpMethod"] in ("POST", "PUT")
