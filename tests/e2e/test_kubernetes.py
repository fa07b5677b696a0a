"""A recorded day of traffic, seen by a real Prometheus, decided by `tidegate up --mode act`, followed by a real API server.

A second is most of an hour of the recording. Nothing is a stand-in but the kubelets, which a control plane without machines lacks.
"""

import asyncio
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.kubernetes_world import CAPACITY, NAMESPACE, NODES, PEAK_PER_SECOND, POLICY, TOKEN, World, fired, recorded, status
from tests.e2e.programs import Program, eventually
from tests.integration.prometheus_process import PrometheusProcess
from tests.integration.replay_exporter import VLLM, Exporter, Replica
from tests.kube.control_plane import ControlPlane, free_port

HOURS_A_SECOND = 0.8


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
            exporter.replicas["a"] = Replica(VLLM, "m", *recorded(trace_folders, started, HOURS_A_SECOND), started)
            prometheus.target(exporter.address, {"a": "/a/metrics"})
            policy.write_text(POLICY.format(prometheus=prometheus.url, capacity=CAPACITY, namespace=NAMESPACE, tick="1s", interval="500ms"))
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
            shown = described(control_plane)
            assert "Scaled" in shown
            assert "tidegate" in shown
            assert f"{world.asked('rented')} desired" in shown
    finally:
        world.close()


def described(plane: ControlPlane) -> str:
    """Return what `kubectl describe deployment` shows; without kubectl, what the calls that it makes answer."""
    kubectl = shutil.which("kubectl")
    if kubectl is not None:
        command = [kubectl, "--kubeconfig", str(plane.kubeconfig()), "--namespace", NAMESPACE, "describe", "deployment", "rented"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = plane.call("GET", f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/rented")
    about = f"involvedObject.uid%3D{found['metadata']['uid']}"
    events = plane.call("GET", f"/api/v1/namespaces/{NAMESPACE}/events?fieldSelector={about}")["items"]
    said = [f"{event['reason']} {event['source']['component']} {event['message']}" for event in events]
    return "\n".join([f"{found['spec']['replicas']} desired", *said])
