"""Merges edits that meet at one site: they are made independent of each other, or refused with the reason.

Adapters (edits at projections) read what enters the projection and change what leaves it, so none disturbs another:
their sum is taken as it is.

An edit reads with its `e` and moves along its `d`. Two edits at one site disturb each other where one reads what the
other moves, `<e_a, d_b> != 0`: then their order matters, and the sum takes too much or too little. They are made
independent by reading with the dual basis: each keeps its own `<e_a, d_a>` and no longer reads the others' directions.
For projections this is the one oblique projection that removes both concepts. Two directions that are nearly the same
cannot be told apart, and such edits are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from steering.errors import BadPlan
from steering.plans import Edit, Window
from steering.values import Operator

__all__ = ["merge_edits", "merge_operators", "orthogonalise", "overlap"]

_NEAR = 0.97  # cosine from which on two directions count as one


def overlap(a: Tensor, b: Tensor) -> float:
    """The cosine of the smallest angle between what rows of `a` [r, d] and of `b` [s, d] span, in [0, 1]."""
    bases = [torch.linalg.svd(t.double(), full_matrices=False) for t in (a, b)]
    p, q = (rows[sizes > 1e-6 * sizes.max()] for _, sizes, rows in bases)
    return min(1.0, float(torch.linalg.svdvals(p @ q.T).max())) if len(p) and len(q) else 0.0


def orthogonalise(operators: Sequence[Operator], *, near: float = _NEAR) -> tuple[Operator, ...]:
    """The operators, none of which reads what another one moves; so they commute, and their sum is their sequence.

    Those that are independent already are returned as they are. Raises: BadPlan, when two have nearly one direction
    (`near`: cosine), or one does not remove what it reads, so that no dual basis exists.
    """
    for n, a in enumerate(operators):
        for k, b in enumerate(operators[:n]):
            if (a.where, a.e.shape[1]) != (b.where, b.e.shape[1]):
                raise BadPlan(f"edits at one place must be alike, got `{b.where}` {b.e.shape[1]} wide and `{a.where}`")
            cosine = overlap(a.d, b.d)
            if cosine > near:
                raise BadPlan(
                    f"edits {k + 1} and {n + 1} have nearly the same direction (cosine {cosine:.3f}, must be at most"
                    f" {near:g}); use one of them, or fit one for both concepts"
                )
    e, d = (torch.cat([getattr(o, name).double() for o in operators]) for name in ("e", "d"))
    offset = torch.cat([(o.e.double() * o.m.double()).sum(1) for o in operators])
    owner = torch.cat([torch.full((len(o.e),), n) for n, o in enumerate(operators)])
    cross = e @ d.T
    own = torch.where(owner[:, None] == owner[None], cross, torch.zeros_like(cross))
    if float((cross - own).abs().max()) <= 1e-9 * float(cross.abs().max()):
        return tuple(operators)
    if float(torch.linalg.cond(cross)) > 1e6:
        raise BadPlan("an edit does not remove what it reads, so it cannot be separated from the others at its site")
    change = own @ torch.linalg.inv(cross)
    e, offset = change @ e, change @ offset
    m = e * (offset / e.square().sum(1).clamp(min=1e-30))[:, None]
    parts = [owner == n for n in range(len(operators))]
    return tuple(replace(o, e=e[rows].float(), m=m[rows].float()) for o, rows in zip(operators, parts, strict=True))


def merge_operators(operators: Sequence[Operator], strengths: Sequence[float], *, near: float = _NEAR) -> Operator:
    """One operator that does at strength 1 what all do at theirs, orthogonalised unless they are adapters.

    Raises: BadPlan, when they cannot be separated or have different gates.
    """
    if len({o.table for o in operators}) > 1:
        raise BadPlan(f"edits at one place must be alike, got {', '.join(f'`{o.table}`' for o in operators)}")
    gates = {o.gate for o in operators}
    if len(gates) > 1:
        raise BadPlan("edits at one site have gates `linear` and `positive`; fit them with one gate")
    parts = tuple(operators) if all(o.adapts for o in operators) else orthogonalise(operators, near=near)
    d = torch.cat([o.d * s for o, s in zip(parts, strengths, strict=True)])
    return replace(parts[0], e=torch.cat([o.e for o in parts]), d=d, m=torch.cat([o.m for o in parts]))


def merge_edits(edits: Sequence[Edit], *, near: float = _NEAR) -> tuple[Edit, ...]:
    """The edits as a plan can hold them: those that meet at a site, in one place, on the same rows, are one as long as
    both are open.

    Edits that are alike but for their sites stay together. Raises: BadPlan, when edits meet that cannot be merged.
    """
    meeting: dict[tuple[str, str], list[Edit]] = {}
    for edit in dict.fromkeys(edits):
        for site in edit.sites:
            meeting.setdefault((site, edit.operator.where), []).append(edit)
    found: dict[Edit, list[str]] = {}
    merged: dict[tuple[Edit, ...], list[Edit]] = {}
    for (site, _), here in meeting.items():
        key = tuple(here)
        if key not in merged:
            merged[key] = _merged(here, site, near)
        for edit in merged[key]:
            found.setdefault(replace(edit, sites=("",)), []).append(site)
    return tuple(replace(edit, sites=tuple(sites)) for edit, sites in found.items())


def _merged(here: Sequence[Edit], site: str, near: float) -> list[Edit]:
    """The edits of one place at one site, of which no two are open at once on the same rows."""
    out: list[Edit] = []
    for rows in dict.fromkeys(e.rows for e in here):
        group = [e for e in here if e.rows == rows]
        if not any(a.window.overlaps(b.window) for n, a in enumerate(group) for b in group[:n]):
            out += group
            continue
        edges = sorted({edge for e in group for edge in (e.window.start, e.window.end)})
        for start, end in pairwise(edges):
            window = Window(start, end)
            if open_ := [e for e in group if e.window.overlaps(window)]:
                out.append(replace(_one(open_, site, near), window=window))
    return out


def _one(open_: Sequence[Edit], site: str, near: float) -> Edit:
    if len(open_) == 1:
        return open_[0]
    try:
        operator = merge_operators([e.operator for e in open_], [e.strength for e in open_], near=near)
    except BadPlan as error:
        raise BadPlan(f"{len(open_)} edits meet at site `{site}`: {error}") from error
    return replace(open_[0], operator=operator, strength=1.0)
