"""The one training loop, for every application and every family of models.

peft makes the adapters, accelerate moves and scales, diffusers averages the weights and schedules the rate. The loop
adds checkpoints: a run that is stopped goes on where it was and ends in the same file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from steering.packs.lora import Adapter
from tuning.errors import Diverged, NotKept
from tuning.lessons import Lesson
from tuning.student import Student

__all__ = ["Schedule", "adapters", "fit", "trained"]

Progress = Callable[[int, int, float], None]
_NAME = "palimpsest"


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast: `rate` of AdamW with a cosine's end, `average` the decay of averaged weights (0: none)."""

    steps: int = 300
    rate: float = 1e-3
    warmup: int = 10
    average: float = 0.98
    every: int = 50  # steps between checkpoints


@contextmanager
def adapters(denoiser: nn.Module, modules: Sequence[str], rank: int, *, seed: int = 0) -> Iterator[dict[str, Tensor]]:
    """The new adapters' parameters by name, while they sit in the model; afterwards the model is what it was.

    Only they need gradients, so torch keeps no activation below the lowest of them.
    """
    from diffusers.training_utils import cast_training_params
    from peft import LoraConfig, LoraModel

    needed = {name: p.requires_grad for name, p in denoiser.named_parameters()}
    denoiser.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(modules), init_lora_weights="gaussian")
        holder: Any = LoraModel(denoiser, {_NAME: config}, _NAME)
    cast_training_params(denoiser, torch.float32)
    try:
        yield {name: p for name, p in denoiser.named_parameters() if p.requires_grad}
    finally:
        holder.unload()
        for name, p in denoiser.named_parameters():
            p.requires_grad_(needed[name])


def trained(parameters: Mapping[str, Tensor]) -> dict[str, Adapter]:
    """What `adapters` holds as a LoRA by module name, as files and plans take it."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, value in parameters.items():
        module, _, part = name.partition(".lora_")
        found.setdefault(module, {})[part[0]] = value.detach().float().cpu().clone()
    return {module: Adapter(parts["A"], parts["B"]) for module, parts in found.items()}


def fit(
    student: Student,
    lesson: Lesson,
    parameters: dict[str, Tensor],
    schedule: Schedule,
    *,
    work: Path,
    name: str,
    precision: str = "no",
    progress: Progress | None = None,
) -> list[float]:
    """Trains the parameters in place, ends with their averages in them, and returns the loss of each step.

    Resumes from `work/<name>.pt`, when it is of the same schedule and parameters.

    Raises: Diverged, NotKept.
    """
    from accelerate import Accelerator
    from diffusers.optimization import get_scheduler
    from diffusers.training_utils import EMAModel

    accelerator = Accelerator(mixed_precision=precision, cpu=student.denoiser.device.type == "cpu")
    trained = list(parameters.values())
    optimizer = torch.optim.AdamW(trained, schedule.rate, weight_decay=0.01)
    rate = get_scheduler("cosine", optimizer, num_warmup_steps=schedule.warmup, num_training_steps=schedule.steps)
    average = EMAModel(trained, decay=schedule.average) if schedule.average else None
    place, about = work / f"{name}.pt", {"schedule": asdict(schedule), "names": list(parameters)}
    losses: list[float] = []
    if (saved := _load(place, about)) is not None:
        losses = saved["losses"]
        for p, value in zip(trained, saved["weights"], strict=True):
            p.data.copy_(value)
        optimizer.load_state_dict(saved["optimizer"])
        rate.load_state_dict(saved["rate"])
        if average is not None:
            average.load_state_dict(saved["average"])
    student.denoiser.train()
    try:
        for step in range(len(losses), schedule.steps):
            rows = lesson.rows(step)
            with accelerator.autocast():
                told = student.predict(rows.x, rows.timesteps, rows.texts)
            loss = ((told - rows.target.to(told)).square() * rows.weights.to(told)).mean()
            level = float(loss.detach())
            if not math.isfinite(level):
                raise Diverged(
                    f"the loss is {level} at step {step + 1} of {schedule.steps}; take a lower `rate` than"
                    f" {schedule.rate:g}{f'; the last checkpoint is `{place}`' if place.is_file() else ''}"
                )
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            rate.step()
            optimizer.zero_grad()
            if average is not None:
                average.step(trained)
            losses.append(level)
            if progress is not None:
                progress(step + 1, schedule.steps, level)
            if (step + 1) % schedule.every == 0 or step + 1 == schedule.steps:
                _keep(place, about, trained, optimizer, rate, average, losses)
    finally:
        student.denoiser.eval()
    if average is not None:
        average.copy_to(trained)
    return losses


def _keep(
    place: Path, about: dict[str, Any], trained: list[Tensor], optimizer: Any, rate: Any, average: Any, losses: Any
) -> None:
    state = {
        "about": about,
        "losses": losses,
        "weights": [p.detach() for p in trained],
        "optimizer": optimizer.state_dict(),
        "rate": rate.state_dict(),
        "average": None if average is None else average.state_dict(),
    }
    fresh = place.with_suffix(".part")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, fresh)
        fresh.replace(place)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        fresh.unlink(missing_ok=True)
        raise NotKept(f"checkpoint `{place}` could not be written: {error}; the one before it is kept") from error


def _load(place: Path, about: dict[str, Any]) -> dict[str, Any] | None:
    if not place.is_file():
        return None
    saved: dict[str, Any] = torch.load(place, weights_only=True)
    if saved["about"] != about:
        raise NotKept(f"checkpoint `{place}` is of another run; give another folder, or remove it")
    return saved
