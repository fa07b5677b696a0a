"""`tidegate status`, `launch announce` and `--quotes` against a running tidegate, and its readiness from start to stop."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from controlplane.app import Plane, Settings, running
from controlplane.commands.ask import Where, announce, status, status_lines
from controlplane.config import load_fleets
from controlplane.contracts.errors import TidegateError
from controlplane.web.settings import WebSettings
from tests.e2e.test_alertmanager import POLICY

STARTS = "2036-11-23T17:00:00Z"
# An offer without an actuator, which therefore nobody but a source of quotes quotes.
ELSEWHERE = """\
    - {name: elsewhere, accelerator: {type: H200}, capacityPerSecond: 2.0, replicas: {max: 20}, usdPerReplicaHour: 90}
  guard:"""


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    (tmp_path / "policy.yaml").write_text(POLICY.replace("  guard:", ELSEWHERE))
    quotes = tmp_path / "quotes.json"
    quotes.write_text(json.dumps({"quotes": [{"offer": "elsewhere", "usd_per_replica_hour": 44.5, "stock_replicas": 7}]}))
    fleets = load_fleets([tmp_path / "policy.yaml"])
    settings = Settings(fleets, tmp_path / "run", web=WebSettings(port=0), quotes=(str(quotes),), cloud_seconds=300.0)
    async with running(settings) as plane:
        yield plane


async def fleet_with(plane: Plane, field: str) -> dict[str, object]:
    """Return what is said of the fleet once a field of it is filled; waits 30 s at most."""
    async with httpx.AsyncClient(base_url=plane.web_url or "") as client:
        for _ in range(300):
            said: dict[str, object] = (await client.get("/api/fleets/r1")).json()
            if said[field]:
                return said
            await asyncio.sleep(0.1)
    raise AssertionError(f"{field} stayed empty")


async def test_status_is_asked_and_printed(plane: Plane) -> None:
    await fleet_with(plane, "decision")
    said = await asyncio.to_thread(status, Where(web=plane.web_url))
    assert status_lines(said).splitlines()[0].startswith("r1 (act): demand unknown")
    one = await asyncio.to_thread(status, Where(web=plane.web_url), "r1")
    assert "floor owned: target" in status_lines(one)
    assert await asyncio.to_thread(status, Where(web=(plane.web_url or "").removeprefix("http://")), "r1")
    with pytest.raises(TidegateError, match="404"):
        await asyncio.to_thread(status, Where(web=plane.web_url), "r2")
    with pytest.raises(TidegateError, match="does not answer"):
        await asyncio.to_thread(status, Where(web="http://127.0.0.1:1"))


@pytest.mark.parametrize("by_nats", [False, True])
async def test_a_launch_is_announced_and_decided_on_at_once(plane: Plane, by_nats: bool) -> None:
    await fleet_with(plane, "decision")
    where = Where(nats=plane.nats_url) if by_nats else Where(web=plane.web_url)
    fields = {"fleet": "r1", "name": "v4", "starts": STARTS, "peak_multiple": 20.0, "ramp": "30m", "half_life": None}
    line = await asyncio.to_thread(announce, where, fields)
    assert line == f"launch v4 of r1 is announced, starting {STARTS}"
    said = await fleet_with(plane, "launches")
    assert [launch["ramp_seconds"] for launch in said["launches"]] == [1800.0]  # type: ignore[attr-defined]
    async with httpx.AsyncClient(base_url=plane.web_url or "") as client:
        for _ in range(300):
            if 'tidegate_decisions_total{cause="launch",fleet="r1"} 1.0' in (await client.get("/metrics")).text:
                break
            await asyncio.sleep(0.1)
        else:
            raise AssertionError("no decision was caused by the launch")


async def test_a_launch_by_nats_of_a_fleet_that_nobody_plans_is_doubted(plane: Plane) -> None:
    await fleet_with(plane, "decision")
    line = await asyncio.to_thread(announce, Where(nats=plane.nats_url), {"fleet": "r11", "name": "v4", "starts": STARTS})
    assert line.splitlines()[1:] == ["warning: no planner has run for the fleet r11 on this NATS; it has run for r1"]


async def test_a_launch_that_is_not_right_goes_nowhere(plane: Plane) -> None:
    fields = {"fleet": "r1", "name": "v4", "starts": "on Monday"}
    for where in (Where(web=plane.web_url), Where(nats=plane.nats_url)):
        with pytest.raises(TidegateError, match="starts"):
            await asyncio.to_thread(announce, where, fields)


async def test_quotes_of_a_file_reach_the_status(plane: Plane) -> None:
    async with httpx.AsyncClient(base_url=plane.web_url or "") as client:
        for _ in range(300):
            (fleet,) = (await client.get("/api/fleets")).json()["fleets"]
            elsewhere = fleet["offers"][2]
            if elsewhere["stock_replicas"] == 7:
                assert elsewhere["usd_per_replica_hour"] == 44.5
                return
            await asyncio.sleep(0.1)
    raise AssertionError("the quote did not come")


async def test_ready_once_all_history_is_folded(plane: Plane) -> None:
    async with httpx.AsyncClient(base_url=plane.web_url or "") as client:
        await fleet_with(plane, "decision")
        for _ in range(300):
            ready = await client.get("/readyz")
            if ready.status_code == 200:
                break
            assert ready.status_code == 503
            await asyncio.sleep(0.1)
        assert ready.json() == {"ready": True, "missing": []}
        assert (await client.get("/healthz")).status_code == 200
