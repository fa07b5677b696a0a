"""Starts and stops the simulated cloud's process; it survives the death of whoever bought, and ends by itself in bounded time.

Owns the process only: its own session, its ready file, its end. It must not speak the buyer's API; `actuators.simulated` does.
A restarted buyer finds a cloud that still runs with `running_cloud`, and ends it with `end_running_cloud`.
"""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from controlplane.sim.cloud_config import CloudConfig

READY_SECONDS = 30.0
STOP_SECONDS = 5.0
POLL_SECONDS = 0.02
ROOT = Path(__file__).resolve().parents[2]


class CloudStartError(Exception):
    """The simulated cloud did not come up; the message holds what it said."""


def running_cloud(ready_file: Path) -> str | None:
    """Return the address of the cloud that wrote a ready file, None where it no longer answers."""
    try:
        ready = json.loads(ready_file.read_text(encoding="utf-8"))
        health = httpx.get(f"{ready['url']}/health", timeout=2.0, trust_env=False).json()
    except (OSError, ValueError, KeyError, httpx.HTTPError):
        return None
    return str(ready["url"]) if health.get("pid") == ready["pid"] else None


def end_running_cloud(ready_file: Path) -> bool:
    """End the cloud that wrote a ready file, whoever started it, and wait until it is gone; False where none runs (any more)."""
    if running_cloud(ready_file) is None:
        return False
    with suppress(ProcessLookupError):
        os.kill(int(json.loads(ready_file.read_text(encoding="utf-8"))["pid"]), signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while time.monotonic() < deadline and running_cloud(ready_file) is not None:
        time.sleep(POLL_SECONDS)
    ready_file.unlink(missing_ok=True)
    return True


class CloudProcess:
    """A simulated cloud in its own process and session. Use it as a context manager, plain or async.

    `folder` holds `ledger.jsonl`, `cloud.json` (the ready file), `config.json` and `cloud.log`; starting again on one folder continues
    its ledger and its clock. Speed 0 is the virtual clock: time moves only by POST /clock.
    """

    def __init__(
        self,
        folder: Path,
        config: CloudConfig,
        *,
        seed: int = 0,
        speed: float = 1.0,
        start_unix: float | None = None,
        port: int = 0,
        max_seconds: float = 600.0,
    ) -> None:
        """Set up; nothing runs before `start`."""
        self.folder = folder.resolve()
        self.ledger = self.folder / "ledger.jsonl"
        self.ready_file = self.folder / "cloud.json"
        self._config, self._port, self._max_seconds = config, port, max_seconds
        self._world = [f"--seed={seed}", "--virtual" if speed == 0 else f"--speed={speed}"]
        if start_unix is not None:
            self._world.append(f"--start-unix={start_unix}")
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self) -> str:
        """Start it and return its address once it listens; CloudStartError when it does not within 30 s."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ready_file.unlink(missing_ok=True)
        config_file, log = self.folder / "config.json", self.folder / "cloud.log"
        config_file.write_text(self._config.model_dump_json(), encoding="utf-8")
        files = [f"--ledger={self.ledger}", f"--config={config_file}", f"--ready-file={self.ready_file}"]
        command = [sys.executable, "-m", "controlplane.sim.cloud", *files, *self._world]
        command += [f"--port={self._port}", f"--max-seconds={self._max_seconds}"]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            if self.ready_file.exists():
                self.url = str(json.loads(self.ready_file.read_text(encoding="utf-8"))["url"])
                return self.url
            time.sleep(POLL_SECONDS)
        self.stop()
        raise CloudStartError(f"the simulated cloud did not start: {log.read_text(encoding='utf-8', errors='replace')[-2000:]}")

    def stop(self) -> None:
        """End it and wait; harmless when it is gone."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it the hard way, as a crash would; the ledger stays."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            os.kill(process.pid, how)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self.ready_file.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop it."""
        self.stop()

    async def __aenter__(self) -> Self:
        """Start it; the short wait blocks the loop, before anything else runs on it."""
        self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop it."""
        self.stop()
