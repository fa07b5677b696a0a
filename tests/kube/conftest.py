"""A namespace with one Deployment, its node and its actuator behind a proxy that misbehaves on command, on the session's control plane."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from controlplane.contracts.events import PoolStatus
from controlplane.contracts.fleet import Offer
from tests.contract.actuator_rigs import offer_with
from tests.kube.control_plane import ControlPlane
from tests.kube.rig import KubernetesRig

FLEET = "r1"
WAIT_SECONDS = 15.0


class Scene(KubernetesRig):
    """The rig with one actuator that stays."""

    def __init__(self, plane: ControlPlane, offer: Offer) -> None:
        super().__init__(plane, offer)
        self.subject = self.actuator()
        self.deployments = f"/apis/apps/v1/namespaces/{self.namespace}/deployments"

    async def observe(self) -> PoolStatus:
        return await self.subject.observe(FLEET, self.offer)

    async def observed(self, is_wanted: Callable[[PoolStatus], bool]) -> PoolStatus:
        """Return the first status that is as wanted; the last one after a while."""
        return await eventually(self.observe, is_wanted)

    async def ready(self, replicas: int) -> PoolStatus:
        """Bring the offer to so many ready replicas, by its actuator."""
        self.kubelets.lead_seconds = 0.0
        await self.subject.apply(FLEET, self.offer, replicas)
        self.kubelets.settle("r1")
        return await self.observed(lambda status: (status.ready, status.pending, status.draining) == (replicas, 0, 0))

    def asked(self) -> int:
        """Return the number in the object."""
        return int(self.plane.call("GET", f"{self.deployments}/r1")["spec"]["replicas"])

    def edit(self, replicas: int, manager: str = "kubectl-edit") -> None:
        """Change the number as somebody else does."""
        body = {"spec": {"replicas": replicas}}
        self.plane.call("PATCH", f"{self.deployments}/r1?fieldManager={manager}", body, "application/merge-patch+json")

    def annotate(self, pod: str, **annotations: str) -> None:
        notes = {f"tidegate.dev/{key.replace('_', '-')}": value for key, value in annotations.items()}
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}"
        self.plane.call("PATCH", path, {"metadata": {"annotations": notes}}, "application/merge-patch+json")

    def events(self) -> Sequence[dict[str, Any]]:
        """Return the Events that tidegate wrote."""
        found = self.plane.call("GET", f"/api/v1/namespaces/{self.namespace}/events")["items"]
        return [event for event in found if (event.get("source") or {}).get("component") == "tidegate"]


class Engine:
    """A serving engine's metrics page on loopback, where the kubelets say that all pods are. `running` is what it says."""

    def __init__(self) -> None:
        self.running = 0
        engine = self

        class Page(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = f'# TYPE x gauge\nvllm:num_requests_running{{model_name="m"}} {engine.running}\nvllm:other 9\n'.encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5.0)


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine()
    yield engine
    engine.close()


async def eventually[T](ask: Callable[[], Awaitable[T]], is_wanted: Callable[[T], bool]) -> T:
    """Ask until the answer is as wanted, for a bounded time; return the last answer."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        answer = await ask()
        if is_wanted(answer) or time.monotonic() > deadline:
            return answer
        await asyncio.sleep(0.05)


SceneMaker = Callable[..., Scene]


@pytest.fixture
async def scene_of(control_plane: ControlPlane) -> AsyncIterator[Callable[..., Scene]]:
    scenes: list[Scene] = []

    def make(**offer: object) -> Scene:
        scenes.append(Scene(control_plane, offer_with(**offer)))
        return scenes[-1]

    yield make
    for scene in scenes:
        await scene.close()


@pytest.fixture
def scene(scene_of: Callable[..., Scene]) -> Scene:
    return scene_of()
