"""Discovery finds every place where text enters, and nothing else: on the released sizes, and against real calls.

| mutation | turns red |
|---|---|
| `attn2` in the U-Nets' rule replaced by `attn[12]` without asking who reads text | the released sizes |
| first attentions that read text (the upscaler's) left out | the released sizes, every place is a site |
| the U-Nets' order of blocks left to `named_modules` | sites come in execution order |
| the pooled rule dropped from SDXL | the pooled text's module is found |
"""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import nn

from tests.steering import zoo
from tests.steering.released import RELEASED, Released

TEXT = "encoder_hidden_states"
READERS = ("Attention", "FluxAttention", "FluxSingleTransformerBlock")  # the classes that are handed text
POOLED = {
    "sdxl": "add_embedding",
    "sdxl-refiner": "add_embedding",
    "if1": "add_embedding",
    "if2": "add_embedding",
    "sd3": "time_text_embed",
    "sd35": "time_text_embed",
    "flux-dev": "time_text_embed",
    "flux-schnell": "time_text_embed",
}


def on_meta(released: Released) -> nn.Module:
    """The denoiser at its released size, without weights."""
    import diffusers

    with torch.device("meta"):
        return getattr(diffusers, released.denoiser)(**released.config)


def found(pipeline: str, denoiser: nn.Module) -> list[str]:
    """Names of the sites."""
    from steering.families.discovery import find_sites
    from steering.families.table import family_of

    return [placed.site.name for placed in find_sites(family_of(pipeline), denoiser)]


def found_pooled(pipeline: str, denoiser: nn.Module) -> list[str]:
    """Names of the global sites."""
    from steering.families.discovery import find_pooled
    from steering.families.table import family_of

    return [placed.site.name for placed in find_pooled(family_of(pipeline), denoiser)]


def read_in_a_call(pipe: Any, name: str) -> list[str]:
    """Names of the attentions that are handed text in a call, in the order in which they run."""
    denoiser = pipe.unet if hasattr(pipe, "unet") else pipe.transformer
    seen: list[str] = []

    def note(path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = inspect.signature(module.forward).bind(*args, **kwargs).arguments
        if given.get(TEXT) is not None and path not in seen:
            seen.append(path)

    for path, module in denoiser.named_modules():
        if type(module).__name__ in READERS:
            # a single block of FLUX joins text and picture itself, and hands its attention both
            at = f"{path}.attn" if type(module).__name__ == "FluxSingleTransformerBlock" else path
            module.register_forward_pre_hook(lambda m, a, k, at=at: note(at, m, a, k), with_kwargs=True)  # type: ignore[misc]
    pipe("a red star", output_type="pt" if name.startswith("if") else "latent", **zoo.CALL[name], **zoo.extra(name))
    return seen


@pytest.mark.parametrize("name", RELEASED)
def test_at_its_released_size_a_denoiser_has_its_known_number_of_sites(name: str) -> None:
    released = RELEASED[name]
    denoiser = on_meta(released)
    assert sum(p.numel() for p in denoiser.parameters()) / 1e6 == pytest.approx(released.millions, abs=0.1)
    names = found(released.pipeline, denoiser)
    assert len(names) == len(set(names)) == released.sites
    assert found_pooled(released.pipeline, denoiser) == ([released.pooled] if released.pooled else [])


@pytest.mark.parametrize("name", zoo.NAMES)
def test_every_place_that_reads_text_in_a_call_is_a_site_in_execution_order(name: str) -> None:
    pipe = zoo.build(name)
    denoiser = pipe.unet if hasattr(pipe, "unet") else pipe.transformer
    assert found(type(pipe).__name__, denoiser) == read_in_a_call(pipe, name)


@pytest.mark.parametrize("name", zoo.NAMES)
def test_the_module_of_pooled_text_is_found(name: str) -> None:
    pipe = zoo.build(name)
    denoiser = pipe.unet if hasattr(pipe, "unet") else pipe.transformer
    assert found_pooled(type(pipe).__name__, denoiser) == ([POOLED[name]] if name in POOLED else [])
