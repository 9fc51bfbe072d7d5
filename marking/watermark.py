"""What a watermark must do, and where it comes from: our own, or a plug-in of the group `palimpsest.watermarks`.

A plug-in's entry point names a function that takes the secret key, as bytes, and returns a `Watermark`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from palimpsest_base.plugins import BadPlugin, load_plugins

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["BUILT_IN", "NotMarked", "Watermark", "load_watermark"]

BUILT_IN = "spread"


class NotMarked(ValueError):
    """A picture cannot carry the watermark. The message has nothing of the picture but its size."""


@runtime_checkable
class Watermark(Protocol):
    """Puts a mark into pixels and finds it again, both as a pure function of the pixels and the key."""

    @property
    def name(self) -> str:
        """What credentials and answers call it."""

    @property
    def shortest(self) -> int:
        """The shortest side of a picture that it marks, in pixels."""

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The marked pixels, of the same shape [h, w, 3]; `pixels` are not modified. Raises: NotMarked."""

    def find(self, pixels: NDArray[np.uint8]) -> bool:
        """Whether pixels [h, w, 3] of any size carry the mark of this key."""


def load_watermark(name: str, key: bytes, plugins: Collection[str] = ()) -> Watermark:
    """The watermark of this name with this key: the built-in one, or one of `plugins`. Raises: BadPlugin."""
    if name == BUILT_IN:
        from marking.spread import Spread

        return Spread(key)
    if name not in plugins:
        raise BadPlugin(f"must be `{BUILT_IN}` or the name of a plug-in that `plugins` allows, got `{name}`")
    factory = load_plugins("palimpsest.watermarks", plugins).get(name)
    if factory is None:
        raise BadPlugin(f"the plug-in `{name}` is no watermark")
    try:
        made = factory(key)
    except Exception as error:
        raise BadPlugin(f"the plug-in `{name}` cannot be set up: {error}") from error
    if not isinstance(made, Watermark):
        raise BadPlugin(f"the plug-in `{name}` must return a `Watermark`, got `{type(made).__name__}`")
    return made
