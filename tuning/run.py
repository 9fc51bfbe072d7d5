"""A whole fine-tuning: trains an arm on a lesson, and gives what was made of it.

A result is a folder: `lora.safetensors`, which stock diffusers loads; `pack.safetensors`, which rides as the plan of a
request, when every trained layer is a projection of a site; `lora.safetensors.card.json` and `page.html`, which say
what it is.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors import SafetensorError

from steering import Host, NotSupported, Pack
from steering.packs.lora import Adapter, operators_of_lora, write_lora
from tuning.arms import Arm
from tuning.cost import Cost, count_cost
from tuning.errors import NotKept
from tuning.lessons import Lesson
from tuning.loop import Progress, Schedule, adapters, fit, trained
from tuning.page import page_of
from tuning.student import Student

__all__ = ["Tuned", "pack_of", "run_name", "tune", "write_result"]


@dataclass(frozen=True, slots=True)
class Tuned:
    """What a training gave: a LoRA by module name, the loss of each step, what a step cost, and pictures of `prompts`
    before and after it, with the same seeds."""

    lora: Mapping[str, Adapter]
    arm: Arm
    rank: int
    schedule: Schedule
    losses: Sequence[float]
    cost: Cost
    prompts: Sequence[str]
    before: Sequence[Image.Image]
    after: Sequence[Image.Image]


def tune(
    student: Student,
    lesson: Lesson,
    arm: Arm,
    *,
    rank: int,
    schedule: Schedule,
    work: Path,
    name: str,
    seed: int = 0,
    precision: str = "no",
    prompts: Sequence[str] = (),
    progress: Progress | None = None,
) -> Tuned:
    """Trains adapters of `rank` at the arm's modules; the model is afterwards what it was.

    work, name: where checkpoints are kept; a run that was stopped goes on. prompts: of which pictures are drawn before
    and after, seed by seed.

    Raises: what `fit` raises.
    """
    before = _drawn(student.host, prompts)
    with adapters(student.denoiser, arm.modules, rank, seed=seed) as parameters:
        cost = count_cost(student, lesson, parameters)
        losses = fit(
            student, lesson, parameters, schedule, work=work, name=name, precision=precision, progress=progress
        )
        return Tuned(
            trained(parameters), arm, rank, schedule, losses, cost, prompts, before, _drawn(student.host, prompts)
        )


def pack_of(host: Host, tuned: Tuned, *, concept: str, about: Mapping[str, Any]) -> Pack:
    """The adapter as a pack of the untouched host. `about`: its card, with the `data` that it was trained on.

    Raises: NotSupported, naming layers that are no projection of a site: such a LoRA cannot ride as a plan.
    """
    operators = operators_of_lora(host, tuned.lora)
    return Pack(
        concept=concept,
        host=host.fingerprint,
        sites=tuple(operators),
        wider=tuple(operators),
        site_names=tuple(s.name for s in host.sites),
        rows="both",
        operators=operators,
        evidence={"kind": "tuned", **about},
        versions={name: version(name) for name in ("torch", "diffusers", "peft")},
    )


def write_result(out: Path, host: Host, tuned: Tuned, *, concept: str, about: Mapping[str, Any]) -> dict[str, Any]:
    """Writes the folder of a result, and gives its card. Raises: NotKept."""
    card = {
        "concept": concept,
        "model": {"name": host.name, **host.fingerprint.to_json()},
        **about,
        "arm": tuned.arm.name,
        "sites": list(tuned.arm.sites),
        "modules": list(tuned.arm.modules),
        "rank": tuned.rank,
        "schedule": asdict(tuned.schedule),
        "loss": {"first tenth": _tenth(tuned.losses, 0), "last tenth": _tenth(tuned.losses, -1)},
        "a step costs": asdict(tuned.cost),
        "machine": platform.machine(),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        lora = write_lora(out / "lora.safetensors", tuned.lora, component=host.family.denoiser, card=_short(card))
        card["sha256"] = hashlib.sha256(lora.read_bytes()).hexdigest()
        try:
            pack_of(host, tuned, concept=concept, about=about).save(out / "pack.safetensors")
            card["rides"] = "as the plan of a request, beside others (`pack.safetensors`)"
        except NotSupported as error:
            card["rides"] = f"not as a plan: {error}"
        (out / "lora.safetensors.card.json").write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", "utf-8")
        (out / "page.html").write_text(page_of(card, tuned), "utf-8")
    except (OSError, SafetensorError) as error:
        raise NotKept(f"the result in `{out}` could not be written: {error}; run the command again") from error
    return card


def run_name(host: Host, arm: Arm, rank: int, schedule: Schedule, about: Mapping[str, Any]) -> str:
    """The name of a run's checkpoint: the same for the same run, and for no other. about: all that its lesson hangs
    on."""
    told = [host.fingerprint.digest, arm.modules, rank, asdict(schedule), dict(about)]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def _drawn(host: Host, prompts: Sequence[str]) -> list[Image.Image]:
    if not prompts:
        return []
    images: list[Image.Image] = host.generate(
        list(prompts), plans=[None] * len(prompts), seeds=list(range(len(prompts)))
    ).images
    return images


def _tenth(losses: Sequence[float], which: int) -> float:
    size = max(1, len(losses) // 10)
    part = losses[:size] if which == 0 else losses[-size:]
    return round(sum(part) / len(part), 6)


def _short(card: Mapping[str, Any]) -> dict[str, str]:
    """What the LoRA's own header says."""
    return {key: str(card[key]) for key in ("concept", "application", "licence") if key in card}
