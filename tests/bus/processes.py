"""What runs below a process: from /proc, or from ps where there is none."""

import subprocess
from pathlib import Path

PROC = Path("/proc/self/stat")


def _table() -> list[tuple[int, int, str]]:
    """Return (pid, parent, state) of every process."""
    if not PROC.exists():
        lines = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True).stdout.splitlines()
        return [(int(pid), int(parent), state) for pid, parent, state in (line.split() for line in lines)]
    table = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(") ")[2].split()[:2]
        except OSError:
            continue
        table.append((int(folder.name), int(parent), state))
    return table


def children_of(pid: int) -> list[int]:
    """Return the process ids of a process's living children."""
    return [child for child, parent, state in _table() if parent == pid and not state.startswith("Z")]


def is_alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    return any(there == pid and not state.startswith("Z") for there, _, state in _table())


def command_of(pid: int) -> str:
    """Return a process's command line."""
    if PROC.exists():
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return subprocess.run(["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout


def environment_of(pid: int) -> list[str]:
    """Return a process's environment as NAME=value, among the words of its command line where there is no /proc."""
    if PROC.exists():
        return Path(f"/proc/{pid}/environ").read_text().split("\0")
    return subprocess.run(["ps", "eww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout.split()
