"""Encodes donors as the sites see them: with the pipeline's own encoder, then with the denoiser's projection.

Each donor is encoded and projected *alone*, never together with others. So its values do not depend on which donors
happened to be in the batch or in the cache.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from steering.errors import BadDonor
from steering.families.description import Encode, MaskRule, PooledRule
from steering.values import Donor

__all__ = ["Encoding", "SizedCache", "fit_text", "missing_tokens", "pooled_banks", "text_banks"]

V = TypeVar("V")
_ROWS = "batch_size"  # diffusers' name for the number of prompts, where an encoding method is told it


class SizedCache(Generic[V]):
    """Values that were made before, least recently used out first, within a budget of bytes."""

    def __init__(self, size: Callable[[V], int], budget: int = 128 * 2**20) -> None:
        self.budget = budget
        self.bytes = 0
        self._size = size
        self._kept: OrderedDict[Hashable, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable, make: Callable[[], V]) -> V:
        """The value of a key, made when it is not there."""
        if key not in self._kept:
            self._kept[key] = value = make()
            self.bytes += self._size(value)
        self._kept.move_to_end(key)
        value = self._kept[key]
        while self.bytes > self.budget and self._kept:
            _, out = self._kept.popitem(last=False)
            self.bytes -= self._size(out)
        return value


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the running call encodes its prompts: the pipeline's method and the arguments that the call gave it."""

    rule: Encode
    method: Callable[..., Any]
    arguments: Mapping[str, Any]

    @property
    def key(self) -> Hashable:
        """Equal for calls that encode a prompt alike."""
        request = {self.rule.prompt, self.rule.guidance, self.rule.images, _ROWS, *self.rule.cleared}
        return tuple(sorted((k, repr(v)) for k, v in self.arguments.items() if k not in request))

    def encode(self, prompt: str) -> Donor:
        """A donor prompt, encoded as the call encodes its own."""
        with torch.no_grad():
            named = self.texts([prompt])
        rest = (named.get("mask"), named.get("pooled"))
        mask, pooled = (None if value is None else value[0].detach() for value in rest)
        return Donor(named["text"][0].detach(), mask, pooled)

    def texts(self, prompts: Sequence[str]) -> dict[str, Any]:
        """What the encoder gives for prompts encoded together, by the names of the rule's `returns`."""
        cleared = dict.fromkeys((name for name in self.rule.cleared if name in self.arguments), None)
        own: dict[str, Any] = {self.rule.prompt: list(prompts)}
        if self.rule.images is not None:
            own[self.rule.images] = 1
        if _ROWS in self.arguments:
            own[_ROWS] = len(prompts)
        if self.rule.guidance is not None:
            own[self.rule.guidance] = False
        return self.rule.named(self.method(**{**self.arguments, **cleared, **own}))


def text_banks(
    donors: Sequence[Donor],
    capacity: int,
    own: torch.Tensor,
    *,
    projection: Sequence[nn.Module],
    rule: MaskRule | None,
) -> dict[str, torch.Tensor]:
    """The donors' `text` [c, l, w] as the sites see it, and their `mask` as `rule` has it, for sites that take one;
    rows up to `capacity` are zero.

    own: the call's encoded text [b, l, d]. Raises: BadDonor.
    """
    rows, shown = [], own.new_ones(capacity, own.shape[1])
    for n, donor in enumerate(donors):
        row, shown[n] = fit_text(donor, own, masks=rule is not None)
        rows.append(_projected(row[None], projection).reshape(own.shape[1], -1))
    text = torch.stack([*rows, *[torch.zeros_like(rows[0])] * (capacity - len(rows))])
    return {"text": text} | ({} if rule is None else {"mask": _mask(shown, rule)})


