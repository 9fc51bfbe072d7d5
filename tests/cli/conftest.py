"""The tiny service of `tests/service`, for commands that run one, and hosts that commands load once."""

from collections.abc import Iterator

import pytest

from tests.hosts import kept_hosts
from tests.service.conftest import holding, host, hosts, model, packs, policy, recorder, serve, settings

__all__ = ["holding", "host", "hosts", "model", "packs", "policy", "recorder", "serve", "settings"]


@pytest.fixture(scope="package", autouse=True)
def _kept() -> Iterator[None]:
    with kept_hosts():
        yield
