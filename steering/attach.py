"""Owns the ways in: what is put on a pipeline for one call, and taken off again whatever happens.

Every function here is a context manager, so that an `ExitStack` undoes them in reverse order. Methods are replaced on
the *instance* with `functools.wraps`, because pipelines look at the signatures of their scheduler's methods to decide
what to pass.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

__all__ = ["hooked", "replaced"]


@contextmanager
def replaced(owner: Any, name: str, around: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """The original method, while `owner.name(...)` runs `around(original, ...)` instead."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def instead(*args: Any, **kwargs: Any) -> Any:
        return around(original, *args, **kwargs)

    before = vars(owner).get(name)
    object.__setattr__(owner, name, instead)
    try:
        yield original
    finally:
        if before is None:
            object.__delattr__(owner, name)
        else:  # somebody else had replaced it before us
            object.__setattr__(owner, name, before)


@contextmanager
def hooked(module: nn.Module, before: Callable[..., Any] | None, after: Callable[..., Any] | None) -> Iterator[None]:
    """Runs `before` on a module's inputs and `after` on its output; either may be None."""
    handles = []
    try:
        if before is not None:
            handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
        if after is not None:
            handles.append(module.register_forward_hook(after))
        yield
    finally:
        for handle in handles:
            handle.remove()
