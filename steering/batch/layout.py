"""Tells which row of a denoiser call belongs to which picture, and whether it is the cond or the uncond row.

This is found out for each call by comparing its text with what the pipeline's encoder gave. Families differ in the
order of the two halves, some call the denoiser twice a step, and skip-layer guidance calls it once more with the cond
rows alone. The family's table decides only where both texts are equal and nothing can be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from steering.errors import BadLayout
from steering.plans import Rows

__all__ = ["Layout", "Layouts", "RowOrder", "Text"]

RowOrder = Literal["uncond-first", "cond-first", "cond-only", "uncond-only"]


@dataclass(frozen=True, slots=True)
class Layout:
    """The rows of one call of the denoiser."""

    pictures: int
    order: RowOrder

    @property
    def batch(self) -> int:
        """Rows in the call."""
        return self.pictures * (2 if self.order in ("uncond-first", "cond-first") else 1)

    def rows(self, picture: int, rows: Rows) -> list[int]:
        """The batch rows of a picture under a role; none for a role that the call has no rows of."""
        cond = picture + (self.pictures if self.order == "uncond-first" else 0)
        uncond = picture + (self.pictures if self.order == "cond-first" else 0)
        has_cond, has_uncond = self.order != "uncond-only", self.order != "cond-only"
        return [cond] * (rows != "uncond" and has_cond) + [uncond] * (rows != "cond" and has_uncond)


Text = torch.Tensor | Sequence[torch.Tensor]  # [b, l, d], or [l, d] of each row


class Layouts:
    """The layouts of the calls of one run. cond, uncond: the encoded text of all pictures; no uncond without guidance.
    `compared`: False where the denoiser is given another text than the encoder's, so that the declared order is
    believed."""

    def __init__(
        self, cond: Text, declared: Literal["uncond-first", "cond-first", "sequential"], *, compared: bool = True
    ) -> None:
        self.cond, self.declared, self.compared = cond, declared, compared
        self.uncond: Text | None = None
        self._seen: dict[tuple[int, int], Layout] = {}
        self._known: list[tuple[Text, int, Layout]] = []

    @property
    def pictures(self) -> int:
        """Pictures in each call."""
        return len(self.cond)

    def of(self, text: Text, ordinal: int) -> Layout:
        """The layout of the `ordinal`-th call of a step, whose text is `text` [rows, l, d].

        Texts are compared once for each tensor object; a pipeline that casts its text anew in every step is believed
        to keep the order of calls that its first step had. Raises: BadLayout.
        """
        for known, at, layout in self._known:
            if known is text and (at == ordinal or layout.order not in ("cond-only", "uncond-only")):
                return layout
        key = (ordinal, len(text))
        if key not in self._seen:
            self._seen[key] = self._compared(text, ordinal) if self.compared else self._believed(text, ordinal)
            self._known.append((text, ordinal, self._seen[key]))
        return self._seen[key]

    def _believed(self, text: Text, ordinal: int) -> Layout:
        rows, pictures = len(text), self.pictures
        if rows == 2 * pictures and self.declared != "sequential":
            return Layout(pictures, self.declared)
        if rows == pictures and ordinal < 2:
            return Layout(pictures, "cond-only" if ordinal == 0 else "uncond-only")
        raise BadLayout(
            f"the denoiser was called with text of {rows} rows for {pictures} pictures, in call {ordinal + 1} of a step"
        )

    def _compared(self, text: Text, ordinal: int) -> Layout:
        rows, pictures = len(text), self.pictures
        if rows == 2 * pictures and self.uncond is not None:
            first, second = text[:pictures], text[pictures:]
            if self._is_uncond(first) and self._is_cond(second):
                swapped = self._is_cond(first) and self._is_uncond(second)
                return Layout(pictures, "cond-first" if swapped and self.declared == "cond-first" else "uncond-first")
            if self._is_cond(first) and self._is_uncond(second):
                return Layout(pictures, "cond-first")
        if rows == pictures:
            cond, uncond = self._is_cond(text), self.uncond is not None and self._is_uncond(text)
            if cond and uncond:  # equal texts: the first call of a step is the cond one
                return Layout(pictures, "cond-only" if ordinal == 0 else "uncond-only")
            if cond or uncond:
                return Layout(pictures, "cond-only" if cond else "uncond-only")
        raise BadLayout(
            f"the denoiser was called with text of {rows} rows for {pictures} pictures that is not what the encoder"
            " gave; a pipeline that adds or changes rows (perturbed guidance, for one) cannot be steered"
        )

    def _is_cond(self, text: Text) -> bool:
        return _equal(text, self.cond)

    def _is_uncond(self, text: Text) -> bool:
        return self.uncond is not None and _equal(text, self.uncond)


def _equal(a: Text, b: Text) -> bool:
    if not isinstance(a, torch.Tensor) or not isinstance(b, torch.Tensor):
        return len(a) == len(b) and all(_equal(x, y) for x, y in zip(a, b, strict=True))
    return a.shape == b.shape and bool(torch.equal(a, b.to(a)))
