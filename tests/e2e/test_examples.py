"""The two examples of docs/examples, run as they are: what one pushes is decided on, and the other hears it."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from controlplane.app import Settings, running
from controlplane.config import load_fleets
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


def test_the_examples_say_how_they_are_run() -> None:
    for path in sorted(EXAMPLES.glob("*.py")):
        text = path.read_text()
        assert f"python {path.name} " in text
        assert len(text.splitlines()) <= 50
    assert "nats sub 'tidegate.decision.*'" in (EXAMPLES / "react_to_decisions.py").read_text()
