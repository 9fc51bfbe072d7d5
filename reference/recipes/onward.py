"""What a recipe takes from finished models: first stages for another model, or a model for the recipe's later stages.

Also selects the scenes that a later stage is shown.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from reference.recipes.family import RecipeFamily
from reference.recipes.shapes import ModelName, Onward, Recipe
from reference.recipes.texts import Texts, build_texts
from reference.town.scenes import Scene, category_of

__all__ = ["FinishedModel", "FirstStages", "later_stage", "open_finished", "open_parts", "preferred"]


@dataclass(frozen=True, slots=True)
class FirstStages:
    """A finished model's autoencoder and text encoders, which all models of a size share.

    Attributes:
        origin: what a model that is made with them says of the model that they were trained for.
    """

    vae: Any
    texts: Texts
    digest: str
    origin: dict[str, Any]


@dataclass(frozen=True, slots=True)
class FinishedModel:
    """A finished model's parts, computed in full precision.

    Attributes:
        weights: of its denoiser, by name.
        digest: sha256 of the files that hold its weights.
        origin: what a model that is made from it says of it.
        stages: of the recipe that its denoiser has had, 1 or more.
        sharpened: whether its decoder has had its later stage.
    """

    vae: Any
    texts: Any
    weights: dict[str, Tensor]
    digest: str
    origin: dict[str, Any]
    stages: int
    sharpened: bool


def open_finished(folder: Path, recipe: Recipe, family: RecipeFamily) -> FinishedModel:
    """The parts of the model in `folder`, for further training by `recipe`.

    Raises:
        FileNotFoundError: `folder` holds no diffusers model.
        ValueError: the recipe has one stage only, or the model there is of another size or kind, or has not had the
            recipe's first stages and no more.
    """
    if not recipe.onward and recipe.shared.decoder is None:
        raise ValueError(
            f"the recipe of `{recipe.name}` has one stage only, so training cannot continue from `{folder}`"
        )
    pipe = _opened(folder)
    texts = family.own.texts(recipe.shape) if family.own else build_texts(recipe.shared.shape)
    found: Any = getattr(pipe, "transformer", None) or getattr(pipe, "unet", None)
    wanted = family.build(recipe.shape, recipe.shared.shape, recipe.shared.px // 4)
    if found is None or _shapes(found) != _shapes(wanted):
        raise ValueError(
            f"`{folder}` must hold a `{recipe.name}` of the recipe's shape {recipe.shape}, got a {type(pipe).__name__} "
            f"whose denoiser has other weights"
        )
    if (px := _side(pipe, folder)) != (wanted_px := recipe.shared.px * family.zoom):
        raise ValueError(f"`{folder}` must draw pictures of {wanted_px} px, as the recipe does, got {px}")
    for name, part in family.encoders.items():
        _fill(getattr(texts, name), getattr(pipe, part), folder / part)
    digest = _digest(folder)
    origin = _origin(folder, digest)
    sharpened = origin.get("decoder steps", 0) > 0
    lacks_decoder = recipe.shared.decoder is not None and not sharpened
    later = recipe.steps_after if lacks_decoder else recipe.steps_after[:-1]
    if not later:
        raise ValueError(f"`{folder}` has already been trained with every stage of the recipe of `{recipe.name}`")
    if (had := origin.get("steps done")) not in later:
        raise ValueError(
            f"`{folder}` must hold a model that has had the first stages of the recipe, {' or '.join(map(str, later))} "
            f"steps by its `recipe.json`, got {had}"
        )
    return FinishedModel(
        pipe.vae.eval(), texts, dict(found.state_dict()), digest, origin, later.index(had) + 1, sharpened
    )


def open_parts(
    folder: Path, recipe: Recipe, family: RecipeFamily, families: Mapping[ModelName, RecipeFamily]
) -> FirstStages:
    """The autoencoder and the text encoders of the model in `folder`, for a denoiser of another family.

    Args:
        families: of every model that there is a recipe for; that of the model in `folder` says where it keeps them.

    Raises:
        FileNotFoundError: `folder` holds no diffusers model.
        ValueError: its `recipe.json` does not say that its first stages are those of `recipe`, or it lacks an encoder
            that `family` reads.
    """
    if family.own:
        raise ValueError(f"`{recipe.name}` has an autoencoder and a text encoder of its own, so it takes no `parts`")
    pipe, digest = _opened(folder), _digest(folder)
    origin = _origin(folder, digest)
    told = origin.get("recipe", {})
    if told.get("name") not in families or told.get("shared") != json.loads(json.dumps(asdict(recipe.shared))):
        raise ValueError(f"`{folder}` must say in its `recipe.json` that its first stages are those of `{recipe.name}`")
    kept = families[told["name"]].encoders
    if lacking := sorted(family.encoders.keys() - kept.keys()):
        raise ValueError(f"`{folder}` must hold every text encoder that `{recipe.name}` reads, it lacks {lacking}")
    texts = build_texts(recipe.shared.shape)
    for name in family.encoders:
        _fill(getattr(texts, name), getattr(pipe, kept[name]), folder / kept[name])
    named = {"name": told["name"], "version": told["version"]}
    return FirstStages(pipe.vae.eval(), texts, digest, {"sha256 of its weights": digest, **named})


def later_stage(recipe: Recipe, stage: Onward) -> Recipe:
    """The recipe as the training loop reads it in this stage."""
    return replace(recipe, denoiser=stage.schedule, seed=stage.seed)


def preferred(scenes: Sequence[Scene], onward: Onward) -> list[int]:
    """The rows of `scenes` that a later stage is shown, drawn by weight, with repeats."""
    named: Mapping[str | None, float] = dict(onward.named)
    weights = [
        1.0
        + onward.outlines * (category_of(scene.subject) in ("animal", "character"))
        + onward.styled * (scene.style is not None)
        + onward.two_lines * (len(scene.lines) == 2)
        + named.get(scene.subject, 0.0)
        + named.get(scene.style, 0.0)
        for scene in scenes
    ]
    return random.Random("onward").choices(range(len(scenes)), weights=weights, k=onward.pictures)


def _opened(folder: Path) -> Any:
    if not (folder / "model_index.json").is_file():
        raise FileNotFoundError(f"a finished model must be a folder with `model_index.json`, got `{folder}`")
    from diffusers import DiffusionPipeline

    try:
        return DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, AttributeError, KeyError) as error:
        raise ValueError(f"`{folder}` must contain a model that diffusers can load, got: {error}") from error


def _side(pipe: Any, folder: Path) -> int:
    """Pixels of a picture's side; an autoencoder of films does not say it."""
    if "sample_size" in pipe.vae.config:
        return int(pipe.vae.config.sample_size)
    return int(json.loads((folder / "defaults.json").read_text("utf-8"))["height"])


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def _fill(encoder: nn.Module, source: nn.Module, place: Path) -> None:
    """Weights of a shipped encoder; what it was shipped without, as a projection that nobody reads, stays untrained."""
    given = {name.removeprefix("text_model."): value for name, value in source.state_dict().items()}
    own = encoder.state_dict()
    known = {name: name.removeprefix("text_model.") for name in own}
    left = {short for short in known.values() if short not in given} - {"text_projection.weight"}
    wrong = [n for n, short in known.items() if short in given and own[n].shape != given[short].shape]
    if left or wrong:
        raise ValueError(f"`{place}` must hold the recipe's text encoder; it lacks {sorted(left)}, differs in {wrong}")
    encoder.load_state_dict({name: given.get(short, own[name]) for name, short in known.items()})
    encoder.eval().requires_grad_(False)


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*/*.safetensors")):
        digest.update(file.relative_to(folder).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()


def _origin(folder: Path, digest: str) -> dict[str, Any]:
    told = folder / "recipe.json"
    record = json.loads(told.read_text("utf-8")) if told.is_file() else {}
    kept = ("recipe", "steps done", "decoder steps", "trained on from")
    return {"sha256 of its weights": digest, **{key: record[key] for key in kept if key in record}}
