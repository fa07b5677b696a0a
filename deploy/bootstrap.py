#!/usr/bin/env python3
"""Make `.venv` be exactly requirements.lock plus this project, from nothing but a Python 3.9 and its standard library.

Owns finding or fetching uv and a Python to run on; it must not import anything of tidegate, nor write outside the checkout
(uv's own cache apart). The Makefile runs it before every target; it returns at once when nothing has changed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import re
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import Iterable, Iterator, Mapping, NamedTuple, NoReturn, Sequence

ROOT = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = (3, 12)
PREFERRED_PYTHONS = ((3, 12), (3, 13), (3, 14))
PYTHON_NAMES = ("python3.12", "python3.13", "python3.14", "python3", "python")
OLDEST_UV = (0, 8)
UV_REQUIREMENT = "uv>=0.8"
PIP_ZIPAPP = "https://bootstrap.pypa.io/pip/pip.pyz"
PROBE_SECONDS = 20
PIP_ATTEMPTS = 3
PROBE = "import sys; print(sys.implementation.name, *sys.version_info[:2], getattr(sys, '_base_executable', '') or sys.executable)"
# Each of these would point uv, or the Python it runs, at another environment than ours.
FOREIGN_VARIABLES = ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONHOME", "PYTHONPATH", "UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_TARGET", "UV_PREFIX")


class BootstrapError(Exception):
    """What stands in the way, and what to install."""


class Python(NamedTuple):
    """An interpreter that was executed and answered."""

    path: Path
    version: tuple[int, int]


def say(text: str) -> None:
    """Print one line of progress."""
    print(f"bootstrap: {text}", flush=True)


def run(command: Sequence[str | Path], env: Mapping[str, str] | None = None, timeout: float | None = None) -> tuple[bool, str]:
    """Run a command in the checkout; return whether it succeeded, and all that it printed."""
    try:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=str(ROOT),
            env=None if env is None else dict(env),
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, str(error)
    return done.returncode == 0, done.stdout.decode(errors="replace").strip()


# --- Pythons: found by executing them, because a pyenv shim can exist and fail ---------------------------------------------


def python_candidates(environ: Mapping[str, str], account_home: Path | None = None) -> Iterator[Path]:
    """Yield every file that may be a Python, on PATH first and then in the version folders of pyenv.

    `account_home` is where the account lives, which is not $HOME where that was set to an empty folder.
    """
    folders = [Path(folder) for folder in environ.get("PATH", "").split(os.pathsep) if folder]
    seen = set()
    for name in PYTHON_NAMES:
        for folder in folders:
            path = folder / name
            if path not in seen and os.access(str(path), os.X_OK) and path.is_file():
                seen.add(path)
                yield path
    roots = [Path(environ["PYENV_ROOT"])] if environ.get("PYENV_ROOT") else []
    roots += [Path(environ["HOME"]) / ".pyenv"] if environ.get("HOME") else []
    roots += [folder.parent for folder in folders if folder.name == "shims"]
    roots += [account_home / ".pyenv"] if account_home else []
    for root in dict.fromkeys(roots):
        yield from sorted(root.glob("versions/*/bin/python"), reverse=True)


def pythons_here() -> list[Path]:
    """Return the candidates of this machine and account."""
    return list(python_candidates(os.environ, Path(pwd.getpwuid(os.getuid()).pw_dir)))


def probe(path: Path) -> Python | None:
    """Execute a candidate; return the CPython behind it, None if it does not answer."""
    ok, output = run([path, "-I", "-c", PROBE], timeout=PROBE_SECONDS)
    answer = re.search(r"^cpython (\d+) (\d+) (.+)$", output, re.MULTILINE) if ok else None
    return Python(Path(answer.group(3)), (int(answer.group(1)), int(answer.group(2)))) if answer else None


def choose_python(candidates: Iterable[Path]) -> Python | None:
    """Return the first Python of the most preferred version, 3.12 before 3.13 before newer ones; None if all are too old."""
    best = None
    for candidate in candidates:
        found = probe(candidate)
        if found is None or found.version < OLDEST_PYTHON:
            continue
        if found.version == PREFERRED_PYTHONS[0]:
            return found
        if best is None or _preference(found) < _preference(best):
            best = found
    return best


def _preference(python: Python) -> tuple[int, tuple[int, int]]:
    known = python.version in PREFERRED_PYTHONS
    return (PREFERRED_PYTHONS.index(python.version) if known else len(PREFERRED_PYTHONS)), python.version


# --- uv: found, or installed into .tools ------------------------------------------------------------------------------------


def uv_works(path: Path) -> bool:
    """Execute a uv; return whether it answers and is new enough."""
    ok, output = run([path, "--version"], timeout=PROBE_SECONDS) if path.is_file() else (False, "")
    version = re.search(r"^uv (\d+)\.(\d+)", output, re.MULTILINE)
    return ok and version is not None and (int(version.group(1)), int(version.group(2))) >= OLDEST_UV


def find_uv(environ: Mapping[str, str], tools: Path) -> Path | None:
    """Return a uv from PATH, from where its installer puts it, or from an earlier bootstrap."""
    folders = [Path(folder) for folder in environ.get("PATH", "").split(os.pathsep) if folder]
    if environ.get("HOME"):
        folders += [Path(environ["HOME"]) / ".local/bin", Path(environ["HOME"]) / ".cargo/bin"]
    folders += [tools / "uv/bin", tools / "venv/bin"]
    return next((folder / "uv" for folder in folders if uv_works(folder / "uv")), None)


def install_uv(environ: Mapping[str, str], tools: Path, pythons: Iterable[Path]) -> Path:
    """Install uv into .tools with the first Python that has pip, or venv; else with pip's own zip application."""
    env = {**environ, "PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"}
    into_target = ["install", "--quiet", "--retries", "2", "--upgrade", "--target", str(tools / "uv"), UV_REQUIREMENT]
    say(f"uv is not here: installing it into {tools.name}/")
    failures: list[str] = []
    answering = [path for path in dict.fromkeys(pythons) if run([path, "-c", ""], timeout=PROBE_SECONDS)[0]]
    for python in answering:
        if len(failures) >= PIP_ATTEMPTS:
            break
        if run([python, "-m", "pip", "--version"], timeout=PROBE_SECONDS)[0]:
            done, output = run([python, "-m", "pip", *into_target], env)
        elif run([python, "-m", "venv", "--clear", tools / "venv"], env)[0]:
            done, output = run([tools / "venv/bin/python", "-m", "pip", "install", "--quiet", "--retries", "2", UV_REQUIREMENT], env)
        else:
            continue
        found = find_uv({}, tools) if done else None
        if found:
            return found
        failures.append(output)
    if not failures and answering:
        say(f"no Python here has pip or venv: fetching pip itself from {PIP_ZIPAPP}")
        failures.append(_install_with_zipapp(answering[0], tools, into_target, env))
        found = find_uv({}, tools)
        if found:
            return found
    raise BootstrapError(
        "uv, which installs the dependencies, is not on PATH and could not be installed.\n"
        "Install one of: uv (https://docs.astral.sh/uv), python3-pip or python3-venv (Debian: apt-get install python3-venv).\n"
        + "".join(f"  it said: {_last_line(failure)}\n" for failure in failures)
    )


