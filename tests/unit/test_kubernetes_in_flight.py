"""Asking engines how busy they are: who does not answer may be busy with anything, and nobody is waited for long."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest
from aiohttp import web

from actuators.kubernetes.in_flight import AT_ONCE, in_flight_of, with_in_flight
from actuators.kubernetes.pods import UNKNOWN, Pod, PodState
from actuators.kubernetes.shrink import leaving

SILENT, BROKEN, BUSY, OTHER = "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"
READY = Pod("u", "s", "p", {}, PodState.READY, "", 0.0, owner_kind="ReplicaSet", node="n")


@dataclass
class Engines:
    """Engines on loopback addresses, all at one port: one never answers, one fails, one is busy, one has other figures."""

    port: int = 0
    asked: int = 0


@pytest.fixture
async def engines() -> AsyncIterator[Engines]:
    ending, engines = asyncio.Event(), Engines()

    async def page(request: web.Request) -> web.StreamResponse:
        host = request.url.host
        engines.asked += 1
        if host == SILENT:
            await ending.wait()
        said = {BUSY: "vllm:num_requests_running 4\n", OTHER: "other 9\n"}
        return web.Response(text=said.get(str(host), ""), status=500 if host == BROKEN else 200)

    app = web.Application()
    app.router.add_get("/metrics", page)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, SILENT, 0).start()
    engines.port = int(runner.addresses[0][1])
    for address in (BROKEN, BUSY, OTHER):
        await web.TCPSite(runner, address, engines.port).start()
    yield engines
    ending.set()
    await runner.cleanup()


def at(address: str) -> Pod:
    return replace(READY, uid=address, name=address or "nowhere", address=address)


async def test_who_does_not_answer_goes_last_and_is_waited_for(engines: Engines) -> None:
    pods = await with_in_flight([at(""), at(BROKEN), at(BUSY), replace(at(OTHER), in_flight=2.0)], engines.port)
    assert [pod.in_flight for pod in pods] == [UNKNOWN, UNKNOWN, 4.0, 2.0]
    assert [pod.name for pod in leaving(pods, 2, {}).pods] == [OTHER, BUSY]
    assert leaving(pods, 3, {}).in_flight == UNKNOWN


async def test_when_the_time_for_all_pages_is_over_no_other_is_asked(engines: Engines) -> None:
    many = [at(SILENT) for _ in range(AT_ONCE * 4)]
    pods = await with_in_flight(many, engines.port, poll_seconds=0.5)
    assert {pod.in_flight for pod in pods} == {UNKNOWN}
    assert 1 <= engines.asked <= AT_ONCE


def test_requests_in_flight_are_those_that_run_and_those_that_wait() -> None:
    page = ["# TYPE vllm:num_requests_running gauge", 'vllm:num_requests_running{m="a"} 3.0', "vllm:num_requests_waiting 1", "other 9"]
    assert in_flight_of(page) == 4.0
    assert in_flight_of(["other 9"]) is None


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('vllm:num_requests_running{m="a b"} 3.0', 3.0),
        ('vllm:num_requests_running{m="a"} 3 1700000000000', 3.0),
        ("vllm:num_requests_running NaN", UNKNOWN),
        ('vllm:num_requests_running{m="a"}', UNKNOWN),
        ("vllm:num_requests_running three", UNKNOWN),
    ],
)
def test_a_figure_that_is_no_number_is_not_taken_for_idleness(line: str, said: float) -> None:
    assert in_flight_of([line]) == said
