"""The zoo's promises, on which every law over families rests: text is read, at every place, and only where we say.

| mutation | turns red |
|---|---|
| `jitter` sets every parameter to zero | two prompts give latents far apart |
| `only_cross_attention` dropped from the upscaler | the places where text enters are counted |
| `fork_rng` dropped from `build` | building leaves torch's own generator alone |
| the value projection of one place set to zero | at every place, text alone moves the latents |
"""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import nn

from tests.steering import zoo

RED, GREEN = "a red star", "green ring, sign 42"
TEXT = "encoder_hidden_states"
CLASSES = ("Attention", "FluxAttention", "FluxSingleTransformerBlock")  # what reads text, in all families
PLACES = {
    "sd1": 7,
    "sd2": 7,
    "sdxl": 11,
    "sdxl-refiner": 11,
    "if1": 7,
    "if2": 7,
    "if3": 10,  # seven second attentions, and three first ones that read text in place of the picture
    "sd3": 5,
    "sd35": 5,
    "pixart-alpha": 4,
    "pixart-sigma": 4,
    "flux-dev": 7,
    "flux-schnell": 7,
    "sana": 4,
    "sana-sprint": 4,
}


def denoiser_of(pipe: Any) -> nn.Module:
    """The U-Net or transformer."""
    return pipe.unet if hasattr(pipe, "unet") else pipe.transformer


def run(pipe: Any, name: str, prompts: list[str], **more: Any) -> torch.Tensor:
    """What a call gives before it is decoded; IF has no latents, its pictures come as tensors."""
    options = zoo.CALL[name] | zoo.extra(name, count=len(prompts)) | more
    options.setdefault("output_type", "pt" if name in ("if1", "if2") else "latent")
    generators = [torch.Generator().manual_seed(7) for _ in prompts]
    return pipe(prompt=prompts, generator=generators, **options).images


def places_of(pipe: Any, name: str) -> dict[str, int]:
    """Modules of the denoiser that are given text in a call, with how often."""
    seen: dict[str, int] = {}

    def note(path: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if inspect.signature(module.forward).bind(*args, **kwargs).arguments.get(TEXT) is not None:
            seen[path] = seen.get(path, 0) + 1

    for path, module in denoiser_of(pipe).named_modules():
        if type(module).__name__ in CLASSES:
            module.register_forward_pre_hook(
                lambda m, a, k, path=path: note(path, m, a, k),  # type: ignore[misc]
                with_kwargs=True,
            )
    run(pipe, name, [RED])
    return seen


@pytest.mark.parametrize("name", zoo.NAMES)
def test_two_prompts_give_latents_far_apart_and_one_prompt_the_same(name: str) -> None:
    pipe = zoo.build(name)
    red, green = run(pipe, name, [RED, GREEN])
    again, twice = run(pipe, name, [RED, RED])
    assert torch.isfinite(red).all()
    assert (red - green).abs().max() > 0.1
    assert torch.equal(again, red)
    assert torch.equal(twice, red)


@pytest.mark.parametrize("name", zoo.NAMES)
def test_a_picture_is_decoded(name: str) -> None:
    images = run(zoo.build(name), name, [RED, GREEN], output_type="np")
    assert images.shape[0] == 2
    assert images.shape[-1] == 3
    assert (images[0] != images[1]).any()


@pytest.mark.parametrize("name", zoo.NAMES)
def test_the_places_where_text_enters_are_counted(name: str) -> None:
    calls = places_of(zoo.build(name), name)
    assert len(calls) == PLACES[name]
    assert len(set(calls.values())) == 1  # each is passed once in each evaluation


@pytest.mark.parametrize("name", zoo.NAMES)
def test_at_every_place_text_alone_moves_the_latents(name: str) -> None:
    pipe = zoo.build(name)
    plain = run(pipe, name, [RED])
    for path in places_of(zoo.build(name), name):
        module = denoiser_of(pipe).get_submodule(path)
        position = list(inspect.signature(module.forward).parameters).index(TEXT)

        def flip(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], position: int = position) -> Any:
            if TEXT in kwargs:
                return args, kwargs | {TEXT: kwargs[TEXT].flip(-1)}
            return (*args[:position], args[position].flip(-1), *args[position + 1 :]), kwargs

        handle = module.register_forward_pre_hook(flip, with_kwargs=True)
        moved = (run(pipe, name, [RED]) - plain).abs().max()
        handle.remove()
        assert moved > 1e-2, f"{path} moved by {moved:.2g}"


def test_building_leaves_torch_s_own_generator_alone_and_is_repeatable() -> None:
    before = torch.random.get_rng_state()
    first, second, other = (zoo.build("sd1", seed=s) for s in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    pairs = zip(first.unet.parameters(), second.unet.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(next(first.unet.parameters()), next(other.unet.parameters()))
