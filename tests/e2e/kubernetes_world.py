"""The world of the floor's e2e test: a recorded day as an engine's metrics, a policy, and the cluster's side with its fake kubelets."""

import contextlib
import urllib.error
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from controlplane.traces.library import read_trace
from tests.kube.control_plane import ControlPlane
from tests.kube.kubelet import Kubelets
from tests.kube.objects import deployment
from tests.unit.web_rig import grafana, sent

NAMESPACE = "day"
TRACE = "azure_llm_2024_code_week"
TOKEN = "a-token-of-this-test-0123456789"
FIRST_HOUR = 10
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
    prometheus: {{url: "{prometheus}", matchLabels: {{model_name: m}}, interval: {interval}, backfill: 0s}}
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
  tick: {tick}
"""


def recorded(
    folders: tuple[Path, ...], start_unix: float, hours_a_second: float
) -> tuple[Callable[[float], float], Callable[[float, float], float]]:
    """Return the recording's rate by wall time, and its integral; its highest hour is PEAK_PER_SECOND, and it goes round."""
    trace = read_trace(TRACE, folders)
    first = int(FIRST_HOUR * 3600 / trace.step_seconds)
    steps = int(24 * 3600 / trace.step_seconds)
    day = np.nan_to_num(trace.demand_per_second[first : first + steps])
    hourly = day.reshape(24, -1).mean(axis=1)
    hourly *= PEAK_PER_SECOND / hourly.max()
    ends = np.concatenate(([0.0], np.cumsum(np.tile(hourly, 20)))) / hours_a_second

    def total(at: float) -> float:
        return float(np.interp((at - start_unix) * hours_a_second, np.arange(len(ends)), ends))

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
