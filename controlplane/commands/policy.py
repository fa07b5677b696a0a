"""The bodies of `tidegate validate` and `tidegate schema`: paths in, text and exit code out.

Owns how problems are counted and listed; the command line prints what these functions return.
It must not print or exit by itself.
"""

from collections.abc import Sequence
from pathlib import Path

from controlplane.config import load_policies
from policies.explain import explain as explain_policy
from policies.reading import Reading
from policies.reference import json_schema_text

EXIT_GOOD = 0
EXIT_BAD = 1


def validate_paths(paths: Sequence[Path], explain: bool = False) -> tuple[str, int]:
    """Return every problem of files and folders, then a summary, and the exit code: 1 if there is an error, warnings are 0."""
    reading = load_policies(paths)
    lines = [str(problem) for problem in reading.problems]
    if explain:
        lines += (
            ["", *(f"{explain_policy(read)}\n" for read in reading.policies)]
            if lines
            else [f"{explain_policy(read)}\n" for read in reading.policies]
        )
    lines.append(_summary(reading))
    return "\n".join(lines).lstrip("\n"), EXIT_BAD if reading.errors else EXIT_GOOD


def schema_text() -> str:
    """Return the JSON Schema (2020-12) of a policy document."""
    return json_schema_text().rstrip("\n")


def _summary(reading: Reading) -> str:
    warnings = _counted(len(reading.warnings), "warning")
    if reading.errors:
        return f"{_counted(len(reading.errors), 'error')}, {warnings}"
    names = ", ".join(read.fleet.name for read in reading.policies)
    return f"valid: {_counted(len(reading.policies), 'fleet')} ({names}), {warnings}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
