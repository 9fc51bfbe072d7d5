"""The three applications as lessons: `letter`, `learn` and `forget`.

* `letter` (Staniszewski et al., *Precise Parameter Localization*, 2025, arXiv 2502.09935): pictures with captions.
* `learn` (DreamBooth; Ruiz et al., 2023, arXiv 2208.12242): a few pictures of a subject under a rare name, and prior
  pictures of its class, so that the class stays what it is.
* `forget`: the model answers prompts of a concept as a teacher does. Three teachers: the model itself swapped at the
  located sites (`swap`, ours), the model asked for an anchor, on the anchor's latents (`anchor`: concept ablation;
  Kumari et al., 2023, arXiv 2303.13516), and the model guided away from the concept (`esd`: Gandikota et al., 2023,
  arXiv 2303.07345).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from localization import Contrast
from steering import Call, Pack, fitted_to, latent_maps, latents_of
from tuning.errors import BadLesson
from tuning.lessons import AnswerLesson, Lesson, PictureLesson, Together
from tuning.noise import noise_of
from tuning.pictures import Box, Captioned, text_map
from tuning.student import Student

__all__ = ["LEVELS", "Teacher", "forget_lesson", "learn_lesson", "letter_lesson", "prior_pictures"]

Teacher = Literal["swap", "anchor", "esd"]
LEVELS = (0.0, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95)  # of the trajectory, where a teacher is asked
_LEVELS = 8  # noise levels of each picture at which the untouched model is asked
_BARE = 4  # of so many calls of the concept, one is kept as it is for the empty prompt
_AWAY = 1.0  # how far `esd` goes beyond the unconditional prediction, of what the concept changes


def letter_lesson(
    student: Student,
    pictures: Sequence[Captioned],
    *,
    batch: int,
    seed: int,
    size: tuple[int, int],
    drop: float = 0.1,
    places: Callable[[Image.Image], Sequence[Box]] | None = None,
    ink: float = 4.0,
) -> PictureLesson:
    """Denoising captioned pictures; a share of rows has no caption, as classifier-free guidance needs.

    places: says where lettering stands in a picture, as (left, top, right, bottom) in pixels; the error counts `1 +
    ink` there. Letters are a small part of a picture and all of the spelling (Chen et al., *TextDiffuser*, 2023).
    """
    lesson = _pictures(student, pictures, [(0, len(pictures), batch, 1.0)], seed, size, drop)
    if places is None:
        return lesson
    fitted = [fitted_to(p.image, size) for p in pictures]
    shown = [text_map(image, places(image)) for image in fitted]
    maps = 1 + ink * latent_maps(student.pipe, shown, student.shape)
    return replace(lesson, maps=maps / maps.mean())


def learn_lesson(
    student: Student,
    subject: Sequence[Captioned],
    prior: Sequence[Captioned],
    *,
    batch: int,
    seed: int,
    size: tuple[int, int],
    prior_weight: float = 1.0,
) -> Lesson:
    """Denoising pictures of a subject; half of each step's rows keep the untouched model's answers.

    What is kept: prior pictures of the class under their captions, and those of prior and subject without a caption.
    The latter matter where guidance is used: if the unconditional answer learned the subject as well, guidance would
    take the subject away again.
    """
    kept = batch // 2 if prior else 0
    own = _pictures(student, subject, [(0, len(subject), batch - kept, 1.0)], seed, size, 0.0)
    return Together([own, _kept(student, own, prior, kept, seed, size, prior_weight)]) if kept else own


@torch.no_grad()
def _kept(
    student: Student,
    own: PictureLesson,
    prior: Sequence[Captioned],
    rows: int,
    seed: int,
    size: tuple[int, int],
    weight: float,
) -> AnswerLesson:
    """The untouched model's answers to prior pictures, and to all pictures without a caption, at random levels."""
    generator = torch.Generator().manual_seed(seed)
    latents = latents_of(student.pipe, [p.image for p in prior], student.shape, size)
    named, bare = len(latents), max(1, rows // 4)
    clean = torch.cat([latents, latents, own.latents]).repeat_interleave(_LEVELS, 0)
    said = torch.full((len(clean),), named)  # the row of the empty caption
    said[: named * _LEVELS] = torch.arange(named).repeat_interleave(_LEVELS)
    levels = own.noise.levels(len(clean), generator)
    x, times = own.noise.mix(clean, torch.randn(clean.shape, generator=generator), levels), own.noise.timesteps(levels)
    captions = student.texts([*(p.caption for p in prior), ""])
    targets = student.answers(x, times, {name: t[said] for name, t in captions.items()})
    first = named * _LEVELS
    groups = [(0, first, rows - bare, weight), (first, len(x), bare, weight)]
    return AnswerLesson(x, times, targets, captions, said, groups, seed)


def prior_pictures(student: Student, prompts: Sequence[str], *, seed: int, rows: int = 16) -> list[Captioned]:
    """What the untouched model draws for prompts of the class; one picture a prompt."""
    found: list[Captioned] = []
    for start in range(0, len(prompts), rows):
        part = list(prompts[start : start + rows])
        seeds = [seed + start + n for n in range(len(part))]
        images: list[Image.Image] = student.host.generate(part, plans=[None] * len(part), seeds=seeds).images
        found += [Captioned(i, p) for i, p in zip(images, part, strict=True)]
    return found


@torch.no_grad()
def forget_lesson(
    student: Student,
    pack: Pack,
    contrasts: Sequence[Contrast],
    kept: Sequence[Contrast],
    *,
    teacher: Teacher,
    batch: int,
    seed: int,
    steps: int | None = None,
) -> AnswerLesson:
    """Answering as a teacher does on `contrasts` (prompt of the concept; its anchor as donor), and as ever on `kept`.

    kept: their prompts and donors are both rows that must not change; the empty prompt, which guidance asks for, is
    one of them at each latent of the concept.

    Raises: BadLesson, without contrasts; NotSupported, for a teacher that this host cannot run.
    """
    if not contrasts:
        raise BadLesson("forgetting needs at least one prompt that names the concept, got none")
    host = student.host
    more: dict[str, Any] = {} if steps is None else {"num_inference_steps": steps}
    x: list[Tensor] = []
    times: list[float] = []
    targets: list[Tensor] = []
    said: list[str] = []

    def add(call: Call, prompt: str, target: Tensor) -> None:
        x.append(student.latents(call))
        times.append(call.timestep)
        targets.append(student.trimmed(target))
        said.append(prompt)

    empty: list[tuple[Call, Tensor]] = []
    for c in contrasts:
        own = host.capture(c.prompt, seed=c.seed, at=LEVELS, **more)
        theirs = host.capture(c.donor, seed=c.seed, at=LEVELS, **more)
        # a student that has learned stands on the anchor's way, so the swapped teacher is asked there as well
        calls = {"swap": (*own, *map(student.moved, own, theirs)), "anchor": theirs, "esd": own}[teacher]
        bare = host.reword(calls, [""])[:, 0]
        for n, call in enumerate(calls):
            if teacher == "swap":
                target = host.replay(call, [pack.plan(toward=c.donor)])[0]
            elif teacher == "anchor":
                target = call.prediction
            else:
                target = bare[n] - _AWAY * (call.prediction - bare[n])
            add(call, c.prompt, target)
            empty.append((call, bare[n]))
    first = len(x)
    for n, (call, answer) in enumerate(empty):
        if n % _BARE == 0:
            add(call, "", answer)
    for c in kept:
        for prompt in (c.prompt, c.donor):
            for call in host.capture(prompt, seed=c.seed, at=LEVELS[::2], **more):
                add(call, prompt, call.prediction)
    different = list(dict.fromkeys(said))
    place = {text: n for n, text in enumerate(different)}
    return AnswerLesson(
        x=torch.stack(x),
        timesteps=torch.tensor(times),
        targets=torch.stack(targets),
        captions=student.texts(different),
        said=torch.tensor([place[text] for text in said]),
        groups=[(0, first, batch - batch // 2, 1.0), (first, len(x), batch // 2, 1.0)],
        seed=seed,
    )


def _pictures(
    student: Student,
    pictures: Sequence[Captioned],
    groups: Sequence[tuple[int, int, int, float]],
    seed: int,
    size: tuple[int, int],
    drop: float,
) -> PictureLesson:
    if not pictures:
        raise BadLesson("there must be at least one picture to learn from, got none")
    return PictureLesson(
        noise=noise_of(student.pipe),
        latents=latents_of(student.pipe, [p.image for p in pictures], student.shape, size),
        captions=student.texts([*(p.caption for p in pictures), ""]),
        groups=groups,
        seed=seed,
        drop=drop,
    )
