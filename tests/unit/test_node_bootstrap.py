"""The bootstrap template of a rented node: it fills in, it is valid cloud-init, and its readiness page tells when the engine serves."""

import asyncio
import http.server
import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from actuators.market_suppliers import bootstrap_of
from actuators.readiness import Machine, ReadinessProbe
from tests.kube.control_plane import free_port

TEMPLATE = Path(__file__).parents[2] / "deploy" / "nodes" / "cloud-init.yaml"
VALUES = {"image": "engine:1", "arguments": "--model m --port 8000", "port": "8000", "expiry_minutes": "1440", "join": "true"}


def filled() -> dict[str, Any]:
    text = bootstrap_of({"template": str(TEMPLATE), "template_values": VALUES})
    assert text.startswith("#cloud-config\n")
    document: dict[str, Any] = yaml.safe_load(text)
    return document


def test_the_template_is_filled_in_and_bounds_the_life_of_the_node() -> None:
    document = filled()
    files = {one["path"]: one["content"] for one in document["write_files"]}
    assert (
        "docker run --rm --name engine --gpus all --ipc host -p 8000:8000 engine:1 --model m --port 8000"
        in files["/etc/systemd/system/engine.service"]
    )
    assert "shutdown -P +1440" in document["runcmd"]


class Engine(http.server.BaseHTTPRequestHandler):
    """An engine whose health page says what the test wants."""

    status = 503

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def engine() -> Iterator[str]:
    Engine.status = 503
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Engine)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/health"
    server.shutdown()
    server.server_close()


@pytest.fixture
def page(engine: str, tmp_path: Path) -> Iterator[str]:
    """The readiness page out of the template, as a process."""
    script = next(one["content"] for one in filled()["write_files"] if one["path"].endswith("readiness.py"))
    (tmp_path / "readiness.py").write_text(script)
    port = free_port()
    command = [sys.executable, str(tmp_path / "readiness.py"), engine, str(port), str(tmp_path / "since")]
    with subprocess.Popen(command) as process:
        try:
            yield f"http://127.0.0.1:{port}/"
        finally:
            process.kill()


def asked(url: str) -> tuple[int, dict[str, float]]:
    try:
        with urllib.request.urlopen(url, timeout=5.0) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, {}
    except OSError:
        return 0, {}


async def test_a_node_counts_once_its_engine_serves_and_keeps_the_time_since(page: str) -> None:
    for _ in range(200):
        if asked(page)[0] == 503:
            break
        await asyncio.sleep(0.05)
    assert asked(page)[0] == 503
    Engine.status = 200
    status, body = asked(page)
    assert status == 200
    Engine.status = 503
    assert asked(page) == (200, body), "it has served: whether it is healthy now is its gateway's business"
    probe = ReadinessProbe(page, 600.0)
    answer = (await probe.ask([Machine("i-1", "10.0.0.1", body["ready_unix"] - 90.0)], body["ready_unix"] + 5.0))["i-1"]
    assert answer.since_unix == body["ready_unix"]
    await probe.close()
