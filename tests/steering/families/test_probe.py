"""Pipelines that no table knows: what the probe finds is what the tables say, and the laws decide.

| law | mutation that turned it red |
|---|---|
| the probe finds what the table says | halves exchanged; no projection; no pooled text; spare timesteps 0 |
| a pipeline that no table has is probed | single blocks not seen as joint |
| text that also enters elsewhere | a failed self-test does not matter |
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.steering import zoo, zoo_parts
from tests.steering.family_cases import GREEN, RED, apart

PICTURES = ("sdxl-refiner", "if2", "if3")  # start from a picture, and are not probed
TOLERANCE = 1e-4
DIFFERENT = 100 * TOLERANCE
CALL = {"height": 32, "width": 32, "num_inference_steps": 3, "output_type": "latent"}


def bria() -> Any:
    """A real pipeline of no table: joint blocks and single blocks, both halves of guidance in one call."""
    from diffusers import BriaPipeline, BriaTransformer2DModel, FlowMatchEulerDiscreteScheduler
    from transformers import ByT5Tokenizer

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        denoiser = BriaTransformer2DModel(
            in_channels=16,
            num_layers=2,
            num_single_layers=2,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=16,
            axes_dims_rope=[2, 2, 4],
        )
        pipe = BriaPipeline(
            transformer=zoo_parts.jitter(denoiser, 0.12),
            scheduler=FlowMatchEulerDiscreteScheduler(),
            vae=zoo_parts.vae(),
            text_encoder=zoo_parts.t5(),
            tokenizer=ByT5Tokenizer(),
        )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def aura() -> Any:
    """A real pipeline of no table whose later blocks have text and picture in one sequence."""
    from diffusers import AuraFlowPipeline, AuraFlowTransformer2DModel, FlowMatchEulerDiscreteScheduler
    from transformers import ByT5Tokenizer

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        denoiser = AuraFlowTransformer2DModel(
            sample_size=8,
            num_mmdit_layers=2,
            num_single_dit_layers=2,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=16,
            caption_projection_dim=16,
            pos_embed_max_size=64,
        )
        pipe = AuraFlowPipeline(
            tokenizer=ByT5Tokenizer(),
            text_encoder=zoo_parts.t5(),
            vae=zoo_parts.vae(),
            transformer=zoo_parts.jitter(denoiser, 0.12),
            scheduler=FlowMatchEulerDiscreteScheduler(),
        )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize("name", [n for n in zoo.NAMES if n not in PICTURES])
def test_the_probe_finds_what_the_table_says(name: str) -> None:
    from steering.families.discovery import find_pooled, find_sites
    from steering.families.probe import probed_families
    from steering.families.table import known_family

    pipe = zoo.build(name)
    found, known = probed_families(pipe)[0], known_family(type(pipe))
    assert known is not None
    denoiser = getattr(pipe, known.denoiser)
    sites = [find_sites(family, denoiser) for family in (found, known)]
    assert [p.site for p in sites[0]] == [p.site for p in sites[1]]
    assert [(p.text_width, p.output_width) for p in sites[0]] == [(p.text_width, p.output_width) for p in sites[1]]
    assert [p.name for p in find_pooled(found, denoiser)] == [p.name for p in find_pooled(known, denoiser)]
    assert found.projection == known.projection
    assert found.spare_timesteps == known.spare_timesteps
    assert found.guidance == known.guidance or name == "sana-sprint"  # which has no second half to lay out
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in denoiser.modules())


@pytest.mark.parametrize("name", ["sd1", "if1", "sd3", "flux-dev", "sana"])
def test_a_probed_host_keeps_the_laws(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same pipelines, as if no table had them."""
    from steering import Host
    from tests.steering.family_cases import Asked

    monkeypatch.setattr("steering.families.guesses.known_family", lambda pipeline_class, families: None)
    monkeypatch.setattr("steering.families.guesses.FAMILIES", ())
    it = Asked(name)
    assert isinstance(it.host, Host)
    assert it.host.tested is not None
    assert it.host.tested.passed, it.host.tested.failures()
    stock = it.stock(it.beside([RED, GREEN], GREEN))
    steered = it.steered([RED, GREEN], [it.swap(GREEN), None])
    assert apart(steered[0], stock[1]) < it.tolerance
    assert torch.equal(steered[1], stock[1])
    assert apart(stock[0], stock[1]) > it.different
    it.host.close()


