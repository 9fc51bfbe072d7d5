"""The formulas that fit edits: from samples of an activation to the `Operator` that takes a concept out of it. Pure.

All of them end in the one form `y = x - sum_r g(<e_r, x - m_r>) d_r`, so that one kernel serves every method, and
methods differ in `e`, `d`, `m` and the gate alone. Sums are in float64, results in float32. `n`, `k` samples (tokens,
patches, or a picture's mean), `d` width, `r` rank.
"""

from __future__ import annotations

import torch
from torch import Tensor

from steering.errors import BadPlan
from steering.values import Operator, Where

__all__ = [
    "aligned",
    "casteer",
    "concept_space",
    "leace",
    "leace_anchored",
    "means",
    "project_tokens",
    "safree",
    "trigger_tokens",
    "uce",
]

_TINY = 1e-9


def casteer(shown: Tensor, neutral: Tensor, *, clipped: bool = True, where: Where = "output") -> Operator:
    """Takes the unit difference of means out: `y = x - g(<s, x>) s`; 1 removes it, 2 mirrors (CASteer, ICLR 2026).

    shown, neutral: [n, d], [k, d], means over a picture's patches, with and without the concept. `clipped`: only what
    points towards the concept, so that it is never added; the other form folds into a weight.
    """
    s = _unit(_apart(shown, neutral))[None]
    return _operator(s, s, torch.zeros_like(s), clipped, where)


def means(shown: Tensor, neutral: Tensor, *, clipped: bool = True, where: Where = "context") -> Operator:
    """As `casteer`, with the neutral mean in the origin's place: neutral samples are left where they are on average.

    For text tokens after joint attention (SHIFT, arXiv 2604.09213), whose mean is far from zero.
    """
    s = _unit(_apart(shown, neutral))[None]
    return _operator(s, s, neutral.double().mean(0)[None], clipped, where)


def leace(x: Tensor, z: Tensor, *, where: Where = "output", shrink: float | None = None) -> Operator:
    """The least change after which no linear probe of `x` can tell `z`: `x - S (S' C^-1 S)^-1 S' C^-1 (x - mean)`.

    x: [n, d]; z: [n] or [n, k], what is to be hidden, 0 and 1 or any numbers. C is the covariance of x, S [d, k] that
    of x and z (LEACE, NeurIPS 2023). `shrink` in [0, 1] draws C towards a multiple of the identity; None asks the
    samples how much (Ledoit and Wolf, 2004). The guarantee holds at any shrinkage, least change at none.

    Raises: BadPlan, when x tells nothing of z.
    """
    e, d, m = _leace(x, z, shrink)
    return _operator(e, d, m.expand_as(e), False, where)


def leace_anchored(
    shown: Tensor, neutral: Tensor, *, clipped: bool = True, where: Where = "output", shrink: float | None = None
) -> Operator:
    """LEACE of two classes about the neutral mean: neutral samples stay, and those with the concept come to their mean.

    shown, neutral: [n, d], [k, d]. `clipped`: only samples on the concept's side are moved.
    """
    x = torch.cat([shown, neutral])
    z = torch.cat([torch.ones(len(shown)), torch.zeros(len(neutral))])
    e, d, _ = _leace(x, z, shrink)
    return _operator(e, d, neutral.double().mean(0)[None], clipped, where)


def uce(
    concepts: Tensor,
    guides: Tensor,
    *,
    preserve: Tensor | None = None,
    lam: float = 0.5,
    erase: float = 1.0,
    keep: float = 1.0,
    rank: int | None = None,
    where: Where = "text",
) -> Operator:
    """Unified concept editing (Gandikota et al., WACV 2024) as an edit of the text, for all projections at once.

    The closed-form weight is `W' = (lam W + a sum (W g_i) c_i' + b sum (W p_j) p_j') A^-1` with
    `A = lam I + a sum c_i c_i' + b sum p_j p_j'`. W stands on the left of every term, so `W' x = W y` with
    `y = x - a sum_i (c_i - g_i) <A^-1 c_i, x>`: the same for keys and values, for all sites, with any adapter on W.

    concepts, guides: [n, d], text tokens and what each is to be read as; preserve: [k, d], tokens to be left alone.
    `erase` is a, `keep` is b. `rank`: keep the r strongest parts of the change; None keeps it whole.
    """
    c, g = concepts.double(), guides.double()
    p = c.new_zeros(0, c.shape[1]) if preserve is None else preserve.double()
    if c.shape != g.shape:
        raise BadPlan(f"each concept token needs its guide, got {list(c.shape)} and {list(g.shape)}")
    a = lam * torch.eye(c.shape[1], dtype=torch.float64) + erase * c.T @ c + keep * p.T @ p
    e, d = erase * torch.cholesky_solve(c.T, torch.linalg.cholesky(a)).T, c - g
    if (rank is not None and rank < len(e)) or len(e) > e.shape[1]:
        e, d = _strongest(e, d, rank if rank is not None else e.shape[1])
    return _operator(e, d, torch.zeros_like(e), False, where)


def concept_space(phrases: Tensor, *, rank: int | None = None, tolerance: float = 1e-4) -> Tensor:
    """An orthonormal basis [r, d] of what phrases [n, d] span: their projector `C (C'C)^+ C'` is `basis' basis`.

    `rank`: only the r directions that they share most.
    """
    _, sizes, rows = torch.linalg.svd(phrases.double(), full_matrices=False)
    return rows[sizes > tolerance * sizes.max()][:rank].float()


