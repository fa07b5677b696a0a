"""The two examples of docs/examples, run as they are: what one pushes is decided on, and the other hears it."""

import asyncio
import runpy
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from controlplane.app import Settings, running
from controlplane.bus.connect import connect
from controlplane.bus.embedded import EmbeddedServer
from controlplane.bus.publish import Publisher
from controlplane.bus.streams import ensure_streams
from controlplane.clocks import SystemClock
from controlplane.config import load_fleets
from controlplane.contracts.events import Decision
from controlplane.contracts.fleet import Mode
from controlplane.contracts.units import from_unix
from tests.e2e.programs import PATIENCE_SECONDS, ROOT, environment
from tests.e2e.worlds import PUSHED

EXAMPLES = ROOT / "docs" / "examples"
FLEET = "pushed"


@contextmanager
def example(name: str, home: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run an example, and end it at the end."""
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=home, env=environment(home), **pipes) as process:  # type: ignore[call-overload]
        try:
            yield process
        finally:
            process.kill()


async def line_of(process: subprocess.Popen[str]) -> str:
    """Return the next line that an example prints."""
    assert process.stdout is not None
    return await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), PATIENCE_SECONDS)


async def test_what_one_example_pushes_is_decided_on_and_the_other_reacts(tmp_path: Path) -> None:
    policy = tmp_path / "pushed.yaml"
    policy.write_text(PUSHED.replace("tick: 1m", "tick: 1s"))
    async with running(Settings(load_fleets([policy]), tmp_path / "run")) as plane:
        with (
            example("push_observations.py", tmp_path, plane.nats_url, FLEET) as pushing,
            example("react_to_decisions.py", tmp_path, plane.nats_url, FLEET) as reacting,
        ):
            assert pushing.stdin is not None
            for line in ("12.5\n", "\n", "13\n"):
                pushing.stdin.write(line)
                pushing.stdin.flush()
                assert (await line_of(pushing)).startswith("stored as number ")
            for _ in range(100):
                said = await line_of(reacting)
                assert said.startswith(f"{FLEET}: "), said
                if "'elsewhere': 0" not in said and "would set" in said:
                    break
            assert said.startswith(f"{FLEET}: would set {{'elsewhere': ")
            assert "'elsewhere': 0" not in said


def decided(per_second: float, seconds: float, mode: Mode = Mode.ACT) -> Decision:
    now = from_unix(SystemClock().now())
    until = now + timedelta(seconds=seconds)
    return Decision(time=now, fleet=FLEET, mode=mode, expires=until, targets={}, spill_per_second=per_second, spill_until=until)


async def test_a_router_spills_at_once_what_a_decision_authorises_and_no_more(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path / "nats") as server:
        client = await connect(server.url)
        await ensure_streams(client.jetstream())
        publisher = Publisher(client, "tidegate/test")
        with example("spill_router.py", tmp_path, server.url, FLEET) as router:
            assert router.stdin is not None

            async def says(work: float) -> str:
                router.stdin.write(f"{work}\n")
                router.stdin.flush()
                return (await line_of(router)).strip()

            async def comes_to(work: float, wanted: str) -> bool:
                for _ in range(100):
                    if await says(work) == wanted:
                        return True
                    await asyncio.sleep(0.05)
                return False

            assert await says(1.0) == "keep", "nothing was decided yet"
            await publisher.publish(decided(100.0, 60.0))
            assert await comes_to(10.0, "spill")
            assert await says(100_000.0) == "keep", "more than the bucket can hold"
            await publisher.publish(decided(100.0, 60.0, Mode.RECOMMEND))
            assert await comes_to(1.0, "keep")
            await publisher.publish(decided(1000.0, 1.0))
            assert await comes_to(1.0, "spill")
            assert await comes_to(1.0, "keep"), "the authority has ended, and nobody had to say so"
        await client.close()


def test_a_router_rests_twice_as_long_while_push_back_goes_on_and_as_at_first_after_a_quiet_spell() -> None:
    allowance = runpy.run_path(str(EXAMPLES / "spill_router.py"))["Allowance"]()
    now, rests = 1000.0, []
    for quiet in (0.0, 10.0, 10.0, 61.0, 10.0):
        now = max(now, allowance.rest) + quiet
        for _ in range(3):  # three requests that were in flight together
            allowance.pushed_back(now)
        rests.append(allowance.rest - now)
    assert rests == [30.0, 60.0, 120.0, 30.0, 60.0]
    allowance.pushed_back(now + 200.0, retry_after=5.0)
    assert allowance.rest == now + 205.0


def test_the_examples_say_how_they_are_run() -> None:
    for path in sorted(EXAMPLES.glob("*.py")):
        text = path.read_text()
        assert f"python {path.name} " in text
        assert len(text.splitlines()) <= 50
    assert "nats sub 'tidegate.decision.*'" in (EXAMPLES / "react_to_decisions.py").read_text()
