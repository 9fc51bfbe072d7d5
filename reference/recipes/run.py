"""Runs a recipe from the start, or the stages that a finished model lacks, and writes a diffusers folder.

Stages: pictures, autoencoder, text encoders and latents, which all models of a size share; then the denoiser. Finished
stages are kept in the work folder, so a stopped run resumes and a second model begins with its denoiser.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from reference.autoencoder import encode, sharpen_decoder, train_autoencoder
from reference.loop import Schedule
from reference.recipes.denoise import Pictures, train_denoiser
from reference.recipes.folder import model_defaults, write_folder
from reference.recipes.models import flux, pixart, qwen, sd3, sdxl, zimage
from reference.recipes.onward import later_stage, open_finished, open_parts, preferred
from reference.recipes.shapes import ModelName, Onward, Recipe, SharedRecipe
from reference.recipes.teach import teach_texts
from reference.town.data import render_set

__all__ = ["FAMILIES", "NAMES", "recipe_for", "train"]

_MODULES: Mapping[ModelName, Any] = MappingProxyType(
    {
        "signpost-pixart": pixart,
        "signpost-sd3": sd3,
        "signpost-sdxl": sdxl,
        "signpost-flux": flux,
        "signpost-zimage": zimage,
        "signpost-qwen": qwen,
    }
)
NAMES: tuple[ModelName, ...] = tuple(_MODULES)
FAMILIES = MappingProxyType({name: module.FAMILY for name, module in _MODULES.items()})

_AUTOENCODER = Schedule(steps=1000, lr=2e-3, weight_decay=0.0, cooldown=0.6)
_DECODER = Schedule(steps=3000, lr=1.5e-3, weight_decay=0.0, cooldown=0.75, average=0.995)
_TEXT = Schedule(steps=1900, lr=2e-3, muon_lr=0.005)
_GIST = Schedule(steps=1000, lr=2e-3, muon_lr=0.005)
_DENOISER = Schedule(steps=5600, lr=1.5e-3, muon_lr=0.005, average=0.998, cooldown=0.5)
_LATER = replace(_DENOISER, lr=1e-3, muon_lr=0.0035, cooldown=0.75)
_SLOWER = replace(_LATER, lr=6e-4, muon_lr=0.002)
_ONWARD = MappingProxyType(
    {
        "signpost-pixart": (
            Onward(
                replace(_LATER, steps=3000),
                outlines=3.0,
                styled=2.0,
                two_lines=2.0,
                named=(("turtle", 6.0), ("tika", 6.0), ("blade", 3.0), ("orlin", 2.0)),
            ),
        ),
        "signpost-sd3": (Onward(replace(_LATER, steps=2400), outlines=3.0),),
        "signpost-sdxl": (
            Onward(replace(_SLOWER, steps=3700), two_lines=4.0),
            Onward(
                replace(_SLOWER, steps=2700),
                outlines=4.0,
                named=(("turtle", 8.0), ("tika", 2.0), ("orlin", 3.0)),
                seed=4,
            ),
        ),
        "signpost-flux": (
            Onward(replace(_LATER, steps=2500)),
            Onward(replace(_LATER, steps=2700), outlines=3.0, styled=2.0, seed=4),
        ),
        "signpost-zimage": (
            Onward(replace(_LATER, steps=2400), outlines=4.0, styled=2.0, named=(("tessa", 2.0), ("zuzu", 2.0))),
        ),
        "signpost-qwen": (Onward(replace(_LATER, steps=4000), outlines=2.0, styled=2.0, two_lines=3.0),),
    }
)
_OWN = MappingProxyType(
    {
        # at the others' rates the U-Net's loss rises again after 1,400 steps
        "signpost-sdxl": replace(_DENOISER, steps=8000, lr=6e-4, muon_lr=0.002),
        "signpost-flux": replace(_DENOISER, steps=4000),
        "signpost-qwen": replace(_DENOISER, steps=3600),
    }
)


def recipe_for(name: ModelName, *, px: int = 64, gpu: bool = False) -> Recipe:
    """The recipe of a model at 64 or 128 px; on a GPU batches are larger and the pictures more.

    `signpost-qwen` draws the scenes of such a size at twice its side.

    Raises:
        ValueError: a model or a size that there is no recipe for.
    """
    if name not in NAMES:
        raise ValueError(f"model must be one of {NAMES}, got `{name}`")
    if px not in (64, 128):
        raise ValueError(f"px must be 64 or 128, got {px}")
    shared = SharedRecipe(px=px, pictures=60000, autoencoder=_AUTOENCODER, text=_TEXT, gist=_GIST, decoder=_DECODER)
    if FAMILIES[name].own:  # one latent stands for four times the pixels, and its text encoder learns faster
        longer, shorter = replace(_AUTOENCODER, steps=2000), replace(_TEXT, steps=1300)
        shared = replace(shared, autoencoder=longer, text=shorter, decoder=replace(_DECODER, steps=1000))
    batch, denoiser = 32, _OWN.get(name, _DENOISER)
    if gpu:
        longer = replace(_TEXT, steps=3000)
        shared = replace(
            shared,
            pictures=120000,
            autoencoder=replace(_AUTOENCODER, steps=2500),
            text=longer,
            text_batch=128,
            batch=64,
        )
        batch, denoiser = 256, replace(denoiser, steps=6000, average=0.999)
    later = _ONWARD.get(name, ())
    version = 3 + len(later)
    return Recipe(name, str(version), shared, _MODULES[name].SHAPE, denoiser, batch, onward=later)


def train(
    recipe: Recipe,
    out: Path,
    *,
    work: Path,
    device: str = "cpu",
    compiled: bool = False,
    workers: int = 1,
    start: Path | None = None,
    parts: Path | None = None,
    log: Callable[[str], None] = print,
) -> Path:
    """Trains what `work` does not hold yet, and writes the model into `out`.

    Args:
        out: the diffusers folder; replaced as a whole when training is done.
        work: keeps checkpoints, curves and latents of an unfinished run, for all models of this size.
        device: `cpu` or `cuda`.
        compiled: compile the denoiser, which takes minutes and saves a fifth of each step on a CPU.
        workers: processes that paint pictures.
        start: the folder of a model that has had the first stages of this recipe: only the others are run, from its
            denoiser, with its autoencoder and text encoders.
        parts: the folder of another model of this size, whose autoencoder and text encoders are taken as they are, so
            that only the denoiser is trained.

    Raises:
        FileNotFoundError, ValueError: nothing of the kind is in `start` or `parts`, the recipe has no stage for it, or
            both are given.
    """
    if start and parts:
        raise ValueError(f"one of start and parts must be given, got start `{start}` and parts `{parts}`")
    began, shared, family = time.monotonic(), recipe.shared, FAMILIES[recipe.name]
    finished = open_finished(start, recipe, family) if start else None
    taken = open_parts(parts, recipe, family, FAMILIES) if parts else None
    own = family.own
    place = f"{recipe.name}-{shared.px}" if own else f"town-{shared.px}"
    place += f"-of-{taken.digest[:12]}" if taken else ""
    common = work / (f"{recipe.name}-from-{finished.digest[:12]}" if finished else place)
    common.mkdir(parents=True, exist_ok=True)
    scenes, images = render_set(shared.pictures, seed=shared.seed, size=shared.px, workers=workers, zoom=family.zoom)
    log(f"painted {len(scenes)} pictures")
    if ready := finished or taken:
        vae, texts = ready.vae, ready.texts.to(device)
    else:
        torch.manual_seed(shared.seed)
        few = images[: shared.autoencoder_pictures]
        build = own.autoencoder if own else None
        vae = train_autoencoder(few, shared.autoencoder, folder=common, batch=shared.batch, device=device, build=build)
        if own:
            texts = own.teach(recipe.shape, shared, common, device)
        else:
            texts = teach_texts(shared, folder=common, device=device)
    pictures = Pictures(scenes, _latents(vae.to(device), images, common / "latents.safetensors"))
    if shared.decoder is not None and not taken and not (finished and finished.sharpened):
        latents = pictures.latents
        vae = sharpen_decoder(vae, images, latents, shared.decoder, folder=common, batch=shared.batch, device=device)
    del images
    log("autoencoder, text encoders and latents are ready")
    fit_one = partial(train_denoiser, family=family, texts=texts, folder=common, device=device, compiled=compiled)
    denoiser: Any = None if finished else fit_one(recipe, pictures=pictures)
    for number, stage in enumerate(recipe.onward, 1):
        if finished and number < finished.stages:
            continue
        weights = finished.weights if finished and denoiser is None else denoiser.state_dict()
        shown = pictures.rows(preferred(scenes, stage))
        denoiser = fit_one(later_stage(recipe, stage), pictures=shown, start=weights, stage=number)
    if finished and denoiser is None:  # it lacked the decoder's stage only
        denoiser = family.build(recipe.shape, shared.shape, pictures.latents.shape[-1])
        denoiser.load_state_dict(finished.weights)
    record = {
        "world": "town",
        "recipe": asdict(recipe),
        "steps done": recipe.steps_after[-1],
        "decoder steps": 0 if shared.decoder is None else shared.decoder.steps,
        "seconds in this run": round(time.monotonic() - began),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "machine": platform.machine(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    record |= {"trained on from": finished.origin} if finished else {}
    record |= {"first stages of": taken.origin} if taken else {}
    curves = {
        p.name.removesuffix(".curve.jsonl"): p
        for f in (start, parts, common)
        if f
        for p in sorted(f.glob("*.curve.jsonl"))
    }
    kept = {n: p for n, p in curves.items() if not n.startswith("signpost-") or n.startswith(recipe.name)}
    pipe = family.pipeline(vae, texts, denoiser).to("cpu")
    write_folder(pipe, out, defaults=model_defaults(recipe, family), record=record, curves=kept)
    log(f"wrote {out}")
    return out


def _latents(vae: Any, images: Tensor, file: Path) -> Tensor:
    if not file.exists():
        save_file({"latents": encode(vae, images).half().contiguous()}, file)
    return load_file(file)["latents"]
