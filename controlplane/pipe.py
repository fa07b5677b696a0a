"""The pipe: JSON lines in, exactly one decision line out for each observation line, in order and flushed, in event time.

Owns line reading, its errors (one JSON line on stderr each, exit status 2 at the end) and the state file.
It must not decide: every line goes through `controlplane.pipeline`, the very code that production runs.
"""

import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_json

from controlplane.contracts.errors import SnapshotError
from controlplane.contracts.events import Alert, Launch
from controlplane.contracts.fleet import Fleet
from controlplane.contracts.frame import Frame, PipeLine
from controlplane.forecasting import see_launch
from controlplane.pipeline import Pipeline, PipeState
from controlplane.planning import see_alert
from controlplane.snapshot import dump_pipes, load_pipes
from policies.decide import Verdict
from policies.view import Outlook

EXIT_BAD_INPUT = 2
# A line of a thousand offers has a tenth of it.
LINE_BYTES = 2 * 2**20

_LINE: TypeAdapter[PipeLine] = TypeAdapter(PipeLine)


class LineError(Exception):
    """A line that cannot be answered; the message says why, and what would be right."""


_Told = tuple[PipeLine, Outlook | None]


class Pipe:
    """All fleets of the policies, folded line by line."""

    def __init__(self, fleets: Sequence[Fleet]) -> None:
        self.pipelines = {fleet.name: Pipeline(fleet) for fleet in fleets}
        started = {name: pipeline.start() for name, pipeline in self.pipelines.items()}
        self.forecasting = {name: state.forecasting for name, state in started.items()}
        self.planning = {name: state.planning for name, state in started.items()}
        self.newest: dict[str, float] = {}

    def answer(self, lines: Sequence[bytes]) -> list[bytes | LineError | None]:
        """Return the answer to each line: None where it gets none, the error where it cannot be used.

        The forecaster's half takes them all before the planner's does: a processor that stays with one of them is a tenth faster.
        """
        return [self._plan(told) for told in [self._foresee(text) for text in lines]]

    def _foresee(self, text: bytes) -> _Told | LineError | None:
        """Read one line and forecast from it."""
        if len(text) > LINE_BYTES:
            return LineError(f"line: longer than {LINE_BYTES:,} bytes; is there a newline at the end of each observation?")
        if not text.strip():
            return None
        try:
            read = _LINE.validate_json(text)
            self._check(read)
            outlook = None
            if isinstance(read, Frame):
                pipeline, state = self.pipelines[read.fleet], self.forecasting[read.fleet]
                self.forecasting[read.fleet], outlook = pipeline.foresee(state, read)
                self.newest[read.fleet] = read.time.timestamp()
            elif isinstance(read, Launch):
                self.forecasting[read.fleet] = see_launch(self.forecasting[read.fleet], read)
        except ValidationError as error:
            return LineError(_explain(error))
        except LineError as error:
            return error
        except Exception as error:
            return _defect(error)
        return read, outlook

    def _plan(self, told: _Told | LineError | None) -> bytes | LineError | None:
        """Decide on one line that was forecast from."""
        if told is None or isinstance(told, LineError):
            return told
        read, outlook = told
        planning = self.planning[read.fleet]
        try:
            if isinstance(read, Frame):
                pipeline = self.pipelines[read.fleet]
                self.planning[read.fleet], verdict = pipeline.plan(planning, read, outlook)
                return answer_of(read, verdict, pipeline.fleet.ineligible)
            if isinstance(read, Alert):
                self.planning[read.fleet] = see_alert(planning, read)
        except Exception as error:
            return _defect(error)
        return None

    def _check(self, read: PipeLine) -> None:
        """Raise LineError for a fleet that has no policy, and for a frame out of order or with an offer that its fleet has not."""
        if read.fleet not in self.pipelines:
            raise LineError(f"fleet: {read.fleet!r} has no policy; the policies name: {', '.join(sorted(self.pipelines))}")
        if not isinstance(read, Frame):
            return
        pipeline = self.pipelines[read.fleet]
        if read.time.timestamp() < self.newest.get(read.fleet, float("-inf")):
            raise LineError(f"time: {read.time.isoformat()} is before the fleet's previous line; lines must be in time order")
        known = pipeline.fleet.offer_by_name
        unknown = {name for names in (read.ready, read.pending, read.prices, read.unavailable) for name in names if name not in known}
        unknown -= pipeline.fleet.ineligible.keys()
        if unknown:
            offers = ", ".join(pipeline.fleet.offer_by_name)
            raise LineError(f"{', '.join(sorted(unknown))!r}: not an offer of fleet {read.fleet!r}; its offers are: {offers}")

    def save(self, path: Path) -> None:
        """Write the state atomically: a crash leaves the old file or the new one."""
        states = {name: PipeState(self.forecasting[name], self.planning[name]) for name in self.pipelines}
        content = dump_pipes(states, {name: pipeline.forecasting for name, pipeline in self.pipelines.items()})
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def load(self, path: Path) -> None:
        """Go on from a saved state, where the file is there; SnapshotError names it where it cannot be used."""
        if not path.exists():
            return
        forecastings = {name: pipeline.forecasting for name, pipeline in self.pipelines.items()}
        try:
            loaded = load_pipes(path.read_bytes(), forecastings)
        except SnapshotError as error:
            raise SnapshotError(f"{path}: {error}; delete it to start fresh") from error
        self.forecasting.update({name: state.forecasting for name, state in loaded.items()})
        self.planning.update({name: state.planning for name, state in loaded.items()})
        self.newest = {name: state.planning.ticked_unix for name, state in loaded.items() if state.planning.ticked_unix is not None}


def _defect(error: Exception) -> LineError:
    """A defect of ours on one line must not end the others' answers."""
    return LineError(f"cannot be decided on: {type(error).__name__}: {error}")


def answer_of(frame: Frame, verdict: Verdict, ineligible: Mapping[str, str]) -> bytes:
    """Return the decision line that answers a frame. Offers that cannot serve the fleet are named with the reason, where there are any."""
    line: dict[str, object] = {
        "type": "decision",
        "fleet": frame.fleet,
        "time": frame.time.isoformat().replace("+00:00", "Z"),
        "targets": verdict.targets,
        "spill_per_second": round(verdict.spill_per_second, 6),
        "reasons": [reason.value for reason in verdict.reasons],
    }
    if ineligible:
        line["ineligible"] = dict(ineligible)
    return to_json(line) + b"\n"


def run_pipe(pipe: Pipe, source: Iterable[Sequence[bytes]], answers: BinaryIO, errors: BinaryIO) -> int:
    """Answer every line of `source` until it ends; return the exit status: 0, or 2 where a line could not be used.

    Lines that came together are answered together: what is flushed is everything that can be said before more has to come.
    """
    status, number = 0, 0
    for lines in source:
        for answer in pipe.answer(lines):
            number += 1
            if isinstance(answer, LineError):
                status = EXIT_BAD_INPUT
                problem = {"type": "error", "line": number, "error": str(answer)}
                errors.write(json.dumps(problem).encode() + b"\n")
                errors.flush()
            elif answer is not None:
                answers.write(answer)
        answers.flush()
    return status


def _explain(error: ValidationError) -> str:
    problems = []
    for problem in error.errors(include_url=False)[:5]:
        path = ".".join(str(part) for part in problem["loc"] if part not in ("observation", "launch", "alert")) or "line"
        given = "" if problem["type"] in ("missing", "json_invalid") else f" (given: {str(problem.get('input'))[:80]})"
        problems.append(f"{path}: {problem['msg']}{given}")
    return "; ".join(problems)
