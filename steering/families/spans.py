"""Where text lies in a sequence of tokens that may hold the picture's as well: taking it out, and putting it back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

__all__ = ["Span"]


@dataclass(frozen=True, slots=True)
class Span:
    """The text in sequences [rows, tokens, width], or [tokens, rows, width] with `row_axis` 1.

    `where`: the picture's tokens come before text (`last`), after it (`first`), or are not there (`all`). `columns`:
    the part of the width that is meant.
    """

    where: Literal["all", "first", "last"] = "all"
    columns: tuple[int, int] | None = None
    row_axis: Literal[0, 1] = 0

    @property
    def whole(self) -> bool:
        """True when everything is text."""
        return self.where == "all" and self.columns is None

    def take(self, x: torch.Tensor, picture: int) -> torch.Tensor:
        """The text [rows, tokens, width] of a sequence, a view. picture: number of the picture's tokens."""
        rows_first = x.transpose(0, 1) if self.row_axis else x
        if self.where == "first":
            rows_first = rows_first[:, : rows_first.shape[1] - picture]
        elif self.where == "last":
            rows_first = rows_first[:, picture:]
        return rows_first if self.columns is None else rows_first[..., self.columns[0] : self.columns[1]]

    def put(self, x: torch.Tensor, picture: int, text: torch.Tensor) -> torch.Tensor:
        """The sequence with other text in it; strides and the rest are as they were."""
        if self.whole:
            return text.transpose(0, 1) if self.row_axis else text
        changed = x.clone()
        self.take(changed, picture).copy_(text)
        return changed

    def rest(self, x: torch.Tensor, picture: int) -> torch.Tensor:
        """The picture's tokens [rows, tokens, width] of a sequence, a view."""
        rows_first = x.transpose(0, 1) if self.row_axis else x
        if self.where == "first":
            return rows_first[:, rows_first.shape[1] - picture :]
        return rows_first[:, :picture]
