"""Values of plans that hold tensors: `Donor`, text that the caller encoded, and `Operator`, a change of an activation.

Two are equal when their values are; they are hashable and have a digest.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch

from steering.errors import BadDonor, BadPlan

__all__ = ["PROJECTED", "WHERES", "Donor", "Gate", "Operator", "Projected", "Where", "digest_of", "one_of", "table_key"]

Gate = Literal["linear", "positive"]
Projected = Literal["keys", "values", "queries", "result"]  # the linear projections of a site
PROJECTED: tuple[Projected, ...] = get_args(Projected)
Where = Literal["text", "output", "context", "pooled", Projected]
WHERES: tuple[Where, ...] = get_args(Where)


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


@dataclass(frozen=True, slots=True, eq=False)
class Operator:
    """`y = x - sum_r g(<e_r, x - m_r>) d_r`: a gated low-rank change of an activation.

    e, m, d: [r, w] float tensors of one shape, `w` the width of the activation. `gate`: `linear` (g(s) = s: a
    projection, LEACE, UCE, SAFREE) or `positive` (g(s) = max(s, 0): CASteer). `where`: the `text` that enters a site;
    the picture's part of its `output`; the text's part of a joint site's output (`context`), on its way to the later
    blocks; or the `pooled` text that enters a global site. `fitters` makes operators.

    At a projection of a site (`keys`, `values`, `queries`, `result`: see `Host.projections`) it is an adapter. It reads
    what enters the linear module and changes what leaves it: `y = W x - sum_r g(<e_r, x - m_r>) d_r`, with e, m [r, w]
    of the input's width and d [r, v] of the output's. A LoRA with A [r, w], B [v, r] and scale s is `e = A`,
    `d = -s B'`, `m = 0`; `steering.packs.lora` reads the file.

    Raises: BadPlan, when shapes do not fit or a value is not finite.
    """

    e: torch.Tensor
    d: torch.Tensor
    m: torch.Tensor
    gate: Gate = "linear"
    where: Where = "text"
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        one_of("gate", self.gate, Gate)
        one_of("where", self.where, Where)
        e, d = self.e.shape, self.d.shape
        if not (len(e) == len(d) == 2 and self.m.shape == e and d[0] == e[0] and (d == e or self.adapts)):
            got = ", ".join(str(list(t.shape)) for t in (self.e, self.d, self.m))
            must = "must have shapes [r, in], [r, out], [r, in]" if self.adapts else "must have one shape [r, width]"
            raise BadPlan(f"operator vectors e, d, m {must}, got {got}")
        if not all(bool(torch.isfinite(t).all()) for t in (self.e, self.d, self.m)):
            raise BadPlan("operator vectors must be finite, got nan or inf")
        parts = [self.gate, self.where] + [_tensor_digest(t) for t in (self.e, self.d, self.m)]
        object.__setattr__(self, "digest", digest_of(parts))

    @property
    def adapts(self) -> bool:
        """True at a projection, where it reads the input of a linear module and changes its output."""
        return self.where in PROJECTED

    @property
    def table(self) -> str:
        """The name of the table that it stands in among others: its place, and the widths that it reads and changes."""
        return table_key(self.where, self.e.shape[1], self.d.shape[1])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Operator) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


def table_key(where: Where, read: int, changed: int | None = None) -> str:
    """The name of the table of operators of one place and width; a U-Net has several. `changed`: the width of what they
    change, where it is not what they read."""
    return f"{where}.{read}.{read if changed is None else changed}"


def digest_of(value: Any) -> str:
    """Sha256 of a JSON value, as hex; equal for equal values on any machine."""
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    ).hexdigest()


def one_of(name: str, value: str, choices: Any) -> None:
    """Nothing, when a value is one of a `Literal`'s. Raises: BadPlan."""
    allowed = get_args(choices)
    if value not in allowed:
        raise BadPlan(f"{name} must be one of {', '.join(f'`{a}`' for a in allowed)}, got `{value}`")


def _tensor_digest(t: torch.Tensor | None) -> str | None:
    if t is None:
        return None
    flat = t.detach().to("cpu", torch.float32).contiguous()
    return hashlib.sha256(str(tuple(t.shape)).encode() + flat.numpy().tobytes()).hexdigest()
