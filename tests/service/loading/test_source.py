"""Where a model comes from: a folder, a fetched hub model, a checkpoint in one file, a factory; mistakes are one line.

| the law that goes red | when this is broken |
|---|---|
| a checkpoint has its own weights | the denoiser is read from the base (its weights are other ones here) |
| a checkpoint that lacks a weight is one line | torch's `NotImplementedError` is passed on |
| `auto` is the dtype of the weights | `_dtype_on` gives float32 |
| a setting that a source does not have is refused | its row in `source_of` is dropped |
| a factory's pipeline is served as it is | `call_factory` is called twice |
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from service.engine.host import check_model, load_host
from service.loading.factory import call_factory
from service.loading.source import source_of
from service.settings import Settings, SettingsError
from tests.steering import originals, zoo

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FACTORY = """
from tests.steering import zoo
from diffusers import DiffusionPipeline

def pipeline():
    return zoo.build("pixart-alpha", seed=5)

class Models:
    @staticmethod
    def one(): return pipeline()

def stored():
    return DiffusionPipeline.from_pretrained(FOLDER)

def broken():
    raise RuntimeError("no weights here\\nsecond line")

def leaves():
    raise SystemExit(7)

def number():
    return 5

value = 5
"""


def weights(family: str) -> tuple[str, dict[str, torch.Tensor]]:
    """A denoiser's name, and what a checkpoint holds; the weights are others than those of the saved folder."""
    pipe = zoo.build(family, seed=9)
    if family == "sd1":
        parts = originals.ldm_unet(pipe.unet), originals.ldm_vae(pipe.vae), originals.ldm_text(pipe.text_encoder)
        return "unet", parts[0] | parts[1] | parts[2]
    if family == "sd3":
        return "transformer", originals.mmdit(pipe.transformer)
    return "transformer", pipe.transformer.state_dict()  # as diffusers saves it


