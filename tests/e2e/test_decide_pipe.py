"""`tidegate decide` as a process in a pipe: one answer for one line, at once, with errors, signals and state as promised.

`tests/unit/test_pipe_lines.py` has every kind of line; `benchmarks/pipe_throughput.py` has the full size and the speed.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import IO

import pytest

from benchmarks.pipe_throughput import POLICY as MEASURED
from benchmarks.pipe_throughput import lines_of, resident_mib
from tests.e2e.programs import PATIENCE_SECONDS, ROOT, environment, run_tidegate

LINES = 3000
WARM = 1000
GAIN_MIB_AT_MOST = 6.0


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(MEASURED)
    return path


@contextmanager
def deciding(home: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "controlplane.cli", "decide", *arguments]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, env=environment(home), **pipes) as process:  # type: ignore[call-overload]
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def ask(process: subprocess.Popen[bytes], line: bytes) -> dict[str, object]:
    """Give one line and wait for its answer, before the next line is written: an answer is not held back."""
    given, got = _stream(process.stdin), _stream(process.stdout)
    given.write(line)
    given.flush()
    answer: dict[str, object] = json.loads(got.readline())
    return answer


def give(process: subprocess.Popen[bytes], lines: Iterable[bytes]) -> None:
    """Give lines without reading an answer."""
    for line in lines:
        _stream(process.stdin).write(line)
        _stream(process.stdin).flush()


def _stream(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream


def test_every_observation_is_answered_at_once_in_order_and_memory_stays_flat(tmp_path: Path, policy: Path) -> None:
    with deciding(tmp_path, str(policy)) as process:
        early = 0.0
        for number, line in enumerate(lines_of(LINES)):
            answer = ask(process, line)
            assert answer["type"] == "decision"
            assert answer["time"] == json.loads(line)["time"]
            if number == WARM:
                early = resident_mib(process.pid)
        gained = resident_mib(process.pid) - early
        _stream(process.stdin).close()
        assert process.wait(PATIENCE_SECONDS) == 0
        assert _stream(process.stdout).read() == b""
        assert _stream(process.stderr).read() == b""
    # NaN, where memory cannot be read, is not more.
    assert not gained > GAIN_MIB_AT_MOST


def test_bad_lines_are_told_on_standard_error_and_the_good_ones_answered(tmp_path: Path, policy: Path) -> None:
    good = list(lines_of(4))
    lines = [good[0], b"{oops\n", good[1], good[0], b"\n", good[2].replace(b"measured", b"nobody"), good[3].rstrip(b"\n")]
    result = run_tidegate(tmp_path, "decide", str(policy), stdin=b"".join(lines))
    assert result.returncode == 2
    answered = [json.loads(line)["time"] for line in result.stdout.splitlines()]
    assert answered == [json.loads(line)["time"] for line in (good[0], good[1], good[3])]
    errors = [json.loads(line) for line in result.stderr.splitlines()]
    assert [(error["type"], error["line"]) for error in errors] == [("error", 2), ("error", 4), ("error", 6)]


def test_lines_in_pieces_and_several_at_a_time_are_answered_without_waiting_for_more(tmp_path: Path, policy: Path) -> None:
    lines = list(lines_of(5))
    given = b"".join(lines)
    cuts = (0, 7, len(lines[0]) - 1, len(lines[0]) + 20, len(given) - 9, len(given))
    with deciding(tmp_path, str(policy)) as process:
        got, answered = _stream(process.stdout), 0
        for start, end in pairwise(cuts):
            give(process, [given[start:end]])
            for line in lines[answered : given[:end].count(b"\n")]:
                assert json.loads(got.readline())["time"] == json.loads(line)["time"]
                answered += 1
        _stream(process.stdin).close()
        assert process.wait(PATIENCE_SECONDS) == 0
    assert answered == len(lines)


def test_sigterm_saves_the_state_and_a_restart_goes_on_as_if_nothing_had_happened(tmp_path: Path, policy: Path) -> None:
    lines, state = list(lines_of(300)), tmp_path / "state.json"
    whole = run_tidegate(tmp_path, "decide", str(policy), stdin=b"".join(lines))
    answers = []
    with deciding(tmp_path, str(policy), "--state", str(state)) as process:
        answers += [ask(process, line) for line in lines[:120]]
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0
        assert _stream(process.stderr).read() == b""
    rest = run_tidegate(tmp_path, "decide", str(policy), "--state", str(state), stdin=b"".join(lines[120:]))
    answers += [json.loads(line) for line in rest.stdout.splitlines()]
    assert answers == [json.loads(line) for line in whole.stdout.splitlines()]


@pytest.mark.parametrize(
    ("content", "told"), [(b'{"measured":["{}","{}"]}', "delete it to start fresh"), (None, "name a file in a folder that is there")]
)
def test_a_state_that_cannot_be_used_stops_before_the_first_line(tmp_path: Path, policy: Path, content: bytes | None, told: str) -> None:
    state = tmp_path / ("state.json" if content else "no-such-folder/state.json")
    if content:
        state.write_bytes(content)
    result = run_tidegate(tmp_path, "decide", str(policy), "--state", str(state), stdin=next(lines_of(1)))
    assert (result.returncode, result.stdout) == (1, b"")
    assert result.stderr.decode().startswith("tidegate: ")
    assert told in result.stderr.decode()


def test_a_reader_that_goes_away_ends_it_quietly_with_the_state_saved(tmp_path: Path, policy: Path) -> None:
    state, lines = tmp_path / "state.json", list(lines_of(5000))
    with deciding(tmp_path, str(policy), "--state", str(state)) as process:
        ask(process, lines[0])
        _stream(process.stdout).close()
        with pytest.raises(BrokenPipeError):
            give(process, lines[1:])
        process.stdin = None
        assert process.wait(PATIENCE_SECONDS) == 128 + signal.SIGPIPE, "what a shell shows for a tool that SIGPIPE ended"
        assert _stream(process.stderr).read() == b""
    again = run_tidegate(tmp_path, "decide", str(policy), "--state", str(state), stdin=lines[0] + lines[-1])
    assert again.returncode == 2
    assert "before the fleet's previous line" in json.loads(again.stderr)["error"], "a line was taken in after the first"
    assert json.loads(again.stdout)["time"] == json.loads(lines[-1])["time"]


def test_errors_that_nobody_reads_end_it_quietly_too(tmp_path: Path, policy: Path) -> None:
    with deciding(tmp_path, str(policy)) as process:
        ask(process, next(lines_of(1)))
        _stream(process.stderr).close()
        give(process, [b"{oops\n"])
        assert process.wait(PATIENCE_SECONDS) == 128 + signal.SIGPIPE
        assert _stream(process.stdout).read() == b""