def safree(
    phrases: Tensor, *, origin: Tensor | None = None, rank: int | None = None, where: Where = "text"
) -> Operator:
    """SAFREE's projection off the concept's space (ICLR 2025), of every token: `x - P_C (x - origin)`.

    phrases: [n, d], embeddings that name the concept; origin: [d], the paper's is zero. The paper moves trigger tokens
    only, and within the prompt's own space; those two depend on the prompt, and `trigger_tokens` and `project_tokens`
    make a donor of it.
    """
    start = torch.zeros_like(phrases[0]) if origin is None else origin
    basis = concept_space(phrases - start, rank=rank)
    return _operator(basis, basis, start[None], False, where)


def trigger_tokens(masked: Tensor, space: Tensor, *, alpha: float = 0.01) -> Tensor:
    """Which tokens point to the concept [n]: without them the prompt lies further from its space than without others.

    masked: [n, d], the prompt's pooled embedding with token i left out; space: [r, d] from `concept_space`.
    """
    x = masked.double()
    away = (x - x @ space.double().T @ space.double()).norm(dim=-1)
    others = (away.sum() - away) / max(len(away) - 1, 1)
    return away >= (1 + alpha) * others


def project_tokens(text: Tensor, triggers: Tensor, space: Tensor, prompt: Tensor) -> Tensor:
    """The text [l, d] with trigger tokens [l] as `(I - P_C) P_I w`, all others as they were, bit for bit.

    space, prompt: bases [r, d] of the concept's space and of the prompt's own, the span of its masked embeddings.
    """
    x, c, i = text.double(), space.double(), prompt.double()
    inside = x @ i.T @ i
    moved = inside - inside @ c.T @ c
    return torch.where(triggers[:, None], moved.to(text.dtype), text)


def aligned(own: Tensor, other: Tensor) -> Tensor:
    """For each token of `own` [n, d] the one of `other` [k, d] that stands for it, [n]: monotone, by least distance.

    Dynamic time warping: two prompts that differ in a phrase are matched without knowing their tokenizer.
    """
    cost = torch.cdist(own.double(), other.double()).tolist()
    n, k = len(cost), len(cost[0])
    total = [[0.0] * k for _ in range(n)]
    for i in range(n):
        for j in range(k):
            before = [total[a][b] for a, b in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if a >= 0 and b >= 0]
            total[i][j] = cost[i][j] + min(before, default=0.0)
    i, j, found = n - 1, k - 1, [0] * n
    best = [float("inf")] * n
    while True:
        if cost[i][j] < best[i]:
            best[i], found[i] = cost[i][j], j
        if i == j == 0:
            return torch.tensor(found)
        steps = [(a, b) for a, b in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if a >= 0 and b >= 0]
        i, j = min(steps, key=lambda at: total[at[0]][at[1]])


def _apart(shown: Tensor, neutral: Tensor) -> Tensor:
    """The difference of means [d]."""
    return shown.double().mean(0) - neutral.double().mean(0)


def _unit(v: Tensor) -> Tensor:
    size = float(v.norm())
    if not size > _TINY:
        raise BadPlan("samples with and without the concept have one mean here, so there is no direction to take out")
    return v / size


def _leace(x: Tensor, z: Tensor, shrink: float | None) -> tuple[Tensor, Tensor, Tensor]:
    x, z = x.double(), z.double().reshape(len(z), -1)
    mean = x.mean(0, keepdim=True)
    xs, zs = x - mean, z - z.mean(0)
    across = xs.T @ zs @ torch.linalg.pinv(zs.T @ zs)  # as far as x moves while z moves by one
    sizes = torch.linalg.svdvals(across)
    if not float(sizes.max()) > _TINY:
        raise BadPlan("samples with and without the concept have one mean here, so there is nothing to erase")
    if float(sizes.min()) < 1e-6 * float(sizes.max()):  # what is hidden says one thing twice
        u, s, _ = torch.linalg.svd(across, full_matrices=False)
        across = (u * s)[:, s > 1e-6 * s.max()]
    inside = torch.linalg.solve(_covariance(xs, shrink), across)
    return torch.linalg.solve(across.T @ inside, inside.T), across.T, mean


def _covariance(xs: Tensor, shrink: float | None) -> Tensor:
    """The covariance of centred samples [n, d], drawn towards a multiple of the identity."""
    n, d = xs.shape
    c = xs.T @ xs / n
    level = c.trace() / d
    round_ = level * torch.eye(d, dtype=c.dtype)
    if shrink is None:
        # Ledoit and Wolf: how much single samples' products scatter about c, against how far c is from round
        scatter = (xs.square().sum(1).square().sum() / n - c.square().sum()) / n
        shrink = float((scatter / (c - round_).square().sum().clamp(min=_TINY)).clamp(0, 1))
    # never singular: samples may be fewer than dimensions
    return (1 - shrink) * c + max(shrink, 1e-6) * round_


def _strongest(e: Tensor, d: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The best approximation of `sum_r d_r e_r'` by `rank` terms (Eckart and Young)."""
    u, s, v = torch.linalg.svd(d.T @ e, full_matrices=False)
    return v[:rank], (u[:, :rank] * s[:rank]).T


def _operator(e: Tensor, d: Tensor, m: Tensor, clipped: bool, where: Where) -> Operator:
    e, d, m = (t.expand_as(e).float().contiguous() for t in (e, d, m))
    return Operator(e, d, m, gate="positive" if clipped else "linear", where=where)
