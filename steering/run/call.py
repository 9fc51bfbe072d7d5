"""The state of one call of a pipeline while it runs, what the session brings beside plans, and the facts afterwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from steering.batch.device_tables import DeviceTables
from steering.batch.donors import Encoding
from steering.batch.layout import Layout, Layouts, Text
from steering.batch.recorded_text import TextRecorder, TextStream
from steering.batch.row_program import AddedRows, Ints, RowProgram
from steering.editing.trajectory import PathKeeper
from steering.sentinel import EncodedText, Sentinel
from steering.values import Donor

__all__ = ["CallFacts", "PipelineRun", "SessionExtras", "as_rows"]


@dataclass(frozen=True, slots=True)
class SessionExtras:
    """What a session brings beside plans: added pictures, given texts by prompt, recorded streams by donor, sentinels,
    what is told each prompt's text once it is encoded, and what keeps pictures on given ways, or writes them down."""

    added: AddedRows = field(default_factory=AddedRows)
    donors: tuple[tuple[int, Donor], ...] = ()
    streams: Mapping[str | Donor, TextStream] = field(default_factory=dict)
    recorder: TextRecorder | None = None
    sentinels: tuple[Sentinel, ...] = ()
    on_encoded: Callable[[tuple[EncodedText, ...]], None] | None = None
    keeper: PathKeeper | None = None


@dataclass(frozen=True, slots=True)
class CallFacts:
    """The facts of one call of the pipeline: `fired` [len(COUNTED), L, R], `dose` and `moved` [L, R] are None when it
    carried no plan and no sentinel watched; `read` [R, sentinels]: what these read, the mean over the calls that
    count. `batch`: rows of its largest denoiser call, 0 when it was not watched; `calls`: the number of
    denoiser calls."""

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
    read: np.ndarray | None = None


def as_rows(text: Text) -> torch.Tensor:
    """Encoded text as one tensor [b, l, d]."""
    if isinstance(text, torch.Tensor):
        return text
    return torch.nn.utils.rnn.pad_sequence(list(text), batch_first=True)


class PipelineRun:
    """One call of the pipeline inside a session."""

    def __init__(self, layouts: Layouts, images: int, encoding: Encoding) -> None:
        self.layouts, self.images, self.encoding = layouts, images, encoding
        self.program: RowProgram | None = None
        self.banks: dict[str, torch.Tensor] = {}
        self.tables: dict[int, tuple[DeviceTables, Ints]] = {}  # by rows of the call; with what the plans say
        self.watched: dict[int, np.ndarray] = {}  # by rows of the call; how often each row counted for each sentinel
        self.seen: set[Layout] = set()
        self.acted: set[int] = set()  # the acts of the program that some call carried out
        self.steps = self.calls = self.ordinal = 0

    @property
    def text(self) -> torch.Tensor:
        """The prompts' encoded text [b, l, d]; what is given as a list is padded with zeros."""
        return as_rows(self.layouts.cond)
