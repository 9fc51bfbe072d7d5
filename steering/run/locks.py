"""Locks: one call at a time on a host, and no two hosts on one module."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from steering.errors import HostBusy, HostShared

__all__ = ["HostLock", "claim", "release"]


class HostLock:
    """A lock that knows the thread that holds it: another thread waits, the same thread gets an error instead of a
    deadlock."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._holder: int | None = None
        self._open = False  # whether the holder may call

    @contextmanager
    def kept(self, timeout: float | None) -> Iterator[None]:
        """Holds the host over a block, in which the same thread may call it. Raises: HostBusy."""
        with self.held(timeout):
            self._open = True
            try:
                yield
            finally:
                self._open = False

    @contextmanager
    def held(self, timeout: float | None) -> Iterator[None]:
        """Holds the host. `timeout` in seconds, None waits for ever. Raises: HostBusy."""
        if self._holder == threading.get_ident():
            if self._open:
                self._open = False
                try:
                    yield
                finally:
                    self._open = True
                return
            raise HostBusy(
                f"host `{self._name}` is already in use by this thread; leave `host.steer` before another call"
            )
        if not self._lock.acquire(timeout=-1 if timeout is None else max(timeout, 0.0)):
            raise HostBusy(f"host `{self._name}` is in use by another call, waited {timeout:g} s")
        self._holder = threading.get_ident()
        try:
            yield
        finally:
            self._holder = None
            self._lock.release()


# Process-wide on purpose: whether two hosts share a module cannot be seen from either of them. Weak on both sides, so
# a host or a model that is gone claims nothing.
_CLAIMS: weakref.WeakKeyDictionary[Any, weakref.ref[Any]] = weakref.WeakKeyDictionary()
_CLAIMS_LOCK = threading.Lock()


def claim(host: Any, parts: Sequence[tuple[str, Any]]) -> None:
    """Makes a host the owner of parts (modules, schedulers; each with its name), of all or of none. Raises:
    HostShared."""
    with _CLAIMS_LOCK:
        for name, part in parts:
            holder = _CLAIMS[part]() if part in _CLAIMS else None
            if holder is not None and holder is not host:
                raise HostShared(
                    f"`{name}` belongs to host `{holder.name}`; two hosts cannot share one: use that host, or close it"
                )
        for _, part in parts:
            _CLAIMS[part] = weakref.ref(host)


def release(host: Any) -> None:
    """Ends a host's ownership of its parts."""
    with _CLAIMS_LOCK:
        for part in [p for p, holder in _CLAIMS.items() if holder() is host]:
            del _CLAIMS[part]
