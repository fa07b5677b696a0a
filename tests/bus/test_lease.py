"""The lease: one holder at a time, whatever becomes of it."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise

from nats.aio.client import Client

from controlplane.bus.connect import connect
from controlplane.bus.embedded import EmbeddedServer
from controlplane.bus.lease import Lease
from tests.bus.conftest import Eventually
from tests.bus.test_embedded import server_pid

HOLDER = """
import asyncio, sys, time
from controlplane.bus.connect import connect
from controlplane.bus.lease import Lease

async def main():
    client = await connect(sys.argv[1])
    async with Lease(client, "planner", "r1", sys.argv[2], ttl_seconds=2) as lease:
        print("taken", time.time(), flush=True)
        while lease.held:
            print("held", time.time(), flush=True)
            await asyncio.sleep(0.02)

asyncio.run(main())
"""


async def test_the_next_one_takes_over_when_it_is_released(client: Client) -> None:
    first, second = Lease(client, "planner", "r1", "one"), Lease(client, "planner", "r1", "two")
    await first.acquire()
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(0.3)
    assert first.held
    assert not waiting.done()
    assert await second.holder() == "one"
    await first.release()
    await waiting
    assert (first.held, second.held) == (False, True)
    await second.release()


async def test_what_is_given_back_is_free_at_once_and_not_when_it_would_have_run_out(client: Client) -> None:
    holder = Lease(client, "planner", "r1", "one", ttl_seconds=60)
    await holder.acquire()
    await holder.release()
    assert await holder.holder() == ""


async def test_leases_of_other_services_and_fleets_are_free(client: Client) -> None:
    async with Lease(client, "planner", "r1") as one, Lease(client, "planner", "r2") as two, Lease(client, "actuator", "r1") as three:
        assert one.held
        assert two.held
        assert three.held


async def test_kill_9_of_the_holder_lets_the_standby_in_and_there_are_never_two(server: EmbeddedServer, client: Client) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, server.url, "one"], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    try:
        assert any(line.startswith("taken") for line in holder.stdout)
        standby = Lease(client, "planner", "r1", "two", ttl_seconds=2)
        waiting = asyncio.create_task(standby.acquire())
        # Longer than the time to live: the holder renews.
        await asyncio.sleep(2.5)
        assert not waiting.done()
    finally:
        holder.kill()
        said = holder.stdout.read().splitlines()
        holder.wait()
        holder.stdout.close()
    last_held = float(said[-1].split()[1])
    await asyncio.wait_for(waiting, 30)
    assert time.time() > last_held
    assert standby.held
    await standby.release()


async def test_a_holder_that_cannot_renew_steps_down_before_another_can_begin(
    server: EmbeddedServer, client: Client, eventually: Eventually
) -> None:
    other = await connect(server.url)
    spans: list[tuple[float, float]] = []

    async def hold(lease: Lease) -> None:
        await lease.acquire()
        began = time.monotonic()
        await lease.lost.wait()
        spans.append((began, time.monotonic()))

    first = Lease(client, "planner", "r1", ttl_seconds=2)
    holding = asyncio.create_task(hold(first))
    await eventually(lambda: first.held)
    second = Lease(other, "planner", "r1", ttl_seconds=2)
    standing_by = asyncio.create_task(hold(second))
    pid = server_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.wait_for(holding, 30)
        assert not second.held
    finally:
        os.kill(pid, signal.SIGCONT)
    await eventually(lambda: second.held)
    await second.release()
    await standing_by
    await first.release()
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    await other.close()


async def test_a_restart_of_the_server_costs_nobody_the_lease(server: EmbeddedServer, client: Client, eventually: Eventually) -> None:
    async with Lease(client, "planner", "r1", ttl_seconds=6) as lease:
        os.kill(server_pid(), signal.SIGKILL)
        await eventually(lambda: server.restarts == 1 and client.is_connected)
        await asyncio.sleep(2.5)
        assert lease.held
