"""The server on a real socket: senders that trickle, break off or talk nonsense are cut off, and others are answered meanwhile."""

import asyncio
import json
import socket

import httpx
import pytest

from controlplane.contracts.errors import TidegateError
from controlplane.web.server import serving
from controlplane.web.settings import Limits, WebSettings
from tests.unit.web_rig import Rig, alertmanager, sent

QUICK = Limits(header_seconds=0.2, body_seconds=0.2, connections=8)
HEAD = b"POST /webhooks/alerts HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


async def talk(url: str, *pieces: bytes, pause_seconds: float = 0.0) -> bytes:
    """Send pieces with pauses between, and return all that comes back until the other side hangs up; nothing if it does so abruptly."""
    address = httpx.URL(url)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        async with asyncio.timeout(20.0):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause_seconds)
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def rig() -> Rig:
    return Rig(limits=QUICK)


async def test_headers_that_trickle_are_hung_up_on() -> None:
    made = rig()
    async with serving(made.app, WebSettings(port=0, limits=QUICK)) as url:
        assert await talk(url) == b""
        assert await talk(url, b"POST /webhooks/alerts HT") == b""
        assert await talk(url, *(b"X" for _ in range(20)), pause_seconds=0.05) == b""
        assert await talk(url, HEAD, *(b"X-A: b\r\n" for _ in range(20)), pause_seconds=0.05) == b""
    assert made.outlet.calls == 0


async def test_a_body_that_trickles_is_told_so_and_hung_up_on() -> None:
    made = rig()
    async with serving(made.app, WebSettings(port=0, limits=QUICK)) as url:
        answer = await talk(url, HEAD + b"Content-Length: 5000\r\n\r\n", b"{", b"}", pause_seconds=0.05)
    assert b" 408 " in answer.splitlines()[0]
    assert made.outlet.calls == 0


async def test_a_second_request_may_not_trickle_either() -> None:
    made = rig()
    async with serving(made.app, WebSettings(port=0, limits=QUICK)) as url:
        first = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        answer = await talk(url, first, b"GET /heal", pause_seconds=0.05)
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    ("sent_bytes", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b" 400 "),
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"y" * 400_000, b""),
        (HEAD + b"Content-Length: 99999999999\r\n\r\n", b" 413 "),
        (HEAD + b"Connection: close\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b" 40"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b" 400 "),
    ],
)
async def test_nonsense_is_refused(sent_bytes: bytes, status: bytes) -> None:
    made = rig()
    async with serving(made.app, WebSettings(port=0, limits=QUICK)) as url:
        answer = await talk(url, sent_bytes)
    assert status in (answer.splitlines() or [b""])[0]
    assert made.outlet.calls == 0


async def test_others_are_answered_while_some_trickle() -> None:
    made = Rig()
    patient = Limits(header_seconds=20.0, connections=50)
    async with serving(made.app, WebSettings(port=0, limits=patient)) as url:
        address = httpx.URL(url)
        slow = [await asyncio.open_connection(address.host, address.port) for _ in range(30)]
        for _, writer in slow:
            writer.write(b"POST /webhooks/al")
        async with httpx.AsyncClient(base_url=url) as client:
            answer = await client.post("/webhooks/alertmanager", json=alertmanager(sent()))
        for _, writer in slow:
            writer.close()
    assert answer.status_code == 200
    assert len(made.outlet.alerts) == 1


async def test_more_connections_than_there_is_room_for_are_refused_with_try_again() -> None:
    made = rig()
    async with serving(made.app, WebSettings(port=0, limits=Limits(header_seconds=20.0, connections=4))) as url:
        address = httpx.URL(url)
        held = [await asyncio.open_connection(address.host, address.port) for _ in range(5)]
        async with httpx.AsyncClient(base_url=url) as client:
            answer = await client.post("/webhooks/alertmanager", json=alertmanager(sent()))
        for _, writer in held:
            writer.close()
    assert answer.status_code == 503
    assert made.outlet.calls == 0


async def test_a_sender_that_breaks_off_changes_nothing() -> None:
    made = rig()
    body = json.dumps(alertmanager(sent())).encode()
    async with serving(made.app, WebSettings(port=0, limits=QUICK)) as url:
        address = httpx.URL(url)
        _, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body[:-1])
        await writer.drain()
        writer.close()
        async with httpx.AsyncClient(base_url=url) as client:
            assert (await client.get("/healthz")).status_code == 200
    assert made.outlet.calls == 0


async def test_an_address_that_is_taken_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = WebSettings(port=taken.getsockname()[1])
        with pytest.raises(TidegateError, match="cannot listen on"):
            async with serving(rig().app, settings):
                raise AssertionError("it must not serve")
