"""The formulas of steering, as pure functions of tensors; they run inside the model's (possibly compiled) graph.

`b` rows of the batch, `c` rows of the bank, `l` text tokens, `t` tokens of any kind, `d` width, `k` operators, `r`
rank.
"""

from __future__ import annotations

import torch

__all__ = ["OperatorTables", "edit_rows", "swap_bias", "swap_rows", "take_rows"]

OperatorTables = tuple[
    torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor
]  # e [k, r, d], d [k, r, v], offset [k, r], positive [k]


def take_rows(own: torch.Tensor, bank: torch.Tensor | None, src: torch.Tensor) -> torch.Tensor:
    """The gather that all steering rests on: `concat(own, bank)[src]`, bit for bit; without a bank, `own[src]`."""
    return (own if bank is None else torch.cat([own, bank])).index_select(0, src)


def swap_rows(own: torch.Tensor, bank: torch.Tensor | None, src: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """The text that each row is shown: `(1 - a) own + a concat(own, bank)[src]`; [b, ...] from [b, ...] and [c, ...].

    src: [b] in [0, b + c); alpha: [b] in [0, 1]. A row with `a == 1` gets the gathered row bit for bit, so an
    untouched row (its own index, `a == 1`) is exact: the blend is never computed into it, not even as `0 * x + x`.
    """
    given = take_rows(own, bank, src)
    a = alpha.view(-1, *[1] * (own.dim() - 1))
    return torch.where(a == 1, given, (1 - a) * own + a * given)


def swap_bias(own: torch.Tensor, bank: torch.Tensor | None, src: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """The additive attention mask [b, 1, l] that belongs to `swap_rows`: `log((1 - a) exp(own) + a exp(given))`.

    A mixture of weights, so it moves continuously from the own mask at 0 to the donor's at 1: a token that only the
    donor has comes in with weight `a`. Rows with `a == 1` are exact.
    """
    given = take_rows(own, bank, src)
    a = alpha.view(-1, 1, 1)
    mixed = torch.logaddexp(own.float() + torch.log1p(-a.float()), given.float() + torch.log(a.float()))
    return torch.where(a == 1, given, mixed.to(own.dtype))


def edit_rows(
    x: torch.Tensor,
    tables: OperatorTables,
    slot: torch.Tensor,
    scale: torch.Tensor,
    base: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`y = x - scale sum_r g(<e_r, x - m_r>) d_r` for each row's operator; the projections' size `sum_r |g|`, [b, t];
    and how far each token was moved, `|y - x| / |x|`, [b, t].

    x: [b, t, d]. tables: e [k, r, d], d [k, r, v], offset [k, r] = <e_r, m_r>, positive [k] (g(s) = max(s, 0) instead
    of s). slot: [b] in [0, k), 0 = untouched, which is exact; scale: [b]. base: [b, t, v], what is changed, where it is
    not `x` itself but made of it (v = d without). Projections are computed in float32.
    """
    base = x if base is None else base
    e, d, offset, positive = (table.index_select(0, slot) for table in tables)
    s = torch.einsum("btd,brd->btr", x.float(), e) - offset[:, None]
    s = torch.where(positive[:, None, None], s.clamp(min=0), s)
    dose = scale.view(-1, 1, 1) * s
    y = torch.baddbmm(base.float(), dose, d, alpha=-1)
    # |change|^2 = dose (d d') dose', which is r wide where the change is v wide
    length = ((dose @ (d @ d.mT)) * dose).sum(-1).clamp(min=0).sqrt()
    touched = (slot > 0).view(-1, 1)
    none = torch.zeros_like(length)
    size = torch.where(touched, s.abs().sum(-1), none)
    moved = torch.where(touched, length / base.float().norm(dim=-1).clamp(min=1e-12), none)
    return torch.where(touched[:, :, None], y.to(base.dtype), base), size, moved
