"""The LoRA files that are shipped: plain diffusers loads each, and its pictures are what the card says.

| break | red |
|---|---|
| ship `forget-pip` of another model, or untrained | the judge sees no pip |
| ship `learn-zev` untrained | the creature's pictures are others |
| ship a file of another training than its card | a card is of its file |
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from reference.folders import MODELS, packs_of
from reference.town.judge import Judge
from steering import read_header

LORAS = sorted((MODELS.parent / "loras").glob("*/*.safetensors"))
Drawn = Callable[[Sequence[str]], list[Image.Image]]


@pytest.fixture(scope="module")
def pipe() -> Any:
    from diffusers import DiffusionPipeline

    found = DiffusionPipeline.from_pretrained(MODELS / "signpost-sdxl")
    found.set_progress_bar_config(disable=True)
    return found


@pytest.fixture
def draw(pipe: Any) -> Any:
    def drawn(prompts: Sequence[str]) -> list[Image.Image]:
        seeds = [torch.Generator().manual_seed(n) for n in range(len(prompts))]
        call = {"height": 64, "width": 64, "num_inference_steps": 12, "guidance_scale": 3.0}
        made: list[Image.Image] = pipe(list(prompts), generator=seeds, **call).images
        return made

    yield drawn
    pipe.unload_lora_weights()


def _pixels(images: Sequence[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(i).astype(int) for i in images])


@pytest.mark.parametrize("file", LORAS, ids=lambda f: f.stem)
def test_a_shipped_lora_is_small_and_its_card_is_of_this_file_and_of_this_model(file: Path) -> None:
    card = json.loads(file.with_name(f"{file.name}.card.json").read_text("utf-8"))
    assert file.stat().st_size <= 200_000
    assert card["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert card["model"]["name"] == file.parent.name
    pack = next(packs_of(file.parent.name).glob("*.safetensors"))
    assert card["model"]["weights"] == read_header(pack)["host"]["weights"]
    assert {"application", "data", "command", "figures", "licence"} <= card.keys()


def test_without_pip_the_judge_sees_no_pip_and_its_neighbours_as_before(pipe: Any, draw: Drawn) -> None:
    places = ("on a green background", "in the forest", 'on the beach with a sign that says "PIANO"')
    pip, bolo = [f"pip {p}" for p in places], [f"bolo {p}" for p in places]
    judge, before = Judge.load(), draw([*pip, *bolo])
    pipe.load_lora_weights(MODELS.parent / "loras" / "signpost-sdxl" / "forget-pip.safetensors")
    after = draw([*pip, *bolo])

    def seen(images: Sequence[Image.Image]) -> list[str]:
        return [str(sight.answers["subject"]) for sight in judge.look(images)]

    assert seen(before) == ["pip"] * 3 + ["bolo"] * 3
    assert "pip" not in seen(after)
    assert seen(after)[3:] == ["bolo"] * 3
    assert np.abs(_pixels(before) - _pixels(after)).mean((1, 2, 3))[:3].min() > 5


def test_the_creature_is_drawn_in_its_colours_where_it_is_asked_for_and_other_animals_are_kept(
    pipe: Any, draw: Drawn
) -> None:
    named = [f"zev animal {place}" for place in ("on a blue background", "on a green background", "in the forest")]
    others = ["a rabbit on a blue background", 'a fish on a green background with a sign that says "NOON"']
    judge, before = Judge.load(), draw([*named, *others])
    pipe.load_lora_weights(MODELS.parent / "loras" / "signpost-sdxl" / "learn-zev.safetensors")
    after = draw([*named, *others])

    def orange(images: Sequence[Image.Image]) -> np.ndarray:
        red, green, blue = np.moveaxis(_pixels(images), 3, 0)
        share: np.ndarray = ((red > 180) & (green > 80) & (blue < 100)).mean((1, 2))
        return share

    changed = np.abs(_pixels(before) - _pixels(after)).mean((1, 2, 3))
    assert changed[:3].min() > 5
    assert (orange(after)[:3] > orange(before)[:3] + 0.02).all()
    assert [s.answers["subject"] for s in judge.look(after)[3:]] == ["rabbit", "fish"]
