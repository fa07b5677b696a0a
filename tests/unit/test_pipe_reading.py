"""How lines come to the pipe: together as they came, until the stream ends or a signal does it."""

import os
import signal
import threading
import tracemalloc
from collections.abc import Iterator

import pytest

from controlplane.commands.decide import LINES_TOGETHER, READ_BYTES, Reading
from controlplane.pipe import LINE_BYTES


class Ends:
    """A pipe for lines, and one on which signals are heard."""

    def __init__(self) -> None:
        self.given, self.giver = os.pipe()
        self.wake, self.woken = os.pipe()

    def signalled(self) -> None:
        """Do what Python does the moment a signal comes, before its handler runs."""
        os.write(self.woken, bytes([signal.SIGTERM]))


@pytest.fixture
def ends() -> Iterator[Ends]:
    both = Ends()
    yield both
    for descriptor in (both.given, both.giver, both.wake, both.woken):
        os.close(descriptor)


def test_a_signal_in_the_moment_before_the_wait_for_lines_ends_it(ends: Ends) -> None:
    os.write(ends.giver, b"one\ntwo\nbegun")
    lines = []
    for together in Reading(ends.given, ends.wake):
        lines += together
        ends.signalled()
    assert lines == [b"one", b"two"]


def test_lines_that_are_there_are_left_once_a_signal_was_handled(ends: Ends) -> None:
    os.write(ends.giver, b"x\n" * (3 * LINES_TOGETHER))
    reading, lines = Reading(ends.given, ends.wake), 0
    for together in reading:
        lines += len(together)
        reading.end(signal.SIGTERM, None)
    assert lines == LINES_TOGETHER


def test_a_line_that_does_not_end_is_kept_to_its_bound_and_the_next_one_is_whole(ends: Ends) -> None:
    lines = (b"before", b"x" * (8 * LINE_BYTES), b"y" * LINE_BYTES, b"after")

    given, giver = os.pipe()

    def give() -> None:
        with os.fdopen(giver, "wb") as pipe:
            for line in lines:
                pipe.write(line)
                pipe.write(b"\n")

    giving = threading.Thread(target=give)
    tracemalloc.start()
    giving.start()
    try:
        read = [line for together in Reading(given, ends.wake) for line in together]
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        giving.join()
        os.close(given)
    assert [read[0], read[2]] == [lines[0], lines[2]]
    assert LINE_BYTES < len(read[1]) <= LINE_BYTES + 2 * READ_BYTES
    assert most < 6 * LINE_BYTES
