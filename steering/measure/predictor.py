"""The denoiser called with rows of one's own: a captured call of the pipeline, with other latents, timesteps and texts.

Nothing here depends on what a family passes to its denoiser beside text.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from steering.errors import NotSupported
from steering.measure.replay import Call, prediction_of
from steering.run.arguments import repeated_arguments, with_texts
from steering.run.prepared import PreparedPipeline

__all__ = ["Predictor", "Texts"]

Texts = Mapping[str, Tensor]  # what the encoders give for prompts (text, mask, pooled), rows first
_ROWS = 32  # prompts encoded, or rows predicted without gradients, at once


class Predictor:
    """A pipeline's denoiser, called with any rows. `first`, `later`: two captured calls of one run of it.

    `guidance`: what an embedded guidance is told, None what the captured call was. `shape`: of one row's latents.
    Raises: NotSupported, for a pipeline that gives its model other timesteps than its scheduler's.
    """

    def __init__(self, prepared: PreparedPipeline, first: Call, later: Call, *, guidance: float | None = None) -> None:
        self.prepared = prepared
        self.denoiser: Any = prepared.denoiser
        given, then = dict(first.kwargs), later.kwargs
        self.first_argument = next(iter(inspect.signature(self.denoiser.forward).parameters))
        if guidance is not None and isinstance(given.get("guidance"), Tensor):
            given["guidance"] = torch.full_like(given["guidance"], guidance)
        latents, time = given[self.first_argument], given.get("timestep")
        if not isinstance(latents, Tensor) or not isinstance(time, Tensor):
            raise NotSupported(
                f"pipeline `{type(prepared.pipe).__name__}` calls its model with lists, or tells it the time in another"
                " way than by `timestep`; such a model is not called with latents of one's own"
            )
        self._given = given
        self._call, self._scale = first, float(given["timestep"]) / first.timestep  # some pipelines divide by 1000
        if abs(float(then["timestep"]) - self._scale * later.timestep) > 1e-3 * abs(float(then["timestep"])):
            raise NotSupported(
                f"pipeline `{type(prepared.pipe).__name__}` gives its model other timesteps than its scheduler's, as"
                " distilled models have; such a model is not called with latents of one's own"
            )
        self.shape: tuple[int, ...] = tuple(given[self.first_argument].shape[1:])

    @torch.no_grad()
    def texts(self, prompts: Sequence[str]) -> Texts:
        """The prompts as the pipeline encodes them, rows first, on the CPU; computed once and kept by the caller."""
        names = ("text", "mask", "pooled")
        parts = [self._call.encoding.texts(prompts[i : i + _ROWS]) for i in range(0, len(prompts), _ROWS)]
        return {n: torch.cat([p[n] for p in parts]).cpu() for n in names if isinstance(parts[0].get(n), Tensor)}

    def predict(self, x: Tensor, timesteps: Tensor, texts: Texts) -> Tensor:
        """The model's prediction for noised latents [b, ...] at timesteps [b], float32 on its device; differentiable.

        Rows may lie anywhere and are float32; they go to the model's device and type. A variance that some models
        predict beside is left out.
        """
        device, dtype = self.denoiser.device, self.denoiser.dtype
        texts = {n: t.to(device, dtype if t.is_floating_point() else t.dtype) for n, t in texts.items()}
        given = repeated_arguments(self.prepared.family.inputs, self._given, len(x))
        given = with_texts(self.prepared.family.inputs, given, texts)
        given |= {self.first_argument: x.to(device, dtype), "timestep": (timesteps * self._scale).to(device)}
        told = prediction_of(self.denoiser(**given), given[self.first_argument]).float()
        return told[:, : x.shape[1]] if told.dim() == 4 else told

    @torch.no_grad()
    def answers(self, x: Tensor, timesteps: Tensor, texts: Texts) -> Tensor:
        """`predict` for any number of rows, without gradients, on the CPU."""
        return torch.cat(
            [
                self.predict(x[rows], timesteps[rows], {n: t[rows] for n, t in texts.items()}).cpu()
                for rows in (slice(i, i + _ROWS) for i in range(0, len(x), _ROWS))
            ]
        )
