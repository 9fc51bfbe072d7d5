"""What the settings do with a model before it is served: every way is steered, and what would do nothing is refused.

| the law that goes red | when this is broken |
|---|---|
| a quantized, tiled, sliced model is steered | `quantize` takes a copy of the denoiser |
| it is quantized, tiled, sliced | `place` forgets one of them |
| offloaded by component or by layer it is steered | the pipeline is not offloaded (its hooks are counted) |
| a compiled model is steered | `place` does not compile |
| another model keeps its attention | `_attend` leaves diffusers' registry as the backend made it |
| what does nothing is refused | its condition is dropped |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from service.engine.host import check_model, load_host
from service.loading import placing
from service.loading.placing import check_placing, check_tiles, facts_of, offload, place
from service.settings import Settings, SettingsError
from tests.service.loading.conftest import FAMILIES
from tests.steering import zoo
from tests.steering.family_cases import GREEN, RED
from tests.steering.feature_cases import on, steers

families = pytest.mark.parametrize("family", FAMILIES)


def is_steered(host: Any) -> None:
    """At all sites a donor's text is shown: the picture is the donor's, and the one beside it its own."""
    from steering import Plan, Swap

    plan = Plan(
        Swap(
            GREEN,
            sites=[site.name for site in host.sites],
            pooled="donor",
            source=host.usual_source,
        )
    )
    small = {"height": 16, "width": 16, "output_type": "np"}
    mixed = host.generate([RED, GREEN, GREEN], plans=[plan, None, None], seeds=[3, 3, 4], **small)
    plain = host.generate([RED], plans=[None], seeds=[3], **small)
    assert np.abs(mixed.images[0] - mixed.images[1]).max() < 0.02 < np.abs(plain.images[0] - mixed.images[1]).max()
    assert set(mixed.report[0].fired.values()) not in (set(), {0})


@families
def test_a_model_in_eight_bits_that_is_decoded_by_tiles_and_slices_is_steered(
    family: str, settings: Callable[..., Settings], folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(model=str(folders[family]), quantization="int8", vae_tiling=True, vae_slicing=True)
    host = load_host(chosen)
    assert host.tested is not None
    assert host.tested.passed, host.tested.failures()
    is_steered(host)
    assert "int8 in" in facts_of(host, chosen)
    assert "0%" not in facts_of(host, chosen).replace("00%", "").replace("10%", "")
    assert {type(p).__name__ for p in host.denoiser.parameters()} >= {"Int8Tensor"}
    vae, seen = host.pipe.vae, []
    tiled = vae.tiled_decode
    monkeypatch.setattr(vae, "tiled_decode", lambda z, **more: (seen.append(len(z)), tiled(z, **more))[1])
    host.generate([RED, GREEN], plans=[None, None], seeds=[1, 2])
    assert seen == [1, 1], "one picture at a time, and by tiles"


@pytest.mark.parametrize(("family", "way"), [(each, way) for each in FAMILIES for way in ("model", "sequential")])
def test_an_offloaded_model_is_steered(family: str, way: str) -> None:
    """The CPU stands for the GPU, which this machine may not have."""
    it = on(family)
    offload(it.pipe, way, "cpu")
    denoiser = it.host.denoiser
    hooks = [m for m in denoiser.modules() if hasattr(m, "_hf_hook") or hasattr(m, "_diffusers_hook")]
    assert len(hooks) == 1 if way == "model" else len(hooks) > 10
    steers(it)
    with pytest.raises(SettingsError, match="is placed already"):
        offload(it.pipe, way, "cpu")


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A compiler that only counts its graphs, in place of the usual one, which needs a minute for each of them."""
    from torch._dynamo.testing import CompileCounter

    counter = CompileCounter()
    torch._dynamo.reset()
    monkeypatch.setattr(placing, "_COMPILER", counter)
    yield counter
    torch._dynamo.reset()


