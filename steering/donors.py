"""Owns the way from a donor to what the sites see: encoding with the pipeline's own encoder, an LRU, the denoiser's
projection.

Each donor is encoded and projected *alone*, never together with others: then its values cannot depend on which donors
happened to be in the batch or in the cache.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .board import Bank
from .errors import BadDonor
from .families import Encode
from .plans import Donor

__all__ = ["DonorCache", "Encoding", "to_bank"]


class DonorCache:
    """Encoded donors, least recently used out first, within a budget of bytes."""

    def __init__(self, budget: int = 128 * 2**20) -> None:
        self.budget = budget
        self.bytes = 0
        self._kept: OrderedDict[Hashable, Donor] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable, make: Callable[[], Donor]) -> Donor:
        """The donor of a key, made when it is not there."""
        if key not in self._kept:
            self._kept[key] = donor = make()
            self.bytes += _size(donor)
        self._kept.move_to_end(key)
        donor = self._kept[key]
        while self.bytes > self.budget and self._kept:
            _, out = self._kept.popitem(last=False)
            self.bytes -= _size(out)
        return donor


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the running call encodes its prompts: the pipeline's method and the arguments that the call gave it."""

    rule: Encode
    method: Callable[..., Any]
    arguments: Mapping[str, Any]

    @property
    def key(self) -> Hashable:
        """Equal for calls that encode a prompt alike."""
        request = {self.rule.prompt, self.rule.guidance, self.rule.images, *self.rule.cleared}
        return tuple(sorted((k, repr(v)) for k, v in self.arguments.items() if k not in request))

    def encode(self, prompt: str) -> Donor:
        """A donor prompt, encoded as the call encodes its own."""
        cleared = dict.fromkeys((name for name in self.rule.cleared if name in self.arguments), None)
        with torch.no_grad():
            got = self.method(
                **{
                    **self.arguments,
                    **cleared,
                    self.rule.prompt: [prompt],
                    self.rule.guidance: False,
                    self.rule.images: 1,
                }
            )
        named = dict(zip(self.rule.returns, got, strict=False))
        mask = named.get("mask")
        return Donor(named["text"][0].detach(), None if mask is None else mask[0].detach())


def to_bank(
    donors: Sequence[Donor],
    capacity: int,
    own: torch.Tensor,
    *,
    projection: nn.Module | None,
    masked: float,
    width: int,
) -> Bank:
    """The donors as the sites see them, padded or cut to the call's text, with unused rows up to `capacity`.

    own: the call's encoded text [b, l, d]; masked: the additive value of a hidden token; width: of the text at the
    sites. Raises: BadDonor, when a donor's width differs or it has more real tokens than the call's text has room for.
    """
    text = own.new_zeros(capacity, own.shape[1], width)
    mask = own.new_zeros(capacity, 1, own.shape[1])
    for n, donor in enumerate(donors):
        row, shown = _fit(donor, own)
        text[n] = _projected(row[None], projection).reshape(own.shape[1], -1)
        mask[n, 0] = (1 - shown.to(mask.dtype)) * masked
    return Bank(text, mask)


def _fit(donor: Donor, own: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    length, width = own.shape[1], own.shape[2]
    if donor.text.shape[1] != width:
        raise BadDonor(f"donor text must be {width} wide like the host's encoded text, got {donor.text.shape[1]}")
    shown = torch.ones(donor.text.shape[0]) if donor.mask is None else donor.mask.to("cpu")
    real = int(shown.nonzero().max()) + 1 if bool(shown.any()) else 0
    if real > length:
        raise BadDonor(
            f"donor has {real} real tokens, the call's text has room for {length}; raise `max_sequence_length`"
        )
    keep = min(length, donor.text.shape[0])
    text = own.new_zeros(length, width)
    text[:keep] = donor.text[:keep].to(own)
    mask = own.new_zeros(length)
    mask[:keep] = shown[:keep].to(own)
    return text, mask


def _projected(row: torch.Tensor, projection: nn.Module | None) -> torch.Tensor:
    if projection is None:
        return row
    at = next(
        projection.parameters()
    ).device  # an offloaded model's weights wait elsewhere; `meta` brings its own hooks
    with torch.no_grad():
        return projection(row if at.type == "meta" else row.to(at)).to(row.device)


def _size(donor: Donor) -> int:
    return sum(t.numel() * t.element_size() for t in (donor.text, donor.mask) if t is not None)
