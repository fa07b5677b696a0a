"""The demo's folder: made, kept to one demo at a time, cleaned before a new run, and taken up again by a resumed one.

Owns the marker, without which nothing in a folder is ever deleted, and the lock. It must not know what the demo plays.
A simulated cloud that a killed demo left behind is ended here, unless the run is resumed: then it goes on.
"""

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from controlplane.contracts.errors import TidegateError
from controlplane.sim.cloud_process import end_running_cloud

MARKER = "tidegate-demo.json"
LOCK = "tidegate-demo.lock"
CLOUD_READY = Path("cloud") / "cloud.json"


@contextmanager
def demo_folder(folder: Path, *, resume: bool, seconds: float) -> Iterator[float]:
    """Hold a folder for one demo and yield the wall seconds of its week: those of the run that is resumed, else `seconds`.

    TidegateError where the folder is somebody else's, in use, or holds no demo to resume.
    """
    marker = folder / MARKER
    if folder.exists() and not folder.is_dir():
        raise TidegateError(f"{folder} is not a folder; name another one with --folder")
    if resume and not marker.is_file():
        raise TidegateError(f"there is no demo to resume in {folder}; leave out --resume")
    if folder.is_dir() and any(path.name != LOCK for path in folder.iterdir()) and not marker.is_file():
        raise TidegateError(f"{folder} holds something else than a demo, and is left alone; name another folder with --folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TidegateError(f"the folder {folder} cannot be made: {error.strerror}; name another with --folder") from error
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise TidegateError(f"another demo runs in {folder}; stop it, or name another folder with --folder") from None
        if resume:
            seconds = _seconds_of(marker)
        else:
            end_running_cloud(folder / CLOUD_READY)
            _clean(folder)
            marker.write_text(json.dumps({"seconds": seconds}) + "\n", encoding="utf-8")
        yield seconds


def _seconds_of(marker: Path) -> float:
    try:
        return float(json.loads(marker.read_text(encoding="utf-8"))["seconds"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TidegateError(f"{marker} is damaged ({error}); leave out --resume") from error


def _clean(folder: Path) -> None:
    """Remove what an earlier demo left; the lock stays, as it is ours by now, and the marker too, until it is written anew."""
    for path in folder.iterdir():
        if path.name in (LOCK, MARKER):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
