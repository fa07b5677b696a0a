"""The rules of the house hold, and `make check` sees when they do not.

The guards are proven on a copy of the packages, with the very commands that the Makefile runs: whole it passes, and one file
in the pure core that imports a clock, randomness, an event loop or an SDK makes both ruff and import-linter fail, by name.
"""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.prefix) / "bin"
PACKAGES = ("controlplane", "forecasters", "actuators", "policies")
WORLDLY = ("asyncio", "time", "random", "boto3")
LONGEST_FILE_LINES = 320
LAZY_NAMES = {"utils", "helpers", "manager", "base", "common"}


def check_command(tool: str, root: Path) -> list[str]:
    """Return the command of `make check` that starts with this tool, as make itself would run it."""
    make = ["make", "--dry-run", "--no-print-directory", "--old-file=environment", "check", f"BIN={BIN}"]
    listed = subprocess.run(make, cwd=root, capture_output=True, text=True, check=True).stdout
    command = next(line for line in listed.splitlines() if line.startswith(f"{BIN}/{tool}"))
    return command.split()


def run_check(tool: str, root: Path) -> tuple[int, str]:
    """Run one command of `make check` in a tree; return its exit status and all it printed."""
    done = subprocess.run(check_command(tool, root), cwd=root, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the guards look at."""
    root = tmp_path_factory.mktemp("tree")
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, root)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    return root


@pytest.fixture(params=["policies/intruder.py", "forecasters/intruder.py", "controlplane/contracts/intruder.py"])
def intruder(tree: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A path in the pure core for a bad file, which is gone afterwards."""
    path = tree / request.param
    yield path
    path.unlink()


@pytest.mark.parametrize("tool", ["ruff check", "lint-imports"])
def test_an_unmodified_copy_passes(tree: Path, tool: str) -> None:
    status, output = run_check(tool, tree)

    assert status == 0, output


@pytest.mark.parametrize("module", WORLDLY)
def test_a_worldly_import_in_the_core_fails_both_guards(intruder: Path, tree: Path, module: str) -> None:
    intruder.write_text(f'"""A file that reaches out of the core."""\n\nimport {module}\n\nUSED = {module}\n')

    lint_status, lint_output = run_check("ruff check", tree)
    layer_status, layer_output = run_check("lint-imports", tree)

    assert lint_status != 0
    assert f"TID251 `{module}` is banned" in lint_output
    assert layer_status != 0
    assert re.search(rf"intruder -> {module}\b", layer_output), layer_output


@pytest.mark.parametrize(
    ("complaint", "source"),
    [
        ("TID251 `datetime.datetime.now`", "from datetime import datetime\n\nSTARTED = datetime.now()\n"),
        ("TID251 `numpy.random`", "import numpy as np\n\nNOISE = np.random.default_rng()\n"),
        ("PTH123 `open()`", 'TEXT = open("policy.yaml")\n'),
    ],
)
def test_a_worldly_call_in_the_core_fails(intruder: Path, tree: Path, complaint: str, source: str) -> None:
    intruder.write_text(f'"""A file that reaches out of the core without an import of its own."""\n\n{source}')

    status, output = run_check("ruff check", tree)

    assert status != 0
    assert complaint in output


def test_a_method_that_imports_an_actuator_breaks_the_layers(tree: Path) -> None:
    path = tree / "forecasters/intruder.py"
    path.write_text('"""A method that looks at the fleet."""\n\nfrom actuators.api import Actuator\n\nUSED = Actuator\n')
    try:
        status, output = run_check("lint-imports", tree)
    finally:
        path.unlink()

    assert status != 0
    assert "forecasters.intruder -> actuators.api" in output


def test_every_part_of_the_control_plane_has_its_place_in_the_layers() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    placed = set(re.findall(r"controlplane\.(\w+)", " ".join(layers)))
    parts = {path.stem for path in (ROOT / "controlplane").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}

    assert not parts - placed - {"__init__"}


def sources() -> list[Path]:
    """Return every Python file of the packages and the tests."""
    return sorted(path for folder in (*PACKAGES, "tests", "deploy") for path in (ROOT / folder).rglob("*.py"))


def test_files_are_small_rooms() -> None:
    long = {str(path.relative_to(ROOT)): lines for path in sources() if (lines := len(path.read_text().splitlines())) > LONGEST_FILE_LINES}

    assert not long


def test_names_say_what_a_file_owns() -> None:
    assert not [str(path.relative_to(ROOT)) for path in sources() if LAZY_NAMES & set(path.stem.split("_"))]


def patches_in(path: Path) -> list[str]:
    """Return where a file imports mock or patches an attribute."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.ImportFrom(module="unittest.mock" | "mock") | ast.Attribute(value=ast.Name(id="monkeypatch"), attr="setattr"):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
            case ast.Import(names=names) if {"unittest.mock", "mock"} & {alias.name for alias in names}:
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    return found


def test_tests_use_fakes_and_real_components_not_patches() -> None:
    assert not [found for path in sources() for found in patches_in(path)]
