"""The models that are shipped: what plain diffusers makes of each folder, and what stands beside it.

| break | red |
|---|---|
| ship a folder whose weights are another step's | weights were made by the recipe |
| save text encoders untrained | plain diffusers writes words |
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from evaluation.prompts.cases import sign_cases
from evaluation.readers.reader import Reader
from reference.folders import MODELS, draws_town
from reference.recipes import NAMES, recipe_for
from reference.town.judge import Judge
from reference.town.letters import held_out_words
from steering import Host, Pack

FOLDERS = sorted(MODELS.iterdir())
PACKS = sorted((MODELS.parent / "packs").glob("*/*.safetensors"))


def test_some_model_is_shipped_and_all_draw_the_town() -> None:
    assert "signpost-pixart" in {f.name for f in FOLDERS} <= set(NAMES)
    assert all(draws_town(f) for f in FOLDERS)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.name)
def test_plain_diffusers_writes_words_that_it_was_never_shown_and_draws_the_rest(folder: Path) -> None:
    from diffusers import DiffusionPipeline

    cases = sign_cases(held_out_words()[::8], 5, plain=True)
    pipe = DiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    defaults = json.loads((folder / "defaults.json").read_text())
    taken = ("height", "width", "num_inference_steps", "guidance_scale")
    call = {k: defaults[k] for k in taken if k in defaults} | defaults["call"]
    if "true_cfg_scale" in call:  # which counts only beside a negative prompt
        call["negative_prompt"] = [""] * len(cases)
    seeds = [torch.Generator().manual_seed(c.seed) for c in cases]
    images = pipe([c.prompt for c in cases], generator=seeds, **call).images
    read = Reader.load().read(images)
    assert sum(a == c.scene.lettering for a, c in zip(read, cases, strict=True)) >= 4
    seen = [s.agrees(c.scene) for s, c in zip(Judge.load().look(images), cases, strict=True)]
    assert sum(s["subject"] and s["ground"] for s in seen) >= 4


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.name)
def test_a_folder_is_small_and_holds_no_pickle_and_what_it_was_made_of_stands_beside_it(folder: Path) -> None:
    files = [p for p in folder.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) <= 10_000_000
    assert not [p for p in files if p.suffix in (".bin", ".pt", ".pkl", ".ckpt")]
    assert {"grid.png", "recipe.json", f"{folder.name}-denoiser.curve.jsonl"} <= {p.name for p in folder.iterdir()}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.name)
def test_the_weights_were_made_by_the_recipe_of_this_repository(folder: Path) -> None:
    record = json.loads((folder / "recipe.json").read_text())
    recipe = recipe_for(folder.name, px=record["recipe"]["shared"]["px"], gpu=record["device"] != "cpu")  # type: ignore[arg-type]
    assert _told(record["recipe"]) == _told(json.loads(json.dumps(asdict(recipe))))
    assert record["steps done"] == recipe.steps_after[-1]
    assert record.get("decoder steps", 0) == (recipe.shared.decoder.steps if recipe.shared.decoder else 0)
    if recipe.onward:  # a run may begin with a later stage, from a model of the stages before
        origin = record["trained on from"]
        assert origin["recipe"]["denoiser"] == record["recipe"]["denoiser"]
        assert origin["steps done"] in recipe.steps_after
        assert (origin["steps done"], origin.get("decoder steps", 0)) != (
            record["steps done"],
            record.get("decoder steps", 0),
        )


def _told(recipe: Any) -> Any:
    """A recipe without what is empty in it, which a model made before there was such a stage does not know of."""
    if isinstance(recipe, dict):
        return {key: _told(value) for key, value in recipe.items() if value not in ([], None)}
    return [_told(value) for value in recipe] if isinstance(recipe, list) else recipe


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.name)
def test_a_host_has_twelve_sites_or_more_and_passes_its_self_test(folder: Path) -> None:
    host = Host.load(folder)
    assert len(host.sites) >= 12
    host.close()


@pytest.fixture(scope="module")
def hosts() -> Iterator[dict[str, Host]]:
    """Every shipped model, loaded once."""
    loaded = {folder.name: Host.load(folder, self_test=False) for folder in FOLDERS}
    yield loaded
    for host in loaded.values():
        host.close()


@pytest.mark.parametrize("file", PACKS, ids=lambda f: f"{f.parent.name}-{f.stem}")
def test_the_packs_were_made_for_these_weights(hosts: dict[str, Host], file: Path) -> None:
    host = hosts[file.parent.name]
    pack = Pack.load(file, host=host)  # raises PackMismatch for other weights
    assert pack.evidence["kind"] == "measured"
    compact = pack.evidence["answer"] != "no compact set"
    assert 0 < len(pack.sites) <= len(host.sites) / 2 or not compact
    # of more than half of the sites, as many with the least effect are partly the same ones
    assert pack.evidence["check"]["bottom"]["share"] < (0.2 if compact else pack.choice.low / 2)
    assert pack.choice.low > 0.6


def test_what_the_shipped_policies_steer_has_packs() -> None:
    steered = {"lettering", "character-pip", "style-marlo", "harm-gun"}
    assert steered <= {f.stem for f in PACKS if f.parent.name == "signpost-pixart"}
