"""`Site`: a named place where text enters a model. `families` says which modules of a model are sites."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Site", "SiteKind"]

SiteKind = Literal["cross", "joint", "text", "global"]


@dataclass(frozen=True, slots=True)
class Site:
    """A place where text enters a model.

    `kind`: `cross` (text is a constant side input of attention), `joint` (text changes from block to block, in a stream
    of its own or in one sequence with the picture), `text` (only text passes: a block before it meets the picture, or
    the way in of one encoder's text), `global` (pooled text enters the timestep modulation). `params`: number of
    parameters of the module that reads the text.
    """

    name: str
    kind: SiteKind
    params: int
