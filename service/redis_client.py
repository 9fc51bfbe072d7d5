"""The client of the Redis in which servers behind one address keep what they share: rates of keys, and strikes."""

from __future__ import annotations

from typing import Any

from service.settings import SettingsError

__all__ = ["APART_SECONDS", "redis_client"]

_SECONDS = 0.25  # longest wait for one answer
APART_SECONDS = 5.0  # after Redis failed: how long it is not asked


def redis_client(url: str) -> tuple[Any, tuple[type[Exception], ...]]:
    """A client that waits a short while for each answer and does not try again, and what it raises when there is none.
    Raises `SettingsError` for a bad `url`.
    """
    try:
        import redis
    except ImportError:
        raise SettingsError("`redis_url` needs the package `redis`: install `palimpsest[redis]`") from None
    try:
        client = redis.Redis.from_url(url, socket_timeout=_SECONDS, socket_connect_timeout=_SECONDS, retry=None)
    except ValueError as error:
        raise SettingsError(f"`redis_url` must be `redis://host:port/number` or `rediss://...`: {error}") from None
    return client, (redis.RedisError, OSError)
