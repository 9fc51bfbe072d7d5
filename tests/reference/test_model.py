"""The model that is shipped: what plain diffusers makes of its folder, and that its packs are its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from evaluation.cases import lettering_cases
from evaluation.reader import Reader
from reference.judge import Judge
from reference.recipe import CPU_RECIPE, MODELS
from reference.world import held_out_words
from steering import Host, find_pack, pack_roots

FOLDER = MODELS / "signpost-pixart"


def test_plain_diffusers_writes_words_that_it_was_never_shown() -> None:
    from diffusers import DiffusionPipeline

    cases = lettering_cases(held_out_words()[::16], 20, plain=True)
    pipe = DiffusionPipeline.from_pretrained(FOLDER, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    defaults = json.loads((FOLDER / "defaults.json").read_text())
    call = {k: v for k, v in defaults.items() if k not in ("call", "sizes")} | defaults["call"]
    seeds = [torch.Generator().manual_seed(c.seed) for c in cases]
    images = pipe([c.prompt for c in cases], generator=seeds, **call).images
    read = Reader.load().read(images)
    assert sum(a == c.scene.lettering for a, c in zip(read, cases, strict=True)) >= 16
    seen = [o.agrees(c.scene) for o, c in zip(Judge.load().look(images), cases, strict=True)]
    assert sum(s["subject"] and s["colour"] and s["background"] for s in seen) >= 16


def test_the_folder_is_small_and_holds_no_pickle() -> None:
    files = [p for p in FOLDER.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) <= 10_000_000
    assert not [p for p in files if p.suffix in (".bin", ".pt", ".pkl", ".ckpt")]


def test_the_weights_were_made_by_the_recipe_of_this_repository() -> None:
    from dataclasses import asdict

    record = json.loads((FOLDER / "recipe.json").read_text())
    assert record["recipe"] == json.loads(json.dumps(asdict(CPU_RECIPE)))
    assert record["steps done"] == CPU_RECIPE.denoiser.steps


@pytest.mark.parametrize("concept", ["lettering", "character/pip"])
def test_the_packs_were_made_for_these_weights(concept: str) -> None:
    host = Host.load(FOLDER, self_test=False)
    pack = find_pack(concept, host, pack_roots(host))  # raises PackMismatch for other weights
    assert 0 < len(pack.sites) <= len(host.sites) / 2
    assert pack.evidence["kind"] == "measured"
    assert pack.evidence["check"]["bottom"]["share"] < 0.2 < pack.choice.low
    host.close()


def test_the_grid_stands_beside_the_weights() -> None:
    assert {"grid.png", "recipe.json", "denoiser.curve.jsonl"} <= {p.name for p in Path(FOLDER).iterdir()}
