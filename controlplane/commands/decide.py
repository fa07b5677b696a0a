"""The body of `tidegate decide`: standard input and output around the pipe, and the state file at its end.

Owns signals and files only; `controlplane.pipe` answers the lines.
"""

import gc
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from controlplane.commands.destination import require_writable
from controlplane.config import load_fleets
from controlplane.pipe import Pipe, run_pipe


class _Ended(Exception):
    """SIGTERM: stop reading, save, and go."""


def decide_lines(policies: Sequence[Path], state: Path | None) -> int:
    """Answer standard input until it ends or SIGTERM comes, save the state where asked; return the exit code."""
    pipe = Pipe(load_fleets(policies))
    # A line leaves no cycles behind: what is loaded need not be searched for them again, nor every few lines.
    gc.freeze()
    gc.set_threshold(50_000)
    if state is not None:
        # Before the first line: to learn at the end that nothing can be saved would be too late.
        require_writable("--state", state)
        pipe.load(state)
    reading = _Reading(sys.stdin.buffer)
    signal.signal(signal.SIGTERM, reading.end)
    status = run_pipe(pipe, reading, sys.stdout.buffer, sys.stderr.buffer)
    if state is not None:
        pipe.save(state)
    return status


class _Reading:
    """Lines of a stream, until it ends or a signal says so: a line that is being answered is answered first."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._waiting = False
        self._ended = False

    def end(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal."""
        self._ended = True
        if self._waiting:
            raise _Ended

    def __iter__(self) -> Iterator[bytes]:
        """Hand out lines."""
        while not self._ended:
            self._waiting = True
            try:
                line = self._stream.readline()
            except _Ended:
                return
            finally:
                self._waiting = False
            if not line:
                return
            yield line
