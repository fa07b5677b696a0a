"""kill -9 of the NATS server under a running control plane: what was acknowledged is there, and the services go on by themselves."""

import asyncio
import os
import signal
from datetime import timedelta
from pathlib import Path

import nats.errors
import nats.js.errors
import pytest

from controlplane.bus.connect import connect
from controlplane.bus.embedded import EmbeddedServer
from controlplane.contracts.events import Observation
from controlplane.contracts.subjects import headers_of, subject_of
from controlplane.sim.cloud_ledger import read_ledger
from controlplane.sim.cloud_process import CloudProcess, end_running_cloud, running_cloud
from tests.bus.processes import children_of, command_of
from tests.e2e.evidence import (
    assert_bought_as_decided,
    assert_decided_once,
    assert_forecast_once,
    assert_nothing_orphaned,
    purchases,
    read_streams,
)
from tests.e2e.programs import Program, eventually
from tests.e2e.worlds import START, faultless, write_policy

# A fleet that nobody here serves: what is pushed for it shows what the stream keeps, and disturbs nobody.
PUSHED_FLEET = "pushed"
KILLS = 2


def server_of(up: Program) -> int:
    """Return the process id of the nats-server below a `tidegate up`; 0 while there is none."""
    shims = [pid for pid in children_of(up.pid) if "reaper" in command_of(pid)]
    return next((server for shim in shims for server in children_of(shim)), 0)


class Pusher:
    """Publishes observations one after the other, each tried until it is acknowledged; `acknowledged` are those that were."""

    def __init__(self) -> None:
        self.acknowledged: list[Observation] = []
        self.stumbles = 0

    async def run(self, url: str) -> None:
        client = await connect(url)
        js = client.jetstream(timeout=0.5)
        try:
            for number in range(1_000_000):
                event = Observation(
                    time=START + timedelta(seconds=number), fleet=PUSHED_FLEET, demand_per_second=float(number % 7), interval_seconds=1.0
                )
                await self._until_acknowledged(js, event)
                await asyncio.sleep(0.005)
        finally:
            await client.close()

    async def _until_acknowledged(self, js: nats.js.JetStreamContext, event: Observation) -> None:
        while True:
            try:
                await js.publish(subject_of(event), event.model_dump_json().encode(), headers=headers_of(event, "test"))
            except (nats.errors.Error, nats.js.errors.Error, OSError, TimeoutError):
                self.stumbles += 1
                await asyncio.sleep(0.02)
            else:
                self.acknowledged.append(event)
                return


@pytest.mark.timeout(240)
async def test_what_was_acknowledged_outlives_the_server_and_the_services_go_on(tmp_path: Path) -> None:
    policy, folder = write_policy(tmp_path), tmp_path / "run"
    ledger = folder / "cloud" / "ledger.jsonl"
    pusher = Pusher()
    try:
        with Program(tmp_path, "up", str(policy), "--folder", str(folder)) as up:
            await up.up()
            url = f"nats://127.0.0.1:{(folder / 'nats' / 'nats.port').read_text()}"
            pushing = asyncio.create_task(pusher.run(url))
            await eventually(lambda: purchases(ledger) and len(pusher.acknowledged) > 20, "a purchase and pushed observations")
            for _ in range(KILLS):
                victim, so_far, bought = server_of(up), len(pusher.acknowledged), len(purchases(ledger))
                os.kill(victim, signal.SIGKILL)
                await eventually(lambda victim=victim: server_of(up) not in (0, victim), "the server to come back")  # type: ignore[misc]
                await eventually(lambda so_far=so_far: len(pusher.acknowledged) > so_far + 50, "acknowledgements")  # type: ignore[misc]
                await eventually(lambda bought=bought: len(purchases(ledger)) > bought, "a purchase")  # type: ignore[misc]
            pushing.cancel()
            await asyncio.gather(pushing, return_exceptions=True)
            assert not up.ended
            assert up.stop() == 0
    finally:
        end_running_cloud(folder / "cloud" / "cloud.json")
    assert running_cloud(folder / "cloud" / "cloud.json") is None
    assert pusher.stumbles > 0

    async with EmbeddedServer(folder / "nats") as server, CloudProcess(folder / "cloud", faultless(policy), max_seconds=60.0) as cloud:
        await assert_nothing_orphaned(server.url, cloud.url, ledger, policy)
        streams = await read_streams(server.url)
    stored = [event.event_id for event in streams.of(Observation, PUSHED_FLEET).values()]
    assert {event.event_id for event in pusher.acknowledged} <= set(stored)
    assert len(stored) == len(set(stored))
    assert_bought_as_decided(read_ledger(ledger), streams)
    assert_decided_once(streams, "bumpy")
    assert_forecast_once(streams, "bumpy")
