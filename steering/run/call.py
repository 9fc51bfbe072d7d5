"""Owns what one call of a pipeline is while it runs, what it brings beside plans, and what is known of it later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from steering.batch.device_tables import Board
from steering.batch.donors import Encoding
from steering.batch.layout import Layout, Layouts
from steering.batch.recorded_text import Recorder, Stream
from steering.batch.row_program import Added, Ints, Program
from steering.values import Donor

__all__ = ["Extras", "Facts", "Run"]


@dataclass(frozen=True, slots=True)
class Extras:
    """What a session brings beside plans: added pictures, given texts by prompt, recorded streams by donor."""

    added: Added = field(default_factory=Added)
    donors: tuple[tuple[int, Donor], ...] = ()
    streams: Mapping[str | Donor, Stream] = field(default_factory=dict)
    recorder: Recorder | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What one call of the pipeline was: `fired` [len(COUNTED), L, R], `dose` and `moved` [L, R] are None when it
    carried no plan. `batch`: rows of its greatest denoiser call, 0 when nobody looked; `calls`: how many there were."""

    pictures: int
    images: int  # per prompt
    batch: int
    calls: int
    text_tokens: int
    dtype: str
    device: str
    steps: int
    fired: Ints | None
    dose: np.ndarray | None
    moved: np.ndarray | None


class Run:
    """One call of the pipeline inside a session."""

    def __init__(self, layouts: Layouts, images: int, encoding: Encoding) -> None:
        self.layouts, self.images, self.encoding = layouts, images, encoding
        self.program: Program | None = None
        self.banks: dict[str, torch.Tensor] = {}
        self.boards: dict[int, tuple[Board, Ints]] = {}  # by rows of the call; with what the plans say
        self.seen: set[Layout] = set()
        self.steps = self.calls = self.ordinal = 0

    @property
    def text(self) -> torch.Tensor:
        """The prompts' encoded text [b, l, d]."""
        return self.layouts.cond