def pooled_banks(
    donors: Sequence[Donor], capacity: int, own: torch.Tensor, rule: PooledRule, projection: Sequence[nn.Module]
) -> dict[str, torch.Tensor]:
    """The donors' `pooled` text [c, w] at one global site, or their text [c, l, d] where the model pools it itself,
    then with its `pooled_mask` where the rule has one; rows up to `capacity` are zero.

    own: the call's encoded text [b, l, d]. Raises: BadDonor, for a donor without pooled text.
    """
    rows, shown = [], own.new_ones(capacity, own.shape[1])
    for n, donor in enumerate(donors):
        if rule.source == "mean":
            rows.append(_mean(donor).to(own))
        elif rule.source == "text":
            row, shown[n] = fit_text(donor, own, masks=donor.mask is not None)
            rows.append(_projected(row[None], projection)[0] if rule.projected else row)
        elif donor.pooled is None:
            raise BadDonor("pooled `donor` needs the donor's pooled text; give `Donor(text, mask, pooled)`")
        else:
            rows.append(donor.pooled.to(own))
    bank = torch.stack([*rows, *[torch.zeros_like(rows[0])] * (capacity - len(rows))])
    return {"pooled": bank} | ({} if rule.mask is None else {"pooled_mask": _mask(shown, rule.mask)})


def _mean(donor: Donor) -> torch.Tensor:
    """The mean of a donor's shown tokens [w]. Raises: BadDonor, where there are none."""
    shown = torch.ones(len(donor.text)) if donor.mask is None else donor.mask
    if not bool(shown.any()):
        raise BadDonor("donor must have a token that is shown, because this host pools its text as a mean")
    weights = shown.to(donor.text.device, torch.float32)[:, None]
    return (donor.text * weights).sum(0) / weights.sum()


def _mask(shown: torch.Tensor, rule: MaskRule) -> torch.Tensor:
    """A mask as a rule has it, from 1 where a token is shown [c, l]."""
    return shown.bool() if rule.masked is None else ((1 - shown) * rule.masked)[:, None]


def fit_text(donor: Donor, own: torch.Tensor, *, masks: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """A donor's text [l, d] and mask [l] at the length of the call's text `own` [b, l, d].

    With `masks` it is padded, or cut where only hidden tokens are lost. Without them every token counts, so the length
    has to be the call's; a shorter text whose length divides it is repeated, which attention cannot tell from the
    text itself (each key's weight is shared evenly among its copies). Raises: BadDonor.
    """
    length, width = own.shape[1], own.shape[2]
    if donor.text.shape[1] != width:
        raise BadDonor(f"donor text must be {width} wide like the host's encoded text, got {donor.text.shape[1]}")
    given = donor.text.shape[0]
    if not masks:
        if donor.mask is not None and not bool(donor.mask.all()):
            raise BadDonor(
                "donor must have no hidden tokens, because this host takes no mask; pad it as its encoder does"
            )
        if length % given:
            raise BadDonor(
                f"donor must have {length} tokens like the call's text, or a number that divides it, because this host"
                f" takes no mask; got {given}"
            )
        repeats = length // given
        return donor.text.to(own).repeat(repeats, 1), own.new_ones(length)
    shown = torch.ones(given) if donor.mask is None else donor.mask.to("cpu")
    real = _real_tokens(donor)
    if real > length:
        raise BadDonor(
            f"donor has {real} real tokens, the call's text has room for {length}; give the call more room"
            " (`max_sequence_length`), or a shorter donor"
        )
    keep = min(length, given)
    text, mask = own.new_zeros(length, width), own.new_zeros(length)
    text[:keep] = donor.text[:keep].to(own)
    mask[:keep] = shown[:keep].to(own)
    return text, mask


def missing_tokens(donors: Sequence[Donor], own: torch.Tensor) -> int:
    """How many tokens the call's text `own` [b, l, d] must have more, so that the longest donor has room as it was
    encoded; 0 where the donors' real tokens fit."""
    longer = [d.text.shape[0] for d in donors if _real_tokens(d) > own.shape[1]]
    return max(longer, default=own.shape[1]) - own.shape[1]


def _real_tokens(donor: Donor) -> int:
    if donor.mask is None:
        return int(donor.text.shape[0])
    shown = donor.mask.nonzero()
    return int(shown.max()) + 1 if len(shown) else 0


def _projected(row: torch.Tensor, projection: Sequence[nn.Module]) -> torch.Tensor:
    for module in projection:
        at = next(
            module.parameters()
        ).device  # an offloaded model's weights wait elsewhere; `meta` brings its own hooks
        with torch.no_grad():
            row = module(row if at.type == "meta" else row.to(at)).to(row.device)
    return row
