"""Calls with other rows than cond and uncond, and what couples rows or adds text: steered, or refused by name.

| law | mutation that turned it red |
|---|---|
| skip-layer guidance on skipped layers | rows of skipped layers expected |
| true guidance steers cond calls, uncond calls or both | every call of one half taken for the cond one |
| a step cache is refused however it was applied | only the model's own word on caches believed |
| perturbed guidance is refused by name | its name not known |
| rows that the encoder did not give stop the call | such rows laid out as cond ones |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.steering import zoo
from tests.steering.family_cases import GREEN, PINK, RED, apart, asked
from tests.steering.feature_cases import denoiser_of, on


@pytest.mark.parametrize("name", ["sd3", "sd35"])
def test_skip_layer_guidance_is_steered_on_skipped_layers_too(name: str) -> None:
    it = asked(name)
    how = {"skip_guidance_layers": [1, 3], "skip_layer_guidance_scale": 2.8}
    how |= {"skip_layer_guidance_start": 0.0, "skip_layer_guidance_stop": 1.0}
    stock, plain = it.stock([RED, GREEN, GREEN], **how), it.stock([RED, GREEN, GREEN])
    out = it.output_of([RED, GREEN], [it.swap(GREEN), None], **how)
    assert apart(out.images[0], stock[1]) < it.tolerance
    assert torch.equal(torch.as_tensor(out.images)[1], stock[1])
    assert min(apart(stock[0], stock[1]), apart(stock[1], plain[1])) > it.different
    fired = [out.report[0].fired[n] for n in it.names]
    assert fired == [5, 3, 5, 3, 5]  # three steps; from the second on a further call, which leaves two layers out
    alone = it.output_of([RED, GREEN], [it.swap(GREEN, [it.names[1]], pooled="keep"), None], **how)
    assert alone.report[0].fired == {it.names[1]: 3}
    assert apart(alone.images[0], stock[0]) > it.tolerance


def test_true_guidance_steers_cond_calls_uncond_calls_or_both() -> None:
    """FLUX calls its denoiser for one half after the other: only recorded donors can be shown to uncond rows."""
    from steering import NotSupported

    it = asked("flux-dev")
    how = {"true_cfg_scale": 2.0}
    stock = it.stock([RED, GREEN, GREEN], negative_prompt=[PINK] * 3, **how)
    steered = {}
    for rows in ("cond", "uncond", "both"):
        plan = it.swap(GREEN, rows=rows, source="canonical")
        out = it.output_of([RED, GREEN], [plan, None], negative_prompts=[PINK, PINK], **how)
        assert set(out.report[0].fired.values()) == {6 if rows == "both" else 3}
        assert torch.equal(torch.as_tensor(out.images)[1], it.stock([RED, GREEN], negative_prompt=[PINK] * 2, **how)[1])
        steered[rows] = torch.as_tensor(out.images)[0]
    pictures = [stock[0], *steered.values()]
    assert all(apart(a, b) > it.different for i, a in enumerate(pictures) for b in pictures[i + 1 :])
    twin = it.steered([RED, GREEN], [it.swap(GREEN), None], negative_prompts=[PINK, PINK], **how)
    assert apart(twin[0], stock[1]) < it.tolerance
    for rows in ("uncond", "both"):
        with pytest.raises(NotSupported, match=rf"rows `{rows}` with source `twin` need .*source `canonical`"):
            it.steered([RED], [it.swap(GREEN, rows=rows)], negative_prompts=[PINK], **how)


# refused by name

CACHES: dict[str, Callable[[Any], None]] = {}


def cache(apply: Callable[[Any], None]) -> Callable[[Any], None]:
    """Lists a way to put a step cache on a denoiser."""
    CACHES[apply.__name__] = apply
    return apply


@cache
def enabled(denoiser: Any) -> None:
    from diffusers import FirstBlockCacheConfig

    denoiser.enable_cache(FirstBlockCacheConfig(threshold=0.5))


@cache
def first_block(denoiser: Any) -> None:
    from diffusers import FirstBlockCacheConfig, apply_first_block_cache

    apply_first_block_cache(denoiser, FirstBlockCacheConfig(threshold=0.5))


@cache
def broadcast(denoiser: Any) -> None:
    from diffusers import PyramidAttentionBroadcastConfig, apply_pyramid_attention_broadcast

    every_second = {"spatial_attention_block_skip_range": 2, "current_timestep_callback": lambda: 500}
    apply_pyramid_attention_broadcast(denoiser, PyramidAttentionBroadcastConfig(**every_second))


@cache
def taylor(denoiser: Any) -> None:
    from diffusers.hooks import TaylorSeerCacheConfig, apply_taylorseer_cache

    apply_taylorseer_cache(denoiser, TaylorSeerCacheConfig())


@pytest.mark.parametrize("way", list(CACHES))
def test_a_step_cache_is_refused_however_it_was_applied(way: str) -> None:
    from steering import NotSupported

    it = on("flux-dev")
    CACHES[way](denoiser_of(it.pipe))
    with pytest.raises(NotSupported, match=r"a step cache \(hook `\w+`\) skips blocks .* rows would depend"):
        it.steered([RED], [it.swap(GREEN)])
    assert torch.isfinite(it.steered([RED], [None])).all()  # who asks for nothing gets the pipeline as it is


@pytest.mark.parametrize("name", ["pixart-alpha", "sana"])
def test_a_cache_on_a_model_that_knows_none_is_refused_too(name: str) -> None:
    from steering import NotSupported

    it = on(name)
    broadcast(denoiser_of(it.pipe))
    with pytest.raises(NotSupported, match=r"hook `pyramid_attention_broadcast`"):
        it.steered([RED], [it.swap(GREEN)])


@pytest.mark.parametrize(
    ("name", "pipeline"),
    [
        ("sd1", "StableDiffusionPAGPipeline"),
        ("sdxl", "StableDiffusionXLPAGPipeline"),
        ("pixart-sigma", "PixArtSigmaPAGPipeline"),
        ("sana", "SanaPAGPipeline"),
    ],
)
def test_perturbed_guidance_is_refused_by_name(name: str, pipeline: str) -> None:
    import diffusers

    from steering import Host, NotSupported

    pipe = zoo.build(name)
    options = {"pag_applied_layers": "mid" if hasattr(pipe, "unet") else "blocks.1"}
    options |= {"requires_safety_checker": False} if name == "sd1" else {}
    perturbed = getattr(diffusers, pipeline)(**pipe.components, **options)
    with pytest.raises(NotSupported, match=rf"`{pipeline}` cannot be steered: perturbed guidance adds rows"):
        Host(perturbed)


def test_a_control_net_is_refused_by_name() -> None:
    from diffusers import ControlNetModel, StableDiffusionControlNetPipeline

    from steering import Host, NotSupported

    pipe = zoo.build("sd1")
    net = ControlNetModel.from_unet(pipe.unet)
    with pytest.raises(NotSupported, match=r"ControlNetPipeline` cannot be steered: .*text inputs of its own"):
        Host(StableDiffusionControlNetPipeline(**pipe.components, controlnet=net, requires_safety_checker=False))


def test_an_adapter_that_is_a_model_of_its_own_is_refused_by_name() -> None:
    from diffusers import StableDiffusionAdapterPipeline, T2IAdapter

    from steering import Host, NotSupported

    parts = {k: v for k, v in zoo.build("sd1").components.items() if k != "image_encoder"}
    adapter = T2IAdapter(in_channels=3, channels=[16, 32, 32], num_res_blocks=1, downscale_factor=2)
    with pytest.raises(NotSupported, match=r"AdapterPipeline` cannot be steered: .*is not watched"):
        Host(StableDiffusionAdapterPipeline(**parts, adapter=adapter, requires_safety_checker=False))


def test_rows_that_the_encoder_did_not_give_stop_the_call() -> None:
    """Whatever adds them, here a hook of somebody else's."""
    from steering import BadLayout

    def add_a_row(module: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        longer = {k: torch.cat([v, v[:1]]) for k, v in kwargs.items() if isinstance(v, torch.Tensor) and v.dim()}
        return tuple(torch.cat([a, a[:1]]) for a in args), kwargs | longer

    it = on("pixart-alpha")
    handle = it.pipe.transformer.register_forward_pre_hook(add_a_row, with_kwargs=True)
    with pytest.raises(BadLayout, match=r"text of 3 rows for 1 pictures .* a pipeline that adds or changes rows"):
        it.steered([RED], [it.swap(GREEN)])
    handle.remove()
    assert torch.equal(it.steered([RED], [None]), it.stock([RED]))
