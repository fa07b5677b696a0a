"""tidegate as processes of their own: started, waited for, killed at a chosen moment, and never left behind.

Owns processes and bounded waiting only. What they run is in `worlds`, what must hold afterwards in `evidence`.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 45.0
POLL_SECONDS = 0.01
UP = "tidegate is up"


def environment(home: Path) -> dict[str, str]:
    """Return an environment in which nothing of the user's is read or written."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TIDEGATE_NATS", "TIDEGATE_DATA", "XDG_"))}
    return {**kept, "HOME": str(home), "TIDEGATE_DATA": str(home)}


async def eventually[T](question: Callable[[], T], what: str = "it") -> T:
    """Wait, for a bounded time, until the question's answer is true, and return it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (answer := question()):
        assert time.monotonic() < deadline, f"waited {PATIENCE_SECONDS:g} s for {what}"
        await asyncio.sleep(POLL_SECONDS)
    return answer


class Program:
    """One `tidegate …` process. Used as a context manager, it is killed at the end if it still runs."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self._home, self._arguments = home, arguments
        self.log = home / f"{arguments[0]}-{time.monotonic_ns()}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it; a program that was killed may be started again."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "controlplane.cli", *self._arguments],
                cwd=ROOT,
                env=environment(self._home),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    def says(self, text: str) -> int:
        """Return how often a text is in the log of all its lives."""
        return self.log.read_text(errors="replace").count(text)

    async def up(self, times: int = 1) -> Self:
        """Wait until it has said that it is up, so many times in all its lives."""
        await eventually(lambda: self.says(UP) >= times or self.ended, f"{self._arguments[:2]} to be up")
        assert not self.ended, self.log.read_text(errors="replace")[-3000:]
        return self

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return self._process is None or self._process.poll() is not None

    def kill(self) -> None:
        """End it with SIGKILL: no handler of its own runs."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """End it as a user does, and return its exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int:
        process = self._process
        assert process is not None
        process.send_signal(how)
        try:
            return process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self.ended:
            self.kill()


def run_tidegate(home: Path, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end."""
    command = [sys.executable, "-m", "controlplane.cli", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment(home), input=stdin, capture_output=True, timeout=PATIENCE_SECONDS, check=False)


def texts(result: subprocess.CompletedProcess[bytes]) -> Sequence[str]:
    """Return standard output and standard error as text."""
    return result.stdout.decode(), result.stderr.decode()