def test_a_pipeline_that_no_table_has_is_probed_and_steered() -> None:
    from steering import Host, Plan, Swap

    pipe = bria()
    host = Host(pipe, defaults={"call": {"max_sequence_length": 24}})
    assert host.tested is not None
    assert host.tested.passed, host.tested.failures()
    assert [s.name for s in host.sites] == [
        *(f"transformer_blocks.{i}.attn" for i in range(2)),
        *(f"single_transformer_blocks.{i}.attn" for i in range(2)),
    ]

    def stock(prompts: list[str]) -> torch.Tensor:
        seeds = [torch.Generator().manual_seed(3) for _ in prompts]
        return pipe(prompt=prompts, generator=seeds, max_sequence_length=24, **CALL).images

    plain = stock([RED, GREEN, GREEN])
    assert apart(plain[0], plain[1]) > DIFFERENT
    for mode in ("kv", "pinned"):
        plan = Plan(Swap(GREEN, sites=host.sites, pooled="keep", source="twin", mode=mode))  # type: ignore[arg-type]
        out = host.generate([RED, GREEN], plans=[plan, None], seeds=[3, 3], **CALL)
        assert apart(out.images[0], plain[1]) < TOLERANCE
        assert torch.equal(out.images[1], stock([RED, GREEN, GREEN, *([RED] if mode == "pinned" else [])])[1])


def test_a_pipeline_whose_text_also_enters_elsewhere_fails_the_laws_and_is_not_steered() -> None:
    """Text that is added to the embedded timestep reaches the picture past every site."""
    from steering import Host, Plan, Swap, Untrusted

    pipe, texts = zoo.build("sd1"), []
    pipe.unet.register_forward_pre_hook(
        lambda m, args, kwargs: texts.append(kwargs["encoder_hidden_states"]), with_kwargs=True
    )
    pipe.unet.time_embedding.register_forward_hook(lambda m, args, out: out + texts[-1].mean((1, 2))[:, None])
    pipe.__class__ = type("LeakyPipeline", (type(pipe),), {})
    host = Host(pipe)
    assert host.tested is not None
    assert "all sites are the donor" in host.tested.failures()
    plan = Plan(Swap(GREEN, sites=host.sites, pooled="keep"))
    with pytest.raises(Untrusted, match="failed its self-test"):
        host.generate([RED], plans=[plan], seeds=[1], **zoo.CALL["sd1"])
    assert len(host.generate([RED], plans=[None], seeds=[1], **zoo.CALL["sd1"]).images) == 1


def test_text_and_picture_in_one_sequence_are_probed_in_either_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """AuraFlow, as if no table had it: later blocks have one sequence, in which eight registers precede text."""
    from steering import Host, Plan, Swap

    monkeypatch.setattr("steering.families.guesses.known_family", lambda pipeline_class, families: None)
    monkeypatch.setattr("steering.families.guesses.FAMILIES", ())
    host = Host(aura())
    assert host.tested is not None
    assert host.tested.passed, host.tested.failures()
    assert len(host.sites) == 4
    plan = Plan(Swap(GREEN, sites=host.sites[-1:], pooled="keep", source="twin"))
    out = host.generate([RED, RED], plans=[None, plan], seeds=[3, 3], **CALL)
    assert apart(out.images[0], out.images[1]) > DIFFERENT / 10
    assert out.report[1].fired == {host.sites[-1].name: CALL["num_inference_steps"]}


def test_a_class_of_ones_own_is_of_the_family_that_it_is_derived_from() -> None:
    from steering import Host

    pipe = zoo.build("sd1")
    pipe.__class__ = type("TeamPipeline", (type(pipe),), {})
    host = Host(pipe, self_test=False)
    assert len(host.sites) == 7


def test_what_cannot_be_probed_is_refused_with_what_was_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from steering import Host, NotSupported

    with pytest.raises(NotSupported, match="no denoiser named `transformer` or `unet`"):
        Host(type("Strange", (), {})())
    pipe = bria()
    with pytest.raises(NotSupported, match="only its self-test shows"):
        Host(pipe, self_test=False)
    pipe.encode_prompt = lambda words: words
    with pytest.raises(NotSupported, match=r"must have a method `encode_prompt\(prompt"):
        Host(pipe)
    monkeypatch.setattr("steering.families.guesses.known_family", lambda pipeline_class, families: None)
    monkeypatch.setattr("steering.families.guesses.FAMILIES", ())
    with pytest.raises(NotSupported, match="starts from a picture"):
        Host(zoo.build("if2"))
    broken = zoo.build("sd1")
    broken.unet.conv_in = torch.nn.Identity()
    with pytest.raises(NotSupported, match="a small call of it failed with"):
        Host(broken)
