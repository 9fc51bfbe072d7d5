"""What people load and serve models with, on three of today's kinds: one sequence in lists, text that is kept, fused
projections. LoRA, 8-bit weights, offload, compiled blocks; each is steered, or refused by name.

| law | mutation that turned it red |
|---|---|
| 8-bit weights are steered, and are another host | values of a quantized class read as a plain tensor's |
| what changes at the second denoiser counts | adapters, or wrappers, of the first one alone |
| a change of plan adds no graph | a site's name a constant of its graph; donors' keys at a plan's own sites alone |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from tests.steering.family_cases import GREEN, PINK, RED, Asked, apart
from tests.steering.feature_cases import adapt, denoiser_of, steers, unload
from tests.steering.features.test_memory import as_a_whole, by_group, one_by_one
from tests.steering.today import zoo

NAMES = ("z-image", "qwen-image-21", "flux2")
every = pytest.mark.parametrize("name", NAMES)
_REPEATED = {"z-image": "ZImageTransformerBlock", "qwen-image-21": "QwenImage21TransformerBlock"}


@pytest.fixture(autouse=True)
def _forget_graphs() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def on(name: str, pipe: Any = None, *, self_test: bool = False) -> Asked:
    return Asked(name, zoo.build(name) if pipe is None else pipe, self_test=self_test, call=zoo.CALL[name])


@every
def test_a_lora_on_shared_projections_is_steered_whichever_came_first(name: str) -> None:
    it = on(name)
    plain, bound = steers(it), it.host.fingerprint
    targets = ("to_qkv_mlp_proj", "add_k_proj", "add_v_proj") if name == "flux2" else ("to_k", "to_v")
    adapt(it.host.denoiser, targets)
    adapted = steers(it)
    assert apart(adapted[0], plain[0]) > it.different
    assert it.host.fingerprint != bound
    unload(it.host.denoiser)
    assert torch.equal(steers(it), plain)


@every
@pytest.mark.parametrize("way", [by_group, one_by_one, as_a_whole], ids=lambda way: way.__name__)
def test_offloaded_it_is_steered_and_its_fingerprint_stays(name: str, way: Callable[[Any], None]) -> None:
    it = on(name)
    plain, bound = it.stock(it.beside([RED, GREEN], GREEN)), it.host.fingerprint
    way(it.pipe)
    assert torch.equal(steers(it), plain)
    assert it.host.fingerprint == bound


@every
def test_in_8_bits_it_is_steered_and_is_another_host(name: str) -> None:
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    it = on(name)
    plain, bound = it.stock(it.beside([RED, GREEN], GREEN)), it.host.fingerprint
    it.host.close()
    quantize_(denoiser_of(it.pipe), Int8WeightOnlyConfig())
    now = on(name, it.pipe, self_test=True)
    assert now.host.tested is not None
    assert now.host.tested.passed, now.host.tested.failures()
    coarse = steers(now)
    assert apart(coarse[0], plain[0]) > 0
    assert now.host.fingerprint != bound


@pytest.mark.parametrize("name", _REPEATED)
def test_compiled_blocks_are_steered_and_a_change_of_plan_adds_no_graph(name: str) -> None:
    from torch._dynamo.testing import CompileCounter

    pipe, graphs = zoo.build(name), CompileCounter()
    denoiser_of(pipe)._repeated_blocks = [_REPEATED[name]]
    denoiser_of(pipe).compile_repeated_blocks(backend=graphs, fullgraph=True)
    it = on(name, pipe)
    prompts = [RED, GREEN, PINK]
    stock = it.steered(it.beside(prompts, GREEN), [None] * (3 + it.joint))
    out = it.output_of(prompts, [it.swap(GREEN), None, None])
    assert out.report[0].shape.kernels == "compiled"
    assert apart(out.images[0], stock[1]) < it.tolerance
    once = graphs.frame_count
    for plans in ([None, it.swap(GREEN, it.names[:1]), None], [it.swap(GREEN, it.names[1:]), None, None]):
        it.steered(prompts, plans)
    assert graphs.frame_count == once


def test_fused_projections_of_text_and_picture_refuse_key_swaps_by_name() -> None:
    from steering import NotSupported

    it = on("qwen-image-21")
    it.host.denoiser.fuse_qkv_projections()
    with pytest.raises(NotSupported, match="unfuse_qkv_projections"):
        it.steered([RED], [it.swap(GREEN)])


def test_an_adapter_at_a_projection_that_is_fused_by_the_model_is_refused_with_the_reason() -> None:
    from steering import Edit, NotSupported, Operator, Plan

    it = on("flux2")
    fused = next(n for n in it.names if n.startswith("single"))
    e = torch.ones(1, 32)
    with pytest.raises(NotSupported, match="has no projection of its own for its keys"):
        it.steered([RED], [Plan(Edit((fused,), Operator(e, e, torch.zeros_like(e), where="keys")))])


def test_a_lora_on_the_second_expert_makes_another_host() -> None:
    it = on("wan22")
    bound = it.host.fingerprint
    adapt(it.pipe.transformer_2, ("to_k", "to_v"))
    assert it.host.fingerprint.weights == bound.weights
    assert [a.split("/")[0] for a in it.host.fingerprint.adapters] == ["transformer_2"]
    assert it.host.fingerprint.digest != bound.digest


def test_both_experts_run_eagerly_where_hooks_come_for_one_call() -> None:
    from steering.run.prepared import uncompiled

    it = on("wan22")
    it.pipe.transformer_2.compile(backend="eager")
    it.pipe.transformer = wrapper = torch.compile(it.pipe.transformer, backend="eager")
    it.host.close()
    now = on("wan22", it.pipe)
    with uncompiled(now.host.prepared):
        assert it.pipe.transformer is now.host.denoiser
        assert it.pipe.transformer_2._compiled_call_impl is None
    assert it.pipe.transformer is wrapper
    assert it.pipe.transformer_2._compiled_call_impl is not None
