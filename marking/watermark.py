"""What a watermark must do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["BUILT_IN", "NotMarked", "Watermark"]

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
