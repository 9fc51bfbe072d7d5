"""What a handler knows of its request: the runtime that answers it, and the caller."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request

from service.errors import Unavailable
from service.http.keys import NOBODY, Caller

if TYPE_CHECKING:
    from service.worker.runtime import Runtime

__all__ = ["caller_of", "runtime_of"]


def caller_of(request: Request) -> Caller:
    """The caller that the guard found."""
    caller: Caller = getattr(request.state, "caller", NOBODY)
    return caller


def runtime_of(request: Request) -> Runtime:
    """The runtime of this worker. Raises `Unavailable` before there is one."""
    runtime: Runtime | None = getattr(request.app.state, "runtime", None)
    if runtime is None:
        raise Unavailable("the worker is starting")
    return runtime
