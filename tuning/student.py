"""The model as training calls it: one captured call of the pipeline, with other latents, timesteps and texts in it.

Nothing here depends on what a family passes to its denoiser beside text, so one loop trains every host.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from steering import Call, Host, NotSupported
from steering.measure.replay import prediction_of, repeated, with_texts

__all__ = ["Student", "Texts"]

Texts = Mapping[str, Tensor]  # what the encoders give for prompts (text, mask, pooled), rows first
_ROWS = 32  # prompts encoded, or rows predicted without gradients, at once


class Student:
    """A host's first denoiser, called with rows of training.

    `guidance`: what an embedded guidance is told, None the host's own. Raises: NotSupported, for a pipeline that gives
    its model other timesteps than its scheduler's.
    """

    def __init__(self, host: Host, *, guidance: float | None = None) -> None:
        self.host = host
        self.pipe = host.pipe
        self._prepared = host.prepared
        self.denoiser: Any = self._prepared.denoiser
        first, later = host.capture("", seed=0, at=[0.0, 0.5])
        parameters = inspect.signature(self.denoiser.forward).parameters
        given, then = (self._named(call) for call in (first, later))
        self._latents = next(iter(parameters))
        if guidance is not None and isinstance(given.get("guidance"), Tensor):
            given["guidance"] = torch.full_like(given["guidance"], guidance)
        self._given = given
        self._call, self._scale = first, float(given["timestep"]) / first.timestep  # some pipelines divide by 1000
        if abs(float(then["timestep"]) - self._scale * later.timestep) > 1e-3 * abs(float(then["timestep"])):
            raise NotSupported(
                f"pipeline `{type(self.pipe).__name__}` gives its model other timesteps than its scheduler's, as"
                " distilled models have; such a model is not trained"
            )
        self.shape: tuple[int, ...] = tuple(given[self._latents].shape[1:])

    @torch.no_grad()
    def texts(self, prompts: Sequence[str]) -> Texts:
        """The prompts as the pipeline encodes them, rows first; computed once and kept by the caller."""
        names = ("text", "mask", "pooled")
        parts = [self._call.encoding.texts(prompts[i : i + _ROWS]) for i in range(0, len(prompts), _ROWS)]
        return {n: torch.cat([p[n] for p in parts]).cpu() for n in names if isinstance(parts[0].get(n), Tensor)}

    def latents(self, call: Call) -> Tensor:
        """The noised latents that a captured call was given, [...] float32 on the CPU."""
        latents: Tensor = self._named(call)[self._latents][0]
        return latents.float().cpu()

    def moved(self, call: Call, other: Call) -> Call:
        """A captured call with the noised latents of another one of the same step."""
        latents = self._named(other)[self._latents]
        if call.args:
            return replace(call, args=(latents, *call.args[1:]))
        return replace(call, kwargs={**call.kwargs, self._latents: latents})

    def trimmed(self, prediction: Tensor) -> Tensor:
        """A prediction [...] on the CPU, without the variance that some models predict beside."""
        return (prediction[: self.shape[0]] if prediction.dim() == 3 else prediction).cpu()

    def predict(self, x: Tensor, timesteps: Tensor, texts: Texts) -> Tensor:
        """The model's prediction for noised latents [b, ...] at timesteps [b], float32 on its device; differentiable.

        Rows may lie anywhere and are float32; they go to the model's device and type.
        """
        device, dtype = self.denoiser.device, self.denoiser.dtype
        texts = {n: t.to(device, dtype if t.is_floating_point() else t.dtype) for n, t in texts.items()}
        shared = self._prepared.family.inputs.shared
        given = {k: v if k in shared else repeated(v, len(x)) for k, v in self._given.items()}
        given = with_texts(self._prepared.family.inputs, given, texts)
        given |= {self._latents: x.to(device, dtype), "timestep": (timesteps * self._scale).to(device)}
        told = prediction_of(self.denoiser(**given)).float()
        return told[:, : x.shape[1]] if told.dim() == 4 else told  # some models predict a variance beside

    def _named(self, call: Call) -> dict[str, Any]:
        """The arguments of a captured call by name."""
        return dict(inspect.signature(self.denoiser.forward).bind(*call.args, **call.kwargs).arguments)

    @torch.no_grad()
    def answers(self, x: Tensor, timesteps: Tensor, texts: Texts) -> Tensor:
        """`predict` for any number of rows, without gradients, on the CPU."""
        return torch.cat(
            [
                self.predict(x[rows], timesteps[rows], {n: t[rows] for n, t in texts.items()}).cpu()
                for rows in (slice(i, i + _ROWS) for i in range(0, len(x), _ROWS))
            ]
        )
