"""What a service imports before it serves: nothing heavy that it may never need."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("heavy", ["pandas", "statsmodels", "kubernetes", "botocore"])
def test_services_start_without(heavy: str) -> None:
    said = subprocess.run(
        [sys.executable, "-c", f"import sys, controlplane.app; print({heavy!r} in sys.modules)"], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "False"
