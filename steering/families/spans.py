"""Where text lies in a sequence of tokens that may hold the picture's as well: taking it out, and putting it back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

__all__ = ["Picture", "Span", "behind_text", "relaid"]


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """The picture's tokens in sequences with text: their number, 0 where there are none.

    `order` [rows, tokens], where rows have them at different places: the places of all others, then of the picture's.
    """

    tokens: int = 0
    order: torch.Tensor | None = None


def behind_text(shown: torch.Tensor, tokens: int) -> Picture:
    """The picture that stands right behind each row's own text, with padding behind it. shown [rows, l]: 1 for each
    token of text that a row has; tokens: of the picture."""
    lengths = shown.sum(1)
    longest = int(lengths.max())
    if bool((lengths == longest).all()):
        return Picture(tokens)
    places = torch.arange(longest + tokens, device=shown.device)
    inside = (places >= lengths[:, None]) & (places < lengths[:, None] + tokens)
    return Picture(tokens, inside.long().argsort(dim=1, stable=True))


@dataclass(frozen=True, slots=True)
class Span:
    """The text in sequences [rows, tokens, ...], or [tokens, rows, ...] with `row_axis` 1.

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

    def take(self, x: torch.Tensor, picture: Picture) -> torch.Tensor:
        """The text [rows, tokens, ...] of a sequence."""
        part, places = self._part(x), self._places(x, picture, text=True)
        return part[:, places] if isinstance(places, slice) else part.gather(1, _at(places, part))

    def rest(self, x: torch.Tensor, picture: Picture) -> torch.Tensor:
        """The picture's tokens [rows, tokens, ...] of a sequence."""
        part, places = self._part(x), self._places(x, picture, text=False)
        return part[:, places] if isinstance(places, slice) else part.gather(1, _at(places, part))

    def put(
        self, x: torch.Tensor, picture: Picture, text: torch.Tensor, rest: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The sequence with other text in it, and with other tokens of the picture where these are given; strides and
        what is left are as they were."""
        if self.whole and rest is None:
            return text.transpose(0, 1) if self.row_axis else text
        changed = x.clone()
        part = self._part(changed)
        for tokens, given in ((True, text), (False, rest)):
            if given is None:
                continue
            places = self._places(x, picture, text=tokens)
            if isinstance(places, slice):
                part[:, places].copy_(given)
            else:
                part.scatter_(1, _at(places, part), given)
        return changed

    def _part(self, x: torch.Tensor) -> torch.Tensor:
        rows_first = x.transpose(0, 1) if self.row_axis else x
        return rows_first if self.columns is None else rows_first[..., self.columns[0] : self.columns[1]]

    def _places(self, x: torch.Tensor, picture: Picture, *, text: bool) -> slice | torch.Tensor:
        """Where text or the picture is among the tokens of a sequence."""
        others = x.shape[1 - self.row_axis] - picture.tokens
        if self.where == "all":
            return slice(None)
        if picture.order is not None:
            return picture.order[:, :others] if text else picture.order[:, others:]
        if self.where == "first":
            return slice(others) if text else slice(others, None)
        return slice(picture.tokens, None) if text else slice(picture.tokens)


def relaid(x: torch.Tensor, there: torch.Tensor, here: torch.Tensor) -> torch.Tensor:
    """Sequences [rows, tokens, ...] of the order `there`, their tokens laid in the order `here`."""
    return torch.empty_like(x).scatter_(1, _at(here, x), x.gather(1, _at(there, x)))


def _at(places: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
    """Places [rows, tokens] for each value of a sequence."""
    return places.reshape(*places.shape, *[1] * (part.dim() - 2)).expand(*places.shape, *part.shape[2:])
