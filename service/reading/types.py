"""The callable types with which a worker reads prompts and pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from policies import Sense, Signals

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Look", "Sense", "WithoutLettering"]

Look = Callable[["Image", frozenset[str]], Signals]  # a picture, and the names that it is read for
WithoutLettering = Callable[[str], str]  # a prompt to the same prompt without any lettering: a donor's last resort
