"""From a folder to a host: one dtype in every component, safetensors only, offline, and errors that say the way out.

| law | mutation that turned it red |
|---|---|
| every component is in the asked dtype | `dtype` not passed and `force_dtype` not called |
| a pickle is never read | `use_safetensors` left out |
| a variant is read where it is asked for, with a digest of its own | `variant` not passed; all files digested |
| a bad folder is one `BadModel` that names the file | `check_folder` not called |
| weights that a folder lacks are not made up | `_whole`, or `_refuse_empty`, not called |
| a tokenizer has a vocabulary | `_vocabulary` not called; not for processors |
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_component_is_in_the_asked_dtype_whatever_the_files_hold(folder: Path, dtype: torch.dtype) -> None:
    from steering import Host

    host = Host.load(folder, dtype=dtype, self_test=False)
    found = {
        (name, t.dtype)
        for name in ("transformer", "vae", "text_encoder")
        for t in getattr(host.pipe, name).state_dict().values()
        if t.is_floating_point()
    }
    assert {d for _, d in found} == {dtype}
    assert len({n for n, _ in found}) == 3


def test_a_dtype_is_forced_on_what_came_in_another() -> None:
    from steering.families.loading import force_dtype

    module = torch.nn.Sequential(torch.nn.Linear(2, 2).half(), torch.nn.BatchNorm1d(2))
    force_dtype(module, torch.float32)
    assert {t.dtype for t in module.state_dict().values()} == {torch.float32, torch.int64}


def test_a_loaded_host_has_its_name_defaults_and_a_passed_self_test(folder: Path) -> None:
    from steering import Host, Plan, Swap

    host = Host.load(folder)
    assert host.name == "tiny-pixart"
    assert host.tested is not None
    assert host.tested.passed, host.tested.failures()
    assert (host.defaults.height, host.defaults.call["max_sequence_length"]) == (16, 24)
    plan = Plan(Swap("green", sites=[host.sites[0].name], pooled="keep"))
    out = host.generate(["red"], plans=[plan], seeds=[1])
    assert out.images[0].size == (16, 16)
    assert out.report[0].fired == {host.sites[0].name: 4}


def test_a_loaded_host_equals_the_stock_pipeline_loaded_from_the_same_folder(folder: Path) -> None:
    from diffusers import DiffusionPipeline

    from steering import Host

    host = Host.load(folder)
    stock = DiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    stock.set_progress_bar_config(disable=True)
    arguments = host.defaults.arguments() | {"output_type": "np"}
    mine = host.generate(["red"], plans=[None], seeds=[3], output_type="np").images
    assert (mine == stock("red", generator=torch.Generator().manual_seed(3), **arguments).images).all()


def test_a_pickle_is_never_read(folder: Path) -> None:
    from steering import BadModel, Host

    weights = next((folder / "transformer").glob("*.safetensors"))
    torch.save({}, weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(BadModel, match=r"transformer` must hold weights as `\*.safetensors`, got `diffusion_pytorch"):
        Host.load(folder)


def as_variant(folder: Path, *components: str, variant: str = "fp16") -> None:
    """Renames the weight files of components as those of a variant."""
    for component in components:
        for file in (folder / component).glob("*.safetensors"):
            file.rename(file.with_name(f"{file.name.removesuffix('.safetensors')}.{variant}.safetensors"))


@pytest.mark.parametrize("components", [("transformer", "vae", "text_encoder"), ("transformer",)])
def test_a_folder_of_variants_loads_when_one_is_named_and_says_which_otherwise(
    folder: Path, components: tuple[str, ...]
) -> None:
    from steering import BadModel, Host

    stock = Host.load(folder, self_test=False)
    as_variant(folder, *components)
    with pytest.raises(BadModel, match=r"must hold weights without a variant, got the variants `fp16`; set `variant`"):
        Host.load(folder)
    if len(components) == 3:
        with pytest.raises(BadModel, match="of the variant `bf16`, got the variants `fp16`"):
            Host.load(folder, variant="bf16")
    host = Host.load(folder, variant="fp16", self_test=False)
    for one, other in zip(stock.denoiser.parameters(), host.denoiser.parameters(), strict=True):
        assert torch.equal(one, other)


def test_weights_that_were_exchanged_with_their_times_have_another_digest(folder: Path, tmp_path: Path) -> None:
    from steering.families.fingerprint import KeptDigests

    file, kept = tmp_path / "weights.safetensors", KeptDigests(tmp_path / "digests.json")
    file.write_bytes(b"one")
    os.utime(file, (1, 1))
    kept.put([file], "of one")
    assert kept.get([file]) == "of one"
    (tmp_path / "fresh").write_bytes(b"two")
    os.utime(tmp_path / "fresh", (1, 1))
    (tmp_path / "fresh").rename(file)
    assert kept.get([file]) is None


def test_two_variants_beside_each_other_have_digests_of_their_own(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from steering import Host

    weights = next((folder / "transformer").glob("*.safetensors"))
    other = {name: tensor + 1 for name, tensor in load_file(weights).items()}
    save_file(other, weights.with_name("diffusion_pytorch_model.fp16.safetensors"), metadata={"format": "pt"})
    digests = tmp_path / "digests.json"
    plain = Host.load(folder, digests=digests, self_test=False)
    variant = Host.load(folder, digests=digests, variant="fp16", self_test=False)
    assert plain.fingerprint != variant.fingerprint
    assert Host.load(folder, digests=digests, self_test=False).fingerprint == plain.fingerprint


def cut(file: Path, size: int) -> None:
    file.write_bytes(file.read_bytes()[:size])


def thin(file: Path, part: str) -> None:
    """Takes the tensors out of a file of weights whose names have `part` in them."""
    from safetensors.torch import load_file, save_file

    save_file({k: v for k, v in load_file(file).items() if part not in k}, file, metadata={"format": "pt"})


def spoil(folder: Path, how: str) -> None:
    """Makes a folder one that cannot be loaded."""
    index = folder / "model_index.json"
    weights = next((folder / "transformer").glob("*.safetensors"))
    if how in ("head", "tail"):
        cut(weights, 100 if how == "head" else weights.stat().st_size - 1)
    elif how == "empty":
        weights.write_bytes(b"")
    elif how == "text":
        cut(next((folder / "text_encoder").glob("*.safetensors")), 4000)
    elif how == "none":
        weights.unlink()
    elif how == "encoder":
        thin(next((folder / "text_encoder").glob("*.safetensors")), "block.0.layer.0")
    elif how == "denoiser":
        thin(weights, "transformer_blocks.3.attn2")
    elif how == "words":
        shutil.rmtree(folder / "tokenizer")
    elif how in ("vocabulary", "processor"):
        kind = "CLIPTokenizer" if how == "vocabulary" else "Qwen3VLProcessor"
        name = "tokenizer" if how == "vocabulary" else "processor"
        (folder / "tokenizer").rename(folder / name)
        parts = {k: v for k, v in json.loads(index.read_text()).items() if k != "tokenizer"}
        index.write_text(json.dumps(parts | {name: ["transformers", kind]}))
    elif how == "shard":
        map_ = {"weight_map": {"a": "diffusion_pytorch_model-00001-of-00002.safetensors", "b": weights.name}}
        (folder / "transformer" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(map_))
    elif how == "shape":
        config = folder / "transformer" / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"caption_channels": 7}))
    else:
        value = json.loads(index.read_text())
        changed = {"pipeline": {"_class_name": "PixArtAlphaPipelin"}, "foreign": {"_class_name": "MyFancyPipeline"}}
        changed |= {"part": {"transformer": ["diffusers", "MyTransformer"]}, "listed": {"_class_name": ["a", "B"]}}
        changed |= {"elsewhere": {"transformer": ["my_module", "MyTransformer"]}}
        index.write_text(json.dumps(value | changed[how]))


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("head", r"transformer/.*safetensors` must be a safetensors file, got 100 bytes without a whole header"),
        ("empty", "got 0 bytes without a whole header"),
        ("tail", r"must have \d+ bytes by its header, got \d+; it may be cut off"),
        ("text", r"text_encoder/.*; it may be cut off"),
        ("none", "cannot be loaded from safetensors"),
        ("shard", "must hold the file `diffusion_pytorch_model-00001-of-00002.safetensors`, which its index names"),
        ("shape", "cannot be loaded from safetensors"),
        (
            "encoder",
            r"text_encoder` must hold all weights of a `T5EncoderModel`, and lacks \d: `encoder.block.0.layer.0.",
        ),
        (
            "denoiser",
            r"component `transformer` must hold all weights of a `PixArtTransformer2DModel`, and lacks \d+: `tr",
        ),
        ("words", r"/tokenizer` must hold the vocabulary of a `ByT5Tokenizer`, .* and has no folder$"),
        ("vocabulary", r"/tokenizer` must hold .*, and has `added_tokens.json`, `tokenizer_config.json`$"),
        ("processor", r"/processor` must hold the vocabulary of a `Qwen3VLProcessor`"),
        ("pipeline", r"must be a class of diffusers .*, got `PixArtAlphaPipelin`; did you mean `PixArtAlphaPipeline`"),
        (
            "foreign",
            r"_class_name` of .* of diffusers .*, got `MyFancyPipeline`; code in the folder is never run$",
        ),
        ("part", r"`transformer` of .* must be a class of diffusers .*, got `MyTransformer`"),
        ("listed", "must have a `_class_name`, got"),
        ("elsewhere", "cannot be loaded from safetensors"),
    ],
)
def test_a_folder_that_cannot_be_loaded_is_one_line_that_says_why(folder: Path, how: str, says: str) -> None:
    from steering import BadModel, Host

    spoil(folder, how)
    with pytest.raises(BadModel, match=says) as error:
        Host.load(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("./nowhere", r"must be a diffusers folder or a hub id `owner/name`, got `./nowhere`"),
        ("word", "must be a diffusers folder or a hub id"),
        ("someone/some-model", "needs its `revision`, a commit of 40 digits"),
    ],
)
def test_a_model_that_is_not_there_says_what_was_looked_for(model: str, says: str) -> None:
    from steering import BadModel, Host

    with pytest.raises(BadModel, match=says):
        Host.load(model)


def test_a_misspelt_folder_names_the_nearest(folder: Path) -> None:
    from steering import BadModel, Host

    with pytest.raises(BadModel, match=r"did you mean `.*tiny-pixart`"):
        Host.load(folder.parent / "tiny-pixrt")


def test_a_hub_model_that_was_not_fetched_is_not_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    from steering import BadModel, Host

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    commit = "0123456789abcdef" * 2 + "01234567"
    with pytest.raises(BadModel, match=f"`palimpsest models fetch someone/some-model@{commit}` brings it"):
        Host.load("someone/some-model", revision=commit)


def test_a_folder_of_another_family_is_refused_before_its_weights_are_read(tmp_path: Path) -> None:
    from steering import BadModel, Host, NotSupported

    with pytest.raises(BadModel, match=r"no `model_index.json`"):
        Host.load(tmp_path)
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxControlNetPipeline"}')
    with pytest.raises(NotSupported, match="cannot be steered"):
        Host.load(tmp_path)
    (tmp_path / "model_index.json").write_text("{")
    with pytest.raises(BadModel, match="must be JSON"):
        Host.load(tmp_path)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"heigth": 64}, "unknown name `heigth`.*did you mean `height`"),
        ({"height": 0}, "height in the model's defaults must be a whole number from 1 to 16384"),
        ({"width": 10**9}, "width in the model's defaults must be a whole number from 1 to 16384"),
        ({"call": {"prompt": "x"}}, "`call` in the model's defaults: `prompt` is not for `generate`"),
        ({"call": {"max_sequnce_length": 1}}, "`call` in the model's defaults: unknown argument `max_sequnce_length`"),
        ({"guidance_scale": "x"}, "guidance_scale"),
        ([1], "must be a JSON object, got `list`"),
    ],
)
def test_broken_defaults_are_refused(folder: Path, value: Any, says: str) -> None:
    from steering import BadModel, Host

    (folder / "defaults.json").write_text(json.dumps(value))
    with pytest.raises(BadModel, match=says):
        Host.load(folder)


def test_one_model_has_one_fingerprint_in_every_dtype_and_another_model_another(folder: Path, build: Any) -> None:
    from steering import Host

    full = Host.load(folder, self_test=False).fingerprint
    half = Host.load(folder, self_test=False, dtype=torch.bfloat16).fingerprint
    assert full == half
    assert full.weights != Host(build(seed=1), self_test=False).fingerprint.weights
    other = Host(build(blocks=3), self_test=False).fingerprint
    assert [d.split(" ")[0] for d in full.differences(other)] == ["config", "weights"]


def test_a_change_of_weights_changes_the_fingerprint(build: Any) -> None:
    from steering import Host

    host = Host(build(), self_test=False)
    before = host.fingerprint
    assert host.fingerprint is before  # computed once
    with torch.no_grad():
        host.pipe.transformer.transformer_blocks[0].attn2.to_k.weight.add_(0.01)
    assert [d.split(" ")[0] for d in before.differences(host.fingerprint)] == ["weights"]


def test_digests_are_kept_by_path_size_and_mtime(folder: Path, tmp_path: Path) -> None:
    from steering import Host

    kept = tmp_path / "digests.json"
    first = Host.load(folder, self_test=False, digests=kept).fingerprint
    known = json.loads(kept.read_text())
    assert list(known.values()) == [first.weights]
    kept.write_text(json.dumps(dict.fromkeys(known, "f" * 64)))  # to see that it is really read
    assert Host.load(folder, self_test=False, digests=kept).fingerprint.weights == "f" * 64
    weights = next((folder / "transformer").glob("*.safetensors"))
    weights.touch()
    assert Host.load(folder, self_test=False, digests=kept).fingerprint == first
