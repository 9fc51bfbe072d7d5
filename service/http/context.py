"""What a handler knows of its request: the runtime that answers it, and the caller."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from starlette.requests import Request

from service.errors import Unavailable
from service.http.keys import NOBODY, Caller
from service.order import Order

if TYPE_CHECKING:
    from service.worker.runtime import Runtime

__all__ = ["caller_of", "for_person", "runtime_of"]


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


def for_person(request: Request, order: Order, identifier: str) -> Order:
    """The order for the person whom the caller calls `identifier`, which goes no further than this: from here on a
    keyed hash stands for it. Empty: the caller did not say.
    """
    if not identifier:
        return order
    return replace(order, person=runtime_of(request).keys.identified(caller_of(request).name, identifier))
