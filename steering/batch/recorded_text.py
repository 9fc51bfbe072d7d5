"""Recorded text streams: a donor's keys and values at some sites, for each denoiser call of a run of its own.

On a joint host the text of a donor changes from block to block and from step to step with its picture. `canonical`
swaps show every request the one stream that the donor had in a run of its own, with a fixed seed and the arguments of
the call. So no row is added to the batch, and the result does not depend on the other requests in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from steering.families.spans import Picture

__all__ = ["CANONICAL_SEED", "TextRecorder", "TextStream", "stream_size"]

CANONICAL_SEED = 0  # of the run in which a canonical donor's stream is recorded


@dataclass(frozen=True, slots=True, eq=False)
class TextStream:
    """For each place in the run (step, ordinal of the call in it) and each `keys.<site>` or `values.<site>`, the
    donor's row [l, d]; what goes with text, `<argument>.<n>.<site>`, likewise."""

    rows: Mapping[tuple[int, int], Mapping[str, torch.Tensor]]

    def at(self, evaluation: int, ordinal: int) -> Mapping[str, torch.Tensor]:
        """The rows of one call. Raises: KeyError, when the recorded run had no such call."""
        return self.rows[evaluation, ordinal]


class TextRecorder:
    """Collects a stream: the session sets the position in the run (`place`), and hooks add the rows."""

    def __init__(self) -> None:
        self.place: tuple[int, int] | None = None
        self.row, self.picture = 0, Picture()  # the cond row, and where the picture is in sequences
        self._rows: dict[tuple[int, int], dict[str, torch.Tensor]] = {}

    def add(self, name: str, text: torch.Tensor) -> None:
        """Adds the cond row of a projection's output [b, l, d], or of what goes with it; the only row of what all rows
        share."""
        if self.place is not None:
            row = self.row if len(text) > 1 else 0
            self._rows.setdefault(self.place, {})[name] = text[row].detach().clone()

    def stream(self) -> TextStream:
        """The stream that was collected."""
        return TextStream(self._rows)


def stream_size(stream: TextStream) -> int:
    """Bytes of a stream."""
    return sum(t.numel() * t.element_size() for rows in stream.rows.values() for t in rows.values())
