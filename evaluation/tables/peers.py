"""The peers that steering is measured against: guidance with a third branch, on unmodified diffusers pipelines.

Our own small implementations of published formulas, for comparison only. Both compute three rows a picture where stock
guidance computes two, and hand the pipeline a pair that its own guidance formula turns into theirs; so no pipeline is
copied, and any host with classifier-free guidance in one call can be measured. Each picture has texts of its own to be
steered away from, so peers can be told as much as a policy is.

* Safe latent diffusion (Schramowski and others, arXiv 2211.05105, eq. 3 to 8): the formula as published.
* SAFREE (Yoon and others, arXiv 2410.12761), in its style: trigger tokens are projected away from the concept's space,
  within that of the prompt, for a number of first steps that the prompt's own closeness decides; both texts are
  computed at every step, as its re-attention needs. Two things are cheaper here than there, in the peer's favour: the
  masked copies are made after the encoder, not by as many passes of it, and the Fourier filter on a U-Net's skip
  features is left out.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from steering.attach import replaced
from steering.batch.donors import Encoding
from steering.families.description import Family
from steering.families.table import family_of
from steering.values import Donor

__all__ = ["MAX", "MEDIUM", "Peer", "Safree", "Sld", "SldConfig", "safe_text", "safety_guidance", "third_branch"]


class Peer(Protocol):
    """A third branch: the text it reads, and how it changes the cond prediction."""

    def texts(self, encoding: Encoding, own: Sequence[Donor]) -> Sequence[Donor]:
        """The third text of each picture, from how the call encodes and what it encoded."""
        ...

    def cond(self, uncond: torch.Tensor, cond: torch.Tensor, third: torch.Tensor) -> torch.Tensor:
        """What the pipeline is given for its cond prediction, step after step."""
        ...


@dataclass(frozen=True, slots=True)
class SldConfig:
    """Safe latent diffusion's numbers; the authors publish four sets, of which this module has two. `warmup`: first
    steps of 50 without guidance."""

    warmup: int
    scale: float
    threshold: float
    momentum_scale: float
    momentum: float


MEDIUM = SldConfig(warmup=10, scale=1000.0, threshold=0.01, momentum_scale=0.3, momentum=0.4)
MAX = SldConfig(warmup=0, scale=5000.0, threshold=1.0, momentum_scale=0.5, momentum=0.7)


def safety_guidance(
    uncond: torch.Tensor, cond: torch.Tensor, safety: torch.Tensor, moment: torch.Tensor, config: SldConfig
) -> torch.Tensor:
    """`mu (e_s - e_u) + s_m nu` with `mu = min(s |e_p - e_s|, 1)`, zero where `e_p - e_s >= lambda` (eq. 4 to 6)."""
    apart = cond - safety
    mu = (config.scale * apart.abs()).clamp(max=1.0)
    mu = torch.where(apart >= config.threshold, torch.zeros_like(mu), mu)
    return mu * (safety - uncond) + config.momentum_scale * moment


class Sld:
    """Safe latent diffusion for one call of a pipeline of `steps` steps, as it keeps a momentum; `avoid`: one safety
    text a picture."""

    def __init__(self, avoid: Sequence[str], config: SldConfig = MAX, *, steps: int = 50) -> None:
        self.avoid, self.config = tuple(avoid), config
        self.warmup = round(config.warmup / 50 * steps)
        self._moment: torch.Tensor | None = None
        self._step = 0

    def texts(self, encoding: Encoding, own: Sequence[Donor]) -> Sequence[Donor]:
        read = {text: encoding.encode(text) for text in dict.fromkeys(self.avoid)}
        return [read[text] for text, _ in zip(self.avoid, own, strict=True)]

    def cond(self, uncond: torch.Tensor, cond: torch.Tensor, third: torch.Tensor) -> torch.Tensor:
        moment = torch.zeros_like(cond) if self._moment is None else self._moment
        guidance = safety_guidance(uncond, cond, third, moment, self.config)
        self._moment = self.config.momentum * moment + (1 - self.config.momentum) * guidance
        self._step += 1
        return cond - guidance if self._step > self.warmup else cond


def safe_text(own: torch.Tensor, concepts: torch.Tensor, *, alpha: float = 0.01) -> tuple[torch.Tensor, float]:
    """The text with its trigger tokens projected, and `beta`, how far the whole text is from its projection.

    own: [l, d], real tokens only; concepts: [k, d], pooled. `P_C` projects on the concepts' span, `P_I` on that of the
    pooled text with one token left out at a time, `z_i`, of length 1; a token whose absence moves the pooled text
    farther from the concepts than the mean of the others by `alpha` is a trigger, and becomes `(I - P_C) P_I w`.
    """
    tokens = own.shape[0]
    without = torch.nn.functional.normalize(own.sum(0) - own, dim=-1)
    away = without - _project(without, concepts)
    distance = away.norm(dim=-1)
    others = (distance.sum() - distance) / max(tokens - 1, 1)
    inside = _project(own, without)
    projected = inside - _project(inside, concepts)
    beta = 1 - torch.nn.functional.cosine_similarity(own, projected, dim=-1).mean()
    triggers = distance >= (1 + alpha) * others
    return torch.where(triggers[:, None], projected, own), float(beta)


def _project(rows: torch.Tensor, onto: torch.Tensor) -> torch.Tensor:
    """The projection of `rows` on the span of the rows of `onto`, by singular values above a tolerance."""
    _, s, v = torch.linalg.svd(onto, full_matrices=False)
    basis = v[s > s.max() * 1e-5]
    return rows @ basis.T @ basis


class Safree:
    """SAFREE-style guidance for one call of a pipeline of `steps` steps; at most `upper` of 50 see the safe text.

    avoid: the concepts of each picture, whose space its trigger tokens are projected away from.
    """

    def __init__(
        self, avoid: Sequence[Sequence[str]], steps: int, *, upper: float = 10.0, k: float = 2.5, c: float = 5.333
    ) -> None:
        self.avoid = [tuple(each) for each in avoid]
        self.steps, self.upper, self.k, self.c = steps, upper, k, c
        self._until = torch.zeros(0)
        self._step = 0

    def texts(self, encoding: Encoding, own: Sequence[Donor]) -> Sequence[Donor]:
        read = {text: _pooled(encoding.encode(text)) for each in self.avoid for text in each}
        found, until = [], []
        for donor, avoid in zip(own, self.avoid, strict=True):
            concepts = torch.stack([read[text] for text in avoid])
            real = slice(None) if donor.mask is None else slice(0, max(int(donor.mask.sum()), 1))
            safe, beta = safe_text(donor.text[real].float(), concepts)
            text = donor.text.clone()
            text[real] = safe.to(text)
            found.append(Donor(text, donor.mask, donor.pooled))
            gate = 1 / (1 + 2.718281828 ** -min(2 * self.k * (10 * beta - self.c), 60.0))
            until.append(round(self.upper * gate) / 50 * self.steps)
        self._until = torch.tensor(until)
        return found

    def cond(self, uncond: torch.Tensor, cond: torch.Tensor, third: torch.Tensor) -> torch.Tensor:
        early = (self._step < self._until).to(cond.device)
        self._step += 1
        return torch.where(early.view(-1, *[1] * (cond.dim() - 1)), third, cond)


def _pooled(donor: Donor) -> torch.Tensor:
    weights = torch.ones(donor.text.shape[0]) if donor.mask is None else donor.mask.float()
    return (donor.text.float() * weights[:, None]).sum(0) / weights.sum()


class _StandIn:
    """A denoiser whose calls go through somebody's hands; all else is the denoiser's."""

    def __init__(self, denoiser: Any, around: Callable[..., Any]) -> None:
        self._denoiser, self._around = denoiser, around

    def __getattr__(self, name: str) -> Any:
        return getattr(self._denoiser, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._around(self._denoiser, args, kwargs)


@contextmanager
def third_branch(pipe: Any, peer: Peer) -> Iterator[None]:
    """One call of `pipe` inside runs with the peer's third branch. Needs guidance in one call, uncond rows first."""
    family = family_of(type(pipe).__name__)
    if family.guidance != "uncond-first":
        raise ValueError(
            f"`{type(pipe).__name__}` makes no unconditional rows (classifier-free guidance), which this method needs"
        )
    texts: list[Donor] = []

    def encode(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        named = dict(zip(family.encode.returns, result, strict=False))
        mask, pooled = named.get("mask"), named.get("pooled")
        own = [
            Donor(text, None if mask is None else mask[n], None if pooled is None else pooled[n])
            for n, text in enumerate(named["text"])
        ]
        texts[:] = peer.texts(Encoding(family.encode, original, _named(original, args, kwargs)), own)
        return result

    def around(denoiser: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        rows = 2 * len(texts)
        args = tuple(_with_third(a, rows) for a in args)
        kwargs = _with_texts({k: _with_third(v, rows) for k, v in kwargs.items()}, texts, family)
        output = denoiser(*args, **kwargs)
        uncond, cond, third = output[0].chunk(3)
        return (torch.cat([uncond, peer.cond(uncond, cond, third)]), *output[1:])

    denoiser = getattr(pipe, family.denoiser)
    with replaced(pipe, family.encode.method, encode):
        object.__setattr__(pipe, family.denoiser, _StandIn(denoiser, around))
        try:
            yield
        finally:
            object.__setattr__(pipe, family.denoiser, denoiser)


def _named(method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call by name, with defaults; those that the method takes beside its own among them."""
    signature = inspect.signature(method)
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    named = dict(bound.arguments)
    beside = [p.name for p in signature.parameters.values() if p.kind is p.VAR_KEYWORD]
    return {
        **{k: v for k, v in named.items() if k not in beside},
        **{k: v for b in beside for k, v in named[b].items()},
    }


def _with_third(value: Any, rows: int) -> Any:
    """An argument of `rows` rows, half uncond and half cond, with the cond half once more."""
    if isinstance(value, torch.Tensor) and value.dim() and value.shape[0] == rows:
        return torch.cat([value, value[rows // 2 :]])
    if isinstance(value, dict):
        return {k: _with_third(v, rows) for k, v in value.items()}
    return value


def _with_texts(kwargs: dict[str, Any], texts: Sequence[Donor], family: Family) -> dict[str, Any]:
    """The arguments, with the third rows' own text, mask and pooled text."""
    given: list[tuple[tuple[str, ...] | None, list[torch.Tensor | None]]] = [
        ((family.inputs.text,), [d.text for d in texts]),
        ((family.inputs.mask,) if family.inputs.mask else None, [d.mask for d in texts]),
        (family.inputs.pooled, [d.pooled for d in texts]),
    ]
    for path, values in given:
        if path is None:
            continue
        *outer, last = path
        holder = kwargs[outer[0]] if outer else kwargs
        rows = torch.stack([v for v in values if v is not None]).to(holder[last])
        holder[last] = torch.cat([holder[last][: -len(texts)], rows])
    return kwargs
