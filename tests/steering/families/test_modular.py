"""FLUX.3's modular pipeline as hosts know pipelines: the same pictures, and what it cannot do is said.

| law | mutation that turned it red |
|---|---|
| pictures are the modular pipeline's | an empty negative prompt for every other |
| prompts are not rewritten | the block that rewrites left in |
| components are those of now | brought over once |
| windows of text | lengths not compared |
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.steering.family_cases import GREEN, RED
from tests.steering.today import zoo
from tests.steering.today.single_sequence import flux3_modular

SIZE = zoo.CALL["flux3"]


@pytest.fixture(scope="module")
def modular() -> Any:
    torch.manual_seed(0)
    return flux3_modular()


def seeded(seed: int = 7) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(seed)


@pytest.mark.parametrize("negative", [None, "blurry"])
def test_pictures_are_the_modular_pipelines_bit_for_bit(modular: Any, negative: str | None) -> None:
    from steering.families.modular import as_pipeline

    call = {"negative_prompt": negative} | SIZE
    stock = modular(prompt=RED, generator=seeded(), output_type="pt", output="images", **call)
    assert torch.equal(as_pipeline(modular)(RED, generator=seeded(), output_type="pt", **call).images, stock)
    other = modular(prompt=GREEN, generator=seeded(), output_type="pt", output="images", **call)
    assert not torch.equal(other, stock)


def test_a_prompt_is_encoded_as_it_is_asked(modular: Any) -> None:
    from diffusers import Flux3AutoBlocks

    from steering.families.modular import as_pipeline

    rewriting = Flux3AutoBlocks().init_pipeline()
    assert "prompt_upsampler" in rewriting.blocks.sub_blocks
    rewriting.update_components(**{n: part for n, part in modular.components.items() if part is not None})
    stock = as_pipeline(modular)(RED, generator=seeded(), output_type="latent", **SIZE).images
    assert torch.equal(as_pipeline(rewriting)(RED, generator=seeded(), output_type="latent", **SIZE).images, stock)


def test_a_component_that_is_changed_afterwards_is_used(modular: Any) -> None:
    from diffusers import ClassifierFreeGuidance

    from steering.families.modular import as_pipeline

    pipe, usual = as_pipeline(modular), modular.guider
    stock = pipe(RED, generator=seeded(), output_type="latent", **SIZE).images
    modular.update_components(guider=ClassifierFreeGuidance(guidance_scale=1.0))
    try:
        assert not torch.equal(pipe(RED, generator=seeded(), output_type="latent", **SIZE).images, stock)
    finally:
        modular.update_components(guider=usual)
    assert torch.equal(pipe(RED, generator=seeded(), output_type="latent", **SIZE).images, stock)


def test_a_negative_prompt_that_the_guider_would_not_look_at_is_refused(modular: Any) -> None:
    from diffusers import ClassifierFreeGuidance

    from steering import NotSupported
    from steering.families.modular import as_pipeline

    pipe, usual = as_pipeline(modular), modular.guider
    modular.update_components(guider=ClassifierFreeGuidance(guidance_scale=1.0))
    try:
        with pytest.raises(NotSupported, match="has no effect here"):
            pipe(RED, negative_prompt="a moon", generator=seeded(), output_type="latent", **SIZE)
    finally:
        modular.update_components(guider=usual)


def test_prompts_whose_windows_differ_are_refused_together(modular: Any) -> None:
    from steering import NotSupported
    from steering.families.modular import as_pipeline

    with pytest.raises(NotSupported, match=r"windows of one length on FLUX.3.* got 80 and 160 tokens"):
        as_pipeline(modular).encode_prompt([RED, "a red star " * 10])


def test_others_are_left_as_they_are_or_refused() -> None:
    from diffusers import ModularPipeline

    from steering import NotSupported
    from steering.families.modular import as_pipeline

    plain = SimpleNamespace()
    assert as_pipeline(plain) is plain

    class Another(ModularPipeline):
        def __init__(self) -> None:
            pass

    with pytest.raises(NotSupported, match="modular pipeline `Another` cannot be steered"):
        as_pipeline(Another())
