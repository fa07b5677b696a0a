"""The query API when it misbehaves: slow, dripping, failing, refusing, not there; and who we say we are.

A small server of our own plays the part, since the real one does none of this on command.
"""

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from controlplane.collectors.api import SourceError
from controlplane.collectors.breaker import FAILURES_TO_OPEN, LONGEST_PAUSE_SECONDS, Breaker, next_read, phase, retry_delay
from controlplane.collectors.credentials import Login
from controlplane.collectors.prometheus import PrometheusSource
from controlplane.collectors.prometheus_api import ATTEMPTS, PrometheusApi
from controlplane.contracts.events import Flag
from controlplane.contracts.fleet import Fleet, Slo, Unit

ANSWER = {"status": "success", "data": {"resultType": "vector", "result": [{"metric": {}, "value": [1.0, "42"]}]}}
ODD = {
    "not json": b"<html>hello</html>",
    "no result": b'{"status":"success","data":{"result":null}}',
    "no value": b'{"status":"success","data":{"result":[{"metric":{},"value":[1.0]}]}}',
    "nothing": b'{"status":"success","data":{"result":[]}}',
}
SECRET = "not-a-secret-of-anybody"


class Server:
    """Answers as told: `plan` is consumed, a request each, and then everything succeeds."""

    def __init__(self) -> None:
        self.plan: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.ahead_seconds = 0.0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.headers.append(dict(self.headers))
                server.answer(self, server.plan.pop(0) if server.plan else "ok", "time%28%29" in self.path)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def answer(self, request: BaseHTTPRequestHandler, how: str, wants_time: bool) -> None:
        if how == "slow":
            time.sleep(0.6)
        if how.isdigit():
            request.send_error(int(how))
            return
        body = json.dumps(ANSWER).encode()
        if wants_time:
            body = body.replace(b'"42"', f'"{time.time() + self.ahead_seconds}"'.encode())
        body = ODD.get(how, body)
        request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        for byte in body if how == "drip" else b"":
            try:
                request.wfile.write(bytes([byte]))
                request.wfile.flush()
            except OSError:
                return
            time.sleep(0.1)
        if how != "drip":
            with contextlib.suppress(OSError):
                request.wfile.write(body)

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    """A query API that does as it is told."""
    running = Server()
    yield running
    running.close()


def api_of(server: Server, clock: list[float] | None = None, **options: object) -> PrometheusApi:
    now = clock if clock is not None else [0.0]
    return PrometheusApi({"url": server.url, "timeout_seconds": 0.2, **options}, monotonic=lambda: now[0], chance=lambda: 0.0)


async def test_a_passing_failure_is_tried_again(server: Server) -> None:
    server.plan = ["503", "429"]
    api = api_of(server)

    assert (await api.instant("up"))[0].points == ((1.0, 42.0),)
    assert len(server.headers) == 3
    await api.close()


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("slow", "no answer within 0.2 s|no whole answer"),
        ("drip", "no whole answer"),
        ("not json", "not an answer"),
        ("no result", "not an answer"),
        ("no value", "not an answer"),
        ("500", "500"),
    ],
)
async def test_every_way_to_fail_has_words(server: Server, how: str, words: str) -> None:
    server.plan = [how] * ATTEMPTS
    api = api_of(server)

    with pytest.raises(SourceError, match=words) as failed:
        await api.instant("up")

    assert failed.value.retryable
    assert server.url in str(failed.value)
    await api.close()


async def test_a_server_that_does_not_tell_its_time(server: Server) -> None:
    server.plan = ["nothing"]
    api = api_of(server)
    with pytest.raises(SourceError, match="does not tell its time"):
        await api.clock_offset()
    await api.close()


async def test_nobody_there() -> None:
    api = PrometheusApi({"url": "http://127.0.0.1:9", "timeout_seconds": 0.2}, chance=lambda: 0.0)
    with pytest.raises(SourceError, match="not reachable"):
        await api.instant("up")
    await api.close()


