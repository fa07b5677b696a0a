"""kill -9 of one service after the other, each a process of its own: a standby or a restart goes on, and nothing is done twice."""

import asyncio
import contextlib
import os
from pathlib import Path

import pytest

from controlplane.bus.connect import connect
from controlplane.bus.embedded import EmbeddedServer
from controlplane.bus.lease import Lease
from controlplane.contracts.events import Observation
from controlplane.sim.cloud_ledger import read_ledger
from controlplane.sim.cloud_process import CloudProcess
from tests.e2e.evidence import (
    assert_bought_as_decided,
    assert_decided_once,
    assert_forecast_once,
    assert_nothing_orphaned,
    purchases,
    read_streams,
)
from tests.e2e.programs import Program, eventually
from tests.e2e.worlds import FLEET, SPEED, START, faultless, faulty, write_policy

TAKEN = '"event": "lease taken"'


async def holder_of(url: str, service: str) -> int:
    """Return the process id of the one that holds a service's lease."""
    client = await connect(url)
    try:
        return int((await Lease(client, service, FLEET).holder()).rpartition(":")[2])
    finally:
        await client.close()


@pytest.mark.timeout(240)
async def test_killed_services_are_succeeded_and_nothing_is_decided_or_bought_twice(tmp_path: Path) -> None:
    policy = write_policy(tmp_path)
    ledger = tmp_path / "cloud" / "ledger.jsonl"
    cloud = CloudProcess(tmp_path / "cloud", faulty(policy), speed=SPEED, start_unix=START.timestamp(), max_seconds=200.0)
    async with EmbeddedServer(tmp_path / "nats") as server, cloud:
        with contextlib.ExitStack() as stack:

            def start(service: str) -> Program:
                return stack.enter_context(Program(tmp_path, "run", service, str(policy), "--nats", server.url, "--cloud", cloud.url))

            single = {service: start(service) for service in ("collector", "forecaster")}
            doubled = {service: [start(service), start(service)] for service in ("planner", "actuator")}
            await asyncio.gather(*(program.up() for program in (*single.values(), *doubled["planner"], *doubled["actuator"])))
            await eventually(lambda: purchases(ledger), "the first purchase")

            killed = []
            for service, programs in doubled.items():
                first = next(program for program in programs if program.says(TAKEN))
                assert first.pid == await holder_of(server.url, service)
                first.kill()
                killed.append(first)
                await asyncio.sleep(0.3)
            for program in single.values():
                program.kill()
                program.start()
            heirs = [program for programs in doubled.values() for program in programs if program not in killed]
            await eventually(lambda: all(program.says(TAKEN) for program in heirs), "the standbys to take over")
            await eventually(lambda: all(program.says(TAKEN) == 2 for program in single.values()), "the restarted to go on")
            seen = len(purchases(ledger))
            await eventually(lambda: len(purchases(ledger)) > seen, "a purchase after the kills")
            for program in (*single.values(), *heirs):
                assert program.stop() == 0
        cloud.stop()
        settled = CloudProcess(tmp_path / "cloud", faultless(policy), max_seconds=60.0)
        async with settled:
            await assert_nothing_orphaned(server.url, settled.url, ledger, policy)
        streams = await read_streams(server.url)
    assert_bought_as_decided(read_ledger(ledger), streams)
    assert_decided_once(streams)
    assert_forecast_once(streams)
    assert len(streams.of(Observation)) > 0
    assert all(not _is_alive(program.pid) for program in killed)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
