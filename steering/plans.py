"""Owns what is to be done to one request: `Window`, `Donor`, `Swap`, `Operator`, `Edit`, `Plan`.

Plain frozen values, validated when made, hashable, with a digest for reports and audit. Nothing here knows a model:
whether a site exists or a width fits is checked by the host that runs the plan.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch

from .errors import BadDonor, BadPlan, NotSupported
from .sites import Site

__all__ = [
    "WHOLE",
    "Donor",
    "Edit",
    "Gate",
    "Intervention",
    "Mode",
    "Operator",
    "Plan",
    "Pooled",
    "Rows",
    "Source",
    "Swap",
    "Window",
]

Pooled = Literal["keep", "donor", "null"]
Source = Literal["text", "twin", "lockstep", "canonical"]
Mode = Literal["kv", "pinned"]
Rows = Literal["cond", "uncond", "both"]
Gate = Literal["linear", "positive"]
Where = Literal["text", "output"]


@dataclass(frozen=True, slots=True)
class Window:
    """A part of the denoising trajectory: step `i` of `n` lies in it when `start <= i / n < end`.

    Fractions, so that a window means the same at any number of steps. `n` counts the different timesteps that the
    scheduler really uses: a second-order scheduler that evaluates a timestep twice keeps both evaluations in one
    window. `start == end` is empty.
    """

    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        if not (0.0 <= self.start <= self.end <= 1.0):  # also refuses nan
            raise BadPlan(f"window must be 0 <= start <= end <= 1, got `{self.start}, {self.end}`")
        object.__setattr__(self, "start", float(self.start))
        object.__setattr__(self, "end", float(self.end))

    def covers(self, step: int, steps: int) -> bool:
        """True when step `step` of `steps` lies in the window."""
        # the small constant keeps 0.3 * 10 on the third step's edge, where float division puts it a hair above
        return self.start * steps - 1e-9 <= step < self.end * steps - 1e-9

    def overlaps(self, other: Window) -> bool:
        """True when some number of steps has a step in both windows."""
        return max(self.start, other.start) < min(self.end, other.end)


WHOLE = Window()


@dataclass(frozen=True, slots=True, eq=False)
class Donor:
    """Text that was encoded by the caller, instead of a donor prompt.

    text: [l, d] as the pipeline's `encode_prompt` returns it (before any projection of the denoiser); mask: [l], 1 = a
    real token, or None when all are. Two donors are equal when their values are.

    Raises: BadDonor, when the shapes do not fit each other or a value is not finite.
    """

    text: torch.Tensor
    mask: torch.Tensor | None = None
    pooled: torch.Tensor | None = None
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        if self.text.dim() != 2 or not self.text.is_floating_point():
            raise BadDonor(
                f"donor text must be a float tensor [tokens, width], got {self.text.dtype} {list(self.text.shape)}"
            )
        if self.mask is not None and tuple(self.mask.shape) != (self.text.shape[0],):
            raise BadDonor(f"donor mask must be [{self.text.shape[0]}] like its text, got {list(self.mask.shape)}")
        if self.mask is not None and not bool(((self.mask == 0) | (self.mask == 1)).all()):
            raise BadDonor("donor mask must hold only 0 and 1")
        for name, value in (("text", self.text), ("pooled", self.pooled)):
            if value is not None and not bool(torch.isfinite(value).all()):
                bad = int((~torch.isfinite(value)).sum())
                raise BadDonor(f"donor {name} must be finite, got {bad} values of nan or inf")
        object.__setattr__(self, "digest", digest_of([_tensor_digest(t) for t in (self.text, self.mask, self.pooled)]))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Donor) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


@dataclass(frozen=True, slots=True)
class Swap:
    """Shows `sites` the text of a donor instead of the request's own.

    * `donor`: a prompt, encoded with the pipeline's own `encode_prompt` and the arguments of the call, or a `Donor`.
    * `pooled`: what becomes of pooled text: `keep` the request's own, the `donor`'s, or `null`. No default, because
      the pooled path carries a concept past any set of sites. PixArt has no pooled text: there all three are the same
      and do nothing.
    * `source`, `mode`: DESIGN 4. On cross-attention hosts only `source="text"` has a meaning, and `kv` and `pinned`
      coincide.
    * `strength`: `a` in [0, 1]; the site sees `(1 - a) own + a donor`. 0 leaves the row alone, 1 is the donor exactly.
    * `rows`: which half under classifier-free guidance.
    """

    donor: str | Donor
    sites: tuple[str, ...] = field(kw_only=True)
    pooled: Pooled = field(kw_only=True)
    source: Source = field(default="text", kw_only=True)
    mode: Mode = field(default="kv", kw_only=True)
    window: Window = field(default=WHOLE, kw_only=True)
    strength: float = field(default=1.0, kw_only=True)
    rows: Rows = field(default="cond", kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.donor, str | Donor):
            raise BadPlan(f"donor must be a prompt or a `Donor`, got `{type(self.donor).__name__}`")
        object.__setattr__(self, "sites", _site_names(self.sites))
        object.__setattr__(self, "strength", _strength(self.strength))
        _one_of("pooled", self.pooled, Pooled)
        _one_of("source", self.source, Source)
        _one_of("rows", self.rows, Rows)
        if self.mode == "stream":
            raise NotSupported(
                "mode `stream` does not localize: a swap at one block is seen by all later ones; use `kv` or `pinned`"
            )
        _one_of("mode", self.mode, Mode)

    def to_json(self) -> dict[str, Any]:
        """What the swap does, as plain values; equal for equal swaps."""
        donor = self.donor if isinstance(self.donor, str) else {"digest": self.donor.digest}
        return {"swap": donor, "pooled": self.pooled, "source": self.source, "mode": self.mode} | _common(self)


@dataclass(frozen=True, slots=True, eq=False)
class Operator:
    """`y = x - sum_r g(<e_r, x - m_r>) d_r`: a gated low-rank change of an activation.

    e, m, d: [r, w] float tensors of one shape, `w` the width of the activation. `gate`: `linear` (g(s) = s: a
    projection, LEACE, UCE, SAFREE) or `positive` (g(s) = max(s, 0): CASteer). `where`: the `text` that enters a site,
    or the site's `output`.

    Raises: BadPlan, when shapes differ or a value is not finite.
    """

    e: torch.Tensor
    d: torch.Tensor
    m: torch.Tensor
    gate: Gate = "linear"
    where: Where = "text"
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        shapes = {tuple(t.shape) for t in (self.e, self.d, self.m)}
        if len(shapes) != 1 or self.e.dim() != 2:
            got = ", ".join(str(list(t.shape)) for t in (self.e, self.d, self.m))
            raise BadPlan(f"operator vectors e, d, m must have one shape [r, width], got {got}")
        if not all(bool(torch.isfinite(t).all()) for t in (self.e, self.d, self.m)):
            raise BadPlan("operator vectors must be finite, got nan or inf")
        _one_of("gate", self.gate, Gate)
        _one_of("where", self.where, Where)
        parts = [self.gate, self.where] + [_tensor_digest(t) for t in (self.e, self.d, self.m)]
        object.__setattr__(self, "digest", digest_of(parts))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Operator) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


@dataclass(frozen=True, slots=True)
class Edit:
    """Changes an activation of `sites` by an operator, scaled by `strength` (>= 0; 1 = the operator as it is)."""

    sites: tuple[str, ...]
    operator: Operator
    window: Window = field(default=WHOLE, kw_only=True)
    strength: float = field(default=1.0, kw_only=True)
    rows: Rows = field(default="cond", kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sites", _site_names(self.sites))
        if not (math.isfinite(self.strength) and self.strength >= 0.0):
            raise BadPlan(f"strength of an edit must be a finite number >= 0, got `{self.strength}`")
        object.__setattr__(self, "strength", float(self.strength))
        _one_of("rows", self.rows, Rows)

    def to_json(self) -> dict[str, Any]:
        """What the edit does, as plain values; equal for equal edits."""
        return {"edit": self.operator.digest} | _common(self)


Intervention = Swap | Edit


@dataclass(frozen=True, slots=True, init=False)
class Plan:
    """The interventions of one request: `Plan(swap, edit, ...)`. A request that nothing touches has the plan `None`.

    `digest` names the plan in reports and audit. `made_for` is the digest of the fingerprint of the host that a pack
    was made for; a host with another one refuses the plan. At one site, swaps come before edits of the text.

    Raises: BadPlan, when it is empty, or two interventions of a kind meet at one site, in one window, on the same rows.
    """

    interventions: tuple[Intervention, ...]
    made_for: str | None
    digest: str

    def __init__(self, *interventions: Intervention, made_for: str | None = None) -> None:
        if not interventions:
            raise BadPlan("a plan needs an intervention; a request that nothing touches has the plan `None`")
        for got in interventions:
            if not isinstance(got, Swap | Edit):
                raise BadPlan(f"a plan is made of `Swap` and `Edit`, got `{type(got).__name__}`")
        _refuse_conflicts(interventions)
        object.__setattr__(self, "interventions", tuple(interventions))
        object.__setattr__(self, "made_for", made_for)
        object.__setattr__(self, "digest", digest_of([i.to_json() for i in interventions]))

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the sites that the plan touches, each once, in the order of first mention."""
        return tuple(dict.fromkeys(name for i in self.interventions for name in i.sites))