def _install_with_zipapp(python: Path, tools: Path, into_target: Sequence[str], env: Mapping[str, str]) -> str:
    zipapp = tools / "pip.pyz"
    try:
        with urllib.request.urlopen(PIP_ZIPAPP, timeout=30) as answer:
            zipapp.write_bytes(answer.read())
    except OSError as error:
        return f"{PIP_ZIPAPP}: {error}"
    return run([python, zipapp, *into_target], env)[1]


def _last_line(output: str) -> str:
    return (output.splitlines() or ["nothing"])[-1]


def uv_environment(environ: Mapping[str, str], pip_config: str) -> dict[str, str]:
    """Return the environment for uv: without other environments' variables, and with the index that pip was told to use.

    uv does not read pip's configuration, so what `pip config list` prints (`global.index-url='…'`, one a line) is translated,
    unless uv has settings of its own. Where pip has no index of its own, nothing is.
    """
    env = {name: value for name, value in environ.items() if name not in FOREIGN_VARIABLES}
    settings = {name.replace("_", "-"): value for name, value in re.findall(r"^\w*\.([\w-]+)='(.*)'$", pip_config, re.MULTILINE)}
    settings.update({name[4:].lower().replace("_", "-"): value for name, value in environ.items() if name.startswith("PIP_")})
    if settings.get("cert"):
        env.setdefault("SSL_CERT_FILE", settings["cert"])
    if settings.get("index-url") and not any(name in env for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_CONFIG_FILE")):
        env["UV_DEFAULT_INDEX"] = settings["index-url"]
        if settings.get("extra-index-url"):
            # pip looks at all indexes alike; the hashes of the lock file keep a stranger's package out.
            env.setdefault("UV_INDEX", " ".join(settings["extra-index-url"].replace("\\n", " ").split()))
            env.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
        if settings.get("trusted-host"):
            env.setdefault("UV_INSECURE_HOST", settings["trusted-host"])
    return env


# --- the environment ----------------------------------------------------------------------------------------------------------


def stamp_of(root: Path) -> str:
    """Return what `.venv` was made from: the lock, the project, its place, and the Python in it."""
    parts = [root / "requirements.lock", root / "pyproject.toml", root / ".venv/pyvenv.cfg"]
    digest = hashlib.sha256(str(root).encode())
    for part in parts:
        digest.update(part.read_bytes() if part.exists() else b"-")
    return digest.hexdigest()


def is_current(root: Path) -> bool:
    """Return whether `.venv` is complete and made from what is here now."""
    stamp = root / ".venv/tidegate.stamp"
    whole = all((root / ".venv/bin" / name).exists() for name in ("python", "tidegate"))
    return whole and stamp.exists() and stamp.read_text() == stamp_of(root)


def make_venv(uv: Path, env: Mapping[str, str]) -> None:
    """Make `.venv` on the best Python that runs here, else on one that uv fetches. A usable one is kept."""
    existing = probe(ROOT / ".venv/bin/python")
    if existing and existing.version >= OLDEST_PYTHON and (ROOT / ".venv/pyvenv.cfg").exists():
        return
    python = choose_python(pythons_here())
    say(f"making .venv on {python.path}" if python else "no Python 3.12 or newer answers here: letting uv find or fetch one")
    ok, output = run([uv, "venv", "--quiet", "--no-project", "--clear", "--python", python.path if python else "3.12", ROOT / ".venv"], env)
    if not ok:
        tried = "\n".join(f"  {path}" for path in pythons_here()) or "  (nothing)"
        raise BootstrapError(
            "tidegate needs Python 3.12 or newer: none of those here could be used, and uv could not fetch one.\n"
            f"Install Python 3.12 or 3.13, or let this machine reach the internet. Executed here:\n{tried}\nuv said:\n{output}"
        )


def install(uv: Path, env: Mapping[str, str]) -> None:
    """Make the packages in `.venv` be exactly those of the lock, hashes checked, and this project on top."""
    say("installing requirements.lock, hashes checked")
    into = ["--quiet", "--python", str(ROOT / ".venv/bin/python")]
    steps = (
        [uv, "pip", "sync", *into, "--require-hashes", "requirements.lock"],
        [uv, "pip", "install", *into, "--no-deps", "--no-build-isolation", "--editable", "."],
    )
    for step in steps:
        ok, output = run(step, env)
        if not ok:
            raise BootstrapError(f"uv could not install what requirements.lock names. uv said:\n{output}")


@contextmanager
def exclusively(tools: Path) -> Iterator[None]:
    """Let one bootstrap at a time work on this checkout; the others wait. The lock dies with its holder."""
    tools.mkdir(exist_ok=True)
    with (tools / "bootstrap.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("another bootstrap is at work here: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def bootstrap() -> None:
    """Bring `.venv` up to date."""
    if is_current(ROOT):
        return
    tools = ROOT / ".tools"
    with exclusively(tools):
        if is_current(ROOT):
            return
        stamp = ROOT / ".venv/tidegate.stamp"
        stamp.unlink() if stamp.exists() else None
        uv = find_uv(os.environ, tools) or install_uv(os.environ, tools, [Path(sys.executable), *pythons_here()])
        pip_config = run([sys.executable, "-m", "pip", "config", "list"], timeout=PROBE_SECONDS)
        env = uv_environment(os.environ, pip_config[1] if pip_config[0] else "")
        make_venv(uv, env)
        install(uv, env)
        stamp.write_text(stamp_of(ROOT))
        say("done: .venv/bin/tidegate is ready")


def main() -> NoReturn:
    """Run, and turn an error into a message and exit status 1."""
    try:
        bootstrap()
    except BootstrapError as error:
        print(f"bootstrap: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


if __name__ == "__main__":
    main()
