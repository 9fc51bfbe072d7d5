"""Cells: pieces of work that can be done alone, on any machine, in any order, and are named by their content.

A cell holds all that its answer depends on, except the host; its key covers the host's fingerprint as well. So an
answer can be kept in a file and found again after a kill, and a second answer, here or elsewhere, is the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from localization.contrasts import Contrast

__all__ = ["Cell", "CellAnswer", "CellKind", "Treatment"]

# `ends`: one contrast's captured calls under the full swap; `effects` and `slopes`: under mixtures; `writes`: what its
# tokens write; `pictures`: whole runs
CellKind = Literal["ends", "effects", "slopes", "writes", "pictures"]
CellAnswer = dict[str, Any]
_VERSION = 1  # of the meaning of answers


@dataclass(frozen=True, slots=True)
class Treatment:
    """How whole pictures are steered: the donor's text at `sites` in a window; without sites, not at all."""

    sites: tuple[str, ...] = ()
    pooled: Literal["keep", "donor"] = "keep"
    window: tuple[float, float] = (0.0, 1.0)
    strength: float = 1.0


@dataclass(frozen=True, slots=True)
class Cell:
    """One piece of work.

    Attributes:
        contrasts: one, but for `pictures`, which are drawn together.
        levels: places in the trajectory, as fractions, at which calls are captured in a run of `steps` steps.
        points: of `effects` and `slopes`: mixtures, one share a unit each.
        published: of `writes`: as the paper's code does.
        keep: of `pictures`: how many small pictures come with the answer.
        witness: of `pictures`: the name of the function that judges them.
    """

    kind: CellKind
    contrasts: tuple[Contrast, ...]
    levels: tuple[float, ...] = ()
    steps: int | None = None
    points: tuple[tuple[float, ...], ...] = ()
    published: bool = False
    treatment: Treatment = field(default_factory=Treatment)
    keep: int = 0
    witness: str = ""

    def key(self, host: str) -> str:
        """The cell's name on a host of this digest, as hex; it holds on any machine."""
        value: Mapping[str, Any] = asdict(self) | {"host": host, "version": _VERSION}
        return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
