"""Writes a trained model as an ordinary diffusers folder, with recipe, curves and a sample grid beside the weights."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

from reference.recipes.family import RecipeFamily
from reference.recipes.shapes import Recipe
from reference.town.captions import plain_caption
from reference.town.letters import held_out_words
from reference.town.scenes import sample_scene

__all__ = ["draw", "model_defaults", "sample_grid", "write_folder"]


def model_defaults(recipe: Recipe, family: RecipeFamily) -> dict[str, Any]:
    """The model's default call arguments; the host reads them beside `model_index.json`."""
    px = recipe.shared.px * family.zoom
    own = {
        "height": px,
        "width": px,
        "num_inference_steps": recipe.steps,
        "guidance_scale": recipe.guidance,
        "sizes": [f"{px}x{px}"],
    }
    return {name: value for name, value in (own | dict(family.defaults)).items() if value is not None}


def write_folder(
    pipe: Any, out: Path, *, defaults: Mapping[str, Any], record: Mapping[str, Any], curves: Mapping[str, Path]
) -> None:
    """Writes the folder beside its place in half precision, then moves it there; `pipe` is left as it was.

    Args:
        curves: training curves by the name that they are kept under; those that are not there are left out.
    """
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    modules = {n: m for n, m in pipe.components.items() if isinstance(m, nn.Module)}
    kept = {name: {k: v.clone() for k, v in module.state_dict().items()} for name, module in modules.items()}
    try:
        for module in modules.values():
            module.half()
        pipe.save_pretrained(part, safe_serialization=True)
    finally:
        for name, module in modules.items():
            module.float().load_state_dict(kept[name])
    for file in part.glob("*/config.json"):
        _plain(file)
    (part / "defaults.json").write_text(json.dumps(dict(defaults), indent=1) + "\n", "utf-8")
    (part / "recipe.json").write_text(json.dumps(dict(record), indent=1) + "\n", "utf-8")
    for name, source in curves.items():
        _copy_curve(source, part / f"{name}.curve.jsonl")
    sample_grid(pipe, defaults).quantize(96).save(part / "grid.png", optimize=True)
    shutil.rmtree(out, ignore_errors=True)
    part.replace(out)


def _plain(file: Path) -> None:
    """Drops where a part was loaded from, and has encoders computed in full, which are kept in half to be small."""
    config = json.loads(file.read_text("utf-8"))
    wanted = {name: value for name, value in config.items() if name != "_name_or_path"}
    wanted |= {"dtype": "float32"} if "dtype" in config else {}
    if wanted != config:
        file.write_text(json.dumps(wanted, indent=2, sort_keys=True) + "\n", "utf-8")


def _copy_curve(source: Path, target: Path) -> None:
    """The curve with one line a step: a resumed run writes the steps after its checkpoint again."""
    if source.exists():
        lines = {json.loads(line)["step"]: line for line in source.read_text("utf-8").splitlines()}
        target.write_text("".join(f"{lines[step]}\n" for step in sorted(lines)), "utf-8")


@torch.no_grad()
def draw(pipe: Any, prompts: list[str], defaults: Mapping[str, Any], *, first_seed: int = 1000) -> list[Image.Image]:
    """The pipeline's pictures of the prompts, each from a seed of its own, without a negative prompt's words."""
    pipe.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(first_seed + i) for i in range(len(prompts))]
    names = ("height", "width", "num_inference_steps", "guidance_scale")
    named = {k: defaults[k] for k in names if k in defaults} | defaults["call"]
    if "true_cfg_scale" in named:  # counts only beside a negative prompt
        named["negative_prompt"] = [""] * len(prompts)
    images: list[Image.Image] = pipe(prompts, generator=generators, **named).images
    return images


def sample_grid(pipe: Any, defaults: Mapping[str, Any], *, columns: int = 8, rows: int = 2) -> Image.Image:
    """Pictures of held-out words, drawn from plain captions; the same scenes and seeds each time."""
    size = int(defaults["height"])
    rng = random.Random("town-grid")
    words = rng.sample(held_out_words(), columns * rows)
    prompts = [plain_caption(sample_scene(rng, lines=[word])) for word in words]
    grid = Image.new("RGB", (columns * size, rows * size))
    for i, image in enumerate(draw(pipe, prompts, defaults)):
        grid.paste(image, (i % columns * size, i // columns * size))
    return grid
