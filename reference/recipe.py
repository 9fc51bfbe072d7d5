"""The recipe of `signpost-pixart`, from nothing to a diffusers folder; every stage resumes where it was stopped.

Stages: autoencoder, text encoder, latents of the training pictures, denoiser. The folder is what any diffusers
pipeline loads; beside the weights lie the recipe, the training curves and a sample grid.
"""

from __future__ import annotations

import json
import platform
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, PixArtAlphaPipeline, PixArtTransformer2DModel
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import ByT5Tokenizer, T5EncoderModel

from reference.autoencoder import encode, train_autoencoder
from reference.captions import CAPTION_BYTES, plain_caption
from reference.data import render_set
from reference.denoiser import train_denoiser
from reference.loop import Schedule
from reference.text_encoder import normalise_text, train_text_encoder
from reference.world import held_out_words, sample_scene

__all__ = ["CPU_RECIPE", "MODELS", "Recipe", "build_pipeline", "sample_grid", "train"]

MODELS = Path(__file__).parent / "models"


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that determines the weights, but for the machine's arithmetic."""

    name: str
    version: str
    size: int
    pictures: int
    seed: int
    autoencoder: Schedule
    text_encoder: Schedule
    denoiser: Schedule
    batch: int


CPU_RECIPE = Recipe(
    name="signpost-pixart",
    version="1",
    size=64,
    pictures=60000,
    seed=1,
    autoencoder=Schedule(steps=1000, lr=2e-3, weight_decay=0.0, cooldown=0.6),
    text_encoder=Schedule(steps=1900, lr=2e-3, muon_lr=0.005),
    denoiser=Schedule(steps=4000, lr=1.5e-3, muon_lr=0.005, average=0.998, cooldown=0.5),
    batch=64,
)


def train(recipe: Recipe, out: Path, *, work: Path, compiled: bool = True, log: Callable[[str], None] = print) -> Path:
    """Trains what `work` does not hold yet, and writes the model into `out`.

    Args:
        out: the diffusers folder; replaced as a whole when training is done, and at each checkpoint of the denoiser.
        work: keeps checkpoints, curves and latents of an unfinished run.
        compiled: compile the denoiser, which takes minutes and saves a fifth of each step.
    """
    began = time.monotonic()
    torch.manual_seed(recipe.seed)
    work.mkdir(parents=True, exist_ok=True)
    scenes, pictures = render_set(recipe.pictures, seed=recipe.seed, size=recipe.size)
    log(f"rendered {len(scenes)} pictures")
    vae = train_autoencoder(pictures[:20000], recipe.autoencoder, folder=work)
    encoder = train_text_encoder(recipe.text_encoder, folder=work, size=recipe.size, seed=recipe.seed)
    normalise_text(encoder)
    latents = _latents(vae, pictures, work / "latents.safetensors")
    del pictures

    def save(denoiser: PixArtTransformer2DModel, step: int) -> None:
        record = {
            "recipe": asdict(recipe),
            "steps done": step,
            "seconds in this run": round(time.monotonic() - began),
            **_machine(),
        }
        _save(build_pipeline(vae, encoder, denoiser), out, record, work=work)
        log(f"wrote step {step} to {out}")

    denoiser = train_denoiser(
        scenes,
        latents,
        encoder,
        recipe.denoiser,
        folder=work,
        batch=recipe.batch,
        size=recipe.size,
        compiled=compiled,
        on_checkpoint=save,
    )
    save(denoiser, recipe.denoiser.steps)
    return out


def _latents(vae: AutoencoderKL, pictures: torch.Tensor, file: Path) -> torch.Tensor:
    if not file.exists():
        save_file({"latents": encode(vae, pictures).half().contiguous()}, file)
    return load_file(file)["latents"]


def build_pipeline(
    vae: AutoencoderKL, encoder: T5EncoderModel, denoiser: PixArtTransformer2DModel
) -> PixArtAlphaPipeline:
    """An ordinary PixArt pipeline over the given parts, with a flow-matching scheduler of second order."""
    scheduler = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    return PixArtAlphaPipeline(
        tokenizer=ByT5Tokenizer(), text_encoder=encoder, vae=vae, transformer=denoiser, scheduler=scheduler
    )


def _defaults(size: int) -> dict[str, Any]:
    """How the model wants to be called; the host reads this beside `model_index.json`."""
    return {
        "height": size,
        "width": size,
        "num_inference_steps": 20,
        "min_inference_steps": 2,  # PixArt's pipeline treats a single step as a consistency model's
        "guidance_scale": 3.0,
        "call": {"use_resolution_binning": False, "clean_caption": False, "max_sequence_length": CAPTION_BYTES},
        "sizes": [f"{size}x{size}"],
    }


def _save(pipe: PixArtAlphaPipeline, out: Path, record: dict[str, Any], *, work: Path) -> None:
    """Writes the folder beside its place in half precision, then moves it there."""
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    half = {name: getattr(pipe, name) for name in ("vae", "text_encoder", "transformer")}
    kept = {name: {k: v.clone() for k, v in module.state_dict().items()} for name, module in half.items()}
    try:
        for module in half.values():
            module.half()
        pipe.save_pretrained(part, safe_serialization=True)
    finally:
        for name, module in half.items():
            module.float().load_state_dict(kept[name])
    size = record["recipe"]["size"]
    (part / "defaults.json").write_text(json.dumps(_defaults(size), indent=1) + "\n", "utf-8")
    (part / "recipe.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    for stage in ("autoencoder", "text_encoder", "denoiser"):
        _copy_curve(work / f"{stage}.curve.jsonl", part / f"{stage}.curve.jsonl")
    sample_grid(pipe, size=size).quantize(256).save(part / "grid.png", optimize=True)
    shutil.rmtree(out, ignore_errors=True)
    part.replace(out)


def _copy_curve(source: Path, target: Path) -> None:
    """The curve with one line a step: a resumed run writes the steps after its checkpoint again."""
    if source.exists():
        lines = {json.loads(line)["step"]: line for line in source.read_text("utf-8").splitlines()}
        target.write_text("".join(f"{lines[step]}\n" for step in sorted(lines)), "utf-8")


@torch.no_grad()
def sample_grid(pipe: PixArtAlphaPipeline, *, size: int = 64, columns: int = 8, rows: int = 3) -> Image.Image:
    """Pictures of held-out words, drawn by the pipeline from plain captions; the same scenes and seeds each time."""
    rng = random.Random("grid")
    words = rng.sample(held_out_words(), columns * rows)
    prompts = [plain_caption(sample_scene(rng, size=size, lettering=word)) for word in words]
    settings = _defaults(size)
    pipe.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(1000 + i) for i in range(len(prompts))]
    call = settings["call"] | {k: settings[k] for k in ("height", "width", "num_inference_steps", "guidance_scale")}
    images = pipe(prompts, negative_prompt="", generator=generators, **call).images
    grid = Image.new("RGB", (columns * size, rows * size))
    for i, image in enumerate(images):
        grid.paste(image, (i % columns * size, i // columns * size))
    return grid.resize((columns * size * 2, rows * size * 2), Image.Resampling.NEAREST)


def _machine() -> dict[str, Any]:
    return {"machine": platform.machine(), "torch": torch.__version__, "threads": torch.get_num_threads()}
