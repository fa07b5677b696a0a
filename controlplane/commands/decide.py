"""The body of `tidegate decide`: standard input and output around the pipe, and the state file at its end.

Owns signals and files only; `controlplane.pipe` answers the lines.
"""

import gc
import os
import select
import signal
import sys
from collections.abc import Iterator, Sequence
from itertools import batched
from pathlib import Path
from types import FrameType

from controlplane.commands.destination import require_writable
from controlplane.config import load_fleets
from controlplane.pipe import LINE_BYTES, Pipe, run_pipe

READ_BYTES = 65536
# More lines that came together are answered in turns, so that the first answer of many is not late.
LINES_TOGETHER = 64


def decide_lines(policies: Sequence[Path], state: Path | None) -> int:
    """Answer standard input until it ends or SIGTERM comes, save the state where asked; return the exit code.

    BrokenPipeError where nobody reads the answers any more, the state saved.
    """
    pipe = Pipe(load_fleets(policies))
    # A line leaves no cycles behind: what is loaded need not be searched for them again, nor every few lines.
    gc.freeze()
    gc.set_threshold(50_000)
    if state is not None:
        # Before the first line: to learn at the end that nothing can be saved would be too late.
        require_writable("--state", state)
        pipe.load(state)
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    reading = Reading(sys.stdin.fileno(), wake)
    signal.signal(signal.SIGTERM, reading.end)
    signal.set_wakeup_fd(woken)
    try:
        status = run_pipe(pipe, reading, sys.stdout.buffer, sys.stderr.buffer)
    except BrokenPipeError:
        # Nobody reads the answers any more; what was taken in counts all the same.
        if state is not None:
            pipe.save(state)
        raise
    if state is not None:
        pipe.save(state)
    return status


class Reading:
    """Lines of a file descriptor, as many at a time as came together, until it ends or a signal says so; what is begun is answered.

    `wake` can be read once a signal has come: one that comes in the moment before the wait for lines would not end that wait otherwise.
    """

    def __init__(self, descriptor: int, wake: int) -> None:
        self._descriptor, self._wake = descriptor, wake
        self._ended = False

    def end(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal."""
        self._ended = True

    def __iter__(self) -> Iterator[tuple[bytes, ...]]:
        """Hand out what has come; a line that nothing ends is one at the end of the stream.

        Of a line that is longer than `LINE_BYTES` only a part is kept, which is longer still, and so an error.
        """
        begun = bytearray()
        while chunk := self._read():
            *whole, rest = chunk.split(b"\n")
            if whole:
                whole[0] = bytes(begun + whole[0])
                begun.clear()
            if len(begun) <= LINE_BYTES:
                begun += rest
            for lines in batched(whole, LINES_TOGETHER):
                if self._ended:
                    return
                yield lines
        if begun and not self._ended:
            yield (bytes(begun),)

    def _read(self) -> bytes:
        """Return what is there, having waited for some; nothing at the end."""
        ready, _, _ = select.select([self._descriptor, self._wake], [], [])
        self._ended = self._ended or self._wake in ready
        return b"" if self._ended else os.read(self._descriptor, READ_BYTES)
