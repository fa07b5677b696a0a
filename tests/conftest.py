"""What all tests share: Hypothesis profiles, the real components that a test may need, and the check that no process is left.

A test marked `needs("prometheus")` is skipped by that name where it is absent, and the closing summary lists what was not
exercised. It must not hold fixtures of one part: those live beside their tests.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.kube.control_plane import ControlPlane

settings.register_profile("default", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("default"), derandomize=True, print_blob=True)
settings.register_profile("long", settings.get_profile("default"), max_examples=10_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "default"))

SECONDS_FOR_CHILDREN_TO_END = 5.0
SESSION_MARK = "TIDEGATE_TEST_SESSION"


def _kube_assets() -> Path:
    return Path(os.environ.get("KUBEBUILDER_ASSETS") or "/usr/local/kubebuilder/bin")


def _has_beside_traces(path: str) -> bool:
    return any((folder / path).exists() for folder in _trace_folders())


def _has_trace_data() -> bool:
    from controlplane.traces.library import list_traces

    return any(info.path is not None for info in list_traces(_trace_folders()))


def _trace_folders() -> tuple[Path, ...]:
    from controlplane.traces.library import data_folders

    return data_folders(os.environ)


MEASURED_PROFILES, GPU_PRICES = "serving_profiles/measured_profiles.csv", "gpu_prices/gpu_prices.csv"
KUBE_PROGRAMS = ("kube-apiserver", "etcd", "kube-controller-manager", "kube-scheduler")
COMPONENTS: dict[str, tuple[str, Callable[[], bool]]] = {
    "kube-apiserver": (
        "kube-apiserver, etcd, kube-controller-manager and kube-scheduler in $KUBEBUILDER_ASSETS (a Kubernetes server release has them)",
        lambda: all(os.access(_kube_assets() / name, os.X_OK) for name in KUBE_PROGRAMS),
    ),
    "kubectl": ("kubectl on PATH", lambda: bool(shutil.which("kubectl"))),
    "docker-compose": ("docker-compose on PATH; it checks a file without a docker", lambda: bool(shutil.which("docker-compose"))),
    "prometheus": ("prometheus and promtool on PATH", lambda: bool(shutil.which("prometheus") and shutil.which("promtool"))),
    "alertmanager": (
        "alertmanager or prometheus-alertmanager on PATH",
        lambda: bool(shutil.which("alertmanager") or shutil.which("prometheus-alertmanager")),
    ),
    "chromium": ("chromium on PATH", lambda: bool(shutil.which("chromium") or shutil.which("chromium-browser"))),
    "aiconfigurator": ("pip install 'tidegate[aiconfigurator]', for Linux on x86-64", lambda: find_spec("aiconfigurator") is not None),
    "openssl": ("openssl on PATH", lambda: bool(shutil.which("openssl"))),
    "measured profiles": (f"{MEASURED_PROFILES} beside the traces", lambda: _has_beside_traces(MEASURED_PROFILES)),
    "GPU prices": (f"{GPU_PRICES} beside the traces", lambda: _has_beside_traces(GPU_PRICES)),
    "trace data": ("trace files in $TIDEGATE_DATA, the user data folder or ../shared/data", _has_trace_data),
}


@cache
def _absent() -> dict[str, str]:
    return {name: wanted for name, (wanted, is_here) in COMPONENTS.items() if not is_here()}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, by name, a test that needs a component which is not here."""
    for name in (name for marker in item.iter_markers("needs") for name in marker.args):
        if name not in COMPONENTS:
            pytest.fail(f"needs({name!r}): known components are {', '.join(COMPONENTS)}")
        if name in _absent():
            pytest.skip(f"needs {name}: {_absent()[name]}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the components that were not exercised, and how many tests that skipped."""
    reasons = [str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", []) if isinstance(report.longrepr, tuple)]
    for name, wanted in _absent().items():
        tests = sum(f"needs {name}:" in reason for reason in reasons)
        terminalreporter.write_line(f"not exercised: {name}, {tests} tests skipped; it would need {wanted}")


@pytest.fixture(scope="session")
def trace_folders() -> tuple[Path, ...]:
    """The folders that hold real traces, for tests marked `needs("trace data")`."""
    return _trace_folders()


@pytest.fixture(scope="session")
def measured_profiles() -> Path:
    """The file of measured serving profiles, for tests marked `needs("measured profiles")`."""
    return next(path for folder in _trace_folders() if (path := folder / MEASURED_PROFILES).exists())


@pytest.fixture(scope="session")
def gpu_prices() -> Path:
    """The file of prices of GPUs, for tests marked `needs("GPU prices")`."""
    return next(path for folder in _trace_folders() if (path := folder / GPU_PRICES).exists())


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[ControlPlane]":
    """A real Kubernetes control plane for the whole session, for tests marked `needs("kube-apiserver")`."""
    from tests.kube.control_plane import ControlPlane

    with ControlPlane(tmp_path_factory.mktemp("kube")) as plane:
        yield plane


def _processes_of(session: str) -> dict[int, str]:
    """Return this process's children, and all that inherited the session's mark, with their command lines; none without /proc."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            is_ours = parent == os.getpid() or f"{SESSION_MARK}={session}\0".encode() in (folder / "environ").read_bytes()
        except OSError:
            continue
        # An ended child has no command line; multiprocessing keeps its tracker until the interpreter ends.
        if is_ours and command and "resource_tracker" not in command:
            found[int(folder.name)] = command
    return found


@pytest.fixture(scope="session", autouse=True)
def no_process_left() -> Iterator[None]:
    """Fail the last test of the session if a process that a test started, or one that such a process started, is still there."""
    session = os.environ[SESSION_MARK] = f"{os.getpid()}-{time.time_ns()}"
    before = _processes_of(session)
    yield
    give_up = time.monotonic() + SECONDS_FOR_CHILDREN_TO_END
    while (left := {pid: command for pid, command in _processes_of(session).items() if pid not in before}) and time.monotonic() < give_up:
        time.sleep(0.05)
    assert not left, f"left behind: {left}"


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Undo what a test's commands set for logging: the stream that they chose is closed with the test."""
    yield
    structlog.reset_defaults()
