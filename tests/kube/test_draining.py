"""Requests in flight on replicas that are to go: real requests to real servers, which die the moment that their pod is deleted."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from actuators.api import Applied, Result
from controlplane.contracts.errors import SupplierError
from controlplane.contracts.fleet import Offer
from tests.kube.conftest import FLEET, Scene, SceneMaker, eventually
from tests.kube.objects import stateful_set

pytestmark = pytest.mark.needs("kube-apiserver")
REPLICAS = 3
GRACE_SECONDS = 1.5


class Server:
    """A replica's engine: `/work?seconds=` answers after so long, `/metrics` says how many requests it works on."""

    def __init__(self, address: str, port: int) -> None:
        self.working = 0
        self._ending = threading.Event()
        server = self

        class Page(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = urlsplit(self.path)
                body = server._metrics() if path.path == "/metrics" else server._work(float(parse_qs(path.query)["seconds"][0]))
                if body:
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer((address, port), Page)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def _metrics(self) -> bytes:
        return f'vllm:num_requests_running{{model_name="m"}} {self.working}\n'.encode()

    def _work(self, seconds: float) -> bytes:
        self.working += 1
        was_cut = self._ending.wait(seconds)
        self.working -= 1
        return b"" if was_cut else b"done"

    def kill(self) -> None:
        """Answer nothing any more, what is under way least of all; being killed twice is being killed once."""
        if not self._ending.is_set():
            self._ending.set()
            self._server.shutdown()
            self._server.server_close()
            self._thread.join(5.0)


@dataclass
class Served:
    """A StatefulSet of three replicas, a server behind each, and the requests that clients have under way."""

    scene: Scene
    offer: Offer
    servers: dict[str, Server]
    requests: list[asyncio.Task[str]] = field(default_factory=list)

    async def ask(self, name: str, seconds: float) -> asyncio.Task[str]:
        """Send a request to a replica; return it once the replica works on it."""
        server, before = self.servers[name], self.servers[name].working
        self.requests.append(asyncio.create_task(_answer(self.scene.kubelets.addresses[name], server.port, seconds)))

        async def is_working() -> bool:
            return server.working > before

        assert await eventually(is_working, bool)
        return self.requests[-1]

    async def shrink(self, replicas: int) -> Result:
        return await self.scene.subject.apply(FLEET, self.offer, replicas)


async def _answer(address: str, port: int, seconds: float) -> str:
    """Return what a replica answered, "cut" where the connection broke."""
    async with httpx.AsyncClient(trust_env=False, timeout=30.0) as client:
        try:
            return (await client.get(f"http://{address}:{port}/work", params={"seconds": seconds})).text
        except httpx.HTTPError:
            return "cut"


@pytest.fixture
async def served(scene_of: SceneMaker) -> AsyncIterator[Served]:
    scene = scene_of()
    names = [f"st-{number}" for number in range(REPLICAS)]
    with socket.socket() as free:
        free.bind(("127.0.0.2", 0))
        port = free.getsockname()[1]
    scene.kubelets.addresses = {name: f"127.0.0.{2 + number}" for number, name in enumerate(names)}
    servers = {name: Server(scene.kubelets.addresses[name], port) for name in names}
    scene.kubelets.ended = lambda name: servers[name].kill()
    scene.kubelets.lead_seconds = 0.0
    options = {"kind": "StatefulSet", "name": "st", "nodes": "elastic", "drain_grace_seconds": GRACE_SECONDS, "metrics_port": port}
    offer = replace(scene.offer, actuator_options={**scene.offer.actuator_options, **options})
    path = f"/apis/apps/v1/namespaces/{scene.namespace}/statefulsets"
    scene.plane.call("POST", path, stateful_set(scene.namespace, "st", REPLICAS))

    async def ready() -> int:
        with contextlib.suppress(SupplierError):
            return (await scene.subject.observe(FLEET, offer)).ready
        return 0

    found = Served(scene, offer, servers)
    try:
        with scene.kubelets.running():
            assert await eventually(ready, lambda count: count == REPLICAS) == REPLICAS
            yield found
    finally:
        for server in servers.values():
            await asyncio.to_thread(server.kill)
        await asyncio.gather(*found.requests)
        scene.plane.call("DELETE", f"{path}/st")


async def test_no_request_is_cut_that_ends_within_the_grace(served: Served) -> None:
    requests = [await served.ask(name, 1.0) for name in served.servers]
    assert not isinstance(await served.shrink(1), Applied)

    async def shrunk() -> Result:
        return await served.shrink(1)

    assert await eventually(shrunk, lambda result: isinstance(result, Applied)) == Applied(-2)
    assert [request.done() for request in requests[1:]] == [True, True], "it went once they were done"
    assert [await request for request in requests] == ["done"] * REPLICAS


async def test_a_request_that_outlasts_the_grace_is_cut_and_not_before_it_is_over(served: Served) -> None:
    long, short = await served.ask("st-2", 25.0), await served.ask("st-1", 0.3)
    begun = time.monotonic()
    cut_after: list[float] = []
    long.add_done_callback(lambda _: cut_after.append(time.monotonic() - begun))

    async def shrunk() -> Result:
        return await served.shrink(2)

    assert await eventually(shrunk, lambda result: isinstance(result, Applied)) == Applied(-1)
    assert (await long, await short) == ("cut", "done")
    assert cut_after[0] >= GRACE_SECONDS
