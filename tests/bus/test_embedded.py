"""The embedded server: it never outlives its parent, heals, keeps what it acknowledged, and says clearly what is wrong."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from controlplane.bus.connect import connect
from controlplane.bus.embedded import WATCH_SECONDS, EmbeddedServer
from controlplane.bus.streams import ensure_streams
from controlplane.contracts.errors import BusError
from tests.bus.conftest import Eventually
from tests.bus.processes import children_of, command_of, environment_of, is_alive

PARENT = """
import asyncio, sys
from pathlib import Path
from controlplane.bus.embedded import EmbeddedServer

async def main():
    server = EmbeddedServer(Path(sys.argv[1]))
    await server.start()
    print(server.url, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def server_pid() -> int:
    return children_of(shim_pid())[0]


def shim_pid() -> int:
    return next(pid for pid in children_of(os.getpid()) if "reaper" in command_of(pid))


async def test_kill_9_of_the_parent_leaves_no_server(tmp_path: Path, eventually: Eventually) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path / "nats")], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdout.readline().startswith(b"nats://127.0.0.1:")
    shim = children_of(parent.pid)[0]
    server = children_of(shim)[0]
    parent.kill()
    parent.wait()
    parent.stdout.close()
    await eventually(lambda: not is_alive(shim) and not is_alive(server))
    # The folder is free again, at once.
    async with EmbeddedServer(tmp_path / "nats") as again:
        assert again.port


@pytest.mark.parametrize(("seconds", "said"), [(10.0, '"10s"'), (0.5, '"0.5s"'), (0.0, '"always"')])
async def test_how_often_it_is_forced_to_disk_can_be_said(tmp_path: Path, seconds: float, said: str) -> None:
    async with EmbeddedServer(tmp_path / "nats", sync_seconds=seconds) as server:
        client = await connect(server.url)  # the server took the setting, or it would have ended
        await ensure_streams(client.jetstream())
        await client.close()
    assert f"sync_interval: {said}" in (tmp_path / "nats" / "nats-server.conf").read_text()


@pytest.mark.parametrize("victim", ["server", "shim"])
async def test_acknowledged_messages_outlive_kill_9(server: EmbeddedServer, eventually: Eventually, victim: str) -> None:
    client = await connect(server.url)
    js = client.jetstream()
    await ensure_streams(js)
    for number in range(200):
        await js.publish("tidegate.tick", str(number).encode())
    port = server.port
    os.kill(server_pid() if victim == "server" else shim_pid(), signal.SIGKILL)
    await eventually(lambda: server.restarts == 1)
    await eventually(lambda: client.is_connected)
    assert server.port == port
    assert (await js.stream_info("TIDEGATE_INPUTS")).state.messages == 200
    assert (await js.publish("tidegate.tick", b"after")).seq == 201
    await client.close()


async def test_a_folder_that_is_away_for_a_moment_does_not_end_the_healing(
    server: EmbeddedServer, tmp_path: Path, eventually: Eventually
) -> None:
    dying = server_pid()
    (tmp_path / "nats").rename(tmp_path / "away")
    os.kill(dying, signal.SIGKILL)
    await eventually(lambda: not is_alive(dying))
    await asyncio.sleep(4 * WATCH_SECONDS)
    (tmp_path / "away").rename(tmp_path / "nats")
    await eventually(lambda: server.restarts == 1)
    await (await connect(server.url)).close()


@pytest.mark.parametrize("limit", [None, "1GiB"])
async def test_the_servers_garbage_is_limited_unless_the_environment_says_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str | None
) -> None:
    monkeypatch.delenv("GOMEMLIMIT", raising=False)
    if limit:
        monkeypatch.setenv("GOMEMLIMIT", limit)
    async with EmbeddedServer(tmp_path / "nats"):
        environment = environment_of(server_pid())
    assert f"GOMEMLIMIT={limit or '512MiB'}" in environment


async def test_stop_leaves_nothing_and_a_restart_takes_the_same_port(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "nats")
    await server.start()
    port, pids = server.port, (shim_pid(), server_pid())
    await server.stop()
    await server.stop()
    assert not any(is_alive(pid) for pid in pids)
    async with EmbeddedServer(tmp_path / "nats") as again:
        assert again.port == port


async def test_a_taken_port_is_named_with_the_servers_own_words(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        server = EmbeddedServer(tmp_path / "nats", port=stranger.getsockname()[1])
        with pytest.raises(BusError, match="address already in use"):
            await server.start()
    await server.stop()


async def test_a_folder_serves_one_server_at_a_time(server: EmbeddedServer, tmp_path: Path) -> None:
    second = EmbeddedServer(tmp_path / "nats", port=0, lock_wait_seconds=0.1)
    with pytest.raises(BusError, match=r"another tidegate uses the folder .* its own with --folder"):
        await second.start()


async def test_a_token_keeps_strangers_out(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path / "nats", token="s3cret") as server:
        client = await connect(server.url)
        await client.close()
        with pytest.raises(BusError, match="refuses our credentials") as refused:
            await connect(f"nats://wr0ng@127.0.0.1:{server.port}")
    assert "wr0ng" not in str(refused.value)
    assert (tmp_path / "nats" / "nats-server.conf").stat().st_mode & 0o077 == 0