@pytest.mark.parametrize(
    ("family", "why"),
    [
        ("sd1", "must hold all weights of the `StableDiffusionPipeline` in"),
        ("flux-dev", "cannot be read as the `FluxPipeline` in"),  # with a name less it is taken for another layout
        ("sd3", "cannot be read as the `StableDiffusion3Pipeline` in"),
    ],
)
def test_a_checkpoint_in_one_file_has_its_own_weights_and_is_refused_if_it_lacks_one(
    family: str, why: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    from steering import BadModel
    from steering.families.loading import load_pipeline

    name, held = weights(family)
    file = tmp_path / "My Model.safetensors"
    save_file({key: value.contiguous() for key, value in held.items()}, file)
    how: Any = {"device": "cpu", "dtype": None, "base": folders[family]}
    loaded, stock = load_pipeline(file, **how), zoo.build(family, seed=9)
    assert (loaded.name, type(loaded.pipe)) == ("My Model", type(stock))
    for part in (name, "vae", "text_encoder") if family == "sd1" else (name,):
        ours = getattr(loaded.pipe, part).state_dict()
        assert all(torch.equal(tensor, ours[key]) for key, tensor in getattr(stock, part).state_dict().items()), part
    del held[next(key for key in held if re.search(r"to_k\.|qkv", key))]
    save_file(held, file)
    with pytest.raises(BadModel, match=f"Model.safetensors` {why}") as got:
        load_pipeline(file, **how)
    assert "\n" not in str(got.value)


def test_a_checkpoint_is_served_and_steered(
    settings: Callable[..., Settings], folders: dict[str, Path], tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    from steering.families.fingerprint import weights_digest

    file = tmp_path / "mine.safetensors"
    save_file(weights("sd3")[1], file)
    chosen = settings(model=str(file), base=folders["sd3"])
    check_model(chosen)
    host = load_host(chosen)
    assert host.tested is not None
    assert host.tested.passed, host.tested.failures()
    assert host.fingerprint.weights == weights_digest(host.denoiser), "the digest is that of the file, not of the base"


@pytest.mark.parametrize(("stored", "found"), [(torch.bfloat16, torch.bfloat16), (torch.float16, torch.float32)])
def test_auto_is_the_dtype_of_the_weights_but_no_float16_on_a_cpu(
    stored: torch.dtype, found: torch.dtype, tmp_path: Path
) -> None:
    from steering.families.loading import load_pipeline

    folder = tmp_path / "model"
    zoo.build("pixart-alpha").to(stored).save_pretrained(folder)
    pipe = load_pipeline(folder, device="cpu", dtype=None).pipe
    assert {part.dtype for part in (pipe.transformer, pipe.vae, pipe.text_encoder)} == {found}


@pytest.fixture
def app(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    """A folder with a module of factories, and the module's name."""
    import sys

    name = f"factories_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(FACTORY)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path, name


def test_a_factory_makes_the_model(app: tuple[Path, str], settings: Callable[..., Settings]) -> None:
    folder, module = app
    chosen = settings(model=f"{module}:pipeline", app_dir=folder, quantization="int8")
    check_model(chosen)
    host = load_host(chosen)
    assert host.name == f"{module}:pipeline"
    assert host.tested is not None
    assert host.tested.passed
    assert {type(p).__name__ for p in host.denoiser.parameters()} >= {"Int8Tensor"}
    assert type(call_factory(f"{module}:Models.one", folder)).__name__ == "PixArtAlphaPipeline"


def test_a_factory_that_reads_a_folder_draws_no_bars_into_the_log(
    app: tuple[Path, str], settings: Callable[..., Settings], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder, module = app
    zoo.build("pixart-alpha").save_pretrained(tmp_path / "stored")
    with (folder / f"{module}.py").open("a") as code:
        code.write(f"FOLDER = {str(tmp_path / 'stored')!r}\n")
    chosen = settings(model=f"{module}:stored", app_dir=folder)
    capfd.readouterr()
    load_host(chosen)
    assert "it/s" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("broken", "which failed: RuntimeError: no weights here"),
        ("leaves", "which failed: SystemExit: 7"),
        ("number", "which must return a diffusers pipeline, got `int`"),
        ("value", "which must be a function, got `int`"),
        ("pipelin", "did you mean `pipeline`?"),
    ],
)
def test_mistakes_of_a_factory_are_one_line(app: tuple[Path, str], target: str, why: str) -> None:
    folder, module = app
    with pytest.raises(SettingsError) as caught:
        call_factory(f"{module}:{target}", folder)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (target in ("broken", "leaves")) == (caught.value.__cause__ is not None), (
        "the traceback is there for `--verbose`"
    )


def test_the_other_settings_of_a_factory_are_refused(app: tuple[Path, str], settings: Callable[..., Settings]) -> None:
    folder, module = app
    given = {"model": f"{module}:pipeline", "app_dir": folder}
    for name, value in {"dtype": "float16", "variant": "fp16", "revision": COMMIT, "base": folder}.items():
        with pytest.raises(SettingsError, match=f"`{name}` .*, and `model` is `{module}:pipeline`, a factory"):
            check_model(settings(**given, **{name: value}))
    with pytest.raises(SettingsError, match=r"there is no module `nowhere_at_all` in "):
        check_model(settings(model="nowhere_at_all:pipeline", app_dir=folder))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (
            {"model": "someone/some-model"},
            "needs its `revision`, a commit of 40 digits, as in `someone/some-model@<com",
        ),
        ({"model": "someone/some-model@main"}, "got `main`: a branch or a tag may change"),
        ({"model": f"someone/some-model@{COMMIT}"}, f"`palimpsest models fetch someone/some-model@{COMMIT}` brings it"),
        ({"model": "someone/some-model", "revision": COMMIT}, "is not on this machine"),
        ({"model": f"a/b@{COMMIT}", "revision": COMMIT[::-1]}, "leave one out"),
        ({"model": "model.ckpt"}, "must be no pickle"),
        ({"model": "nothing.safetensors"}, "no checkpoint at `nothing.safetensors`"),
        ({"model": "FILE"}, "has no configurations: set `base`"),
        ({"model": "FILE", "base": Path("/nowhere")}, "`base` must be a diffusers folder, got `/nowhere`"),
        ({"model": "signpost-pixrt"}, "did you mean `signpost-pixart`?"),
        ({"revision": COMMIT}, "`revision` is the commit of a hub model, and `model` is "),
        ({"base": Path("/tmp")}, "`base` is the folder with the configurations of a `.safetensors` checkpoint, and"),
        ({"app_dir": Path("/tmp")}, "`app_dir` is the folder of a `module:function`, and"),
    ],
)
def test_mistakes_about_the_source_are_one_line(
    options: dict[str, Any],
    why: str,
    settings: Callable[..., Settings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    file = tmp_path / "some.safetensors"
    file.write_bytes(b"")
    if options.get("model") == "FILE":
        options = options | {"model": str(file)}
    with pytest.raises(SettingsError) as caught:
        source_of(settings(**options))
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_broken_folder_is_found_before_a_worker_starts(
    settings: Callable[..., Settings], model: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(model, tmp_path / "model")
    index = folder / "model_index.json"
    index.write_text(index.read_text().replace("PixArtAlphaPipeline", "FooPipeline"))
    with pytest.raises(
        SettingsError, match=r"`model`: `_class_name` of .* must be a class of diffusers .*`FooPipeline`"
    ):
        check_model(settings(model=str(folder)))