@pytest.mark.parametrize(("family", "graphs"), [("sd1", 2), ("flux-dev", 3), ("pixart-alpha", 1)])
def test_a_compiled_model_is_steered(
    family: str, graphs: int, counting: Any, settings: Callable[..., Settings]
) -> None:
    """Few blocks, for tracing takes seconds; `tests/steering/features/test_compile.py` has the laws."""
    pipe = zoo.cut(zoo.build(family))
    place(pipe, settings(compile=True), "cpu")
    it = on(family, pipe)
    (report,) = it.output_of([RED], [it.swap(GREEN)]).report
    assert (report.shape.kernels, counting.frame_count) == ("compiled", graphs)
    assert set(report.fired.values()) == {it.call["num_inference_steps"]}


def test_a_chosen_attention_is_that_of_this_denoiser_alone_and_steered(settings: Callable[..., Settings]) -> None:
    from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry

    pipe = zoo.build("flux-dev")
    place(pipe, settings(attention_backend="_native_math"), "cpu")
    backends = {
        getattr(m.processor, "_attention_backend", None) for m in pipe.transformer.modules() if hasattr(m, "processor")
    }
    assert backends == {AttentionBackendName._NATIVE_MATH}
    assert _AttentionBackendRegistry.get_active_backend()[0] != AttentionBackendName._NATIVE_MATH
    steers(on("flux-dev", pipe))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"offload": "model"}, "`offload` is `model`, and the model runs on `cpu`"),
        ({"offload": "sequential"}, "`offload` is `sequential`, and the model runs on `cpu`"),
        ({"vae_slicing": True, "batching": "solo"}, "batches have one picture"),
        ({"vae_slicing": True, "max_batch": 1}, "batches have one picture"),
        ({"quantization": "float8-dynamic"}, "`float8-dynamic` does not work on `cpu` in float32 here: "),
        ({"quantization": "int4"}, "`int4` does not work on `cpu` in float32 here: "),
    ],
)
def test_what_cannot_work_on_this_machine_is_refused_before_the_model_is_read(
    options: dict[str, Any], why: str, settings: Callable[..., Settings]
) -> None:
    with pytest.raises(SettingsError) as caught:
        check_model(settings(**options))
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_a_compiler_compilation_is_refused(settings: Callable[..., Settings]) -> None:
    from torch._inductor import config

    check_placing(settings(compile=True), "cpu")
    with config.patch({"cpp.cxx": ("no-such-compiler",)}), pytest.raises(SettingsError) as caught:
        check_placing(settings(compile=True), "cpu")
    assert "`compile` needs a C++ compiler on a CPU" in str(caught.value)


@pytest.mark.parametrize(
    ("family", "options", "why"),
    [
        ("sd1", {"attention_backend": "native"}, "does nothing for `UNet2DConditionModel`"),
        ("flux-dev", {"attention_backend": "flash"}, "`flash` does not work here: "),
        ("flux-dev", {"attention_backend": "fast"}, "must be one of diffusers', `flash`"),
        ("if1", {"vae_tiling": True}, "`IFPipeline` has no autoencoder"),
        ("sana", {"vae_slicing": True}, ""),
    ],
)
def test_what_does_nothing_for_a_model_is_refused(
    family: str, options: dict[str, Any], why: str, settings: Callable[..., Settings]
) -> None:
    pipe = zoo.build(family)
    if not why:
        place(pipe, settings(**options), "cpu")
        assert pipe.vae.use_slicing
        return
    with pytest.raises(SettingsError) as caught:
        place(pipe, settings(**options), "cpu")
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tiles_as_large_as_every_picture_are_refused(host: Any) -> None:
    check_tiles(host, ["64x64", "96x64"])
    with pytest.raises(SettingsError, match=r"`vae_tiling` does nothing: tiles are 64x64, and no picture is larger"):
        check_tiles(host, ["64x64", "32x32"])
