"""The simulated cloud as a real process: over HTTP, killed and restarted, and outliving a buyer that is killed at any step."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from actuators.api import Applied, Failed, Skipped
from actuators.simulated import simulated_actuator
from controlplane.sim.cloud_config import CloudConfig, OfferWorld
from controlplane.sim.cloud_ledger import Bought, parse_ledger, read_ledger
from controlplane.sim.cloud_process import CloudProcess, CloudStartError, end_running_cloud, running_cloud
from controlplane.sim.invariants import bought_twice, orphans
from tests.fakes import FileIntentStore, MemoryIntentStore
from tests.sim.cloud_buyer import OFFER, STEPS, TARGET

ROOT = Path(__file__).resolve().parents[2]
WORLD = OfferWorld(usd_per_replica_hour=3.6, lead_time_seconds=60.0, lead_time_sigma=0.0, listing_lag_seconds=10.0)
START = 1_000_000.0


def config_of(**world: object) -> CloudConfig:
    return CloudConfig(offers={"rented": WORLD.model_copy(update=world)})


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[CloudProcess]:
    with CloudProcess(tmp_path / "cloud", config_of(), speed=0.0, start_unix=START, max_seconds=100.0) as process:
        yield process


def move_clock(cloud: CloudProcess, now_unix: float) -> None:
    httpx.post(f"{cloud.url}/clock", json={"now_unix": now_unix}).raise_for_status()


def buyer(cloud: CloudProcess, folder: Path, fleet: str, step: str) -> int:
    command = [sys.executable, "-m", "tests.sim.cloud_buyer", cloud.url, str(folder), fleet, step]
    return subprocess.run(command, cwd=ROOT, check=False, timeout=60, capture_output=True).returncode


async def test_a_buyer_killed_at_any_step_has_bought_once_after_its_restart(cloud: CloudProcess, tmp_path: Path) -> None:
    kills = await asyncio.gather(*(asyncio.to_thread(buyer, cloud, tmp_path, step, step) for step in STEPS))
    assert kills == [-signal.SIGKILL] * len(STEPS)
    restarted = simulated_actuator(cloud.url, FileIntentStore(tmp_path))
    for moment in (1, 5, 20, 100):
        move_clock(cloud, START + moment)
        for fleet in STEPS:
            assert not isinstance(await restarted.apply(fleet, OFFER, TARGET), Failed)
    await restarted.close()
    ledger = read_ledger(cloud.ledger)
    assert bought_twice(ledger) == ()
    assert sorted(entry.owner for entry in ledger if isinstance(entry, Bought)) == sorted(STEPS)
    assert orphans(ledger, {(fleet, "rented"): TARGET for fleet in STEPS}) == {}


async def test_what_was_bought_survives_the_kill_of_the_cloud_itself(cloud: CloudProcess) -> None:
    store = MemoryIntentStore()
    actuator = simulated_actuator(cloud.url, store)
    assert isinstance(await actuator.apply("r1", OFFER, 2), Applied)
    move_clock(cloud, START + 100)
    cloud.kill()
    failed = await actuator.apply("r1", OFFER, 4)
    assert isinstance(failed, Failed)
    assert failed.retryable
    cloud.start()
    restarted = simulated_actuator(cloud.url, store)
    status = await restarted.observe("r1", OFFER)
    assert (status.ready, status.pending, status.time.timestamp()) == (2, 0, START + 100)
    assert isinstance(await restarted.apply("r1", OFFER, 2), Skipped)
    await actuator.close()
    await restarted.close()


def test_the_audit_tells_what_was_owed_and_what_happened(cloud: CloudProcess) -> None:
    body = {"count": 2, "token": "t", "owner": "me"}
    bought = httpx.post(f"{cloud.url}/offers/rented/replicas", json=body)
    assert bought.status_code == 201
    assert [replica["state"] for replica in bought.json()["replicas"]] == ["pending", "pending"]
    again = httpx.post(f"{cloud.url}/offers/rented/replicas", json=body)
    assert [replica["id"] for replica in again.json()["replicas"]] == [replica["id"] for replica in bought.json()["replicas"]]
    move_clock(cloud, START + 3600)
    assert httpx.get(f"{cloud.url}/bill", params={"owner": "me"}).json()["usd"] == pytest.approx(7.2)
    assert httpx.delete(f"{cloud.url}/replicas/rented-1").status_code == 200
    assert httpx.delete(f"{cloud.url}/replicas/rented-1").status_code == 404
    ledger = parse_ledger(httpx.get(f"{cloud.url}/ledger").text)
    assert [entry.kind for entry in ledger] == ["opened", "bought", "repeated", "clocked", "released"]
    assert ledger == read_ledger(cloud.ledger)


def test_bad_requests_are_told_what_is_wrong(cloud: CloudProcess) -> None:
    assert httpx.post(f"{cloud.url}/offers/rented/replicas", json={"count": 0}).status_code == 400
    assert httpx.post(f"{cloud.url}/offers/rented/replicas", content=b"\xff{").status_code == 400
    assert httpx.post(f"{cloud.url}/offers/none/replicas", json={"count": 1}).status_code == 404
    assert httpx.get(f"{cloud.url}/offers/none").status_code == 404
    for body in (b"", b"[]", b'{"now_unix": "soon"}', b'{"now_unix": NaN}'):
        assert httpx.post(f"{cloud.url}/clock", content=body).status_code == 400
    assert httpx.post(f"{cloud.url}/config", content=b"{}").status_code == 400
    assert httpx.get(f"{cloud.url}/health").status_code == 200


def test_the_world_can_change_and_go_down(cloud: CloudProcess) -> None:
    world = config_of(stock_replicas=1).model_copy(update={"outages": ((50.0, 60.0),)})
    assert httpx.post(f"{cloud.url}/config", content=world.model_dump_json()).status_code == 200
    assert httpx.get(f"{cloud.url}/offers/rented").json()["offers"][0]["stock_replicas"] == 1
    body = {"count": 2, "token": "t", "owner": "me"}
    assert httpx.post(f"{cloud.url}/offers/rented/replicas", json=body).status_code == 409
    move_clock(cloud, START + 50)
    assert httpx.get(f"{cloud.url}/replicas").status_code == 503
    assert httpx.get(f"{cloud.url}/ledger").status_code == 200
    move_clock(cloud, START + 60)
    assert httpx.get(f"{cloud.url}/replicas").status_code == 200


async def test_a_late_reply_is_an_unknown_outcome_that_settles(tmp_path: Path) -> None:
    world = config_of(late_reply_share=1.0, late_reply_seconds=0.6)
    async with CloudProcess(tmp_path, world, speed=0.0, start_unix=START, max_seconds=100.0) as cloud:
        actuator = simulated_actuator(cloud.url, MemoryIntentStore(), timeout_seconds=0.3)
        late = await actuator.apply("r1", OFFER, 3)
        assert isinstance(late, Failed)
        assert late.retryable
        move_clock(cloud, START + 11)
        assert isinstance(await actuator.apply("r1", OFFER, 3), Skipped)
        await actuator.close()
        assert sum(isinstance(entry, Bought) for entry in read_ledger(cloud.ledger)) == 1


def test_a_running_cloud_is_found_by_its_ready_file_and_stopped_by_whoever_knows_it(tmp_path: Path) -> None:
    cloud = CloudProcess(tmp_path, config_of(), speed=1000.0, max_seconds=100.0)
    assert running_cloud(cloud.ready_file) is None
    assert not end_running_cloud(cloud.ready_file)
    cloud.start()
    pid = httpx.get(f"{cloud.url}/health").json()["pid"]
    assert os.getsid(pid) == pid
    assert running_cloud(cloud.ready_file) == cloud.url
    assert end_running_cloud(cloud.ready_file)
    assert running_cloud(cloud.ready_file) is None
    cloud.stop()


def test_a_cloud_ends_by_itself_when_its_time_is_over(tmp_path: Path) -> None:
    cloud = CloudProcess(tmp_path, config_of(), max_seconds=0.3)
    cloud.start()
    for _ in range(500):
        if running_cloud(cloud.ready_file) is None:
            break
        time.sleep(0.02)
    assert running_cloud(cloud.ready_file) is None
    cloud.stop()


def test_a_cloud_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "ledger.jsonl").write_text("no ledger\n")
    with pytest.raises(CloudStartError, match="Invalid JSON"):
        CloudProcess(tmp_path, config_of(), max_seconds=5.0).start()
