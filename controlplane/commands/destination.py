"""Where a command is told to write, asked for before the work, since an hour of figures must not be lost to a mistyped folder; and JSON.

Owns that one question, and the form of `--json`; who writes knows what goes into it.
"""

import json
import tempfile
from pathlib import Path

from pydantic_core import to_jsonable_python

from controlplane.contracts.errors import TidegateError


def require_writable(option: str, path: Path | None) -> None:
    """Raise TidegateError unless the path is None, or a file can be written there; `option` is what named it, such as `--report`."""
    if path is None:
        return
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir():
        raise TidegateError(f"{option} {path}: name a file in a folder that is there")
    try:
        with path.open("ab") if path.exists() else tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise TidegateError(f"{option} {path}: cannot be written ({error.strerror}); name a file in a folder of yours") from error


def json_text(data: object) -> str:
    """Return figures as a JSON document. What is not a number is null: JSON knows neither NaN nor infinities."""
    return json.dumps(to_jsonable_python(data, inf_nan_mode="null"), indent=2, allow_nan=False) + "\n"
