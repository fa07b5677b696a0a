"""The bootstrap picks a Python by running it, a uv by asking its version, and does nothing twice."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load_bootstrap() -> ModuleType:
    """Import deploy/bootstrap.py, which is a script and belongs to no package."""
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "deploy/bootstrap.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bootstrap"] = module
    spec.loader.exec_module(module)
    return module


bootstrap = load_bootstrap()


def executable(path: Path, answer: str, status: int = 0) -> Path:
    """Write a command that prints one line and ends with a status."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{answer}'\nexit {status}\n")
    path.chmod(0o755)
    return path


def python(path: Path, version: str) -> Path:
    """Write a command that answers the probe as a CPython of this version would."""
    return executable(path, f"cpython {version} {path}")


def test_a_shim_that_fails_and_an_old_python_are_passed_over(tmp_path: Path) -> None:
    executable(tmp_path / "shims/python3.12", "pyenv: python3.12: command not found", status=127)
    python(tmp_path / "old/python3", "3 11")
    good = python(tmp_path / "good/python3", "3 12")
    path = ":".join(str(tmp_path / folder) for folder in ("shims", "old", "good"))

    chosen = bootstrap.choose_python(bootstrap.python_candidates({"PATH": path}))

    assert chosen == (good, (3, 12))


def test_a_broken_shim_leads_to_the_versions_beside_it(tmp_path: Path) -> None:
    executable(tmp_path / "pyenv/shims/python3", "pyenv: version 3.12 is not installed", status=1)
    python(tmp_path / "pyenv/versions/3.9.18/bin/python", "3 9")
    good = python(tmp_path / "pyenv/versions/3.13.0/bin/python", "3 13")

    chosen = bootstrap.choose_python(bootstrap.python_candidates({"PATH": str(tmp_path / "pyenv/shims")}))

    assert chosen == (good, (3, 13))


@pytest.mark.parametrize("variable", ["PYENV_ROOT", "HOME"])
def test_pyenv_is_found_without_its_shims(tmp_path: Path, variable: str) -> None:
    root = tmp_path / ".pyenv"
    good = python(root / "versions/3.12.1/bin/python", "3 12")
    value = root if variable == "PYENV_ROOT" else tmp_path

    assert list(bootstrap.python_candidates({"PATH": "", variable: str(value)})) == [good]


@pytest.mark.parametrize(
    ("there", "wanted"),
    [
        (("3 14", "3 13", "3 12"), "3 12"),
        (("3 15", "3 14", "3 13"), "3 13"),
        (("3 15", "3 14"), "3 14"),
        (("3 16", "3 15", "3 11"), "3 15"),
    ],
)
def test_312_is_preferred_then_313_then_newer(tmp_path: Path, there: tuple[str, ...], wanted: str) -> None:
    candidates = [python(tmp_path / version.replace(" ", ".") / "python3", version) for version in there]

    chosen = bootstrap.choose_python(candidates)

    assert " ".join(map(str, chosen.version)) == wanted


def test_no_python_that_is_new_enough_is_none(tmp_path: Path) -> None:
    pypy = executable(tmp_path / "pypy3", "pypy 3 12 /opt/pypy")
    silent = executable(tmp_path / "python3", "")

    assert bootstrap.choose_python([python(tmp_path / "python", "3 11"), pypy, silent, tmp_path / "absent"]) is None


def test_a_uv_that_is_old_or_broken_is_passed_over(tmp_path: Path) -> None:
    executable(tmp_path / "old/uv", "uv 0.4.30 (61ed2a236 2024-11-04)")
    executable(tmp_path / "broken/uv", "no such file", status=1)
    good = executable(tmp_path / "tools/uv/bin/uv", "uv 0.8.1")
    path = f"{tmp_path / 'old'}:{tmp_path / 'broken'}"

    assert bootstrap.find_uv({"PATH": path}, tmp_path / "tools") == good
    assert bootstrap.find_uv({"PATH": path}, tmp_path / "none") is None


