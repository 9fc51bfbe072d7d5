"""LoRA files that a host loads: off they are not there, on they are alone, and what does not fit is refused by name.

| law | mutation that turned it red |
|---|---|
| loaded and off, nothing changes | `enable_adapters(False)` left out after the load |
| digests of weights are kept | adapters counted in `base_version` |
| on, the host is another one | `set_scale` left out |
| only one is on | `set_adapter` left out |
| what was before is there again | `_restore` left out of `switched` |
| only one thread has it | `held` in place of `kept` |
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.running import save_lora
from tests.steering.family_cases import GREEN, PINK, RED, apart
from tests.steering.feature_cases import denoiser_of, on

KINDS = ("sdxl", "sd3", "pixart-alpha", "flux-dev")
TWO = [RED, GREEN]


def draw(it: Any) -> torch.Tensor:
    return it.steered(TWO, [None, None], seed=0)


def lora(it: Any, folder: Path, name: str = "loud", *, prefix: str | None = None, **more: Any) -> Path:
    own = "unet." if hasattr(it.pipe, "unet") else "transformer."
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.safetensors"
    return save_lora(denoiser_of(it.pipe), file, prefix=own if prefix is None else prefix, **more)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.law("LoRA")
def test_off_it_is_not_there_and_on_the_host_is_another_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = on(name)
    plain, bound = draw(it), it.host.fingerprint
    monkeypatch.setattr("steering.run.prepared.joined_weights_digest", None)  # the weights are not read a second time
    it.host.load_lora("loud", lora(it, tmp_path))
    assert torch.equal(draw(it), plain)
    assert it.host.fingerprint == bound
    seen = []
    for scale in (1.0, 0.4):
        with it.host.lora("loud", scale):
            seen.append((draw(it), it.host.fingerprint))
    (full, other), (less, third) = seen
    assert min(apart(full, plain), apart(less, plain), apart(full, less)) > it.different
    assert len({bound.digest, other.digest, third.digest}) == 3
    assert other.adapters[0].startswith("loud:")
    assert other.weights == bound.weights
    assert torch.equal(draw(it), plain)
    assert it.host.fingerprint == bound


@pytest.mark.parametrize(("name", "prefix"), [("sdxl", ""), ("pixart-alpha", "base_model.model.")])
def test_keys_as_peft_writes_them_are_the_same_lora(name: str, prefix: str, tmp_path: Path) -> None:
    it = on(name)
    it.host.load_lora("ours", lora(it, tmp_path / "a"))
    it.host.load_lora("theirs", lora(it, tmp_path / "b", prefix=prefix))
    with it.host.lora("ours"):
        ours = draw(it)
    with it.host.lora("theirs"):
        assert torch.equal(draw(it), ours)


def test_an_alpha_that_peft_keeps_beside_the_file_counts(tmp_path: Path) -> None:
    it = on("pixart-alpha")
    it.host.load_lora("once", lora(it, tmp_path / "a"))
    it.host.load_lora("twice", lora(it, tmp_path / "b").parent)
    (tmp_path / "b" / "adapter_config.json").write_text('{"r": 2, "lora_alpha": 4}')
    it.host.load_lora("doubled", tmp_path / "b")
    with it.host.lora("once", 2.0):
        want = draw(it)
    with it.host.lora("doubled", 1.0):
        assert torch.equal(draw(it), want)
    with it.host.lora("twice", 1.0):
        assert not torch.equal(draw(it), want)


@pytest.mark.parametrize("name", ["sdxl", "pixart-alpha"])
def test_of_two_only_one_is_on_and_the_other_leaves_no_trace(name: str, tmp_path: Path) -> None:
    alone = on(name)
    alone.host.load_lora("b", lora(alone, tmp_path, "b", targets=["to_v"], seed=2))
    with alone.host.lora("b"):
        want, bound = draw(alone), alone.host.fingerprint
    it = on(name)
    it.host.load_lora("a", lora(it, tmp_path, "a", targets=["to_k", "to_v"], seed=1))
    it.host.load_lora("b", tmp_path / "b.safetensors")
    with it.host.lora("b"):
        assert torch.equal(draw(it), want)
        assert it.host.fingerprint == bound


def test_a_plan_that_is_bound_to_the_host_is_refused_while_a_lora_is_on(tmp_path: Path) -> None:
    from steering import BadPlan, Plan

    it = on("pixart-alpha")
    it.host.load_lora("loud", lora(it, tmp_path))
    bound = Plan(*it.swap(GREEN).interventions, made_for=it.host.fingerprint.digest)
    free = Plan(*bound.interventions)
    with it.host.lora("loud"):
        with pytest.raises(BadPlan, match="was made for another host"):
            it.steered([RED], [bound], seed=0)
        assert apart(it.steered([RED], [free], seed=0), it.steered([RED], [None], seed=0)) > it.different
    it.steered([RED], [bound], seed=0)


@pytest.mark.parametrize("name", ["sd3", "flux-dev"])
def test_streams_are_recorded_anew_while_a_lora_is_on(name: str, tmp_path: Path) -> None:
    it = on(name)
    plans = [it.swap(GREEN, it.names[1:4], source="canonical"), None]
    plain = it.steered([RED, PINK], plans, seed=0)
    it.host.load_lora("loud", lora(it, tmp_path))
    with it.host.lora("loud"):
        recorded = it.steered([RED, PINK], plans, seed=0)
        twin = it.steered([RED, PINK], [it.swap(GREEN, it.names[1:4]), None], seed=0)
    assert apart(recorded, twin) < it.tolerance
    assert apart(recorded, plain) > it.different
    assert torch.equal(it.steered([RED, PINK], plans, seed=0), plain)


def test_a_lora_may_change_the_text_encoder_too(tmp_path: Path) -> None:
    it = on("sd1")
    plain, donors = draw(it), it.steered(TWO, [it.swap(GREEN), None], seed=0)
    unet, file = load_file(lora(it, tmp_path, targets=["to_v"])), tmp_path / "both.safetensors"
    text = save_lora(it.pipe.text_encoder, tmp_path / "te.safetensors", prefix="text_encoder.", targets=["q_proj"])
    save_file(unet | load_file(text), file)
    it.host.load_lora("unet", tmp_path / "loud.safetensors")
    it.host.load_lora("both", file)
    assert torch.equal(draw(it), plain)
    with it.host.lora("unet"):
        half = draw(it)
    with it.host.lora("both"):
        assert apart(draw(it), half) > it.different
        stock = it.stock([GREEN, GREEN])
        assert apart(it.steered(TWO, [it.swap(GREEN), None])[0], stock[0]) < it.tolerance
    assert torch.equal(it.steered(TWO, [it.swap(GREEN), None], seed=0), donors)
    from steering import BadLora

    with pytest.raises(BadLora, match="no tensor of the adapter"):
        it.host.load_lora("text", text)


def test_an_error_leaves_it_off(tmp_path: Path) -> None:
    it = on("sdxl")
    plain = draw(it)
    it.host.load_lora("loud", lora(it, tmp_path))
    with pytest.raises(RuntimeError, match="in the block"), it.host.lora("loud"):
        raise RuntimeError("in the block")
    assert torch.equal(draw(it), plain)


def test_another_thread_waits_until_it_is_off(tmp_path: Path) -> None:
    from steering import HostBusy

    it = on("pixart-alpha")
    it.host.load_lora("loud", lora(it, tmp_path))
    told: list[type[BaseException] | None] = []

    def ask() -> None:
        try:
            it.host.generate([RED], plans=[None], seeds=[0], timeout=0.05, num_inference_steps=2)
            told.append(None)
        except HostBusy as error:
            told.append(type(error))

    for block in (it.host.lora("loud"), it.host.steer([None])):
        with block:
            thread = threading.Thread(target=ask)
            thread.start()
            thread.join()
    assert told == [HostBusy, HostBusy]
    with it.host.lora("loud"), it.host.steer([None]), pytest.raises(HostBusy, match="already in use by this thread"):
        it.host.generate([RED], plans=[None], seeds=[0], num_inference_steps=2)


def without(key: str) -> Any:
    return lambda tensors: {k: t for k, t in tensors.items() if key not in k}


def wider(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k: torch.ones(t.shape[0], t.shape[1] + 1) if "lora_A" in k else t for k, t in tensors.items()}


def elsewhere(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k.replace("transformer_blocks.0", "layers.0"): t for k, t in tensors.items()}


def broken(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k: torch.full_like(t, torch.nan) for k, t in tensors.items()}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (elsewhere, "`transformer.layers.0.attn1.to_k.lora_A.weight` of the adapter .* has no module in `PixArt"),
        (wider, r"must change a weight \[32, 32\], got one for \[32, 33\]; is it for another model\?"),
        (without("lora_B"), r"got one for \[0, 32\]"),
        (broken, "must be finite, got nan or inf"),
        (without("lora_A"), "must hold the tensors of a LoRA"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_and_leaves_nothing(change: Any, said: str, tmp_path: Path) -> None:
    from steering import BadLora

    it = on("pixart-alpha")
    plain = draw(it)
    file = lora(it, tmp_path)
    save_file(change(load_file(file)), file)
    with pytest.raises(BadLora, match=said):
        it.host.load_lora("loud", file)
    assert torch.equal(draw(it), plain)
    assert not [n for n, _ in denoiser_of(it.pipe).named_parameters() if "lora" in n]


def test_a_pickle_or_no_file_or_two_files_or_a_torn_one_are_refused(tmp_path: Path) -> None:
    from steering import BadLora

    it = on("pixart-alpha")
    (tmp_path / "empty").mkdir()
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "pytorch_lora_weights.bin").write_bytes(b"")
    file = lora(it, tmp_path / "two", "a")
    (tmp_path / "two" / "b.safetensors").write_bytes(file.read_bytes()[:100])
    for path, said in [
        (tmp_path / "none.safetensors", "there is no adapter at"),
        (tmp_path / "pickled" / "pytorch_lora_weights.bin", "a pickle may run code"),
        (tmp_path / "pickled", "a pickle may run code"),
        (tmp_path / "empty", "must hold a safetensors file, got none"),
        (tmp_path / "two", "must hold one safetensors file, got `a.safetensors`, `b.safetensors`"),
        (tmp_path / "two" / "b.safetensors", "is not a whole safetensors file"),
    ]:
        with pytest.raises(BadLora, match=said):
            it.host.load_lora("loud", path)
    it.host.load_lora("loud", file)
    with pytest.raises(BadLora, match="different names, got `loud` twice"):
        it.host.load_lora("loud", file)
    with pytest.raises(BadLora, match="unknown adapter `lout`; did you mean `loud`"), it.host.lora("lout"):
        pass
    with pytest.raises(BadLora, match="must be a finite number, got `nan`"), it.host.lora("loud", float("nan")):
        pass
