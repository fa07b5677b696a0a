"""A real Prometheus as a child process: scrapes what a file names, several times a second, and can be killed and started again."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

READY_SECONDS = 20.0


class PrometheusProcess:
    """Use as a context manager. `target` writes what is scraped; Prometheus sees the change by itself."""

    def __init__(
        self, folder: Path, scrape_seconds: float = 0.2, more_config: str = "", arguments: Sequence[str] = (), *, is_guarded: bool = False
    ) -> None:
        self.folder = folder
        self._arguments = list(arguments)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"{'https' if is_guarded else 'http'}://127.0.0.1:{self.port}"
        self._is_guarded = is_guarded
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._targets = folder / "targets.json"
        self._targets.write_text("[]")
        milliseconds = round(scrape_seconds * 1000)
        (folder / "prometheus.yml").write_text(
            f"global: {{scrape_interval: {milliseconds}ms, scrape_timeout: {milliseconds}ms, evaluation_interval: 1s}}\n"
            f"scrape_configs:\n- job_name: engines\n  file_sd_configs: [{{files: [{self._targets}], refresh_interval: 1s}}]\n{more_config}"
        )

    def target(self, address: str, paths: Mapping[str, str]) -> None:
        """Scrape `address` at each path, under an instance name of its own; nothing else."""
        entries = [
            {"targets": [address], "labels": {"__metrics_path__": path, "instance": instance}} for instance, path in sorted(paths.items())
        ]
        partial = self._targets.with_suffix(".partial")
        partial.write_text(json.dumps(entries))
        os.replace(partial, self._targets)

    def start(self) -> None:
        """Start, and wait until it is ready."""
        executable = shutil.which("prometheus")
        assert executable is not None
        with (self.folder / "prometheus.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    executable,
                    f"--config.file={self.folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self.folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                    "--log.level=warn",
                    *self._arguments,
                ],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if self._is_guarded:
                with socket.socket() as door:
                    if door.connect_ex(("127.0.0.1", self.port)) == 0:
                        return
                time.sleep(0.02)
                continue
            try:
                if httpx.get(f"{self.url}/-/ready", timeout=1.0, trust_env=False).status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.02)
        raise AssertionError(f"prometheus is not ready: {(self.folder / 'prometheus.log').read_text()[-2000:]}")

    def stop(self, how: int = signal.SIGTERM) -> None:
        """End it and wait."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(20.0)
            self._process = None

    def __enter__(self) -> "PrometheusProcess":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(signal.SIGKILL)
