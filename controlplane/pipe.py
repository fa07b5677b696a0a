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
from controlplane.contracts.fleet import Fleet
from controlplane.contracts.frame import Frame, PipeLine
from controlplane.pipeline import Pipeline, PipeState
from controlplane.snapshot import dump_pipes, load_pipes
from policies.decide import Verdict

EXIT_BAD_INPUT = 2

_LINE: TypeAdapter[PipeLine] = TypeAdapter(PipeLine)


class LineError(Exception):
    """A line that cannot be answered; the message says why, and what would be right."""


class Pipe:
    """All fleets of the policies, folded line by line."""

    def __init__(self, fleets: Sequence[Fleet]) -> None:
        self.pipelines = {fleet.name: Pipeline(fleet) for fleet in fleets}
        self.states: dict[str, PipeState] = {name: pipeline.start() for name, pipeline in self.pipelines.items()}
        self.newest: dict[str, float] = {}

    def line(self, text: bytes) -> bytes | None:
        """Return the answer to one line, None for a line that gets none; LineError for one that cannot be used."""
        try:
            read = _LINE.validate_json(text)
        except ValidationError as error:
            raise LineError(_explain(error)) from error
        if read.fleet not in self.pipelines:
            known = ", ".join(sorted(self.pipelines))
            raise LineError(f"fleet: {read.fleet!r} has no policy; the policies name: {known}")
        pipeline, state = self.pipelines[read.fleet], self.states[read.fleet]
        if not isinstance(read, Frame):
            self.states[read.fleet] = pipeline.tell(state, read)
            return None
        self._check(read)
        try:
            self.states[read.fleet], verdict = pipeline.frame(state, read)
        except Exception as error:
            # A defect of ours on one line must not end the others' answers.
            raise LineError(f"cannot be decided on: {type(error).__name__}: {error}") from error
        self.newest[read.fleet] = read.time.timestamp()
        return answer_of(read, verdict, pipeline.fleet.ineligible)

    def _check(self, read: Frame) -> None:
        """Raise LineError for a frame that is out of order, or that names an offer which its fleet has not."""
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
        content = dump_pipes(self.states, {name: pipeline.forecasting for name, pipeline in self.pipelines.items()})
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
        self.states.update(loaded)
        self.newest = {name: state.planning.ticked_unix for name, state in loaded.items() if state.planning.ticked_unix is not None}


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


def run_pipe(pipe: Pipe, source: Iterable[bytes], answers: BinaryIO, errors: BinaryIO) -> int:
    """Answer every line of `source` until it ends; return the exit status: 0, or 2 where a line could not be used."""
    status = 0
    for number, text in enumerate(source, start=1):
        if not text.strip():
            continue
        try:
            answer = pipe.line(text)
        except LineError as error:
            status = EXIT_BAD_INPUT
            problem = {"type": "error", "line": number, "error": str(error)}
            errors.write(json.dumps(problem).encode() + b"\n")
            errors.flush()
            continue
        if answer is not None:
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
