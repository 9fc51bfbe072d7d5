"""Fits the two probes of a sentinel, as pure functions of tensors: `n` prompts, `l` tokens, `d` width, `r` heads.

The path's is a logistic regression on what sites wrote. The text's reads the encoded prompt as attention would:
`sum_r sum_t softmax_t(<k_r, x_t>) <v_r, x_t> + b`, and `<e, pooled>` where there is pooled text. It learns from the
path's scores beside the labels, because a score for each prompt says more than a yes or no.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["PathProbe", "TextProbe", "Texts", "area_under_curve", "fit_path", "fit_text", "threshold"]


@dataclass(frozen=True, slots=True)
class Texts:
    """The shown tokens of some prompts, padded: rows [n, l, d], shown [n, l]; pooled [n, p] or [n, 0]."""

    rows: Tensor
    shown: Tensor
    pooled: Tensor

    @classmethod
    def of(cls, texts: Sequence[Tensor], pooled: Sequence[Tensor] = ()) -> Texts:
        """Texts [l, d] of different lengths together, with their pooled text [p] if there is any."""
        rows = torch.zeros(len(texts), max(map(len, texts)), texts[0].shape[1])
        shown = torch.zeros(rows.shape[:2], dtype=torch.bool)
        for i, text in enumerate(texts):
            rows[i, : len(text)], shown[i, : len(text)] = text.float(), True
        return cls(rows, shown, torch.stack(list(pooled)).float() if pooled else rows.new_zeros(len(texts), 0))

    def __getitem__(self, which: Tensor) -> Texts:
        return Texts(self.rows[which], self.shown[which], self.pooled[which])


@dataclass(frozen=True, slots=True)
class PathProbe:
    """`<e, y> + bias`; e [w]."""

    e: Tensor
    bias: float

    def logits(self, y: Tensor) -> Tensor:
        """[n] for y [n, w]."""
        return y @ self.e + self.bias


@dataclass(frozen=True, slots=True)
class TextProbe:
    """keys, values [r, d], pooled [p]; see the module."""

    keys: Tensor
    values: Tensor
    pooled: Tensor
    bias: float

    def logits(self, texts: Texts) -> Tensor:
        """[n]."""
        said = _attended(texts.rows[texts.shown], texts.shown, self.keys, self.values)
        return said + texts.pooled @ self.pooled + self.bias


def fit_path(y: Tensor, want: Tensor, *, strength: float = 0.01) -> PathProbe:
    """The probe that tells `want` [n] in [0, 1] from y [n, w], by logistic regression on standardised columns with an
    L2 penalty of `1 / (2 n strength)`."""
    middle, scale = y.mean(0), y.std(0) + 1e-6
    z = (y - middle) / scale
    e = torch.zeros(y.shape[1], requires_grad=True)
    bias = torch.tensor(_prior(want), requires_grad=True)
    optimiser = torch.optim.LBFGS([e, bias], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = F.binary_cross_entropy_with_logits(z @ e + bias, want) + e.square().sum() / (2 * strength * len(y))
        value.backward()
        return value

    optimiser.step(loss)
    found = e.detach() / scale
    return PathProbe(found, float(bias.detach() - found @ middle))


def fit_text(
    texts: Texts, want: Tensor, taught: Tensor, *, heads: int = 1, passes: int = 200, share: float = 0.7, seed: int = 0
) -> TextProbe:
    """The probe that tells `want` [n] in [0, 1] from texts, with the share `share` of its loss from the logits `taught`
    [n] of the path's probe."""
    known = texts.rows[texts.shown]
    middle, scale = known.mean(0), known.std(0) + 1e-6
    z = (known - middle) / scale
    between = texts.pooled.mean(0)
    wide = (texts.pooled - between).square().mean(0).sqrt() + 1e-6
    pooled_z = (texts.pooled - between) / wide
    generator = torch.Generator().manual_seed(seed)
    keys = (0.05 * torch.randn(heads, z.shape[1], generator=generator)).requires_grad_()
    values = torch.zeros_like(keys, requires_grad=True)
    pooled = torch.zeros(texts.pooled.shape[1], requires_grad=True)
    spread = taught.var() + 1e-6
    bias = torch.tensor(_prior(want), requires_grad=True)
    optimiser = torch.optim.Adam([keys, values, pooled, bias], lr=0.03)
    for _ in range(passes):
        logits = _attended(z, texts.shown, keys, values) + pooled_z @ pooled + bias
        near = (logits - taught).square().mean() / spread
        right = F.binary_cross_entropy_with_logits(logits, want)
        small = 1e-3 * (values.square().sum() + pooled.square().sum() + 0.1 * keys.square().sum())
        optimiser.zero_grad()
        (share * near + (1 - share) * right + small).backward()
        optimiser.step()
    # what is the same for all tokens does not change attention, and adds up to one number in the values
    found, also = values.detach() / scale, pooled.detach() / wide
    return TextProbe(keys.detach() / scale, found, also, float(bias.detach() - (found @ middle).sum() - also @ between))


def threshold(innocent: Tensor, rate: float) -> float:
    """The logit that at most the share `rate` of `innocent` [n] reaches: between the last that may and the first that
    may not. Of so few that none may, a little above all."""
    ordered = innocent.sort(descending=True).values
    allowed = math.floor(rate * len(ordered))
    above = ordered[allowed - 1] if allowed else 2 * ordered[0] - ordered[min(1, len(ordered) - 1)]
    return max(float(above + ordered[allowed]) / 2, math.nextafter(float(ordered[allowed]), math.inf))


def area_under_curve(scores: Tensor, shows: Tensor) -> float:
    """AUROC: how often one that shows the concept scores higher than one that does not; ties count half."""
    yes, no = scores[shows], scores[~shows]
    if not len(yes) or not len(no):
        return math.nan
    higher = (yes[:, None] > no[None]).double() + 0.5 * (yes[:, None] == no[None])
    return float(higher.mean())


def _attended(x: Tensor, shown: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """[n], from the shown tokens of all prompts in one row, x [sum of lengths, d]."""
    said = x @ torch.cat([keys, values]).T
    padded = said.new_full((*shown.shape, said.shape[1]), -torch.inf).masked_scatter(shown[..., None], said)
    keyed, valued = padded.chunk(2, dim=2)
    return (keyed.softmax(1) * valued.masked_fill(~shown[..., None], 0.0)).sum((1, 2))


def _prior(want: Tensor) -> float:
    share = float(want.mean().clamp(1e-3, 1 - 1e-3))
    return math.log(share / (1 - share))
