"""What all tests share: Hypothesis profiles, the real components that a test may need, and the check that no process is left.

A test marked `needs("prometheus")` is skipped by that name where it is absent, and the closing summary lists what was not
exercised. It must not hold fixtures of one part: those live beside their tests.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("default", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("default"), derandomize=True, print_blob=True)
settings.register_profile("long", settings.get_profile("default"), max_examples=10_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "default"))

SECONDS_FOR_CHILDREN_TO_END = 5.0


def _kube_assets() -> Path:
    return Path(os.environ.get("KUBEBUILDER_ASSETS") or "/usr/local/kubebuilder/bin")


def _has_trace_data() -> bool:
    from controlplane.traces import list_traces

    return any(info.path is not None for info in list_traces(_trace_folders()))


def _trace_folders() -> tuple[Path, ...]:
    from controlplane.traces import data_folders

    return data_folders(os.environ)


COMPONENTS: dict[str, tuple[str, Callable[[], bool]]] = {
    "kube-apiserver": (
        "kube-apiserver and etcd in $KUBEBUILDER_ASSETS (setup-envtest fetches them)",
        lambda: all(os.access(_kube_assets() / name, os.X_OK) for name in ("kube-apiserver", "etcd")),
    ),
    "prometheus": ("prometheus and promtool on PATH", lambda: bool(shutil.which("prometheus") and shutil.which("promtool"))),
    "alertmanager": (
        "alertmanager or prometheus-alertmanager on PATH",
        lambda: bool(shutil.which("alertmanager") or shutil.which("prometheus-alertmanager")),
    ),
    "chromium": ("chromium on PATH", lambda: bool(shutil.which("chromium") or shutil.which("chromium-browser"))),
    "trace data": ("trace files in $TIDEGATE_DATA, the user data folder or ../shared/data", _has_trace_data),
}


def _absent() -> dict[str, str]:
    return {name: wanted for name, (wanted, is_here) in COMPONENTS.items() if not is_here()}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, by name, the tests that need a component which is not here."""
    absent: dict[str, str] | None = None
    for item in items:
        for marker in item.iter_markers("needs"):
            for name in marker.args:
                if name not in COMPONENTS:
                    raise pytest.UsageError(f"{item.nodeid}: needs({name!r}) is not one of {', '.join(COMPONENTS)}")
                absent = _absent() if absent is None else absent
                if name in absent:
                    item.add_marker(pytest.mark.skip(reason=f"needs {name}: {absent[name]}"))


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


def _children() -> dict[int, str]:
    """Return this process's children by id, with their command lines; empty where there is no /proc."""
    found = {}
    for listing in Path("/proc/self/task").glob("*/children"):
        try:
            ids = [int(text) for text in listing.read_text().split()]
        except OSError:
            continue
        for child in ids:
            try:
                command = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            except OSError:
                continue
            # multiprocessing keeps one of these until the interpreter ends.
            if command and "resource_tracker" not in command:
                found[child] = command
    return found


@pytest.fixture(scope="session", autouse=True)
def no_process_left() -> Iterator[None]:
    """Fail the last test of the session if a child process outlives the tests."""
    before = _children()
    yield
    give_up = time.monotonic() + SECONDS_FOR_CHILDREN_TO_END
    while (left := {pid: command for pid, command in _children().items() if pid not in before}) and time.monotonic() < give_up:
        time.sleep(0.05)
    assert not left, f"left behind: {left}"
