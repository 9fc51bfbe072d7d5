"""The result of a request: its pictures after their last judgement, and the metrics counted for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from policies import Decision, Rung, Verdict, strictest
from service.engine.queue import Made
from service.metrics.catalogue import Mark
from service.metrics.recorder import Recorder
from service.order import Lora

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["HOWS", "Finished", "Held", "How", "Outcome", "Picture", "RefusedAt", "count"]

RefusedAt = Literal["prompt", "upload", "picture"]  # at which a request is refused
How = Literal["untouched", "steered", "prompt-replaced", "blurred"]  # what the rules did to a picture
HOWS: tuple[How, ...] = get_args(How)  # from the least to the most


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture after its last judgement. `rungs` lists the repair steps that were tried; only the last can have
    succeeded. `made` is None for a given picture over which nothing was drawn.
    """

    image: Image
    made: Made | None
    decision: Decision
    rungs: tuple[Rung, ...] = ()
    sites: int = 0  # at which its rules steered it
    replaced: bool = False  # made with the prompt replaced as a whole
    revised: str | None = None  # what the pipeline itself put in place of the prompt, if it was drawn
    before_repair: Picture | None = None  # the first picture, if a repair of it is to be held
    marks: tuple[Mark, ...] = ()  # that it carries

    @property
    def how(self) -> How:
        """The most that the rules did to the picture. An edit, an adapter and a prompt that the pipeline itself rewrote
        are the caller's and the model's doing: they leave it `untouched`.
        """
        if "blur" in self.rungs:
            return "blurred"
        if self.replaced:
            return "prompt-replaced"
        return "steered" if self.sites else "untouched"

    @property
    def kinds(self) -> tuple[str, ...]:
        """The categories of the rules that took part, as far as the rules disclose them."""
        return tuple(sorted({each.category for each in self.decision.disclosures}))

    @property
    def verdict(self) -> Verdict:
        """The verdict of the decision. A repaired picture counts as steered, whatever the rules said."""
        return strictest([self.decision.verdict, "steer" if self.rungs or self.replaced else "allow"])


@dataclass(frozen=True, slots=True)
class Held:
    """What reviewers look at: the pictures of a request in the place of an answer. `repaired` is empty if no rule
    repairs them.
    """

    queue: str
    pictures: tuple[Picture, ...]
    repaired: tuple[Picture, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a request: refused at a stage, or with pictures. `decision` is the strictest judgement. What is
    `held` is refused, until a reviewer releases it.
    """

    decision: Decision
    refused: RefusedAt | None
    pictures: tuple[Picture, ...] = ()
    held: Held | None = None

    @property
    def verdict(self) -> Verdict:
        """The strictest verdict of the request and its pictures."""
        return strictest([self.decision.verdict, *(p.verdict for p in self.pictures)])

    @property
    def most_changed(self) -> Picture:
        """The picture to which the rules did the most."""
        return max(self.pictures, key=lambda p: (HOWS.index(p.how), p.sites))


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished outcome with the encoded pictures, in order."""

    outcome: Outcome
    files: tuple[bytes, ...]


def count(outcome: Outcome, recorder: Recorder, lora: Lora | None = None) -> None:
    """Records an outcome in the metrics: decisions, shadow differences, exemptions, errors, pictures and doses. `lora`
    is the request's adapter.
    """
    decision = outcome.decision
    recorder.decision(decision.rules, outcome.verdict, mode="enforce")
    recorder.exempted(e.rule for e in decision.exempted)
    judged = (decision, *(p.decision for p in outcome.pictures))
    recorder.decision_errors((e.rule for d in judged for e in d.errors), stale=bool(decision.stale))
    if decision.shadow is not None:
        recorder.decision(decision.shadow.rules, decision.shadow.verdict, mode="shadow")
        if decision.shadow.verdict != decision.verdict:
            recorder.shadow_difference(decision.verdict, decision.shadow.verdict)
    for picture in outcome.pictures:
        if not outcome.refused:
            recorder.image(picture.verdict)
            if lora is not None:
                recorder.adapted(lora.name)
        if picture.sites and picture.made is not None:
            report = picture.made.report
            concepts = {steer.concept for steer in picture.decision.steers}
            recorder.steered(concepts, rows=sum(report.fired.values()), dose=(report.dose or {}).values())
