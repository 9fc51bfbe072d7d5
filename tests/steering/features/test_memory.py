"""Where weights wait and in what precision they compute: offload, casting, half precision, slicing, tiling.

| law | mutation that turned it red |
|---|---|
| the fingerprint stays under sequential offload | weights read where they stand, on the meta device |
| tables that are not kept are freed | the tables of a site hold those of all sites |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.steering import zoo
from tests.steering.family_cases import GREEN, RED, apart
from tests.steering.feature_cases import JOINT, KINDS, denoiser_of, on, steers

CPU = torch.device("cpu")
every = pytest.mark.parametrize("name", zoo.NAMES)


def by_group(pipe: Any) -> None:
    """diffusers' group offload, a block at a time."""
    options = {"offload_type": "block_level", "num_blocks_per_group": 1}
    denoiser_of(pipe).enable_group_offload(onload_device=CPU, offload_device=CPU, **options)


def one_by_one(pipe: Any) -> None:
    """What `enable_sequential_cpu_offload` does to a denoiser: each weight on the meta device until it is used."""
    import accelerate

    accelerate.cpu_offload(denoiser_of(pipe), execution_device=CPU)


def as_a_whole(pipe: Any) -> None:
    """diffusers' model offload; it takes a CPU as the device that models come to."""
    pipe.enable_model_cpu_offload(device="cpu")


@every
@pytest.mark.parametrize("way", [by_group, one_by_one, as_a_whole], ids=lambda way: way.__name__)
@pytest.mark.law("offload")
def test_offloaded_after_a_call_it_is_steered_and_its_fingerprint_stays(name: str, way: Callable[[Any], None]) -> None:
    it = on(name)
    plain, bound = it.stock(it.beside([RED, GREEN], GREEN)), it.host.fingerprint
    way(it.pipe)
    assert torch.equal(steers(it), plain)
    assert it.host.fingerprint == bound


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.law("offload")
def test_offloaded_before_the_host_it_passes_its_self_test(name: str) -> None:
    pipe = zoo.build(name)
    one_by_one(pipe)
    it = on(name, pipe, self_test=True)
    assert it.host.tested is not None
    assert it.host.tested.passed, it.host.tested.failures()
    if name in JOINT:
        some = it.names[1:3]
        recorded = it.steered([RED], [it.swap(GREEN, some, source="canonical")], seed=0)
        assert apart(recorded, it.steered([RED], [it.swap(GREEN, some)], seed=0)) < it.tolerance


@pytest.mark.parametrize("name", ["sdxl-refiner", "if1", "sd3", "sana"])
def test_weights_kept_in_eight_bits_are_steered_and_are_other_weights(name: str) -> None:
    it = on(name)
    plain, bound = steers(it), it.host.fingerprint
    casting = {"storage_dtype": torch.float8_e4m3fn, "compute_dtype": torch.float32}
    denoiser_of(it.pipe).enable_layerwise_casting(**casting)
    assert apart(steers(it), plain) > it.different
    assert it.host.fingerprint.differences(bound)
    assert it.host.self_test().passed, it.host.tested


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(n, torch.bfloat16) for n in KINDS] + [(n, torch.float16) for n in ("sdxl", "pixart-alpha", "flux-dev")],
)
def test_half_precision_is_steered(name: str, dtype: torch.dtype) -> None:
    pipe = zoo.build(name)
    pipe.to(dtype)
    it = on(name, pipe)
    steers(it, share=0.02)
    assert it.output_of([RED], [None]).report[0].shape.dtype == str(dtype).removeprefix("torch.")


@pytest.mark.parametrize("name", ["sd1", "if1"])
def test_sliced_attention_is_steered(name: str) -> None:
    it = on(name)
    plain = steers(it)
    it.pipe.enable_attention_slicing(1)
    processors = {type(p).__name__ for p in it.pipe.unet.attn_processors.values()}
    assert all(p.startswith("Sliced") for p in processors)
    assert apart(steers(it), plain) < 10 * it.tolerance


@pytest.mark.parametrize("name", ["sd1", "sdxl"])
def test_freeu_is_steered(name: str) -> None:
    it = on(name)
    plain = steers(it)
    it.pipe.enable_freeu(0.9, 0.2, 1.2, 1.4)
    assert apart(steers(it), plain) > it.different


@pytest.mark.parametrize("name", ["sd1", "flux-dev"])
def test_tiled_and_sliced_decoding_is_steered(name: str) -> None:
    it = on(name)
    it.pipe.vae.enable_tiling()
    it.pipe.vae.enable_slicing()
    steers(it, output_type="np")


def test_tables_that_are_not_kept_are_freed_at_once() -> None:
    """Recorded streams are large: they must not wait until Python next looks for cycles."""
    import gc
    import weakref

    it = on("pixart-alpha")
    prepared, seen = it.host._prepared[0], weakref.WeakSet()
    gc.collect()
    gc.disable()
    try:
        for rows in range(1, 7):
            it.steered([RED] * rows, [it.swap(GREEN)] * rows)
            seen.update(prepared._kept_tables.values())
        assert len(prepared._kept_tables) == len(seen) == 4
    finally:
        gc.enable()
