"""Sentinels: small probes at a pack's sites that tell that a concept is about to be drawn, before it is.

Two scores, each with its own threshold at 0.5:

* *text*, before any step: what the encoded prompt could write. It is read as attention reads it: a key for each head
  chooses among the tokens, a value says what they write. Keys and values of a cross-attention site are linear maps of
  these rows, the same at every site, so the directions are kept at the rows. On joint hosts it is the text that the
  encoder gave, before it begins to change.
* *path*: what the sites wrote into the picture in the first part of the trajectory, the mean over the picture's tokens
  and over the calls inside `window`. A linear reading of a few numbers, which the device adds up in the same forward.

A sentinel changes nothing that it reads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch

from steering.errors import BadPlan, NotFinite
from steering.plans import Window

__all__ = ["EncodedText", "Sentinel", "SentinelReading", "check_sentinels", "encoded_texts"]


@dataclass(frozen=True, slots=True)
class EncodedText:
    """One prompt as the encoder gave it: `rows` [l, d], which of them attention is shown [l] (None: all), and pooled
    text [p] where the pipeline has it.

    Where a pipeline hides no padding, attention reads it, so it counts.
    """

    rows: torch.Tensor
    shown: torch.Tensor | None = None
    pooled: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class SentinelReading:
    """What a sentinel read of one picture, each in [0, 1]; 0.5 is the threshold that its fit chose."""

    text: float
    path: float

    @property
    def score(self) -> float:
        """The higher of the two."""
        return max(self.text, self.path)


@dataclass(frozen=True, slots=True, eq=False)
class Sentinel:
    """The probes of one concept on one host, with the evidence for them.

    * `made_for`: digest of the host's fingerprint.
    * `keys`, `values` [r, d], `text_bias`: the score of a prompt is
      `sigmoid(sum_r sum_t softmax_t(<keys_r, x_t>) <values_r, x_t> + text_bias)`, t over the tokens that are shown;
      where the pipeline has pooled text, `<pooled, x>` [p] is added, because a concept may come in by that way.
    * `path`, by site [w], `path_bias`: `sigmoid(sum_s <path_s, mean y_s> + path_bias)`, y_s the picture's part of the
      site's output in the cond rows of the calls inside `window`.
    * `evidence`: plain values; see `localization.sentinel`.

    Raises: BadPlan, when shapes do not fit each other or a value is not finite.
    """

    concept: str
    made_for: str
    keys: torch.Tensor
    values: torch.Tensor
    text_bias: float
    path: Mapping[str, torch.Tensor]
    path_bias: float
    window: Window
    evidence: Mapping[str, Any] = field(default_factory=dict)
    pooled: torch.Tensor | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", MappingProxyType(dict(self.path)))
        object.__setattr__(self, "evidence", MappingProxyType(dict(self.evidence)))
        what = f"sentinel of `{self.concept}`"
        if self.keys.dim() != 2 or self.keys.shape != self.values.shape or not len(self.keys):
            got = f"{list(self.keys.shape)} and {list(self.values.shape)}"
            raise BadPlan(f"keys and values of the {what} must be of one shape [r, d], r at least 1, got {got}")
        if not self.path or any(e.dim() != 1 or not len(e) for e in self.path.values()):
            raise BadPlan(f"path of the {what} must have a direction [w] for each of its sites, at least one")
        tensors = (self.keys, self.values, *self.path.values(), *([] if self.pooled is None else [self.pooled]))
        finite = all(bool(torch.isfinite(t).all()) for t in tensors)
        if not finite or not math.isfinite(self.text_bias) or not math.isfinite(self.path_bias):
            raise BadPlan(f"directions and biases of the {what} must be finite, got nan or inf")

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites that it reads along the trajectory."""
        return tuple(self.path)

    def text_score(self, text: EncodedText) -> float:
        """The score of a prompt before any step. Raises: BadPlan, for text of another width; NotFinite."""
        if text.rows.shape[-1] != self.keys.shape[1]:
            raise BadPlan(
                f"sentinel of `{self.concept}` reads text {self.keys.shape[1]} wide, got {text.rows.shape[-1]}"
            )
        if self.pooled is not None and (text.pooled is None or text.pooled.shape != self.pooled.shape):
            got = "none" if text.pooled is None else str(list(text.pooled.shape))
            raise BadPlan(f"sentinel of `{self.concept}` reads pooled text {list(self.pooled.shape)}, got {got}")
        rows = text.rows if text.shown is None else text.rows[text.shown]
        x, keys, values = (t.to(rows.device, torch.float32) for t in (rows, self.keys, self.values))
        said = ((x @ keys.T).softmax(0) * (x @ values.T)).sum()
        if self.pooled is not None and text.pooled is not None:
            said = said + self.pooled.to(rows.device, torch.float32) @ text.pooled.float()
        return self._score(float(said) + self.text_bias, "the encoded text")

    def path_score(self, reading: float) -> float:
        """The score of what was read along the trajectory, before the bias. Raises: NotFinite."""
        return self._score(reading + self.path_bias, f"what {len(self.path)} sites wrote")

    def _score(self, logit: float, what: str) -> float:
        if not math.isfinite(logit):
            raise NotFinite(f"{what} is not finite (`{logit}`), so the sentinel of `{self.concept}` can tell nothing")
        return 1 / (1 + math.exp(-max(-60.0, min(60.0, logit))))


def encoded_texts(named: Mapping[str, Any], prompts: int) -> tuple[EncodedText, ...]:
    """Each prompt's text, from what an encoder returned by name, with a row a picture."""
    text, mask, pooled = named["text"], named.get("mask"), named.get("pooled")
    images = len(text) // prompts
    return tuple(
        EncodedText(text[row], None if mask is None else mask[row] > 0, None if pooled is None else pooled[row])
        for row in range(0, prompts * images, images)
    )


def check_sentinels(sentinels: Sequence[Sentinel]) -> None:
    """Nothing, when each is a sentinel of another concept. Raises: BadPlan."""
    for got in sentinels:
        if not isinstance(got, Sentinel):
            raise BadPlan(f"sentinels must hold `Sentinel`, got `{type(got).__name__}`")
    names = [s.concept for s in sentinels]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise BadPlan(f"sentinels must be of different concepts, got `{twice[0]}` twice")
