"""How a host's model is noised and what it predicts, read from its scheduler.

Two kinds: flow matching (x = (1 - s) z + s n, the model predicts n - z) and diffusion (x = sqrt(a) z + sqrt(1 - a) n,
the model predicts n or the velocity). Timesteps are drawn and losses weighted by diffusers' own functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from steering import NotSupported

__all__ = ["Noise", "noise_of"]

Kind = Literal["flow", "epsilon", "v_prediction"]
_GAMMA = 5.0  # of min-SNR weighting (Hang et al., 2023, arXiv 2303.09556)


@dataclass(frozen=True, slots=True)
class Noise:
    """The noise of one model. `shift`: of the flow's noise levels, as its scheduler has it; `scheduler`: of diffusion,
    with its table of noise levels; `steps`: timesteps that it was trained with."""

    kind: Kind
    shift: float
    scheduler: Any
    steps: int

    def levels(self, count: int, generator: torch.Generator) -> Tensor:
        """Random levels [count]: a share of noise in (0, 1) of a flow, a timestep of diffusion."""
        from diffusers.training_utils import compute_density_for_timestep_sampling

        if self.kind != "flow":
            return torch.randint(0, self.steps, (count,), generator=generator)
        u = compute_density_for_timestep_sampling("logit_normal", count, 0.0, 1.0, generator=generator)
        return self.shift * u / (1 + (self.shift - 1) * u)

    def timesteps(self, levels: Tensor) -> Tensor:
        """The levels as the scheduler counts timesteps, [b]."""
        return levels * self.steps if self.kind == "flow" else levels

    def mix(self, clean: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
        """The noised latents."""
        if self.kind == "flow":
            s = levels.view(-1, *[1] * (clean.dim() - 1)).to(clean)
            return (1 - s) * clean + s * noise
        mixed: Tensor = self.scheduler.add_noise(clean, noise, levels)
        return mixed

    def target(self, clean: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
        """What the model is to predict."""
        if self.kind == "flow":
            return noise - clean
        if self.kind == "epsilon":
            return noise
        velocity: Tensor = self.scheduler.get_velocity(clean, noise, levels)
        return velocity

    def weights(self, levels: Tensor) -> Tensor:
        """What each row's squared error counts, [b]: 1 of a flow, min-SNR of diffusion."""
        from diffusers.training_utils import compute_loss_weighting_for_sd3, compute_snr

        if self.kind == "flow":
            return compute_loss_weighting_for_sd3("none", levels)
        snr = compute_snr(self.scheduler, levels)
        weight = snr.clamp(max=_GAMMA) / (snr if self.kind == "epsilon" else snr + 1)
        return torch.where(snr == 0, torch.ones_like(weight), weight)


def noise_of(pipe: Any) -> Noise:
    """The noise of a pipeline's model. Raises: NotSupported, for a scheduler that says nothing that is known."""
    from diffusers import DDPMScheduler

    config = dict(pipe.scheduler.config)
    steps = int(config.get("num_train_timesteps", 1000))
    told = config.get("prediction_type", "flow_prediction" if "FlowMatch" in type(pipe.scheduler).__name__ else None)
    if told == "flow_prediction":
        moving = config.get("use_dynamic_shifting", False)  # by size of the picture; training takes it unshifted
        shift = 1.0 if moving else config.get("flow_shift") or config.get("shift") or 1.0
        return Noise("flow", float(shift), None, steps)
    if told in ("epsilon", "v_prediction"):
        return Noise(told, 1.0, DDPMScheduler.from_config(config, prediction_type=told), steps)
    raise NotSupported(
        f"scheduler `{type(pipe.scheduler).__name__}` must predict a flow, `epsilon` or `v_prediction` to be trained,"
        f" got `{told}`"
    )
