"""The rate limit of API keys: one token bucket per name, shared by all workers of a server.

A bucket is a file of 16 bytes that is changed under a lock. Workers share no memory, and separate counts would make the
rate depend on which worker answers.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

from palimpsest_base.scratch import scratch_folder
from service.errors import RateLimited
from service.http.keys import Caller

__all__ = ["RateLimiter", "limits_folder"]

_BUCKET = struct.Struct("dd")  # tokens left, and when that was


def limits_folder() -> Path:
    """The folder that the workers of this server share, and no other server uses."""
    prometheus = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return Path(prometheus).parent / "limits" if prometheus else scratch_folder()


class RateLimiter:
    """Allows a caller `per_minute` requests on average and `burst` at once. 0 per minute means no limit.

    A caller's own rate overrides `per_minute`. Time is the machine's monotonic clock, which all processes share.
    """

    def __init__(
        self, folder: Path, *, per_minute: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._per_minute = per_minute
        self._burst = float(burst)
        self._clock = clock

    def take(self, caller: Caller) -> None:
        """Takes one token. Raises `RateLimited` with the time until the next token if there is none."""
        rate = (self._per_minute if caller.per_minute is None else caller.per_minute) / 60.0
        if rate <= 0:
            return
        wait = self._taken(self._folder / hashlib.sha256(caller.name.encode()).hexdigest()[:32], rate)
        if wait > 0:
            raise RateLimited("too many requests for this key; try again later", retry_after=wait)

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
