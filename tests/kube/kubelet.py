"""What kubelets would say, patched into a real API server: nodes with GPUs, pods that start and serve, pods that end when they are deleted.

Nothing happens by itself unless `running()`: a test moves its own clock, and a pod is ready `lead_seconds` after its creation by it.
"""

import contextlib
import threading
import time
import urllib.error
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from tests.kube.control_plane import ControlPlane

WAIT_SECONDS = 20.0
BACKGROUND_SECONDS = 0.05


class Kubelets:
    """The nodes and the pods of one namespace. `ahead_seconds` is how far the test's clock is ahead of the wall's."""

    def __init__(self, plane: ControlPlane, namespace: str, lead_seconds: float = 0.0) -> None:
        self.plane, self.namespace, self.lead_seconds = plane, namespace, lead_seconds
        self.ahead_seconds = 0.0
        self._seen: dict[str, float] = {}
        self.failing = False
        # Where a pod is reached, by its name, and whom to tell when one ends.
        self.addresses: dict[str, str] = {}
        self.ended: Callable[[str], None] | None = None
        self.holds_terminating = False

    def add_node(self, name: str, gpus: int = 8, **labels: str) -> None:
        """Register a node that is ready; its pods see it by `nodeSelector` when labels are given."""
        meta = {"name": name, "labels": {"kubernetes.io/hostname": name, **labels}}
        self.plane.call("POST", "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": meta})
        self.resize_node(name, gpus)

    def resize_node(self, name: str, gpus: int) -> None:
        """Say how many GPUs a node has."""
        room = {"cpu": "64", "memory": "512Gi", "pods": "500", "nvidia.com/gpu": str(gpus)}
        conditions = [
            {"type": "Ready", "status": "True", "lastHeartbeatTime": _stamp(time.time()), "lastTransitionTime": _stamp(time.time())}
        ]
        body = {"status": {"capacity": room, "allocatable": room, "conditions": conditions}}
        self.plane.call("PATCH", f"/api/v1/nodes/{name}/status", body, "application/strategic-merge-patch+json")

    def remove_node(self, name: str) -> None:
        """Take a node away, and, as the node lifecycle would, the pods that were on it."""
        self.plane.call("DELETE", f"/api/v1/nodes/{name}")
        for pod in self.pods():
            if pod["spec"].get("nodeName") == name:
                self._delete(pod)

    def pods(self) -> list[dict[str, Any]]:
        """Return the namespace's pods."""
        found: list[dict[str, Any]] = self.plane.call("GET", f"/api/v1/namespaces/{self.namespace}/pods")["items"]
        return found

    def step(self) -> None:
        """Do what the kubelets of all placed pods would have done by now."""
        for pod in self.pods():
            if pod["metadata"].get("deletionTimestamp"):
                if not self.holds_terminating:
                    self._delete(pod)
            elif pod["spec"].get("nodeName"):
                self._report(pod)

    def _report(self, pod: dict[str, Any]) -> None:
        created = datetime.fromisoformat(pod["metadata"]["creationTimestamp"]).timestamp()
        seen = self._seen.setdefault(pod["metadata"]["uid"], self.ahead_seconds)
        ready_unix = created + self.lead_seconds
        is_ready = not self.failing and time.time() + self.ahead_seconds - seen >= ready_unix
        known = {each["type"]: each["status"] for each in pod["status"].get("conditions", ())}
        if known.get("Ready") == str(is_ready) and pod["status"].get("containerStatuses"):
            return
        state = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}} if self.failing else {"running": {}}
        container = {"name": "engine", "image": "x", "imageID": "", "restartCount": 0, "ready": is_ready, "state": state}
        condition = {"type": "Ready", "status": str(is_ready), "lastTransitionTime": _stamp(ready_unix)}
        status = {
            "phase": "Running",
            "podIP": self.addresses.get(pod["metadata"]["name"], "127.0.0.1"),
            "conditions": [condition],
            "containerStatuses": [container],
        }
        self._gone_is_fine("PATCH", pod, "/status", {"status": status})

    def _delete(self, pod: dict[str, Any]) -> None:
        if self.ended is not None:
            self.ended(pod["metadata"]["name"])
        self._gone_is_fine("DELETE", pod, "?gracePeriodSeconds=0", None)

    def _gone_is_fine(self, method: str, pod: dict[str, Any], suffix: str, body: object) -> None:
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod['metadata']['name']}{suffix}"
        try:
            self.plane.call(method, path, body, "application/strategic-merge-patch+json")
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise

    def settle(self, deployment: str, pods: int | None = None) -> list[dict[str, Any]]:
        """Wait until the controllers have made the pods that a Deployment asks for, all bound that can be; return the namespace's.

        `pods` is how many those of all its workloads are, where it has more than this one.
        """
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            self.step()
            found = self.plane.call("GET", f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{deployment}")
            there = self.pods()
            is_seen = found.get("status", {}).get("observedGeneration") == found["metadata"]["generation"]
            is_placed = all(pod["spec"].get("nodeName") or _is_refused(pod) for pod in there)
            if is_seen and len(there) == (found["spec"]["replicas"] if pods is None else pods) and is_placed:
                self.step()
                return self.pods()
            time.sleep(0.02)
        raise AssertionError(f"{deployment} did not settle: {[(pod['metadata']['name'], pod['status']) for pod in self.pods()]}")

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Step in the background, as real kubelets would."""
        ending = threading.Event()

        def loop() -> None:
            while not ending.wait(BACKGROUND_SECONDS):
                with contextlib.suppress(OSError):
                    self.step()

        thread = threading.Thread(target=loop, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ending.set()
            thread.join(10.0)


def _is_refused(pod: dict[str, Any]) -> bool:
    return any(each["type"] == "PodScheduled" and each["status"] == "False" for each in pod["status"].get("conditions", ()))


def _stamp(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
