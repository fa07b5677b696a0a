"""`tidegate demo` as a user runs it: to its end on real traffic, and on synthetic traffic through a kill -9 and a resume.

The demo's own exit status already says whether the simulated cloud's ledger is clean; these tests look at the rest of what it leaves.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

DEMO = (sys.executable, "-m", "controlplane.cli", "demo", "--headless", "--seconds", "20")
ROOT = Path(__file__).parents[2]
SECONDS_AT_MOST = 90.0
SECONDS_TO_END = 10.0


def environment(data: Path | None, home: Path) -> dict[str, str]:
    """Return the environment of a demo that finds its traces where they are, or, with `data`, there and nowhere else."""
    return {**os.environ, **({"TIDEGATE_DATA": str(data), "HOME": str(home)} if data is not None else {})}


def left_running(folder: Path) -> list[str]:
    """Return the command lines of the processes that name a folder, once they have had a moment to end."""
    give_up = time.monotonic() + SECONDS_TO_END
    while True:
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(folder) in command and int(process.name) != os.getpid():
                found.append(command)
        if not found or time.monotonic() >= give_up:
            return found
        time.sleep(0.1)


def assert_complete(said: str, folder: Path) -> None:
    """Assert that a demo's last words and its report are there."""
    assert "within SLO" in said
    assert "HPA 70%" in said
    assert "all on demand" in said
    assert "bought twice: 0, orphans: 0" in said
    assert "plotly" in (folder / "report.html").read_text(encoding="utf-8").lower()


@pytest.mark.needs("trace data")
def test_a_week_of_real_traffic_ends_with_a_summary_a_report_and_nothing_running(tmp_path: Path) -> None:
    folder = tmp_path / "week"
    done = subprocess.run([*DEMO, "--folder", str(folder)], cwd=ROOT, capture_output=True, text=True, timeout=SECONDS_AT_MOST, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "first decision after" in done.stdout
    assert "synthetic" not in done.stdout.lower()
    assert_complete(done.stdout, folder)
    assert left_running(folder) == []


def test_a_killed_demo_is_resumed_and_its_synthetic_traffic_is_called_so(tmp_path: Path) -> None:
    folder, empty = tmp_path / "week", tmp_path / "empty"
    empty.mkdir()
    settings = environment(empty, empty)
    command = [*DEMO, "--folder", str(folder)]
    with subprocess.Popen(command, cwd=ROOT, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as first:
        assert first.stdout is not None
        lines = []
        for line in first.stdout:
            lines.append(line)
            if line.startswith("first decision"):
                break
        first.send_signal(signal.SIGKILL)
    assert lines[-1].startswith("first decision"), "".join(lines)
    assert "synthetic" in "".join(lines)
    done = subprocess.run(
        [*command, "--resume"], cwd=ROOT, env=settings, capture_output=True, text=True, timeout=SECONDS_AT_MOST, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "synthetic" in done.stdout
    assert_complete(done.stdout, folder)
    assert "synthetic" in (folder / "report.html").read_text(encoding="utf-8").lower()
    assert left_running(folder) == []
