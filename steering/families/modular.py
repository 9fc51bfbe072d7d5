"""Modular pipelines as hosts know pipelines: asked with lists of prompts, which a method of their own encodes.

A modular pipeline of diffusers is a list of blocks that hand values on. Here the blocks that read text are asked for
each prompt by itself, and the others are run with what they gave. A block that rewrites prompts is left out: the
text that is encoded is the one that was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import torch

from steering.errors import NotSupported

__all__ = ["ModularFlux3", "as_pipeline"]


def as_pipeline(pipe: Any) -> Any:
    """A modular pipeline as an ordinary one; any other as it is. Raises: NotSupported, for a kind that is not known."""
    kinds = [c.__name__ for c in type(pipe).__mro__]
    if "ModularPipeline" not in kinds:
        return pipe
    if "Flux3ModularPipeline" in kinds:
        return ModularFlux3(pipe)
    raise NotSupported(f"modular pipeline `{kinds[0]}` cannot be steered; of modular ones FLUX.3 can")


class ModularFlux3:
    """FLUX.3's modular pipeline as an ordinary one; components are those of `modular`, the guider's scale included.

    The padding of its text is read as text is, and windows of text are multiples of 80 tokens long. So the prompts of
    one call must have windows of one length.
    """

    def __init__(self, modular: Any) -> None:
        self.modular = modular
        blocks = deepcopy(modular.blocks)
        blocks.sub_blocks.pop("prompt_upsampler", None)
        self._encoder = blocks.sub_blocks.pop("text_encoder")
        self._decoder = blocks.sub_blocks.pop("decode")
        self._denoiser = blocks.init_pipeline()
        self._loops = [block for block in _all_blocks(self._denoiser.blocks) if hasattr(block, "progress_bar")]

    def __getattr__(self, name: str) -> Any:
        if name == "modular":  # not made yet
            raise AttributeError(name)
        return getattr(self.modular, name)

    @property
    def _progress_bar_config(self) -> dict[str, Any]:
        return getattr(self._loops[0], "_progress_bar_config", {})

    @_progress_bar_config.setter
    def _progress_bar_config(self, how: dict[str, Any]) -> None:
        for loop in self._loops:
            loop._progress_bar_config = how

    def set_progress_bar_config(self, **how: Any) -> None:
        """As other pipelines do."""
        self._progress_bar_config = how

    def encode_prompt(
        self,
        prompt: str | Sequence[str],
        num_images_per_prompt: int = 1,
        max_sequence_length: int = 8192,
        text_encoder_out_layers: Sequence[int] = (4, 8, 12, 16, 20, 24, 28, 32),
    ) -> tuple[torch.Tensor]:
        """The prompts' text [b, l, d] alone in a tuple, as the pipeline's own block encodes each. Raises:
        NotSupported, for windows of different lengths."""
        texts = [
            self._encoder._get_qwen3_vl_prompt_embeds(
                self.text_encoder,
                self.tokenizer,
                each,
                device=self._execution_device,
                max_sequence_length=max_sequence_length,
                pad_multiple=self._encoder.pad_multiple,
                hidden_states_layers=tuple(text_encoder_out_layers),
            )
            for each in ([prompt] if isinstance(prompt, str) else prompt)
        ]
        lengths = sorted({text.shape[1] for text in texts})
        if len(lengths) > 1:
            raise NotSupported(
                f"prompts and donors of one call must have text windows of one length on FLUX.3, which reads their"
                f" padding too, got {' and '.join(map(str, lengths))} tokens; ask for them in calls of their own"
            )
        return (torch.cat(texts).repeat_interleave(num_images_per_prompt, dim=0),)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        negative_prompt: str | Sequence[str] | None = None,
        height: int = 1024,
        width: int = 1024,
        num_inference_steps: int | None = None,
        num_images_per_prompt: int = 1,
        generator: Any = None,
        latents: torch.Tensor | None = None,
        output_type: str = "pil",
        max_sequence_length: int = 8192,
        text_encoder_out_layers: Sequence[int] = (4, 8, 12, 16, 20, 24, 28, 32),
    ) -> Any:
        """Pictures in `images`, as the modular pipeline gives them for each prompt.

        Raises: NotSupported, for a negative prompt that the guider would not look at.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        how: dict[str, Any] = {
            "max_sequence_length": max_sequence_length,
            "text_encoder_out_layers": text_encoder_out_layers,
        }
        inputs: dict[str, Any] = {"height": height, "width": width, "generator": generator, "latents": latents}
        if num_inference_steps is not None:
            inputs["num_inference_steps"] = num_inference_steps
        (inputs["prompt_embeds"],) = self.encode_prompt(prompts, num_images_per_prompt, **how)
        if self.requires_unconditional_embeds:
            given = negative_prompt or ""
            negatives = [given] * len(prompts) if isinstance(given, str) else given
            (inputs["negative_prompt_embeds"],) = self.encode_prompt(negatives, num_images_per_prompt, **how)
        elif any([negative_prompt] if isinstance(negative_prompt, str) else negative_prompt or []):
            raise NotSupported("a negative prompt has no effect here: the pipeline's guider asks for no uncond rows")
        now = {spec.name: getattr(self, spec.name) for spec in self._denoiser.blocks.expected_components}
        changed = {name: part for name, part in now.items() if getattr(self._denoiser, name, None) is not part}
        self._denoiser.update_components(**changed)
        state = self._denoiser(**inputs)
        if output_type == "latent":
            return SimpleNamespace(images=state.get("latents"))
        state.set("output_type", output_type)
        return SimpleNamespace(images=self._decoder(self.modular, state)[1].get("images"))


def _all_blocks(block: Any) -> list[Any]:
    inner = [b for part in getattr(block, "sub_blocks", {}).values() for b in _all_blocks(part)]
    return [block, *inner]
