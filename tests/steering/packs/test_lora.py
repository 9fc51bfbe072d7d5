"""LoRA files: what stock diffusers writes is read, what is written stock diffusers draws with, and a plan draws the
same.

| law | mutation that turned it red |
|---|---|
| the plan is the file's picture in stock diffusers | scale not folded in |
| what peft saves is read with its scale | alpha of the header not looked at |
| what was written comes back bit for bit | half precision; `alpha_pattern` left out |
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tests.steering.family_cases import GREEN, RED, apart, asked
from tests.steering.feature_cases import adapters_of, denoiser_of, loud, on, plan_of, projections, unload


def uneven(it: Any) -> dict[str, Any]:
    """A LoRA whose modules have two ranks and two scales, on all places."""
    from steering import Adapter

    places = ("keys", "values", "queries", "result")
    lora = loud(it, places=places) | loud(it, seed=1, rank=2, places=("values",))
    return {name: Adapter(own.a, own.b, 0.75 if len(own.a) == 2 else 1.0) for name, own in lora.items()}


@pytest.mark.parametrize("name", ["sdxl", "sd3", "flux-dev"])
def test_stock_diffusers_draws_with_the_written_file_what_the_plan_draws(name: str, tmp_path: Path) -> None:
    from steering import read_lora, write_lora

    it = on(name)
    lora, stock = uneven(it), it.stock([RED, GREEN])
    path = write_lora(tmp_path / "deep" / "a.safetensors", lora, component=it.host.family.denoiser)
    plan = plan_of(it, read_lora(path))
    got = it.steered([RED, GREEN], [plan, None])
    it.pipe.load_lora_weights(str(path))
    assert set(adapters_of(denoiser_of(it.pipe), "default_0")) == set(lora)
    want = it.stock([RED, GREEN])
    assert apart(want[0], stock[0]) > it.different
    assert apart(got[0], want[0]) < 5 * it.tolerance
    it.pipe.unload_lora_weights()
    assert torch.equal(it.stock([RED, GREEN]), stock)


@pytest.mark.parametrize("how", [{"lora_alpha": 2}, {"lora_alpha": 3, "use_rslora": True}, {"alpha_pattern": True}])
@pytest.mark.parametrize(("name", "way"), [("flux-dev", "pipeline"), ("sdxl", "pipeline"), ("sd3", "model")])
def test_what_diffusers_saves_is_read_with_its_scale(name: str, way: str, how: dict[str, Any], tmp_path: Path) -> None:
    from diffusers.training_utils import _collate_lora_metadata
    from peft import LoraConfig, get_peft_model_state_dict

    from steering import read_lora

    it = on(name)
    denoiser: Any = denoiser_of(it.pipe)
    targets = projections(it, "keys", "values")
    how = {"alpha_pattern": {targets[1]: 7}} if "alpha_pattern" in how else how
    denoiser.add_adapter(LoraConfig(r=4, target_modules=targets, init_lora_weights=False, **how))
    held = adapters_of(denoiser, "default")
    want = it.stock([RED])
    if way == "model":
        denoiser.save_lora_adapter(tmp_path)
    else:
        component = it.host.family.denoiser
        layers = {f"{component}_lora_layers": get_peft_model_state_dict(denoiser)}
        it.pipe.save_lora_weights(tmp_path, **layers, **_collate_lora_metadata({component: denoiser}))
    unload(denoiser)
    read = read_lora(tmp_path / "pytorch_lora_weights.safetensors")
    assert {name: own.scale for name, own in read.items()} == {name: own.scale for name, own in held.items()}
    assert len({own.scale for own in held.values()} - {1.0}) == 1 or "alpha_pattern" in how
    assert all(torch.equal(own.a, held[name].a) and torch.equal(own.b, held[name].b) for name, own in read.items())
    assert apart(it.steered([RED], [plan_of(it, read)]), want) < 5 * it.tolerance


def test_what_was_written_comes_back_and_the_card_with_it(tmp_path: Path) -> None:
    from steering import read_lora, write_lora

    lora = uneven(asked("pixart-alpha"))
    path = write_lora(tmp_path / "a.safetensors", lora, component="transformer", card={"license": "Apache-2.0"})
    back = read_lora(path)
    assert list(tmp_path.iterdir()) == [path]
    assert back.keys() == lora.keys()
    for name, own in lora.items():
        assert torch.equal(back[name].a, own.a)
        assert torch.equal(back[name].b, own.b)
        assert back[name].scale == own.scale
    with safe_open(str(path), framework="pt") as file:
        assert file.metadata()["license"] == "Apache-2.0"


def test_the_alpha_of_a_tensor_is_its_modules_scale(tmp_path: Path) -> None:
    from steering import read_lora

    tensors = {"unet.x.to_k.lora_A.weight": torch.ones(4, 8), "unet.x.to_k.lora_B.weight": torch.ones(6, 4)}
    save_file(tensors | {"unet.x.to_k.alpha": torch.tensor(2.0)}, tmp_path / "a.safetensors")
    assert read_lora(tmp_path / "a.safetensors")["x.to_k"].scale == 0.5
    save_file(tensors, tmp_path / "a.safetensors")
    assert read_lora(tmp_path / "a.safetensors")["x.to_k"].scale == 1.0


def test_files_that_are_no_lora_are_refused_with_the_reason(tmp_path: Path) -> None:
    from steering import BadLora, NotSupported, read_lora, write_lora

    path = tmp_path / "a.safetensors"
    with pytest.raises(BadLora, match="there is no LoRA at"):
        read_lora(path)
    path.write_bytes(b"not safetensors")
    with pytest.raises(BadLora, match="is not a LoRA: SafetensorError"):
        read_lora(path)
    a, b = torch.ones(4, 8), torch.ones(6, 4)
    refused = (
        ({}, BadLora, "it holds no tensor"),
        ({"lora_unet_x_to_k.lora_down.weight": a}, NotSupported, "load the file with diffusers and save it"),
        ({"transformer.x.lora_magnitude_vector": a}, NotSupported, r"holds `transformer\.x\.lora_magnitude_vector`"),
        ({"transformer.x.lora_A.weight": a}, BadLora, r"`transformer\.x` has no `lora_B\.weight`"),
        (
            {"x.lora_A.weight": a, "x.lora_B.weight": b.T},
            BadLora,
            r"`x`: A and B must be \[r, in\] and \[out, r\], got",
        ),
        ({"x.lora_A.weight": a, "x.lora_B.weight": b * torch.inf}, BadLora, "must be finite"),
    )
    for tensors, error, message in refused:
        save_file({name: value.contiguous() for name, value in tensors.items()}, path)
        with pytest.raises(error, match=message):
            read_lora(path)
    header = {"lora_adapter_metadata": json.dumps({"use_dora": True})}
    save_file({"x.lora_A.weight": a, "x.lora_B.weight": b}, path, metadata=header)
    with pytest.raises(NotSupported, match="is of a DoRA"):
        read_lora(path)
    with pytest.raises(BadLora, match="must change at least one module"):
        write_lora(path, {}, component="unet")
    with pytest.raises(BadLora, match=r"must end in `\.safetensors`, got `a\.bin`"):
        write_lora(tmp_path / "a.bin", {"x": None}, component="unet")


def test_a_lora_that_is_not_of_the_sites_or_of_another_model_cannot_ride_as_a_plan() -> None:
    from steering import Adapter, BadLora, NotSupported, operators_of_lora

    it = asked("sd3")
    lora = loud(it)
    own = next(iter(lora.values()))
    more = {f"transformer_blocks.{n}.ff.net.2": own for n in range(5)}
    with pytest.raises(NotSupported, match=r"changes `transformer_blocks\.0\.ff\.net\.2`.* and 2 more, no projection"):
        operators_of_lora(it.host, lora | more)
    with pytest.raises(NotSupported, match=r"changes `text_encoder\.a`, no projection of a site of host `sd3`"):
        operators_of_lora(it.host, lora | {"text_encoder.a": own})
    name = next(iter(lora))
    with pytest.raises(BadLora, match=rf"must read 32 and change 32 at `{name}` of host `sd3`, got 8 and 32; it is of"):
        operators_of_lora(it.host, {name: Adapter(torch.ones(4, 8), torch.ones(32, 4))})
