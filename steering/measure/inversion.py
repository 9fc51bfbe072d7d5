"""The way back from a given picture: latents from which the model comes to that picture, step by step.

A deterministic step of first order says x' = a' z + s' n, where z and n are the clean latents and the noise that the
model sees in x = a z + s n. Each step is solved for x by fixed-point iteration, as DDIM inversion does with refinement
(Garibi et al., *ReNoise*, 2024, arXiv 2403.14602; Pan et al., *AIDI*, 2023), and for flows, whose Euler steps are the
same formula. A controller (Rout et al., *RF Inversion*, 2024, arXiv 2410.10792) draws the way to one noise of our own,
so that it ends nearer to what the model begins with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steering.editing.trajectory import Trajectory
from steering.errors import BadPlan, NotSupported
from steering.measure.predictor import Predictor

__all__ = ["Levels", "inverted", "levels_of"]


@dataclass(frozen=True, slots=True)
class Levels:
    """The scheduler's steps as x = a z + s n: `alpha`, `sigma` [steps + 1], the last of the picture itself; `unit`
    [steps + 1]: by what its own latents are longer than x. `kind`: what the model predicts."""

    kind: str
    alpha: Tensor
    sigma: Tensor
    unit: Tensor


def levels_of(scheduler: Any) -> Levels:
    """The levels of a scheduler whose timesteps are set. Raises: NotSupported, for one of which they are not known."""
    name, config = type(scheduler).__name__, scheduler.config
    flow = "FlowMatch" in name or config.get("use_flow_sigmas", False)
    kind = "flow" if flow else str(config.get("prediction_type"))
    if kind not in ("flow", "epsilon", "v_prediction"):
        raise NotSupported(f"scheduler `{name}` must predict a flow, `epsilon` or `v_prediction`, got `{kind}`")
    timesteps = scheduler.timesteps
    if len(set(timesteps.tolist())) != len(timesteps):
        raise NotSupported(f"scheduler `{name}` goes to a timestep more than once, so its way cannot be gone back")
    if hasattr(scheduler, "sigmas"):
        sigma = torch.as_tensor(scheduler.sigmas, dtype=torch.float64)[: len(timesteps) + 1]
        if flow:
            return Levels(kind, 1 - sigma, sigma, torch.ones_like(sigma))
        longer = (sigma**2 + 1).sqrt()
        exploding = float(getattr(scheduler, "init_noise_sigma", 1.0)) != 1.0
        return Levels(kind, 1 / longer, sigma / longer, longer if exploding else torch.ones_like(longer))
    share = torch.as_tensor(scheduler.alphas_cumprod, dtype=torch.float64)[timesteps.long().cpu()]
    last = torch.as_tensor(float(getattr(scheduler, "final_alpha_cumprod", 1.0)), dtype=torch.float64)
    share = torch.cat([share, last[None]])
    return Levels(kind, share.sqrt(), (1 - share).sqrt(), torch.ones_like(share))


@torch.no_grad()
def inverted(
    predictor: Predictor,
    clean: Tensor,
    prompts: Sequence[str],
    *,
    first: int,
    refine: int,
    controller: float,
    seed: int,
    on_step: Callable[[int, int], None] | None = None,
) -> tuple[Trajectory, ...]:
    """The ways to clean latents [n, ...] under prompts, one for each, with the timesteps that the scheduler has now.

    first: the step at which the way back ends; the steps before it are on a straight line. refine: fixed-point
    iterations of each step; controller: in [0, 1), how much of the noise is that of `seed` instead of what the model
    sees; `on_step(i, n)` is called after step `i` of the `n` back, and its exception is passed on. Raises: BadPlan,
    NotSupported.
    """
    scheduler = predictor.prepared.pipe.scheduler
    if predictor.prepared.family.spare_timesteps:
        raise NotSupported(f"`{type(predictor.prepared.pipe).__name__}` has timesteps that it does not go to")
    levels, timesteps = levels_of(scheduler), scheduler.timesteps.float().cpu()
    steps = len(timesteps)
    if type(first) is not int or not 1 <= first < steps:
        raise BadPlan(f"first must be a step in [1, {steps - 1}], got `{first}`")
    if type(refine) is not int or refine < 0 or not 0 <= controller < 1:
        raise BadPlan(f"refine must be a whole number and controller in [0, 1), got `{refine}` and `{controller}`")
    texts = predictor.texts(prompts)
    goal = torch.randn(clean.shape[1:], generator=torch.Generator().manual_seed(seed))
    ways, predictions = [clean], []
    x, worst = clean, torch.zeros(len(clean))
    for step in range(steps - 1, first - 1, -1):
        (a, s), (a_next, s_next) = ((float(levels.alpha[k]), float(levels.sigma[k])) for k in (step, step + 1))
        after, at = x, timesteps[step].expand(len(clean))
        for _ in range(refine + 1):
            told = predictor.answers(x, at, texts)
            noise = torch.lerp(_noise(levels.kind, told, x, a, s), goal, controller)
            new = a / a_next * (after - s_next * noise) + s * noise
            moved, x = (new - x).flatten(1).norm(dim=1) / new.flatten(1).norm(dim=1), new
        worst = torch.maximum(worst, moved)
        clear = (after - s_next * noise) / a_next
        ways.append(x)
        predictions.append(_told(levels.kind, clear, noise, a, s))
        if on_step is not None:
            on_step(steps - 1 - step, steps - first)
    for step in range(first - 1, -1, -1):
        a, s = float(levels.alpha[step]), float(levels.sigma[step])
        ways.append(a * clear + s * noise)
        predictions.append(_told(levels.kind, clear, noise, a, s))
    latents = torch.stack(ways[::-1], 1) * levels.unit.view(1, -1, *[1] * (clean.dim() - 1)).float()
    given = torch.stack(predictions[::-1], 1)
    spoken = tuple(scheduler.timesteps.tolist())
    return tuple(Trajectory(spoken, latents[n], given[n], first, float(worst[n])) for n in range(len(clean)))


def _noise(kind: str, told: Tensor, x: Tensor, a: float, s: float) -> Tensor:
    """The noise that a prediction sees in x = a z + s n."""
    if kind == "flow":
        return x + a * told
    return told if kind == "epsilon" else a * told + s * x


def _told(kind: str, clear: Tensor, noise: Tensor, a: float, s: float) -> Tensor:
    """The prediction that sees these clean latents and this noise."""
    if kind == "flow":
        return noise - clear
    return noise if kind == "epsilon" else a * noise - s * clear
