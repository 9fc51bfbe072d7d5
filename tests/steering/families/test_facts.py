"""What a service asks of a family: fewest steps, negative prompts, native size; over every host of the zoo.

| mutation | turns red |
|---|---|
| `fewest_steps=2` taken out of the table | every family answers for its pipelines |
| `negative_scale` taken out of FLUX's entry | a negative prompt has an effect above the scale that is named |
| `negative_scale` taken out of the probe | a probed family answers as the table does |
| `native_size` multiplies pixels by the VAE's scale | every family answers for its pipelines |
| the defaults' size is ignored | the model's defaults come before its native size |
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.steering import zoo

# in zoo: fewest steps, whether a negative prompt is possible and above which scale, native rows and columns
FACTS: dict[str, tuple[int, bool, float | None, int]] = {
    "sd1": (1, True, 1.0, 16),
    "sd2": (1, True, 1.0, 16),
    "sdxl": (1, True, 1.0, 16),
    "sdxl-refiner": (1, True, 1.0, 16),
    "if1": (1, True, 1.0, 8),
    "if2": (1, True, 1.0, 8),
    "if3": (1, True, 1.0, 32),
    "sd3": (1, True, 1.0, 16),
    "sd35": (1, True, 1.0, 16),
    "pixart-alpha": (2, True, 1.0, 16),
    "pixart-sigma": (1, True, 1.0, 16),
    "flux-dev": (1, False, None, 256),
    "flux-schnell": (1, False, None, 256),
    "sana": (1, True, 1.0, 32),
    "sana-sprint": (1, False, None, 32),
}
TEXT_TO_IMAGE = tuple(n for n in zoo.NAMES if n not in ("sdxl-refiner", "if2", "if3"))


def host_of(name: str, **more: Any) -> Any:
    from steering import Host

    return Host(zoo.build(name), self_test=False, **more)


@pytest.mark.parametrize("name", zoo.NAMES)
def test_every_family_answers_for_its_pipelines(name: str) -> None:
    host = host_of(name)
    steps, possible, above, side = FACTS[name]
    assert (host.fewest_steps, host.native_size) == (steps, (side, side))
    assert (host.negative_prompts.possible, host.negative_prompts.above) == (possible, above)


@pytest.mark.parametrize("name", TEXT_TO_IMAGE)
def test_a_probed_family_answers_as_the_table_does(name: str) -> None:
    from steering.families.facts import negative_prompts
    from steering.families.probe import probed_families
    from steering.families.table import known_family

    pipe = zoo.build(name)
    found, known = probed_families(pipe)[0], known_family(type(pipe))
    assert known is not None
    denoiser = getattr(pipe, known.denoiser)
    for defaults in ({}, {"true_cfg_scale": 4.0}):
        told = [negative_prompts(family, pipe, denoiser, defaults) for family in (found, known)]
        assert told[0] == told[1]


def test_a_pipeline_that_reads_a_second_result_takes_one_step_with_schedulers_that_give_it() -> None:
    from diffusers import DDPMScheduler

    host = host_of("pixart-alpha")
    assert host.fewest_steps == 2
    host.pipe.scheduler = DDPMScheduler()
    assert host.fewest_steps == 1
    assert host_of("pixart-alpha", defaults={"min_inference_steps": 5}).fewest_steps == 5


@pytest.mark.parametrize("name", ["sd1", "sana", "flux-dev"])
def test_a_negative_prompt_has_an_effect_above_the_scale_that_is_named_and_none_at_it(name: str) -> None:
    call = dict(zoo.CALL[name])
    if name == "flux-dev":  # the model's defaults decide whether it is possible at all
        assert not host_of(name).negative_prompts.possible
        host = host_of(name, defaults={"call": {"true_cfg_scale": 4.0}})
        assert host.negative_prompts.possible
        scales = {"true_cfg_scale": (1.0, 4.0)}
    else:
        host = host_of(name)
        scales = {"guidance_scale": (float(host.negative_prompts.above), 3.0)}
    ((argument, (at, above)),) = scales.items()

    def latents(negative: str, scale: float) -> torch.Tensor:
        options = call | {argument: scale, "output_type": "latent"}
        generator = torch.Generator("cpu").manual_seed(1)
        return host.pipe(prompt=["a red star"], negative_prompt=[negative], generator=generator, **options).images

    assert torch.equal(latents("rust", at), latents("a green ring", at))
    assert not torch.equal(latents("rust", above), latents("a green ring", above))


def test_a_denoiser_that_takes_guidance_as_an_input_reads_no_negative_prompt() -> None:
    host = host_of("sd1")
    host.pipe.unet.register_to_config(time_cond_proj_dim=8)
    assert not host.negative_prompts.possible


def test_the_models_defaults_come_before_its_native_size_and_an_unknown_size_is_none() -> None:
    assert host_of("sana", defaults={"height": 64, "width": 32}).native_size == (64, 32)
    host = host_of("sana")
    host.pipe.transformer.register_to_config(sample_size=None)
    assert host.native_size is None
