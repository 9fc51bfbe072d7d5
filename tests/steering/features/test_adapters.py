"""Adapters: LoRA wherever it sits and whenever it comes, IP-Adapter's pictures beside the text, fused projections.

| law | mutation that turned it red |
|---|---|
| a LoRA that comes, changes and goes | hooks on the adapter's base layer; weight versions that leave adapters out |
| a LoRA on the text encoder reaches donors | donors kept without the encoder's weight version |
| a LoRA where donors enter | scales in the call not looked at |
| fused projections refuse `kv` by name | fusing not looked at; its mark believed after it was undone |
| fused projections do not matter | fused copies counted among the weights |
| an IP-Adapter's picture stays | pictures behind the text set to zero |
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.steering import zoo
from tests.steering.family_cases import GREEN, PINK, RED, apart
from tests.steering.feature_cases import KINDS, adapt, denoiser_of, on, scale, steers, unload

every = pytest.mark.parametrize("name", zoo.NAMES)


@every
@pytest.mark.law("LoRA")
def test_a_lora_that_comes_changes_and_goes_after_the_first_call_is_steered_each_time(name: str) -> None:
    it = on(name)
    denoiser, none = denoiser_of(it.pipe), it.host.fingerprint
    plain = steers(it)
    adapt(denoiser)
    full, bound = steers(it), it.host.fingerprint
    scale(denoiser, 0.4)
    less, other = steers(it), it.host.fingerprint
    assert min(apart(full, plain), apart(less, plain), apart(full, less)) > it.different
    assert len({none.digest, bound.digest, other.digest}) == 3
    assert none.weights == bound.weights == other.weights
    unload(denoiser)
    assert torch.equal(it.stock(it.beside([RED, GREEN], GREEN)), plain)
    assert it.host.fingerprint == none


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.law("LoRA")
def test_a_lora_that_was_there_before_the_host_is_steered(name: str) -> None:
    pipe = zoo.build(name)
    adapt(denoiser_of(pipe))
    it = on(name, pipe, self_test=True)
    assert it.host.tested is not None
    assert it.host.tested.passed, it.host.tested.failures()
    steers(it)
    assert it.host.fingerprint.adapters[0].startswith("loud:")


@pytest.mark.parametrize("name", ["sd3", "flux-dev"])
@pytest.mark.law("LoRA")
def test_streams_are_recorded_anew_under_a_lora(name: str) -> None:
    it = on(name)
    some = it.names[1:4]
    plans = [it.swap(GREEN, some, source="canonical"), None]
    plain = it.steered([RED, PINK], plans, seed=0)
    adapt(denoiser_of(it.pipe))
    recorded = it.steered([RED, PINK], plans, seed=0)
    twin = it.steered([RED, PINK], [it.swap(GREEN, some), None], seed=0)
    assert apart(recorded, twin) < it.tolerance
    assert apart(recorded, plain) > it.different
    assert apart(it.steered([RED, PINK], [it.swap(GREEN, some, mode="pinned"), None], seed=0), twin) > it.tolerance


@pytest.mark.parametrize(("name", "targets"), [("sd1", ["q_proj", "v_proj"]), ("pixart-alpha", ["q", "v"])])
def test_a_lora_on_the_text_encoder_reaches_donors_too(name: str, targets: list[str]) -> None:
    it = on(name)
    plain = steers(it)
    adapt(it.pipe.text_encoder, targets)
    assert apart(steers(it), plain) > it.different


@pytest.mark.parametrize("name", ["sd1", "sd3", "flux-dev"])
def test_a_lora_may_be_scaled_in_the_call(name: str) -> None:
    it = on(name)
    adapt(denoiser_of(it.pipe))
    argument = "joint_attention_kwargs" if it.joint else "cross_attention_kwargs"
    assert apart(steers(it, **{argument: {"scale": 0.3}}), steers(it)) > it.different


@pytest.mark.parametrize(
    ("name", "argument", "target"),
    [
        ("if1", "cross_attention_kwargs", "encoder_hid_proj"),
        ("sana", "attention_kwargs", "caption_projection.linear_1"),
    ],
)
def test_a_lora_where_donors_enter_is_steered_and_scaled_in_the_call_it_is_refused(
    name: str, argument: str, target: str
) -> None:
    from steering import NotSupported

    it = on(name)
    adapt(denoiser_of(it.pipe), [target])
    steers(it)
    with pytest.raises(NotSupported, match=r"scales adapters by `0.3`.*`set_adapters`"):
        it.steered([RED], [it.swap(GREEN)], **{argument: {"scale": 0.3}})
    it.steered([RED], [None], **{argument: {"scale": 0.3}})


# fused projections


@pytest.mark.parametrize("name", ["sdxl", "pixart-alpha", "sana"])
def test_fused_projections_do_not_matter_where_text_is_a_side_input(name: str) -> None:
    it = on(name)
    plain = steers(it)
    bound = it.host.fingerprint
    for change in (denoiser_of(it.pipe).fuse_qkv_projections, denoiser_of(it.pipe).unfuse_qkv_projections):
        change()
        assert apart(steers(it), plain) < it.tolerance
        assert it.host.fingerprint == bound


@pytest.mark.parametrize("name", ["sd3", "flux-dev"])
@pytest.mark.parametrize("when", ["before the host", "after a call"])
def test_fused_projections_leave_pinned_swaps_and_refuse_keys_and_values_by_name(name: str, when: str) -> None:
    """Stock SD3.5 with fused projections does not run: its second attentions have no text, and diffusers reads one."""
    from steering import NotSupported

    pipe = zoo.build(name)
    if when == "before the host":
        denoiser_of(pipe).fuse_qkv_projections()
    it = on(name, pipe, self_test=True)
    assert it.host.tested is not None
    assert it.host.tested.passed, it.host.tested.failures()
    if when == "after a call":
        steers(it)
        denoiser_of(pipe).fuse_qkv_projections()
    for source in ("twin", "canonical"):
        with pytest.raises(NotSupported, match=r"`transformer_blocks.0.attn` has fused projections.*mode `pinned`"):
            it.steered([RED, GREEN], [it.swap(GREEN, source=source), None])
    stock = it.stock([RED, GREEN, GREEN, RED])
    pinned = it.steered([RED, GREEN], [it.swap(GREEN, mode="pinned"), None])
    assert apart(pinned[0], stock[1]) < it.tolerance
    assert torch.equal(pinned[1], stock[1])
    bound = it.host.fingerprint
    denoiser_of(pipe).unfuse_qkv_projections()
    steers(it)
    assert it.host.fingerprint == bound


# IP-Adapter: a picture beside the text


def pictures_beside_text(unet: Any) -> dict[str, Any]:
    """The weights of an IP-Adapter for a U-Net, at random."""
    from diffusers.models.attention_processor import IPAdapterAttnProcessor

    generator = torch.Generator().manual_seed(0)
    width, adapter = unet.config.cross_attention_dim, {}
    for k, name in enumerate(n for n in unet.attn_processors if n.endswith("attn2.processor")):
        module = unet.get_submodule(name.removesuffix(".processor"))
        own = IPAdapterAttnProcessor(hidden_size=module.inner_dim, cross_attention_dim=width).state_dict()
        for which in ("k", "v"):
            shape = own[f"to_{which}_ip.0.weight"].shape
            adapter[f"{2 * k + 1}.to_{which}_ip.weight"] = torch.randn(shape, generator=generator)
    return {
        "image_proj": {
            "proj.weight": torch.randn(4 * width, 8, generator=generator),
            "proj.bias": torch.zeros(4 * width),
            "norm.weight": torch.ones(width),
            "norm.bias": torch.zeros(width),
        },
        "ip_adapter": adapter,
    }


@pytest.mark.parametrize("name", ["sd1", "sdxl"])
def test_an_ip_adapters_picture_stays_where_the_text_is_swapped(name: str) -> None:
    it = on(name)
    plain = steers(it)
    it.pipe.unet._load_ip_adapter_weights(pictures_beside_text(it.pipe.unet), low_cpu_mem_usage=False)
    generator = torch.Generator().manual_seed(1)
    picture = torch.randn(2, 1, 8, generator=generator).repeat_interleave(2, 0)  # two uncond rows, two cond rows
    assert apart(steers(it, ip_adapter_image_embeds=[picture]), plain) > it.different


def test_a_picture_a_row_and_rows_that_are_added_are_refused() -> None:
    from steering import BadPlan

    it = on("flux-dev")
    with pytest.raises(BadPlan, match="`ip_adapter_image_embeds` has an entry a row, and this plan adds rows"):
        it.steered([RED], [it.swap(PINK)], ip_adapter_image_embeds=[torch.zeros(1, 1, 8)])
    with pytest.raises(BadPlan, match="`prompt_2` has an entry a row, and this plan adds rows"):
        it.steered([RED], [it.swap(PINK)], prompt_2=PINK)
