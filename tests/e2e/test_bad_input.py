"""Bad input of every kind on the real thing: it is named, it is set aside where that is due, and the loop goes on."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import nats.js.errors
from nats.aio.client import Client

from controlplane.app import Settings, running
from controlplane.bus.watch import newest
from controlplane.config import load_fleets
from controlplane.contracts.events import Decision, Observation
from controlplane.contracts.subjects import DEAD_STREAM, OUTPUTS_STREAM, headers_of, subject_of
from tests.e2e.evidence import purchases, read_streams
from tests.e2e.programs import PATIENCE_SECONDS, Program, run_tidegate
from tests.e2e.worlds import PUSHED, SPEED, START, write_policy

FLEET = "pushed"
GOOD = {"time": "2026-11-22T10:00:00Z", "fleet": FLEET, "demand_per_second": 1.0}


@contextlib.asynccontextmanager
async def listening(folder: Path) -> AsyncIterator[Client]:
    """All services of one fleet whose observations are pushed, on the wall clock."""
    policy = folder / "pushed.yaml"
    policy.write_text(PUSHED.replace("tick: 1m", "tick: 1s"))
    async with running(Settings(load_fleets([policy]), folder / "run")) as plane:
        yield plane.client


async def dead_of(client: Client, subject: str, count: int = 1) -> list[dict[str, str]]:
    """Return the headers of so many dead letters of a subject, and of all that are there by then."""
    js = client.jetstream()
    wanted = f"tidegate.dead.{subject}"
    for _ in range(int(PATIENCE_SECONDS / 0.05)):
        info = await js.stream_info(DEAD_STREAM, subjects_filter=wanted)
        if (info.state.subjects or {}).get(wanted, 0) >= count:
            break
        await asyncio.sleep(0.05)
    found = []
    for sequence in range(1, info.state.last_seq + 1):
        with contextlib.suppress(nats.js.errors.NotFoundError):
            message = await js.get_msg(DEAD_STREAM, sequence)
            if message.subject == wanted:
                found.append({**(message.headers or {}), "body": (message.data or b"").decode(errors="replace")})
    return found


async def push(client: Client, demand: float) -> None:
    event = Observation(time=datetime.now(UTC), fleet=FLEET, demand_per_second=demand, interval_seconds=1.0)
    await client.jetstream().publish(subject_of(event), event.model_dump_json().encode(), headers=headers_of(event, "test"))


async def decision_on(client: Client, demand: float) -> Decision:
    """Push observations of a demand until one is decided on."""
    for _ in range(int(PATIENCE_SECONDS / 0.2)):
        await push(client, demand)
        await asyncio.sleep(0.2)
        last = await newest(client, OUTPUTS_STREAM, f"tidegate.decision.{FLEET}")
        if isinstance(last, Decision) and last.demand_per_second == demand:
            return last
    raise AssertionError(f"no decision on a demand of {demand:g} per second")


async def test_a_malformed_event_is_a_dead_letter_with_its_reason_and_the_loop_goes_on(tmp_path: Path) -> None:
    bad = {
        "not JSON": b"{not json",
        "not UTF-8": b"\xff\xfe\x00",
        "a negative demand": json.dumps({**GOOD, "demand_per_second": -1.0}).encode(),
        "no time": json.dumps({name: value for name, value in GOOD.items() if name != "time"}).encode(),
        "another fleet's body": json.dumps({**GOOD, "fleet": "nobody"}).encode(),
        "a time without a zone": json.dumps({**GOOD, "time": "2026-11-22T10:00:00"}).encode(),
        "nothing": b"",
        "a list": b"[]",
        "too deep": b"[" * 3000 + b"]" * 3000,
    }
    async with listening(tmp_path) as client:
        assert (await decision_on(client, 3.0)).targets
        for name, body in bad.items():
            await client.jetstream().publish(f"tidegate.observation.{FLEET}", body, headers={"ce-id": name})
        dead = await dead_of(client, f"tidegate.observation.{FLEET}", len(bad))
        assert sorted(letter["ce-id"] for letter in dead) == sorted(bad)
        for letter in dead:
            assert letter["Tidegate-Reason"] == "undecodable"
            assert letter["Tidegate-Subject"] == f"tidegate.observation.{FLEET}"
            assert letter["Tidegate-Error"]
            assert letter["body"] == bad[letter["ce-id"]].decode(errors="replace")
        by_name = {letter["ce-id"]: letter["Tidegate-Error"] for letter in dead}
        assert "demand_per_second" in by_name["a negative demand"]
        assert "time" in by_name["no time"]
        assert "tidegate.observation.nobody" in by_name["another fleet's body"]
        assert (await decision_on(client, 5.0)).demand_per_second == 5.0


async def test_a_malformed_tick_pool_quote_launch_alert_and_decision_are_set_aside_too(tmp_path: Path) -> None:
    subjects = [f"tidegate.{kind}" for kind in (f"pool.{FLEET}.elsewhere", "quote.elsewhere", f"launch.{FLEET}", f"alert.{FLEET}")]
    subjects += ["tidegate.tick", f"tidegate.forecast.{FLEET}", f"tidegate.decision.{FLEET}"]
    async with listening(tmp_path) as client:
        for subject in subjects:
            await client.jetstream().publish(subject, b'{"time": "soon"}')
        for subject in subjects:
            letters = await dead_of(client, subject)
            assert [letter["Tidegate-Reason"] for letter in letters] == ["undecodable"], subject
        assert (await decision_on(client, 4.0)).demand_per_second == 4.0


async def test_events_of_a_fleet_that_nobody_serves_disturb_nobody(tmp_path: Path) -> None:
    async with listening(tmp_path) as client:
        await client.jetstream().publish("tidegate.observation.nobody", json.dumps({**GOOD, "fleet": "nobody"}).encode())
        await client.jetstream().publish("tidegate.tick", b'{"time": "2026-11-22T10:00:00Z", "fleet": "nobody"}')
        assert (await decision_on(client, 6.0)).fleet == FLEET
        assert await newest(client, OUTPUTS_STREAM, "tidegate.decision.nobody") is None


async def test_a_trace_with_bad_rows_is_named_and_the_loop_goes_on(tmp_path: Path) -> None:
    policy = write_policy(tmp_path, speed=3 * SPEED)
    lines = (tmp_path / "bumpy.csv").read_text().splitlines()
    lines[40] = lines[40].split(",")[0] + ",NaN"
    lines[41] = lines[41].split(",")[0] + ",-5"
    lines[42] = "yesterday,100"
    lines[44], lines[45] = lines[45], lines[44]
    del lines[60:66]
    lines[80] = lines[79]
    (tmp_path / "bumpy.csv").write_text("\n".join(lines) + "\n")
    folder = tmp_path / "run"
    with Program(tmp_path, "up", str(policy), "--folder", str(folder), "--mode", "recommend") as up:
        await up.up()
        for problem in ("without a readable timestamp", "negative or not a number", "backwards", "intervals are missing", "repeated times"):
            assert up.says(problem) == 1, problem
        url = f"nats://127.0.0.1:{(folder / 'nats' / 'nats.port').read_text()}"
        after_the_gaps = START.timestamp() + 90 * 60
        for _ in range(int(PATIENCE_SECONDS / 0.5)):
            streams = await read_streams(url)
            if any(decision.time.timestamp() > after_the_gaps for decision in streams.decided("bumpy")):
                break
            await asyncio.sleep(0.5)
        unknown = [seen for seen in streams.of(Observation).values() if seen.demand_per_second is None]
        decided = [decision for decision in streams.decided("bumpy") if decision.time.timestamp() > after_the_gaps]
        assert unknown
        assert decided[-1].demand_per_second is not None
        assert up.stop() == 0
    assert purchases(folder / "cloud" / "ledger.jsonl") == [], "a recommendation touches nothing"


def test_a_server_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    policy = tmp_path / "pushed.yaml"
    policy.write_text(PUSHED)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"nats://user:s3cret@127.0.0.1:{nobody.getsockname()[1]}"
        result = run_tidegate(tmp_path, "run", "planner", str(policy), "--nats", address)
        message = result.stderr.decode()
        assert result.returncode == 1
        assert message.startswith("tidegate: ")
        assert f"127.0.0.1:{nobody.getsockname()[1]}" in message
        assert "s3cret" not in message
        assert "Traceback" not in message


def test_a_malformed_policy_stops_the_start_with_file_and_line(tmp_path: Path) -> None:
    policy = tmp_path / "pushed.yaml"
    policy.write_text(PUSHED.replace("mode: recommend", "mode: dream"))
    result = run_tidegate(tmp_path, "up", str(policy), "--folder", str(tmp_path / "run"))
    assert result.returncode == 1
    assert f"{policy}:15: spec.guard.mode" in result.stderr.decode()
    assert "Traceback" not in result.stderr.decode()
    assert not (tmp_path / "run").exists()
