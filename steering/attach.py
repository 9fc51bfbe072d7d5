"""Context managers that change a pipeline for one call and undo the change afterwards, whatever happens.

Several of them go into one `ExitStack`, which undoes them in reverse order. Methods are replaced on the *instance* with
`functools.wraps`, because pipelines look at the signatures of their scheduler's methods to decide what to pass.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn

__all__ = ["after", "before", "replaced", "watched"]


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
def before(module: nn.Module, hook: Callable[..., Any]) -> Iterator[None]:
    """Runs `hook(module, args, kwargs)` on a module's inputs."""
    handle = module.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def after(module: nn.Module, hook: Callable[..., Any]) -> Iterator[None]:
    """Runs `hook(module, args, output)` on a module's output."""
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def watched(component: Any, look: Callable[[tuple[Any, ...], dict[str, Any]], Any]) -> Iterator[None]:
    """Calls `look(args, kwargs)` before each call of a denoiser, outside of any compiled graph. It may change the
    call's `kwargs`. What it gives, unless it is None, is the call's result, and the denoiser is not called."""
    compiled = vars(component).get("_compiled_call_impl")

    def around(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        given = look(args, kwargs)
        return original(*args, **kwargs) if given is None else given

    if compiled is None:  # eager, or a compiler's wrapper, whose graph begins in its `forward`
        with replaced(component, "forward", around):
            yield
        return
    component._compiled_call_impl = partial(around, compiled)
    try:
        yield
    finally:
        component._compiled_call_impl = compiled
