"""Refuses pictures whose numbers are no numbers, before a pipeline makes pixels of them.

A half-precision autoencoder that overflows gives NaN, and so does a damaged weight. diffusers makes black of NaN, with
a warning, and on a black picture nothing is to be seen: it would pass for a good repair. So what goes into the decoder
and what comes out of it is looked at in the pipeline's own calls, which are not changed. A picture of one colour is a
picture: `a plain black background` may be asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch

from steering.attach import replaced
from steering.errors import BrokenPicture, Cause

__all__ = ["check_finite", "finite_pictures"]

# where a pipeline hands on its numbers: a part of it (None: itself), the method, and what its first argument is
_PLACES: tuple[tuple[str | None, str, Cause], ...] = (
    ("vae", "decode", "latents"),
    ("image_processor", "postprocess", "decoded"),
    (None, "numpy_to_pil", "decoded"),  # pipelines that denoise pixels have no image processor
)


@contextmanager
def finite_pictures(pipe: Any) -> Iterator[None]:
    """Looks at latents and decoded values of the calls of `pipe` inside. Those calls raise: BrokenPicture."""
    with ExitStack() as stack:
        for part, method, cause in _PLACES:
            owner = pipe if part is None else getattr(pipe, part, None)
            if hasattr(owner, method):
                stack.enter_context(replaced(owner, method, partial(_checked, cause)))
        yield


def check_finite(values: Any, cause: Cause) -> None:
    """Nothing, for tensors and arrays [b, ...] of finite numbers and for anything else. Raises: BrokenPicture."""
    if isinstance(values, np.ndarray):
        values = torch.from_numpy(values)
    if not isinstance(values, torch.Tensor):
        return
    broken = ~torch.isfinite(values).flatten(1).all(1)
    if broken.any():
        raise BrokenPicture(cause, tuple(broken.nonzero().flatten().tolist()))


def _checked(cause: Cause, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    check_finite(args[0] if args else next(iter(kwargs.values()), None), cause)
    return original(*args, **kwargs)
