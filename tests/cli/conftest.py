"""The tiny service of `tests/service`, for commands that run one."""

from tests.service.conftest import holding, host, hosts, model, packs, policy, recorder, serve, settings

__all__ = ["holding", "host", "hosts", "model", "packs", "policy", "recorder", "serve", "settings"]
