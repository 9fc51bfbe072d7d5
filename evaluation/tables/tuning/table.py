"""The tables of fine-tuning: a row an arm, over all seeds; cells that are finished are taken as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from evaluation.distributions import compare_sets
from evaluation.metrics import Rate, mean_interval
from evaluation.readers.judges import Judges
from evaluation.tables.tuning.back import comes_back
from evaluation.tables.tuning.cells import (
    PLAIN,
    STEER,
    Asked,
    Cell,
    Outcomes,
    TuneJob,
    drawn_cell,
    pictures_of,
    run_cell,
)
from evaluation.tables.tuning.forget import forget_cases, forget_outcomes, forget_prompts
from evaluation.tables.tuning.learn import (
    learn_cases,
    learn_outcomes,
    learn_pictures,
    prior_prompts,
    true_portraits,
    with_class,
)
from evaluation.tables.tuning.letter import letter_outcomes, letter_pictures, sign_cases
from reference.town.drawing.paint import paint
from steering import Host, Pack
from tuning import Lesson, Student, Teacher, forget_lesson, learn_lesson, letter_lesson, prior_pictures

__all__ = ["TRUE", "TableJob", "tuning_rows"]

Application = Literal["letter", "learn", "forget"]
TRUE = "true"  # the arm of true pictures as the autoencoder gives them back, for `learn`: no training does better
_SUBJECT = 5  # pictures of a subject to learn from


@dataclass(frozen=True, slots=True)
class TableJob:
    """What to measure: `arms`, one training a seed; of each `first` pictures of what is trained and `second` others.

    letters: pictures to learn lettering from; priors: of the class; asked: prompts of a concept to forget; afterwards:
    steps of innocent training after which `forget` looks again (0: it does not).
    """

    application: Application
    arms: Sequence[str]
    seeds: Sequence[int] = (0, 1, 2)
    first: int = 72
    second: int = 40
    concept: str = "character/pip"
    teacher: Teacher = "swap"
    letters: int = 2400
    priors: int = 32
    asked: int = 24
    afterwards: int = 0
    train: TuneJob = field(default_factory=TuneJob)


def tuning_rows(
    host: Host, pack: Pack, job: TableJob, judges: Judges, *, work: Path, progress: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """A row an arm: figures over all seeds, and what a training cost."""
    rows: dict[str, dict[str, Any]] = {}
    for arm in job.arms:
        told: dict[str, list[Any]] = {}
        made: list[Image.Image] = []
        true: list[Image.Image] = []
        costs: list[Mapping[str, Any]] = []
        for seed in job.seeds:
            cell = _cell(job, host, arm, seed)
            cases, images, cost = _pictures(host, pack, job, cell, work, progress)
            outcomes = _outcomes(job, judges, cases, images, seed, work)
            if job.afterwards:
                innocent = replace(job.train, steps=job.afterwards)
                outcomes |= comes_back(
                    host, pack, cell, innocent, job.concept, cases, judges, work=work, progress=progress
                )
            for name, values in outcomes.items():
                told.setdefault(name, []).extend(values)
            made += images
            true += _true(job, cases, seed)
            costs.append(cost)
        features = [judges.second.features(pictures).numpy() for pictures in (true, made)]
        rows[arm] = {
            **{name: _summed(values) for name, values in told.items()},
            "against true pictures": compare_sets(*features).to_json(),
            **_cost(costs),
        }
    return rows


def _cell(job: TableJob, host: Host, arm: str, seed: int) -> Cell:
    about = job.concept.replace("/", "-")
    taught = f"{job.teacher}-" if arm not in (PLAIN, STEER) and job.application == "forget" else ""
    return Cell(f"{job.application}-{taught}{about}", host.name, arm, seed)


def _pictures(
    host: Host, pack: Pack, job: TableJob, cell: Cell, work: Path, progress: Callable[[str], None]
) -> tuple[Sequence[Asked], list[Image.Image], Mapping[str, Any]]:
    """What a cell was asked, its pictures, and what its training was."""
    arm, seed = cell.arm, cell.seed
    settings = {k: v for k, v in asdict(job).items() if k not in ("arms", "seeds", "afterwards")}
    settings["pack"] = pack.digest
    cases: Sequence[Asked]
    if job.application == "letter":
        cases = sign_cases(job.first, job.second, seed=seed)
    elif job.application == "learn":
        cases = learn_cases(job.first, job.second, seed=seed)
        if arm == TRUE:
            return cases, through_autoencoder(host, true_portraits(cases, seed=seed)), {}
    else:
        cases = forget_cases(job.concept, job.first, job.second, seed=seed)
    if arm in (PLAIN, STEER):
        shown = with_class(cases) if job.application == "learn" else cases
        plans = [
            pack.plan(toward=pack.donor_for(c.prompt)) if arm == STEER and c.kind == job.concept else None
            for c in shown
        ]
        row: Mapping[str, Any] = drawn_cell(host, cell, job.train, shown, plans, work=work, settings=settings)
    else:
        guidance = None if job.application == "forget" else 1.0
        made = _lesson(job, pack, seed)
        more: dict[str, Any] = {"work": work, "settings": settings, "guidance": guidance, "progress": progress}
        row = run_cell(host, pack, cell, job.train, made, cases, **more)
    return cases, pictures_of(cell, work), row


def _lesson(job: TableJob, pack: Pack, seed: int) -> Callable[[Student], Lesson]:
    batch, size = job.train.batch, (64, 64)

    def made(student: Student) -> Lesson:
        if job.application == "letter":
            return letter_lesson(student, letter_pictures(job.letters, seed=seed), batch=batch, seed=seed, size=size)
        if job.application == "learn":
            prior = prior_pictures(student, prior_prompts(job.priors, seed=seed), seed=900_000 + 1000 * seed)
            return learn_lesson(student, learn_pictures(_SUBJECT, seed=seed), prior, batch=batch, seed=seed, size=size)
        own, kept = forget_prompts(pack, job.concept, job.asked, seed=seed)
        steps = int(job.train.call["num_inference_steps"])
        return forget_lesson(student, pack, own, kept, teacher=job.teacher, batch=batch, seed=seed, steps=steps)

    return made


def _outcomes(
    job: TableJob, judges: Judges, cases: Sequence[Asked], images: Sequence[Image.Image], seed: int, work: Path
) -> Outcomes:
    if job.application == "letter":
        return letter_outcomes(judges, cases, images)
    if job.application == "learn":
        return learn_outcomes(judges, cases, images, seed=seed, count=_SUBJECT, work=work)
    return forget_outcomes(judges, job.concept, cases, images)


def _true(job: TableJob, cases: Sequence[Asked], seed: int) -> list[Image.Image]:
    return true_portraits(cases, seed=seed) if job.application == "learn" else [paint(c.scene, 64) for c in cases]


def through_autoencoder(host: Host, images: Sequence[Image.Image]) -> list[Image.Image]:
    """The pictures as the model's autoencoder gives them back."""
    vae, pixels = host.pipe.vae, np.stack([np.asarray(i, np.float32) / 127.5 - 1 for i in images])
    with torch.no_grad():
        x = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        made = torch.cat([vae.decode(vae.encode(part).latent_dist.mode()).sample for part in x.split(64)])
    back = ((made.permute(0, 2, 3, 1).clamp(-1, 1) + 1) * 127.5).round().byte().numpy()
    return [Image.fromarray(a) for a in back]


def _summed(values: Sequence[Any]) -> dict[str, Any]:
    if all(isinstance(v, bool | np.bool_) for v in values):
        return dict(Rate.of(bool(v) for v in values).to_json())
    return dict(mean_interval(values))


def _cost(costs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a step costs, the mean over seeds: random sites differ."""
    names = ("rank", "parameters", "saved", "optimizer", "operations", "seconds")
    return {n: round(sum(c[n] for c in costs) / len(costs), 3) for n in names if all(n in c for c in costs)}