async def test_after_five_failures_it_is_left_alone_and_then_one_attempt_decides(server: Server) -> None:
    clock = [100.0]
    api = api_of(server, clock)
    for _ in range(FAILURES_TO_OPEN):
        server.plan = ["500"] * ATTEMPTS
        with pytest.raises(SourceError):
            await api.instant("up")
    asked = len(server.headers)
    with pytest.raises(SourceError, match="left alone"):
        await api.instant("up")
    assert len(server.headers) == asked

    clock[0] += 6.0
    assert await api.instant("up")
    assert api.breaker.failures == 0
    await api.close()


async def test_tenant_headers_and_a_bearer_token_out_of_a_file_that_rotates(server: Server, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    api = api_of(server, headers={"X-Extra": "1"}, tenant="serving", auth={"bearer_token_file": str(token)})
    await api.instant("up")
    token.write_text("second")
    os.utime(token, (1.0, 1.0))
    await api.instant("up")
    await api.close()

    assert [each["Authorization"] for each in server.headers] == ["Bearer first", "Bearer second"]
    assert {(each["X-Scope-OrgID"], each["X-Extra"]) for each in server.headers} == {("serving", "1")}


async def test_a_secret_that_is_not_there_is_said_by_its_place(server: Server) -> None:
    options = {"url": server.url, "auth": {"bearer_token_env": "NO_SUCH_TOKEN"}}
    api = PrometheusApi(options, Login(options, lambda _: None))
    with pytest.raises(SourceError, match="NO_SUCH_TOKEN") as failed:
        await api.instant("up")
    await api.close()

    assert not failed.value.retryable
    assert not server.headers


def test_basic_and_bearer_out_of_the_environment() -> None:
    variables = {"U": "reader", "P": SECRET, "T": f"{SECRET}\n"}.get

    assert Login({"auth": {"bearer_token_env": "T"}}, variables).headers() == {"Authorization": f"Bearer {SECRET}"}
    assert Login({"auth": {"username_env": "U", "password_env": "P"}}, variables).headers()["Authorization"].startswith("Basic ")
    assert Login({}, variables).headers() == {}


@pytest.mark.parametrize("ahead", [0.0, 30.0, -30.0])
async def test_clocks_that_differ_are_noticed(server: Server, ahead: float) -> None:
    server.ahead_seconds = ahead
    source = {"kind": "prometheus", "url": server.url, "interval_seconds": 1.0, "timeout_seconds": 1.0, "queries": {"demand": "x"}}
    reader = PrometheusSource(Fleet(name="r1", slo=Slo(0.9), unit=Unit.REQUESTS, offers=(), demand_source=source))
    seen = (await reader.read(1000.0))[-1]
    await reader.close()

    assert seen.clock_offset_seconds == pytest.approx(ahead, abs=1.0)
    assert seen.demand_per_second == 42.0
    assert Flag.STALE not in seen.flags


def test_the_breaker_opens_for_longer_each_time_and_never_for_ever() -> None:
    breaker = Breaker()
    pauses = []
    now = 0.0
    for _ in range(FAILURES_TO_OPEN + 8):
        breaker.failed(now)
        pauses.append(max(breaker.open_until - now, 0.0))
        now = max(now, breaker.open_until)

    assert pauses[: FAILURES_TO_OPEN - 1] == [0.0] * (FAILURES_TO_OPEN - 1)
    assert pauses[FAILURES_TO_OPEN - 1 :] == sorted(pauses[FAILURES_TO_OPEN - 1 :])
    assert pauses[-1] == LONGEST_PAUSE_SECONDS


def test_who_is_asked_often_is_asked_again_soon() -> None:
    breaker = Breaker(first_pause_seconds=0.2, longest_pause_seconds=15.0)
    for _ in range(FAILURES_TO_OPEN):
        breaker.failed(100.0)

    assert not breaker.allows(100.1)
    assert breaker.allows(100.2)


def test_reads_keep_their_phase_and_leave_out_what_was_missed() -> None:
    assert next_read(100.0, 100.2, 15.0) == 115.0
    assert next_read(100.0, 131.0, 15.0) == 145.0
    assert 0.0 <= phase(15.0, 0.999) < 1.5
    assert retry_delay(1, 0.0) < retry_delay(1, 0.9) < retry_delay(2, 0.9)
