"""Where engines are found, and their pages asked, when what answers does so badly: an API server that hangs up, a page that trips a defect.

The pages are real HTTP servers; the API server is one that answers as Kubernetes does.
"""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from controlplane.collectors.api import SourceError
from controlplane.collectors.pages import Pages
from controlplane.collectors.targets import DnsTargets, PodTargets, is_serving, targets_of
from tests.integration.replay_exporter import Exporter


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    with Exporter() as running:
        yield running


def pod(ip: str, phase: str = "Running", ready: str = "True", leaving: bool = False) -> dict[str, object]:
    metadata = {"name": ip, **({"deletionTimestamp": "2026-11-22T10:00:00Z"} if leaving else {})}
    return {"metadata": metadata, "status": {"phase": phase, "podIP": ip, "conditions": [{"type": "Ready", "status": ready}]}}


def test_only_running_ready_pods_that_stay_are_asked() -> None:
    assert is_serving(pod("10.0.0.1"))
    assert not is_serving(pod("10.0.0.1", phase="Pending"))
    assert not is_serving(pod("10.0.0.1", ready="False"))
    assert not is_serving(pod("10.0.0.1", leaving=True))
    assert not is_serving(pod(""))
    assert not is_serving({})


def cluster_at(address: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> PodTargets:
    """Return what looks for pods at an API server."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": f"http://{address}"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {}}],
    }
    (folder / "config").write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(folder / "config"))
    return PodTargets({"namespace": "serving", "selector": "app=r1,role!=router", "port": 8000, "context": "c"}, "/metrics")


async def test_pods_are_found_by_selector(exporter: Exporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    pods = [pod("10.0.0.1"), pod("fd00::1"), pod("10.0.0.3", ready="False")]

    def answer(path: str) -> str:
        asked.append(path)
        return json.dumps({"kind": "PodList", "apiVersion": "v1", "items": pods})

    exporter.by_path = answer
    targets = cluster_at(exporter.address, tmp_path, monkeypatch)
    try:
        found = await targets.find()
    finally:
        await targets.close()

    assert found == {"http://10.0.0.1:8000/metrics", "http://[fd00::1]:8000/metrics"}
    assert asked[0].startswith("/api/v1/namespaces/serving/pods?")
    assert "labelSelector=app=r1,role!=router" in unquote(asked[0])


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{", b'HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{"items":null}'],
    ids=["hangs up", "breaks off", "is none"],
)
async def test_an_api_server_that_answers_badly_costs_one_look_for_pods(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        targets = cluster_at(f"{host}:{port}", tmp_path, monkeypatch)
        with pytest.raises(SourceError, match="cannot be listed"):
            await targets.find()
        await targets.close()


async def test_a_page_that_trips_a_defect_is_asked_again(exporter: Exporter) -> None:
    heard = []

    def hear(_kind: str, _address: str, _time_unix: float, text: str) -> None:
        heard.append(text)
        if len(heard) == 1:
            raise ZeroDivisionError

    exporter.pages["engine"] = lambda _now: "vllm:num_requests_running 1\n"
    pages = Pages({}, 0.02, hear)
    pages.watch("engine", [f"http://{exporter.address}/engine/metrics"])
    for _ in range(500):
        if len(heard) >= 3:
            break
        await asyncio.sleep(0.02)
    await pages.close()
    assert len(heard) >= 3


async def test_a_token_that_fits_into_no_header_is_not_repeated(
    exporter: Exporter, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENGINE_TOKEN", "begins\nnot-a-secret-of-anybody")
    pages = Pages({"auth": {"bearer_token_env": "ENGINE_TOKEN"}}, 0.02, lambda *_: None)
    pages.watch("engine", [f"http://{exporter.address}/engine/metrics"])
    for _ in range(500):
        if pages.failures:
            break
        await asyncio.sleep(0.02)
    told = [*pages.failures.values(), *capsys.readouterr()]
    await pages.close()
    assert pages.failures
    assert not any("anybody" in each for each in told)


async def test_a_name_is_resolved_and_one_without_addresses_is_an_empty_fleet() -> None:
    found = await DnsTargets("localhost", 8000, "http", "/metrics").find()

    assert "http://127.0.0.1:8000/metrics" in found or "http://[::1]:8000/metrics" in found
    assert await DnsTargets("no-such-name.invalid", 8000, "http", "/metrics").find() == frozenset()


def test_a_policys_block_says_how_replicas_are_found() -> None:
    assert isinstance(targets_of({"dns": {"name": "r1", "port": 1}}), DnsTargets)
    assert isinstance(targets_of({"pods": {"namespace": "n", "selector": "a=b", "port": 1}}), PodTargets)
