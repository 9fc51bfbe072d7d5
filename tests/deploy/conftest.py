"""The live test needs Debian's `prometheus`, and faults need minutes of the machine: `make test-system` runs both."""

from __future__ import annotations

import pytest

_SYSTEM = ("test_live.py", "test_faults.py", "test_workers.py", "test_container.py", "test_traces.py", "test_redis.py")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults-table", default=None, help="a Markdown file that is written with what faults did")


def pytest_ignore_collect(collection_path: object, config: pytest.Config) -> bool | None:
    """Leaves tests of the whole system out unless `-m system` asks for them."""
    asked = "system" in str(config.getoption("markexpr", ""))
    return True if str(collection_path).endswith(_SYSTEM) and not asked else None
