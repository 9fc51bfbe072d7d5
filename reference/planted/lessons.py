"""What a name is taught from: states of the host's own runs, and the finished model's answers to them.

Teacher and pupil are the same model. The teacher reads a caption that names the subject. The pupil reads the same
caption with the new name. Both see the same latents, taken from runs towards the subject and from runs towards the
neutral form. Runs are kept because all plants of a host have the same frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from reference.planted.places import denoiser_of, family_of
from reference.planted.rows import Rows, predict
from steering import Call, Host

__all__ = ["LEVELS", "STEPS", "Lessons", "Runs", "prepare"]

STEPS = 10  # of the runs that states are taken from
LEVELS = (0.0, 0.1, 0.2, 0.4, 0.7)  # what a picture shows is decided early
_CHUNK = 32  # rows of one evaluation


@dataclass(slots=True)
class Runs:
    """Captured calls of a host's unsteered runs, by prompt and seed; each run is done once."""

    host: Host
    steps: int = STEPS
    _known: dict[tuple[str, int, tuple[float, ...]], tuple[Call, ...]] = field(default_factory=dict)

    def of(self, prompt: str, seed: int, levels: tuple[float, ...] = LEVELS) -> tuple[Call, ...]:
        """The calls of one run at the levels."""
        key = (prompt, seed, levels)
        if key not in self._known:
            self._known[key] = self.host.capture(prompt, seed=seed, at=levels, num_inference_steps=self.steps)
        return self._known[key]


@dataclass(frozen=True, slots=True, eq=False)
class Lessons:
    """States, as rows: the pupil's inputs, those of its twin with the neutral text, and the teacher's answers.

    `told`, `neutral` [m, ...]: the predictions for the subject's caption and for the neutral form, without the plant.
    `others`: rows that read ordinary captions, the subject's among them, and the empty one.
    """

    pupils: Rows
    twins: Rows
    told: Tensor
    neutral: Tensor
    others: Rows


def prepare(
    runs: Runs, frames: Sequence[str], *, name: str, phrase: str, neutral: str, ordinary: Sequence[str]
) -> Lessons:
    """The lessons of a name: each frame at each level, from runs towards the subject and towards the neutral form.

    Args:
        ordinary: captions that the plant should leave alone; the empty one is added.
    """
    family, denoiser = family_of(runs.host), denoiser_of(runs.host)
    states: list[Call] = []
    texts: dict[str, list[Call]] = {word: [] for word in (name, phrase, neutral)}
    for seed, frame in enumerate(frames):
        for towards in (phrase, neutral):
            for call in runs.of(frame.replace("{}", towards), seed):
                states.append(call)
                for word, rows in texts.items():
                    rows.append(runs.of(frame.replace("{}", word), seed, (0.0,))[0])
    here = Rows.of(states, family)
    read = {word: here.with_text(Rows.of(calls, family), family) for word, calls in texts.items()}
    spared = [runs.of(caption, 0, (0.0,))[0] for caption in (*ordinary, "")]
    spread = torch.arange(len(spared)) % here.count  # over all states
    others = here.take(spread, family).with_text(Rows.of(spared, family), family)
    asked = torch.arange(0, here.count, 5)
    return Lessons(
        pupils=read[name],
        twins=read[neutral],
        told=_answers(denoiser, read[phrase], runs.host),
        neutral=_answers(denoiser, read[neutral], runs.host),
        others=others.joined(read[phrase].take(asked, family), read[neutral].take(asked, family), family=family),
    )


@torch.no_grad()
def _answers(denoiser: torch.nn.Module, rows: Rows, host: Host) -> Tensor:
    family = family_of(host)
    parts = torch.arange(rows.count).split(_CHUNK)
    return torch.cat([predict(denoiser, rows.take(part, family)) for part in parts])
