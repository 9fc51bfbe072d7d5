"""One training of one arm, its pictures kept: what the tables of fine-tuning are made of.

A cell is an application, a host, an arm and a seed. It ends as a folder with the LoRA file, the pictures of its
prompts and what the training cost, so a stopped run goes on, and figures can be made again without a training.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from evaluation.draw import Drawable, draw
from reference.town.scenes import Scene
from steering import Host, Pack, Plan
from steering.packs.lora import write_lora
from tuning.arms import ARMS, Arm, Side, arm_of, matched_rank, parameters_of
from tuning.cost import count_cost
from tuning.lessons import Lesson
from tuning.loop import Schedule, adapters, fit, trained
from tuning.student import Student

__all__ = ["PLAIN", "STEER", "Asked", "Cell", "Outcomes", "TuneJob", "drawn_cell", "pictures_of", "run_cell"]

Outcomes = dict[str, list[bool] | list[float]]  # by measure, one a picture or a fact

PLAIN = "none"  # the arm that trains nothing
STEER = "steer"  # the arm that trains nothing and steers with the pack, for `forget`


@dataclass(frozen=True, slots=True)
class TuneJob:
    """How cells are trained and drawn.

    `rank` of the located arm; `attention` has the same rank, `attention-matched` about as many parameters as the
    located one; `steps` of training; `batch` rows a step; `call`: arguments of the pipeline.
    """

    steps: int = 300
    batch: int = 16
    rate: float = 2e-3
    rank: int = 16
    side: Side = "text"
    call: Mapping[str, Any] = field(default_factory=lambda: {"num_inference_steps": 12})


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt with its seed, what it asks for (`kind`: the concept, or what is measured of it), and its scene."""

    kind: str
    scene: Scene
    prompt: str
    seed: int


@dataclass(frozen=True, slots=True)
class Cell:
    """An arm of an application on a host, with a seed."""

    application: str
    host: str
    arm: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.application}-{self.host}-{self.arm}-{self.seed}"


def run_cell(
    host: Host,
    pack: Pack,
    cell: Cell,
    job: TuneJob,
    lesson: Callable[[Student], Lesson],
    cases: Sequence[Drawable],
    plans: Sequence[Plan | None] | None = None,
    *,
    work: Path,
    settings: Mapping[str, Any],
    guidance: float | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """What the training was and cost; its pictures are in the cell's folder. Does nothing when they are there.

    plans: of its pictures; settings: all that the cell hangs on. Raises: ValueError, when the folder holds a cell of
    other ones.
    """
    folder = work / cell.name
    if (row := _finished(folder, settings)) is not None:
        return row
    student = Student(host, guidance=guidance)
    arm, rank = _arm(host, pack, cell, job)
    made = lesson(student)
    with adapters(host.denoiser, arm.modules, rank, seed=cell.seed) as parameters:
        cost = count_cost(student, made, parameters)
        began = time.process_time()
        losses = fit(student, made, parameters, Schedule(steps=job.steps, rate=job.rate), work=folder, name="training")
        spent = time.process_time() - began
        write_lora(folder / "lora.safetensors", trained(parameters), component=host.family.denoiser)
        _draw(host, cases, plans or [None] * len(cases), job, folder)
    row = {**asdict(cell), "sites": arm.sites, "rank": rank, "modules": len(arm.modules), **asdict(cost)}
    tenth = max(1, len(losses) // 10)
    row |= {"first loss": _mean(losses[:tenth]), "last loss": _mean(losses[-tenth:]), "seconds": round(spent, 1)}
    (folder / "training.pt").unlink(missing_ok=True)
    progress(cell.name)
    return _finish(folder, row)


def drawn_cell(
    host: Host,
    cell: Cell,
    job: TuneJob,
    cases: Sequence[Drawable],
    plans: Sequence[Plan | None],
    *,
    work: Path,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """A cell of an arm that trains nothing: only its pictures. Raises: like `run_cell`."""
    folder = work / cell.name
    if (row := _finished(folder, settings)) is not None:
        return row
    _draw(host, cases, plans, job, folder)
    return _finish(folder, asdict(cell))


def _finished(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a finished cell says of itself. Notes the settings of a new one."""
    wanted, note, done = json.loads(json.dumps(settings)), folder / "settings.json", folder / "row.json"
    if note.is_file() and (held := json.loads(note.read_text("utf-8"))) != wanted:
        differ = ", ".join(f"`{k}` is {held.get(k)} there" for k in wanted if held.get(k) != wanted[k])
        raise ValueError(f"`{folder}` holds a training with other settings ({differ}); give another --work folder")
    folder.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(wanted) + "\n", "utf-8")
    row: dict[str, Any] | None = json.loads(done.read_text("utf-8")) if done.is_file() else None
    return row


def _finish(folder: Path, row: Mapping[str, Any]) -> dict[str, Any]:
    text = json.dumps(row, default=list) + "\n"
    (folder / "row.json").write_text(text, "utf-8")
    told: dict[str, Any] = json.loads(text)
    return told


def pictures_of(cell: Cell, work: Path) -> list[Image.Image]:
    """The pictures that a finished cell drew, in the order of its cases."""
    with np.load(work / cell.name / "pictures.npz") as held:
        return [Image.fromarray(a) for a in held["pictures"]]


def _arm(host: Host, pack: Pack, cell: Cell, job: TuneJob) -> tuple[Arm, int]:
    located = arm_of(host, "located", pack=pack, side=job.side)
    if cell.arm == "attention-matched":
        arm = arm_of(host, "attention")
        return arm, matched_rank(host.denoiser, arm, parameters_of(host.denoiser, located.modules, job.rank))
    name, _, side = cell.arm.partition("+")
    if name not in ARMS:
        raise ValueError(f"arm must be one of {ARMS} or `attention-matched`, got `{cell.arm}`")
    wanted: Any = side or job.side
    return arm_of(host, name, pack=pack, side=wanted, seed=cell.seed), job.rank


def _draw(host: Host, cases: Sequence[Drawable], plans: Sequence[Plan | None], job: TuneJob, folder: Path) -> None:
    images, _ = draw(host, cases, plans, job.call)
    fresh = folder / "pictures.part.npz"
    np.savez_compressed(fresh, pictures=np.stack([np.asarray(i.convert("RGB")) for i in images]))
    fresh.replace(folder / "pictures.npz")


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / max(1, len(values)), 5)
