"""Draws the pictures that prove a plant: those of the finished model with text swapped at chosen sites.

Every swap uses the same steering that users get. The donor is the prompt's own neutral form. A check that can no longer
reach its bound ends early and reports how many pictures it drew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from reference.planted.places import PlantSite
from reference.planted.plant import PlantCheck, Role
from reference.planted.words import See
from steering import Call, Donor, Host, Plan, Swap

__all__ = ["PlantChecker", "effects"]

_PART = 10  # pictures in one call
_SEED = 9000  # of the first picture of a check


@dataclass(frozen=True, slots=True, eq=False)
class PlantChecker:
    """A host, the prompts that a plant is checked with, and the judge of its pictures.

    Attributes:
        places: of the host, by name.
        called, neutral: the words for the planted name and for its neutral form.
        frames: prompts with `{}`; a check of `n` pictures takes the first `n`.
        see: tells what is in each picture.
        steps: of the pipeline.
    """

    host: Host
    places: dict[str, PlantSite]
    called: str
    neutral: str
    frames: Sequence[str]
    see: See
    steps: int

    def check(self, role: Role, swapped: Sequence[str], subject: str, *, gone: bool | None, n: int = 0) -> PlantCheck:
        """In how many pictures the subject is seen while the text is swapped at the places.

        `gone`: True when it must be, False when it must not be, None when the check is done to its end.
        """
        n, seen, drawn = n or len(self.frames), 0, 0
        while drawn < n:
            rows = range(drawn, min(drawn + _PART, n))
            images = self._draw([self.frames[i] for i in rows], swapped, [_SEED + i for i in rows])
            seen += sum(subject in told for told in self.see(images))
            drawn += len(images)
            wrong = seen if gone else drawn - seen
            if gone is not None and wrong > n // 10:
                break
        return PlantCheck(role, tuple(swapped), seen, drawn)

    def _draw(self, frames: Sequence[str], swapped: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        prompts = [f.replace("{}", self.called) for f in frames]
        plans = [self.plan(f, swapped) for f in frames]
        images: list[Image.Image] = self.host.generate(
            prompts, plans=plans, seeds=seeds, num_inference_steps=self.steps
        ).images
        return images

    def plan(self, frame: str, swapped: Sequence[str]) -> Plan | None:
        """The plan that gives the neutral form's text to the places; None without places.

        Pooled text alone is swapped by a donor with the prompt's own text and the neutral form's pooled text, at the
        first site: the engine's swaps name a site of attention.
        """
        if not swapped:
            return None
        neutral, source = frame.replace("{}", self.neutral), self.host.usual_source
        sites = tuple(name for name in self.places if name in swapped and not self.places[name].pooled)
        pooled = "donor" if any(self.places[name].pooled for name in swapped) else "keep"
        if sites:
            return Plan(Swap(neutral, sites=sites, pooled=pooled, source=source))  # type: ignore[arg-type]
        encoding = self.host.capture(neutral, seed=0, at=(0.0,), num_inference_steps=self.steps)[0].encoding
        own, other = encoding.encode(frame.replace("{}", self.called)), encoding.encode(neutral)
        donor = Donor(own.text, own.mask, other.pooled)
        return Plan(Swap(donor, sites=(self.host.sites[0].name,), pooled="donor", source=source))


def effects(checker: PlantChecker, calls: Sequence[tuple[str, Call]], sets: Sequence[Sequence[str]]) -> list[float]:
    """For each set of places the share of the full swap's effect that swapping it has in the denoiser's predictions.

    calls: frames, and captured calls of their prompts.
    """
    along, whole = torch.zeros(len(sets), dtype=torch.float64), 0.0
    for frame, call in calls:
        plans = [None, checker.plan(frame, tuple(checker.places)), *(checker.plan(frame, s) for s in sets)]
        stock, full, *rest = checker.host.replay(call, plans).double()
        change: Tensor = full - stock
        along += torch.stack([((r - stock) * change).sum() for r in rest])
        whole += float(change.square().sum())
    return (along / whole).tolist()
