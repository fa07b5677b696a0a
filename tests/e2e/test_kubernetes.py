"""A recorded day of traffic, seen by a real Prometheus, decided by `tidegate up --mode act`, followed by a real API server.

A second is most of an hour of the recording. Nothing is a stand-in but the kubelets, which a control plane without machines lacks.
"""

import asyncio
import contextlib
import shutil
import subprocess
import time
import urllib.error
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from controlplane.traces.library import read_trace
from tests.e2e.programs import Program, eventually
from tests.integration.prometheus_process import PrometheusProcess
from tests.integration.replay_exporter import VLLM, Exporter, Replica
from tests.kube.control_plane import ControlPlane, free_port
from tests.kube.kubelet import Kubelets
from tests.kube.objects import deployment
from tests.unit.web_rig import grafana, sent

NAMESPACE = "day"
TRACE = "azure_llm_2024_code_week"
TOKEN = "a-token-of-this-test-0123456789"
FIRST_HOUR, HOURS_A_SECOND = 10, 0.8
PEAK_PER_SECOND, CAPACITY = 90.0, 10.0
NODES = {"own": 2, "rented": 22}
POLICY = """\
apiVersion: tidegate.dev/v1alpha1
kind: Fleet
metadata: {{name: r1}}
spec:
  serving: {{model: m, engine: vllm, slo: {{ttft: 2s, attainment: 0.95}}}}
  demand:
    unit: requests
    prometheus: {{url: "{prometheus}", matchLabels: {{model_name: m}}, interval: 500ms, backfill: 0s}}
  floor:
    - name: own
      accelerator: {{type: H200, perReplica: 8}}
      capacityPerSecond: {capacity}
      replicas: {{min: 1, max: 2}}
      usdPerReplicaHour: 10
      leadTime: 1s
      kubernetes: {{namespace: {namespace}, name: own}}
  burst:
    - name: rented
      accelerator: {{type: H200, perReplica: 8}}
      capacityPerSecond: {capacity}
      replicas: {{max: 20}}
      usdPerReplicaHour: 20
      leadTime: 1s
      hold: 0s
      kubernetes: {{namespace: {namespace}, name: rented}}
  behavior: {{scaleDown: {{stabilizationWindow: 2s}}}}
  tick: 1s
"""


def recorded(folders: tuple[Path, ...], start_unix: float) -> tuple[Callable[[float], float], Callable[[float, float], float]]:
    """Return the recording's rate by wall time, and its integral; its highest hour is PEAK_PER_SECOND, and it goes round."""
    trace = read_trace(TRACE, folders)
    first = int(FIRST_HOUR * 3600 / trace.step_seconds)
    steps = int(24 * 3600 / trace.step_seconds)
    day = np.nan_to_num(trace.demand_per_second[first : first + steps])
    hourly = day.reshape(24, -1).mean(axis=1)
    hourly *= PEAK_PER_SECOND / hourly.max()
    ends = np.concatenate(([0.0], np.cumsum(np.tile(hourly, 20)))) / HOURS_A_SECOND

    def total(at: float) -> float:
        return float(np.interp((at - start_unix) * HOURS_A_SECOND, np.arange(len(ends)), ends))

    return lambda at: total(at + 0.5) - total(at - 0.5), lambda since, until: total(until) - total(since)


