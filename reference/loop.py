"""The one training loop: optimizer, schedule, averaged weights, curve, and checkpoints that a run resumes from.

Hidden matrices are updated by Muon and everything else by AdamW: Muon's orthogonal updates need about half the steps
here. The learning rate warms up, stays, and falls linearly to zero over the last part, so a run may be lengthened
without being replanned.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

__all__ = ["Muon", "Schedule", "fit"]


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast to train.

    Attributes:
        steps: optimizer steps in all.
        lr: peak learning rate of AdamW.
        muon_lr: peak learning rate of Muon, whose updates have a root mean square of 0.2 times it; 0 leaves
            everything to AdamW.
        warmup, cooldown: shares of the run in which the rate rises and falls.
        average: decay of the exponential average of the weights, which is what a run returns; 0 turns it off.
    """

    steps: int
    lr: float
    muon_lr: float = 0.0
    warmup: float = 0.03
    cooldown: float = 0.4
    average: float = 0.0
    weight_decay: float = 0.01

    def factor(self, step: int) -> float:
        """The learning rate at `step` as a share of its peak."""
        done = step / self.steps
        return min(1.0, (step + 1) / max(1, self.warmup * self.steps), max(0.0, (1 - done) / max(1e-9, self.cooldown)))


class Muon(torch.optim.Optimizer):
    """Momentum whose update is the nearest orthogonal matrix, by five Newton-Schulz steps (Jordan et al., 2024)."""

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, *, momentum: float = 0.95, weight_decay: float = 0.01
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
            for p in group["params"]:
                if p.grad is None:
                    continue
                buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                buffer.lerp_(p.grad, 1 - group["momentum"])
                by_shape.setdefault(p.shape, []).append((p, p.grad.lerp(buffer, group["momentum"])))
            for shape, pairs in by_shape.items():
                updates = _orthogonal(torch.stack([u for _, u in pairs])) * (0.2 * max(shape) ** 0.5)
                for (p, _), update in zip(pairs, updates, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"])


def _orthogonal(g: Tensor) -> Tensor:
    """Each [m, n] matrix of `g` with its singular values pushed towards one."""
    transposed = g.shape[-2] > g.shape[-1]
    x = g.mT if transposed else g
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (-4.775 * a + 2.0315 * a @ a) @ x
    return x.mT if transposed else x


def fit(
    modules: dict[str, nn.Module],
    loss: Callable[[int], Tensor],
    schedule: Schedule,
    *,
    folder: Path,
    name: str,
    every: int = 200,
    on_checkpoint: Callable[[int], None] | None = None,
    log: Callable[[str], None] = print,
) -> None:
    """Trains `modules` in place on `loss(step)`; ends with the averaged weights in them.

    Resumes from `folder/<name>.pt` if that is there, and appends one line a hundred steps to
    `folder/<name>.curve.jsonl`.

    Args:
        modules: what is trained, by name; parameters that need no gradient are left alone.
        loss: draws its own batch and returns a scalar; the step index lets it seed itself.
        on_checkpoint: called every `every` steps with the averaged weights in place.
    """
    folder.mkdir(parents=True, exist_ok=True)
    named = [(f"{m}.{n}", p) for m, module in modules.items() for n, p in module.named_parameters() if p.requires_grad]
    hidden = [p for n, p in named if p.ndim == 2 and schedule.muon_lr and _is_hidden(n)]
    others = [p for _, p in named if not any(p is h for h in hidden)]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(others, schedule.lr, betas=(0.9, 0.98), weight_decay=schedule.weight_decay, fused=True)
    ]
    if hidden:
        optimizers.append(Muon(hidden, schedule.muon_lr, weight_decay=schedule.weight_decay))
    peaks = [schedule.lr, schedule.muon_lr]
    average = [p.detach().clone() for _, p in named] if schedule.average else None
    start, running, checkpoint = 0, None, folder / f"{name}.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True, map_location=named[0][1].device)
        start, running = saved["step"], saved["loss"]
        for (_, p), value in zip(named, saved["weights"], strict=True):
            p.data.copy_(value)
        for optimizer, state in zip(optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        if average is not None:
            average = list(saved["average"])
        log(f"{name}: resumed at step {start}")
    began = time.monotonic()
    for step in range(start, schedule.steps):
        for optimizer, peak in zip(optimizers, peaks, strict=False):
            for group in optimizer.param_groups:
                group["lr"] = peak * schedule.factor(step)
        value = loss(step)
        value.backward()
        level = value.detach().item()
        torch.nn.utils.clip_grad_norm_([p for _, p in named], 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        if average is not None:
            decay = min(schedule.average, (step + 1) / (step + 10))
            torch._foreach_lerp_(average, [p.detach() for _, p in named], 1 - decay)
        running = level if running is None else 0.98 * running + 0.02 * level
        if (step + 1) % 50 == 0:
            seconds = (time.monotonic() - began) / (step + 1 - start)
            log(f"{name}: step {step + 1}/{schedule.steps} loss {running:.4f} {seconds:.2f} s/step")
            with (folder / f"{name}.curve.jsonl").open("a") as f:
                f.write(json.dumps({"step": step + 1, "loss": round(running, 5), "seconds": round(seconds, 3)}) + "\n")
        if (step + 1) % every == 0 or step + 1 == schedule.steps:
            state = {
                "step": step + 1,
                "loss": running,
                "weights": [p.detach() for _, p in named],
                "optimizers": [o.state_dict() for o in optimizers],
                "average": average,
            }
            torch.save(state, checkpoint.with_suffix(".part"))
            checkpoint.with_suffix(".part").replace(checkpoint)
            if on_checkpoint is not None and step + 1 < schedule.steps:
                with torch.no_grad():
                    _with(named, average, partial(on_checkpoint, step + 1))
    if average is not None:
        for (_, p), value in zip(named, average, strict=True):
            p.data.copy_(value)


def _with(named: list[tuple[str, nn.Parameter]], average: list[Tensor] | None, call: Callable[[], None]) -> None:
    """Calls with the averaged weights in place, and puts the trained ones back."""
    kept = [p.detach().clone() for _, p in named]
    try:
        for (_, p), value in zip(named, average or kept, strict=True):
            p.data.copy_(value)
        call()
    finally:
        for (_, p), value in zip(named, kept, strict=True):
            p.data.copy_(value)


def _is_hidden(name: str) -> bool:
    """Whether a matrix maps features to features; embeddings and output heads are better left to AdamW."""
    apart = ("embed", "shared", "relative", "proj_out", "final_layer", "head", "linear_1.", "adaln_single", "pad_token")
    return not any(word in name for word in apart)
