"""One real server for all pages, and one host."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hosts import kept_hosts
from tests.running import Server, serving


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`palimpsest serve` without options: the embedded model and the shipped policies, on a free port."""
    with serving(tmp_path_factory.mktemp("server"), model="signpost-pixart", policy="shipped") as running:
        yield running


@pytest.fixture(scope="package", autouse=True)
def _kept() -> Iterator[None]:
    with kept_hosts():
        yield
