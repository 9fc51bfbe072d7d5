"""`Site`: a named place where text enters a model. `families` says which modules of a model are sites."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Site", "SiteKind"]

SiteKind = Literal["cross", "joint", "concat", "global"]


@dataclass(frozen=True, slots=True)
class Site:
    """A place where text enters an attention block.

    `kind`: `cross` (text is a constant side input), `joint` (text has a stream of its own), `concat` (text and picture
    are one sequence), `global` (pooled text enters the timestep modulation). `params`: number of parameters of the
    module that reads the text.
    """

    name: str
    kind: SiteKind
    params: int