def digest_of(value: Any) -> str:
    """Sha256 of a JSON value, as hex; equal for equal values on any machine."""
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    ).hexdigest()


def _common(i: Swap | Edit) -> dict[str, Any]:
    return {"sites": list(i.sites), "window": [i.window.start, i.window.end], "strength": i.strength, "rows": i.rows}


def _tensor_digest(t: torch.Tensor | None) -> str | None:
    if t is None:
        return None
    flat = t.detach().to("cpu", torch.float32).contiguous()
    return hashlib.sha256(str(tuple(t.shape)).encode() + flat.numpy().tobytes()).hexdigest()


def _site_names(sites: Iterable[str | Site]) -> tuple[str, ...]:
    if isinstance(sites, str):
        raise BadPlan(f'sites must be a sequence of names, got the string `{sites}`; write `("{sites}",)`')
    names = tuple(s.name if isinstance(s, Site) else s for s in sites)
    if not names or not all(isinstance(n, str) for n in names):
        raise BadPlan(f"sites must be a sequence of at least one name, got `{names}`")
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise BadPlan(f"sites must differ, got `{twice[0]}` twice")
    return names


def _strength(value: float) -> float:
    if not (isinstance(value, int | float) and 0.0 <= value <= 1.0):
        raise BadPlan(f"strength of a swap must be a number in [0, 1], got `{value}`")
    return float(value)


def _one_of(name: str, value: str, choices: Any) -> None:
    allowed = get_args(choices)
    if value not in allowed:
        raise BadPlan(f"{name} must be one of {', '.join(f'`{a}`' for a in allowed)}, got `{value}`")


def _refuse_conflicts(interventions: tuple[Intervention, ...]) -> None:
    for n, a in enumerate(interventions):
        for b in interventions[n + 1 :]:
            shared = sorted(set(a.sites) & set(b.sites))
            same_rows = a.rows == b.rows or "both" in (a.rows, b.rows)
            if type(a) is type(b) and shared and same_rows and a.window.overlaps(b.window) and _place(a) == _place(b):
                kind = type(a).__name__.lower()
                raise BadPlan(
                    f"two {kind}s meet at site `{shared[0]}` in one window; give them windows that do not overlap"
                )


def _place(i: Intervention) -> str:
    return i.operator.where if isinstance(i, Edit) else "text"
