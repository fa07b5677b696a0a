"""kill -9 of `tidegate up`, again and again, at the worst moments: the cloud's bill and the streams show that nothing went wrong."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from controlplane.bus.embedded import EmbeddedServer
from controlplane.sim.cloud_ledger import read_ledger
from controlplane.sim.cloud_process import CloudProcess, end_running_cloud, running_cloud
from tests.e2e.evidence import (
    assert_bought_as_decided,
    assert_decided_once,
    assert_forecast_once,
    assert_nothing_orphaned,
    purchases,
    read_streams,
)
from tests.e2e.programs import UP, Program, eventually
from tests.e2e.worlds import faultless, faulty, write_policy


@pytest.fixture
def cloud_ended(tmp_path: Path) -> Iterator[None]:
    """The cloud outlives a killed tidegate on purpose: end it whatever happens."""
    yield
    end_running_cloud(tmp_path / "run" / "cloud" / "cloud.json")


async def more_purchases(ledger: Path, count: int) -> None:
    """Wait until so many more purchases stand in the ledger than do now."""
    before = len(purchases(ledger))
    await eventually(lambda: len(purchases(ledger)) >= before + count, "a purchase")


async def misbehaving(ready: Path, policy: Path) -> str:
    """Give the running cloud its faults, and return its address."""
    url = running_cloud(ready)
    assert url is not None
    httpx.post(f"{url}/config", content=faulty(policy).model_dump_json()).raise_for_status()
    return url


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("cloud_ended")
async def test_kill_9_at_any_moment_neither_doubles_nor_orphans_a_purchase_nor_a_decision(tmp_path: Path) -> None:
    policy, folder = write_policy(tmp_path), tmp_path / "run"
    ledger, ready = folder / "cloud" / "ledger.jsonl", folder / "cloud" / "cloud.json"
    with Program(tmp_path, "up", str(policy), "--folder", str(folder)) as up:
        await up.up()
        url = await misbehaving(ready, policy)
        # The moment that a purchase stands in the ledger is when its buyer does not know of it yet.
        for lives, pause_seconds in ((2, 0.0), (3, 0.7)):
            await more_purchases(ledger, 1)
            await asyncio.sleep(pause_seconds)
            up.kill()
            up.start()
            await up.up(lives)
            assert running_cloud(ready) == url
        # While it is still starting.
        up.kill()
        up.start()
        await asyncio.sleep(0.9)
        up.kill()
        # After an end in good order, so that there is a snapshot behind which the tail is folded again.
        up.start()
        await more_purchases(ledger, 1)
        assert up.stop() == 0
        assert running_cloud(ready) is None
        ended = up.says(UP)
        up.start()
        await up.up(ended + 1)
        await misbehaving(ready, policy)
        await more_purchases(ledger, 1)
        up.kill()
        up.start()
        await more_purchases(ledger, 1)
        assert up.stop() == 0
        folding = [json.loads(line) for line in up.log.read_text().splitlines() if '"event": "folding"' in line]
        assert any(line["after"] > 0 for line in folding if line["service"] == "tidegate-planner")

    async with EmbeddedServer(folder / "nats") as server, CloudProcess(folder / "cloud", faultless(policy), max_seconds=60.0) as cloud:
        await assert_nothing_orphaned(server.url, cloud.url, ledger, policy)
        streams = await read_streams(server.url)
    assert_bought_as_decided(read_ledger(ledger), streams)
    assert_decided_once(streams)
    assert_forecast_once(streams)