class World:
    """The cluster's side of it."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane, self.kubelets = plane, Kubelets(plane, NAMESPACE)
        plane.call("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        for name, nodes in NODES.items():
            for number in range(nodes):
                self.kubelets.add_node(f"{NAMESPACE}-{name}-{number}", 8, pool=name)
            self.plane.call("POST", self._path(), deployment(NAMESPACE, name, gpus=8, node_selector={"pool": name}))

    def _path(self, name: str = "") -> str:
        return f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments" + (f"/{name}" if name else "")

    def asked(self, name: str) -> int:
        return int(self.plane.call("GET", self._path(name))["spec"]["replicas"])

    def close(self) -> None:
        for name, nodes in NODES.items():
            self.plane.call("DELETE", self._path(name))
            for number in range(nodes):
                with contextlib.suppress(urllib.error.HTTPError):
                    self.plane.call("DELETE", f"/api/v1/nodes/{NAMESPACE}-{name}-{number}")


async def fired(url: str, **labels: str) -> None:
    """Post an alert as Grafana does."""
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    async with httpx.AsyncClient(trust_env=False) as client:
        body = grafana(sent(starts=now, **labels))
        answer = await client.post(f"{url}/webhooks/grafana", json=body, headers={"Authorization": f"Bearer {TOKEN}"})
        assert answer.is_success, answer.text


async def status(url: str) -> dict[str, Any]:
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"{url}/api/fleets/r1", headers={"Authorization": f"Bearer {TOKEN}"})
        said: dict[str, Any] = answer.json()
        return said


@pytest.mark.needs("kube-apiserver")
@pytest.mark.needs("prometheus")
@pytest.mark.needs("trace data")
async def test_replicas_on_a_real_api_server_follow_a_recorded_day_and_an_alert(
    control_plane: ControlPlane, trace_folders: tuple[Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(control_plane)
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig()))
    monkeypatch.setenv("TIDEGATE_WEB_TOKEN", TOKEN)
    started = time.time()
    url = f"http://127.0.0.1:{free_port()}"
    policy = tmp_path / "policy.yaml"
    try:
        with Exporter() as exporter, PrometheusProcess(tmp_path / "prometheus") as prometheus, world.kubelets.running():
            exporter.replicas["a"] = Replica(VLLM, "m", *recorded(trace_folders, started), started)
            prometheus.target(exporter.address, {"a": "/a/metrics"})
            policy.write_text(POLICY.format(prometheus=prometheus.url, capacity=CAPACITY, namespace=NAMESPACE))
            listen = url.removeprefix("http://")
            with Program(tmp_path, "up", str(policy), "--mode", "act", "--listen", listen, "--folder", str(tmp_path / "up")) as tidegate:
                await tidegate.up()
                await eventually(lambda: world.asked("own") == 2, "the floor")
                totals = []
                give_up = time.monotonic() + 30.0
                while time.monotonic() < give_up and not (totals and max(totals) >= 7 and totals[-1] <= 0.7 * max(totals)):
                    totals.append(world.asked("own") + world.asked("rented"))
                    await asyncio.sleep(0.25)
                assert max(totals) >= 7, f"the day's peak needs {PEAK_PER_SECOND / CAPACITY:g} replicas: {totals}"
                assert totals[-1] <= 0.7 * max(totals), f"and its night fewer: {totals}"
                assert world.asked("own") == 2, "the floor is sunk, and stays"

                for number in range(NODES["own"]):
                    world.kubelets.remove_node(f"{NAMESPACE}-own-{number}")
                before = world.asked("rented")
                await eventually(lambda: world.asked("rented") > before, "what lost its nodes to be rented")
                assert world.asked("own") == 2, "it stays asked for"

                before = world.asked("own") + world.asked("rented")
                await fired(url, action="lift", lift_replicas="9")
                await eventually(lambda: world.asked("own") + world.asked("rented") >= before + 5, "the alert to lift")
                said = await status(url)
                own = next(offer for offer in said["offers"] if offer["name"] == "own")
                assert (own["ready"], own["pending"]) == (0, 2), "asked for, and waiting for a node"
            told = control_plane.call("GET", f"/api/v1/namespaces/{NAMESPACE}/events")["items"]
            assert any("for fleet r1, offer rented" in event["message"] for event in told)
            assert_kubectl_shows(control_plane)
    finally:
        world.close()


def assert_kubectl_shows(plane: ControlPlane) -> None:
    """What was done is in `kubectl describe`; without kubectl there is nothing to show it with."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        return
    command = [kubectl, "--kubeconfig", str(plane.kubeconfig()), "--namespace", NAMESPACE, "describe", "deployment", "rented"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "Scaled" in shown
    assert "tidegate" in shown
