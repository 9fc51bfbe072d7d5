"""The model as training calls it: with rows of its own lessons, and beside calls that were captured of its runs."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from steering import Call, Host
from steering.measure.predictor import Predictor, Texts

__all__ = ["Student", "Texts"]


class Student(Predictor):
    """A host's first denoiser, called with rows of training.

    `guidance`: what an embedded guidance is told, None the host's own. Raises: NotSupported, for a pipeline that gives
    its model other timesteps than its scheduler's.
    """

    def __init__(self, host: Host, *, guidance: float | None = None) -> None:
        first, later = host.capture("", seed=0, at=[0.0, 0.5])
        super().__init__(host.prepared, first, later, guidance=guidance)
        self.host = host
        self.pipe = host.pipe

    def latents(self, call: Call) -> Tensor:
        """The noised latents that a captured call was given, [...] float32 on the CPU."""
        latents: Tensor = call.kwargs[self.first_argument][0]
        return latents.float().cpu()

    def moved(self, call: Call, other: Call) -> Call:
        """A captured call with the noised latents of another one of the same step."""
        return replace(call, kwargs={**call.kwargs, self.first_argument: other.kwargs[self.first_argument]})

    def trimmed(self, prediction: Tensor) -> Tensor:
        """A prediction [...] on the CPU, without the variance that some models predict beside."""
        return (prediction[: self.shape[0]] if prediction.dim() == 3 else prediction).cpu()
