"""The live test needs Debian's `prometheus` and a minute of the machine: it runs in `make test-system` only."""

from __future__ import annotations

import pytest


def pytest_ignore_collect(collection_path: object, config: pytest.Config) -> bool | None:
    """Leaves the live test out unless `-m system` asks for it."""
    asked = "system" in str(config.getoption("markexpr", ""))
    return True if str(collection_path).endswith("test_live.py") and not asked else None
