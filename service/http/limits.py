"""The rate limit of API keys: one token bucket per name, shared by all workers of a server, or by all that use a Redis.

A bucket is a file of 16 bytes that is changed under a lock. Workers share no memory, and separate counts would make the
rate depend on which worker answers. With `redis_url` the bucket is in Redis, changed by one script. While Redis does
not answer, each server keeps the rates alone: a caller may then ask each of them at its rate, and every answer is
judged as always. A rate protects the machines and not the pictures, so refusing everybody would be no safer.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import logging
import math
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

from palimpsest_base.scratch import scratch_folder
from service.errors import RateLimited, without_message
from service.http.keys import Caller
from service.redis_client import APART_SECONDS, redis_client
from service.settings import Settings

__all__ = ["RateLimiter", "RedisBuckets", "limits_folder", "shared_buckets"]

log = logging.getLogger("bentoml.palimpsest.http")
_BUCKET = struct.Struct("dd")  # tokens left, and when that was
# KEYS: a bucket; ARGV: tokens a second, most tokens. The clock is Redis', which all servers share
_TAKE = """
local rate, burst, time = tonumber(ARGV[1]), tonumber(ARGV[2]), redis.call('TIME')
local now, kept = time[1] + time[2] / 1e6, redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(kept[1]) or burst, tonumber(kept[2]) or now
tokens = math.min(burst, tokens + rate * math.max(0, now - at))
local wait = 0
if tokens >= 1 then tokens = tokens - 1 else wait = (1 - tokens) / rate end
redis.call('HSET', KEYS[1], 'tokens', tokens, 'at', now)
redis.call('EXPIRE', KEYS[1], ARGV[3])
return tostring(wait)
"""


def limits_folder() -> Path:
    """The folder that the workers of this server share, and no other server uses."""
    prometheus = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return Path(prometheus).parent / "limits" if prometheus else scratch_folder()


class RedisBuckets:
    """Buckets that all who use one Redis share. Raises `SettingsError` for a bad `url`."""

    def __init__(self, url: str, *, burst: int) -> None:
        client, self.failures = redis_client(url)
        self._take = client.register_script(_TAKE)
        self._burst = burst

    def taken(self, name: str, rate: float) -> float:
        """0 if a token was taken, else the seconds until the next one. Raises one of `failures`."""
        full = math.ceil(self._burst / rate) + 1  # seconds after which a bucket is as if it had never been
        return float(self._take(keys=[f"palimpsest:rate:{name}"], args=[rate, self._burst, full]))


def shared_buckets(settings: Settings) -> RedisBuckets | None:
    """The buckets in the Redis of the settings; None: there is none. Raises `SettingsError`."""
    if settings.redis_url is None:
        return None
    return RedisBuckets(settings.redis_url.get_secret_value(), burst=settings.rate_burst)


class RateLimiter:
    """Allows a caller `per_minute` requests on average and `burst` at once. 0 per minute means no limit.

    A caller's own rate overrides `per_minute`. Time is the machine's monotonic clock, which all processes share.
    `apart` is called for each request whose rate should have been `shared` and was kept in `folder` alone.
    """

    def __init__(
        self,
        folder: Path,
        *,
        per_minute: float,
        burst: int,
        clock: Callable[[], float] = time.monotonic,
        shared: RedisBuckets | None = None,
        apart: Callable[[], None] = lambda: None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._per_minute = per_minute
        self._burst = float(burst)
        self._clock = clock
        self._shared = shared
        self._apart = apart
        self._ask_again = -math.inf

    async def admit(self, caller: Caller) -> None:
        """As `take`. Redis is not waited for on the event loop."""
        if self._shared is None:
            self.take(caller)
        else:
            await asyncio.to_thread(self.take, caller)

    def take(self, caller: Caller) -> None:
        """Takes one token. Raises `RateLimited` with the time until the next token if there is none."""
        rate = (self._per_minute if caller.per_minute is None else caller.per_minute) / 60.0
        if rate <= 0:
            return
        wait = self._waits(hashlib.sha256(caller.name.encode()).hexdigest()[:32], rate)
        if wait > 0:
            raise RateLimited("too many requests for this key; try again later", retry_after=wait)

    def _waits(self, name: str, rate: float) -> float:
        """0 if a token was taken, from Redis if there is one that answers, else the seconds until the next one."""
        if self._shared is None:
            return self._taken(self._folder / name, rate)
        if self._clock() >= self._ask_again:
            try:
                return self._shared.taken(name, rate)
            except self._shared.failures as error:
                self._ask_again = self._clock() + APART_SECONDS
                log.error("Redis does not answer, this server keeps rates alone: %s", without_message(error))
        self._apart()
        return self._taken(self._folder / name, rate)

    def _taken(self, file: Path, rate: float) -> float:
        """0 if a token was taken, else the seconds until the next one."""
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            kept, now = os.pread(handle, _BUCKET.size, 0), self._clock()
            tokens, then = _BUCKET.unpack(kept) if len(kept) == _BUCKET.size else (self._burst, now)
            tokens = min(self._burst, tokens + rate * max(0.0, now - then))
            wait = 0.0 if tokens >= 1 else (1 - tokens) / rate
            os.pwrite(handle, _BUCKET.pack(tokens - (wait == 0.0), now), 0)
            return wait
        finally:
            os.close(handle)
