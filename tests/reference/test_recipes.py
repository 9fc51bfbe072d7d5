"""Every recipe, end to end at a tiny size; and training reads exactly what the stock pipeline will.

| break | red |
|---|---|
| give SD3's denoiser the CLIP states after the last layer | training asks the denoiser as the pipeline does |
| pack FLUX's latents columns first | training asks the denoiser as the pipeline does |
| leave out the projection of pooled text | training asks the denoiser as the pipeline does |
| forget to put the fused processors back | a denoiser is shipped as diffusers builds it |
| mark the right half of an image token as the left | image tokens know their letters |
| begin a later stage from new weights, or teach the encoders in it too | a finished model is trained on |
| give a stage another seed where it is run alone | a finished model is trained on |
| keep `_name_or_path` in a part's configuration | a finished model is trained on |
| take a model that has had all stages, or say that it had other steps | a finished model is trained on |
| train the encoder with its decoder, or the decoder twice | a decoder alone is trained on |
| sharpen a copy, and ship the decoder as it was | a decoder alone is trained on |
| train an autoencoder of its own, or sharpen the decoder that was taken | a denoiser alone is trained |
| take a model of another size, or one that lacks an encoder | a model without these first stages is refused |
| give Z-Image's denoiser the states after the last layer | training asks the denoiser as the pipeline does |
| take Z-Image's answer without turning it round | training asks the denoiser as the pipeline does |
| draw a later stage's scenes without their weights | a later stage prefers what is learned last |
| let a vague caption answer with the subject | a caption's facts are what it says |
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from reference.autoencoder import build_autoencoder
from reference.folders import MODELS
from reference.loop import Schedule
from reference.recipes import (
    FAMILIES,
    NAMES,
    ModelName,
    ModelShape,
    Onward,
    Recipe,
    SharedRecipe,
    TextShape,
    folder,
    recipe_for,
    train,
)
from reference.recipes.denoise import guided_target
from reference.recipes.marks import FACTS, caption_facts, caption_letters, token_marks
from reference.recipes.onward import preferred
from reference.recipes.shapes import LETTERS
from reference.recipes.texts import build_texts
from reference.recipes.tokens import byte_ids, clip_ids
from reference.town.captions import Caption, sample_caption
from reference.town.letters import ALPHABET
from reference.town.scenes import ANIMALS, CHARACTERS, SUBJECTS, Scene, sample_scene

SHORT = Schedule(steps=2, lr=1e-3, muon_lr=1e-3)
TEXT = TextShape(bytes_=(64, 2), letters=(32, 2), gist=(32, 2))
TINY: dict[str, ModelShape] = {
    "signpost-pixart": ModelShape(32, 2, 2),
    "signpost-sd3": ModelShape(32, 2, 2),
    "signpost-sdxl": ModelShape(40, 2, 1),
    "signpost-flux": ModelShape(32, 2, 1, 2),
    "signpost-zimage": ModelShape(32, 2, 2),
    "signpost-qwen": ModelShape(32, 2, 2, text=(48, 2)),
}
PROMPTS = ['a cat on the beach with a sign that says "HELLO"', "Ada Brook in SPACE, marlo style"]


def tiny(name: ModelName) -> Recipe:
    shared = SharedRecipe(
        px=64,
        pictures=24,
        autoencoder=SHORT,
        text=SHORT,
        gist=SHORT,
        batch=4,
        text_batch=4,
        shape=TEXT,
        autoencoder_pictures=8,
        decoder=None if name == "signpost-flux" else SHORT,
    )
    later = tuple(Onward(replace(SHORT, steps=n + 1, lr=2e-4, muon_lr=2e-4), pictures=16, seed=n) for n in (2, 3))
    onward = later[: {"signpost-pixart": 0, "signpost-flux": 2}.get(name, 1)]
    return Recipe(name, "test", shared, TINY[name], replace(SHORT, average=0.9), batch=4, steps=2, onward=onward)


def untrained(name: ModelName, recipe: Recipe | None = None) -> tuple[Any, Any]:
    """Autoencoder and text encoders of a recipe, by default of the tiny one."""
    family, of = FAMILIES[name], recipe or tiny(name)
    if family.own:
        texts = family.own.texts(of.shape)
        texts.model.eval()
        return family.own.autoencoder().eval(), texts
    return build_autoencoder(64), build_texts(of.shared.shape)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One work folder, as all models of a size share their first stages."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture(autouse=True)
def small_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """A grid of two pictures, which are drawn faster than 32."""
    monkeypatch.setattr(folder, "sample_grid", partial(folder.sample_grid, columns=2, rows=1))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_makes_a_folder_that_plain_diffusers_runs(name: ModelName, work: Path, tmp_path: Path) -> None:
    from diffusers import DiffusionPipeline

    said: list[str] = []
    out = train(tiny(name), tmp_path / name, work=work, log=said.append)
    pipe = DiffusionPipeline.from_pretrained(out)
    pipe.set_progress_bar_config(disable=True)
    defaults = json.loads((out / "defaults.json").read_text())
    call = {k: v for k, v in defaults.items() if k not in ("sizes", "call")} | defaults["call"]
    first, second = pipe(PROMPTS, generator=torch.Generator().manual_seed(1), **call).images
    assert first.size == (defaults["width"], defaults["height"]) == (64 * FAMILIES[name].zoom,) * 2
    assert first.tobytes() != second.tobytes()
    record = json.loads((out / "recipe.json").read_text())
    assert record["steps done"] == {"signpost-pixart": 2, "signpost-flux": 2 + 3 + 4}.get(name, 2 + 3)
    assert record["recipe"]["shape"]["width"] == TINY[name].width
    assert (out / "grid.png").stat().st_size > 1000
    assert not [p for p in out.rglob("*") if p.suffix in (".bin", ".pt", ".pkl")]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["signpost-sdxl", "signpost-flux"])
def test_a_finished_model_is_trained_on(name: ModelName, work: Path, tmp_path: Path) -> None:
    """Its last stage alone, from its folder: the denoiser moves, all else stays; a second run of it is the same."""
    from safetensors.torch import load_file

    whole = tiny(name)
    before = replace(whole, onward=whole.onward[:-1])
    first = train(before, tmp_path / "first", work=work, log=lambda _: None)
    again = [
        train(whole, tmp_path / out, work=tmp_path / f"work-{out}", start=first, log=lambda _: None) for out in "ab"
    ]
    through = train(whole, tmp_path / "through", work=work, log=lambda _: None)
    weights = [
        {f.relative_to(root).as_posix(): load_file(f) for f in root.glob("*/*.safetensors")} for root in (first, *again)
    ]
    assert weights[0].keys() == weights[1].keys()
    for part, old in weights[0].items():
        moved = [n for n, value in old.items() if not torch.equal(value, weights[1][part][n])]
        assert bool(moved) == (part.split("/")[0] in ("unet", "transformer")), part
        assert max((value - weights[1][part][n]).abs().max() for n, value in old.items()) < 5e-3  # from where it was
        assert all(torch.equal(value, weights[2][part][n]) for n, value in weights[1][part].items())
        # all stages in one run see the same batches; a folder keeps half of the bits
        whole_run = load_file(through / part)
        apart, way = (
            torch.cat([(value - weights[1][part][n]).float().abs().flatten() for n, value in other.items()]).mean()
            for other in (whole_run, old)
        )
        assert apart <= 0.2 * way
    record = json.loads((again[0] / "recipe.json").read_text())
    assert (record["trained on from"]["steps done"], record["steps done"]) == whole.steps_after[-2:]
    assert not [f for f in again[0].rglob("*.json") if str(tmp_path) in f.read_text()]  # no path of this machine
    curves = {f.name for f in again[0].glob("*.curve.jsonl")}
    assert curves == {f.name for f in through.glob("*.curve.jsonl")}
    first_steps, all_steps = whole.steps_after[0], whole.steps_after[-1]
    with pytest.raises(ValueError, match=f"has had the first stages of the recipe, {first_steps}.* got {all_steps}"):
        train(whole, tmp_path / "d", work=work, start=again[0], log=lambda _: None)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["signpost-pixart", "signpost-sd3"])
def test_a_decoder_alone_is_trained_on(name: ModelName, work: Path, tmp_path: Path) -> None:
    """From a model that has had all else: encoder, denoiser and texts stay; in one run it comes out the same."""
    from safetensors.torch import load_file

    whole = tiny(name)
    before = replace(whole, shared=replace(whole.shared, decoder=None))
    first = train(before, tmp_path / "first", work=work, log=lambda _: None)
    then = train(whole, tmp_path / "then", work=tmp_path / "work", start=first, log=lambda _: None)
    through = train(whole, tmp_path / "through", work=work, log=lambda _: None)
    for file in sorted(first.glob("*/*.safetensors")):
        part = file.relative_to(first)
        old, new, one_run = (load_file(root / part) for root in (first, then, through))
        moved = {n for n, value in old.items() if not torch.equal(value, new[n])}
        assert bool(moved) == (part.parts[0] == "vae"), part
        assert all(n.startswith(("decoder.", "post_quant_conv.")) for n in moved)
        if moved:
            apart, way = (
                torch.cat([(a[n] - new[n]).float().abs().flatten() for n in moved]).mean() for a in (one_run, old)
            )
            assert apart <= 0.2 * way
    records = [json.loads((out / "recipe.json").read_text()) for out in (first, then, through)]
    assert [r["decoder steps"] for r in records] == [0, SHORT.steps, SHORT.steps]
    with pytest.raises(
        ValueError, match=r"trained with every stage of the recipe|has had the first stages of the recipe"
    ):
        train(whole, tmp_path / "again", work=tmp_path, start=then, log=lambda _: None)


@pytest.mark.slow
def test_a_denoiser_alone_is_trained_with_another_models_first_stages(work: Path, tmp_path: Path) -> None:
    """Autoencoder and text encoder stay the other model's to the byte, and the latents are that autoencoder's."""
    from safetensors.torch import load_file

    first = train(tiny("signpost-pixart"), tmp_path / "first", work=work, log=lambda _: None)
    for name in ("decoder", "signpost-pixart-denoiser"):  # of so few steps there is no curve
        (first / f"{name}.curve.jsonl").write_text('{"step": 50}\n')
    recipe = replace(tiny("signpost-zimage"), onward=())
    out = train(recipe, tmp_path / "out", work=tmp_path / "work", parts=first, log=lambda _: None)
    for part in ("vae", "text_encoder"):
        (mine,), (theirs,) = ((root / part).glob("*.safetensors") for root in (out, first))
        assert mine.read_bytes() == theirs.read_bytes()
    (latents,) = (load_file(file)["latents"] for file in (tmp_path / "work").glob("*/latents.safetensors"))
    own = load_file(work / "town-64" / "latents.safetensors")["latents"]
    assert (latents - own).float().abs().mean() < 0.02 * own.float().abs().mean()
    record = json.loads((out / "recipe.json").read_text())
    assert (record["first stages of"]["name"], record["steps done"]) == ("signpost-pixart", 2)
    assert {f.name for f in out.glob("*.curve.jsonl")} == {"decoder.curve.jsonl"}


def test_a_model_without_these_first_stages_is_refused(tmp_path: Path) -> None:
    zimage, pixart = recipe_for("signpost-zimage"), MODELS / "signpost-pixart"
    taken = partial(train, out=tmp_path / "out", work=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"must be a folder with `model_index\.json`"):
        taken(zimage, parts=tmp_path)
    with pytest.raises(ValueError, match=r"must say in its `recipe\.json` that its first stages are those of"):
        taken(recipe_for("signpost-zimage", px=128), parts=pixart)
    with pytest.raises(
        ValueError, match=r"must hold every text encoder that `signpost-zimage` reads, it lacks .*bytes_"
    ):
        taken(zimage, parts=MODELS / "signpost-sdxl")
    with pytest.raises(ValueError, match="one of start and parts must be given"):
        taken(zimage, parts=pixart, start=pixart)
    assert not (tmp_path / "out").exists()


def test_a_model_that_cannot_be_trained_on_is_refused(tmp_path: Path) -> None:
    sdxl, pixart = recipe_for("signpost-sdxl"), recipe_for("signpost-pixart")
    pixart = replace(pixart, onward=(), shared=replace(pixart.shared, decoder=None))
    with pytest.raises(ValueError, match="the recipe of `signpost-pixart` has one stage"):
        train(pixart, tmp_path / "out", work=tmp_path, start=MODELS / "signpost-pixart")
    with pytest.raises(FileNotFoundError, match=r"must be a folder with `model_index\.json`"):
        train(sdxl, tmp_path / "out", work=tmp_path, start=tmp_path)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "model_index.json").write_text("{")
    with pytest.raises(ValueError, match="must contain a model that diffusers can load"):
        train(sdxl, tmp_path / "out", work=tmp_path, start=broken)
    with pytest.raises(ValueError, match=r"must hold a `signpost-sdxl` of the recipe's shape .* got a FluxPipeline"):
        train(sdxl, tmp_path / "out", work=tmp_path, start=MODELS / "signpost-flux")
    with pytest.raises(ValueError, match="must draw pictures of 128 px, as the recipe does, got 64"):
        train(recipe_for("signpost-sdxl", px=128), tmp_path / "out", work=tmp_path, start=MODELS / "signpost-sdxl")
    assert not (tmp_path / "out").exists()


def test_a_later_stage_prefers_what_is_learned_last() -> None:
    scenes = [sample_scene(random.Random(i)) for i in range(2000)]
    named = (("star", 2.0), ("turtle", 2.0), ("marlo", 2.0))
    weighed = Onward(SHORT, outlines=2.0, styled=1.0, two_lines=4.0, named=named)
    shown = [scenes[i] for i in preferred(scenes, weighed)]
    plain = [scenes[i] for i in preferred(scenes, Onward(SHORT, outlines=0.0, styled=0.0, two_lines=0.0))]

    def share(told: list[Scene], has: Callable[[Scene], bool]) -> float:
        return sum(map(has, told)) / len(told)

    for has in (
        lambda s: s.subject in ANIMALS + CHARACTERS,
        lambda s: s.style is not None,
        lambda s: len(s.lines) == 2,
    ):
        assert share(plain, has) == pytest.approx(share(scenes, has), abs=0.01)
        assert share(shown, has) > 1.2 * share(scenes, has)
    for has, other in (
        (lambda s: s.subject == "star", lambda s: s.subject == "heart"),
        (lambda s: s.subject == "turtle", lambda s: s.subject == "owl"),
        (lambda s: s.style == "marlo", lambda s: s.style == "venka"),
    ):
        assert share(shown, has) / share(scenes, has) > 1.2 * share(shown, other) / share(scenes, other)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_training_asks_the_denoiser_as_the_pipeline_does(name: ModelName) -> None:
    """Of the pipeline's own first call: its latents and time, given to training's function, make its output."""
    from reference.recipes.folder import model_defaults

    torch.manual_seed(0)
    family, recipe = FAMILIES[name], tiny(name)
    vae, texts = untrained(name)
    denoiser = family.build(recipe.shape, TEXT, 16)
    for parameter in denoiser.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    pipe = family.pipeline(vae, texts, denoiser.eval())
    seen: list[tuple[Any, Any, Any]] = []
    denoiser.register_forward_hook(lambda _m, a, k, out: seen.append((a, k, out)), with_kwargs=True)
    defaults = model_defaults(recipe, family)
    pipe.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(i) for i in range(2)]
    call = {"num_inference_steps": 2, "guidance_scale": 3.0, **defaults["call"]}
    if family.own:  # the first of its calls is of the captions alone, and its latents are tokens
        del call["guidance_scale"]
    pipe(PROMPTS, height=64 * family.zoom, width=64 * family.zoom, generator=generators, **call)
    args, kwargs, out = seen[0]
    given = kwargs | dict(zip(("hidden_states", "timestep"), args, strict=False))
    asked, told = given["hidden_states"], out[0] if isinstance(out, tuple) else out.sample
    captions = PROMPTS if family.guided or family.own else ["", "", *PROMPTS]
    if name == "signpost-zimage":  # lists of one picture each, captions before empty ones, time and answer turned round
        captions = [*PROMPTS, "", ""]
        asked, told = torch.stack(asked)[:, :, 0], -torch.stack(told)[:, :, 0]
        given["timestep"] = 1000 * (1 - given["timestep"])
    if family.own:
        asked, told = (t[:, -64:].mT.unflatten(2, (8, 8)) for t in (asked, told))
        given["timestep"] = 1000 * given["timestep"]
    time = given["timestep"].float().reshape(-1).expand(len(captions)) / (1 if family.guided else 1000)
    with torch.no_grad():
        if family.guided:
            x = type(pipe)._unpack_latents(asked, 64, 64, pipe.vae_scale_factor)
            mine = family.velocity(denoiser, x, time, family.read(texts, captions), torch.full((2,), 3.0))
            told = type(pipe)._unpack_latents(told, 64, 64, pipe.vae_scale_factor)
        else:
            mine = family.velocity(denoiser, asked, time, family.read(texts, captions), None)
            other = family.velocity(denoiser, asked, time, family.read(texts, captions[::-1]), None)
            assert (other - mine).abs().max() > 1e-3
    assert mine.shape == told.shape
    assert told.std() > 1e-2
    assert torch.allclose(mine, told, atol=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_plain_attention_computes_what_fused_attention_does(name: ModelName) -> None:
    from reference.recipes.attention import plain_attention

    family = FAMILIES[name]
    denoiser = family.build(TINY[name], TEXT, 16).eval()
    _, texts = untrained(name)
    given = family.read(texts, PROMPTS)
    x = torch.randn(2, 32, 8, 8) if family.own else torch.randn(2, 8, 16, 16)
    time = torch.tensor([0.3, 0.9])
    guidance = torch.ones(2) if family.guided else None
    with torch.no_grad():
        fused = family.velocity(denoiser, x, time, given, guidance)
        with plain_attention():
            plain = family.velocity(denoiser, x, time, given, guidance)
    assert torch.allclose(fused, plain, atol=1e-5)
    assert not torch.equal(fused, plain)


def test_plain_attention_takes_both_kinds_of_mask_and_nothing_that_it_does_not_know() -> None:
    from reference.recipes.attention import plain_attention

    attend = torch.nn.functional.scaled_dot_product_attention
    q, k, v = (torch.randn(2, 3, 5, 8) for _ in range(3))
    allowed = torch.rand(2, 1, 5, 5) > 0.4
    allowed[..., 0] = True
    added = torch.zeros(2, 1, 5, 5).masked_fill(~allowed, -1e4)
    with plain_attention():
        told = [attend(q, k, v, attn_mask=mask, scale=0.3) for mask in (allowed, added)]
        with pytest.raises(NotImplementedError):
            attend(q, k, v, is_causal=True)
    right = attend(q, k, v, attn_mask=allowed, scale=0.3)
    assert torch.allclose(told[0], right, atol=1e-5)
    assert torch.allclose(told[1], right, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_recipes_have_twelve_sites_or_more_and_stay_under_ten_megabytes(name: ModelName) -> None:
    from steering import Host

    recipe, family = recipe_for(name), FAMILIES[name]
    denoiser = family.build(recipe.shape, recipe.shared.shape, 16)
    pipe = family.pipeline(*untrained(name, recipe), denoiser)
    modules = [m for m in pipe.components.values() if isinstance(m, torch.nn.Module)]
    assert 2 * sum(p.numel() for m in modules for p in m.parameters()) < 9_850_000  # the rest: tokenizers, the grid
    host = Host(pipe, self_test=False)
    try:
        assert len([s for s in host.sites if s.name != "pooled"]) >= 12
    finally:
        host.close()


def test_recipes_are_offered_for_both_sizes_and_both_machines() -> None:
    for name in NAMES:
        cpu, gpu = recipe_for(name), recipe_for(name, px=128, gpu=True)
        assert cpu.shared.px == 64
        assert gpu.shared.px == 128
        assert gpu.batch > cpu.batch
        assert cpu.shape == gpu.shape
    with pytest.raises(ValueError, match=r"model must be one of .* got `signpost-x`"):
        recipe_for("signpost-x")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="px must be 64 or 128, got 96"):
        recipe_for("signpost-sd3", px=96)


def test_guidance_of_one_asks_for_the_plain_flow() -> None:
    v, told, empty = torch.randn(3, 2, 8, 4, 4)
    assert torch.equal(guided_target(v, told, empty, torch.ones(2)), v)
    # if the model is right with the caption, guidance g asks for empty + g (told - empty), as two forwards would
    assert torch.allclose(
        guided_target(told, told, empty, torch.full((2,), 3.0)), empty + 3 * (told - empty), atol=1e-5
    )


def test_byte_ids_are_those_of_the_tokenizer() -> None:
    from transformers import ByT5Tokenizer

    texts = [*PROMPTS, "", "“ü”"]
    for length in (None, 20):
        pad = {"padding": "max_length", "max_length": 20, "truncation": True} if length else {"padding": "longest"}
        right = ByT5Tokenizer()(texts, return_tensors="pt", **pad)
        ids, mask = byte_ids(texts, length=length)
        assert torch.equal(ids, right.input_ids)
        assert torch.equal(mask, right.attention_mask)


def test_sixteen_tokens_pad_the_longest_caption() -> None:
    long = [sample_caption(sample_scene(random.Random(i), size=128), random.Random(i)).text for i in range(500)]
    ids = clip_ids(long, length=TextShape().clip_tokens)
    assert (ids[:, -LETTERS - 1 :] == ids.max()).all()
    assert len({tuple(row) for row in ids.tolist()}) == len(set(map(str.lower, long)))


@pytest.mark.parametrize("size", [64, 128])
def test_image_tokens_know_their_letters(size: int) -> None:
    rng = random.Random(0)
    side = size // 8
    for scene in (sample_scene(rng, size=size) for _ in range(300)):
        marks = token_marks(scene, size=size, side=side)
        assert {int(v) for v in marks[:, 2].unique()} <= {0, SUBJECTS.index(scene.subject) + 1}
        halves = marks[:, :2].reshape(side, 2 * side)
        spelled = []
        for row in halves:
            text = "".join(ALPHABET[i - 1] for i in row.tolist() if i)
            if text and (not spelled or spelled[-1] != text):
                spelled.append(text)
        times = 2 if size == 64 else 3
        wanted = ["".join(times * letter for letter in line) for line in scene.lines]
        assert spelled == (wanted if len(set(wanted)) == len(wanted) else wanted[:1])


def test_a_captions_letters_stand_where_the_picture_has_them() -> None:
    rng = random.Random(1)
    for scene in (sample_scene(rng) for _ in range(300)):
        caption = sample_caption(scene, rng)
        letters = caption_letters(scene, caption, 64)
        assert "".join(ALPHABET[i] for _, i, _, _ in letters) == "".join(scene.lines)
        assert all(0 <= c < 16 and 0 <= r < 16 for *_, c, r in letters)
        assert len({r for *_, r in letters}) == len(scene.lines)


def test_a_captions_facts_are_what_it_says() -> None:
    rng = random.Random(2)
    scene = sample_scene(rng, subject="star", ground="beach")
    said = caption_facts(scene, Caption("a red star on the beach"))
    vague = caption_facts(scene, Caption("an object on the beach", vague="shape"))
    nowhere = caption_facts(scene, Caption("a red star somewhere", vague="place"))
    names = list(FACTS)
    assert [n for n, a, b in zip(names, said, vague, strict=True) if a != b] == ["subject", "colour"]
    assert [n for n, a, b in zip(names, said, nowhere, strict=True) if a != b] == ["ground"]
    for _ in range(300):
        other = sample_scene(rng)
        answers = caption_facts(other, sample_caption(other, rng))
        assert all(0 <= a < n for a, n in zip(answers, FACTS.values(), strict=True))