def test_uv_is_installed_by_the_first_python_whose_pip_works(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    without_pip = executable(tmp_path / "bare/python3", "No module named pip", status=1)
    with_pip = executable(tmp_path / "full/python3", "pip 25")
    with_pip.write_text(
        f"#!/bin/sh\ncase \"$*\" in *install*) mkdir -p '{tools}/uv/bin'; printf '#!/bin/sh\\necho uv 0.9.0\\n' > '{tools}/uv/bin/uv'; "
        f"chmod +x '{tools}/uv/bin/uv';; esac\n"
    )

    assert bootstrap.install_uv({"PATH": "/usr/bin:/bin"}, tools, [without_pip, with_pip]) == tools / "uv/bin/uv"


def test_when_uv_cannot_be_installed_the_error_says_what_would_help(tmp_path: Path) -> None:
    refused = executable(tmp_path / "python3", "ERROR: No matching distribution found for uv")
    refused.write_text("#!/bin/sh\ncase \"$*\" in *install*) echo 'ERROR: No matching distribution found for uv'; exit 1;; esac\n")

    with pytest.raises(bootstrap.BootstrapError, match=r"apt-get install python3-venv(.|\n)*No matching distribution"):
        bootstrap.install_uv({"PATH": "/usr/bin:/bin"}, tmp_path / "tools", [refused])


def test_the_index_that_pip_was_given_is_handed_to_uv() -> None:
    listed = "global.index-url='https://mirror.example/simple'\nglobal.extra-index-url='https://more.example/simple'\n"

    env = bootstrap.uv_environment({"PATH": "/bin", "VIRTUAL_ENV": "/elsewhere"}, listed)

    assert env == {
        "PATH": "/bin",
        "UV_DEFAULT_INDEX": "https://mirror.example/simple",
        "UV_INDEX": "https://more.example/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }


def test_pip_s_environment_wins_over_its_files_and_uv_s_own_over_both() -> None:
    listed = "global.index-url='https://file.example/simple'\n"

    from_environment = bootstrap.uv_environment({"PIP_INDEX_URL": "https://env.example/simple"}, listed)
    from_uv = bootstrap.uv_environment({"UV_DEFAULT_INDEX": "https://uv.example/simple"}, listed)

    assert from_environment["UV_DEFAULT_INDEX"] == "https://env.example/simple"
    assert from_uv["UV_DEFAULT_INDEX"] == "https://uv.example/simple"


def test_without_an_index_of_its_own_pip_changes_nothing_for_uv() -> None:
    assert bootstrap.uv_environment({"PATH": "/bin"}, "global.find-links='/wheels'\n") == {"PATH": "/bin"}


def test_the_stamp_changes_with_the_lock_the_project_the_python_and_the_place(tmp_path: Path) -> None:
    def tree(name: str, lock: str = "a==1", project: str = "x", python_version: str = "3.12.1") -> Path:
        root = tmp_path / name
        (root / ".venv/bin").mkdir(parents=True)
        (root / "requirements.lock").write_text(lock)
        (root / "pyproject.toml").write_text(project)
        (root / ".venv/pyvenv.cfg").write_text(python_version)
        return root

    roots = [tree("one"), tree("two"), tree("three", lock="a==2"), tree("four", project="y"), tree("five", python_version="3.13.0")]

    assert len({bootstrap.stamp_of(root) for root in roots}) == len(roots)


def test_an_environment_is_current_only_when_it_is_whole_and_stamped(tmp_path: Path) -> None:
    for name in ("python", "tidegate"):
        executable(tmp_path / ".venv/bin" / name, "")
    assert not bootstrap.is_current(tmp_path)

    (tmp_path / ".venv/tidegate.stamp").write_text(bootstrap.stamp_of(tmp_path))
    assert bootstrap.is_current(tmp_path)

    (tmp_path / "requirements.lock").write_text("a==2")
    assert not bootstrap.is_current(tmp_path)
