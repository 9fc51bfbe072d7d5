"""Which captions each training step gets; the same for every denoiser."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["deal_captions"]


def deal_captions(
    scenes: int, caption: Callable[[int, random.Random], str], step: int, *, batch: int, seed: int
) -> tuple[Tensor, list[str]]:
    """Rows in [0, scenes) and captions of one step; four steps share a pool that is cut by length, so that little
    padding is computed.

    `caption(row, rng)` draws one of a scene. One caption in ten is empty: the unconditional half of classifier-free
    guidance.
    """
    pool, part = divmod(step, 4)
    rng = random.Random(f"{seed}/{pool}")
    rows = [rng.randrange(scenes) for _ in range(4 * batch)]
    pairs = [(row, "" if rng.random() < 0.1 else caption(row, rng)) for row in rows]
    full = sorted((p for p in pairs if p[1]), key=lambda p: len(p[1]))
    empty = [p for p in pairs if not p[1]]
    size = len(full) // 4
    parts = [full[i * size : (i + 1) * size] for i in range(4)]
    rest = full[4 * size :] + empty
    for i in range(4):
        take = batch - len(parts[i])
        parts[i], rest = parts[i] + rest[:take], rest[take:]
    order = rng.sample(range(4), 4)
    chosen = parts[order[part]]
    return torch.tensor([row for row, _ in chosen]), [caption for _, caption in chosen]
