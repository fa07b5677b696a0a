"""Policy files and folders → texts, in a stable order, under names that a user recognises.

Owns which files of a folder count (*.yaml, *.yml, hidden ones left out) and the errors of reading them.
It must not know what is in them: `policies.reading` does.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from policies.problems import Problem

SUFFIXES = (".yaml", ".yml")
BYTES_MAX = 4 * 1024 * 1024


def read_texts(paths: Sequence[Path]) -> tuple[list[tuple[str, str]], list[Problem]]:
    """Return (name, text) of each policy file named or found in a folder, and a problem for each that cannot be read."""
    texts: list[tuple[str, str]] = []
    problems: list[Problem] = []
    if not paths:
        problems.append(Problem("-", 0, "", "", "no policy named; give a file or a folder, such as policies/library/small.yaml"))
    seen: set[Path] = set()
    for path in paths:
        if not path.exists():
            problems.append(Problem(str(path), 0, "", "", "there is no such file or folder"))
            continue
        files = list(_files_of(path))
        if not files:
            problems.append(Problem(str(path), 0, "", "", "the folder holds no .yaml or .yml file"))
        for file in files:
            if file.resolve() in seen:
                continue
            seen.add(file.resolve())
            text = _read(file)
            if isinstance(text, Problem):
                problems.append(text)
            else:
                texts.append((str(file), text))
    return texts, problems


def _files_of(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for file in sorted(path.rglob("*")):
        hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
        if file.suffix.lower() in SUFFIXES and file.is_file() and not hidden:
            yield file


def _read(file: Path) -> str | Problem:
    try:
        if file.is_file() and file.stat().st_size > BYTES_MAX:
            return Problem(str(file), 0, "", "", f"is larger than {BYTES_MAX // 1024 // 1024} MiB; is it a policy?")
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return Problem(str(file), 0, "", "", f"is not UTF-8 text (byte {error.start}); save it as UTF-8")
    except OSError as error:
        return Problem(str(file), 0, "", "", f"cannot be read: {error.strerror or error}")
