"""Owns `Site`: the named places where text enters a model. Values only; `families` says which modules they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Kind", "Site"]

Kind = Literal["cross", "joint", "concat", "global"]


@dataclass(frozen=True, slots=True)
class Site:
    """A place where text enters an attention block.

    `kind`: `cross` (text is a constant side input), `joint` (text has a stream of its own), `concat` (text and picture
    are one sequence), `global` (pooled text enters the timestep modulation). `params`: number of parameters of the
    module that reads the text.
    """

    name: str
    kind: Kind
    params: int
