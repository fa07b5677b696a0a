"""What the end-to-end tests share: assertions in `evidence` explain themselves as those in a test do. Nothing else lives here."""

import pytest

pytest.register_assert_rewrite("tests.e2e.evidence")
