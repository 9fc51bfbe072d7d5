"""Verdicts and actions: the result of `decide`, which the service carries out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from policies.types import Request, Span, TextSource

__all__ = [
    "RUNGS",
    "VERDICTS",
    "Action",
    "Block",
    "Label",
    "LadderRung",
    "OnError",
    "Replacement",
    "ReviewHold",
    "Rung",
]
__all__ += ["Steer", "Unfit", "Verdict", "Verify", "strictest"]

Verdict = Literal["allow", "label", "steer", "review-hold", "block"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)  # from the mildest to the strictest
LadderRung = Literal["wider", "swap-prompt", "blur"]  # what a policy may list
# `steer` comes first, by itself, when the picture shows what its prompt did not ask for: nothing was steered before
Rung = Literal["steer", "wider", "swap-prompt", "blur"]
RUNGS: tuple[Rung, ...] = get_args(Rung)  # in the order in which they are climbed
OnError = Literal["block", "apply", "allow"]
Unfit = Literal["swap-prompt", "block", "refuse-load"]


def strictest(verdicts: Iterable[Verdict]) -> Verdict:
    """The strictest of `verdicts`; `allow` when there are none."""
    return max(verdicts, key=VERDICTS.index, default="allow")


@dataclass(frozen=True, slots=True)
class Replacement:
    """A piece of a request's text, and the text that replaces it in the donor."""

    span: Span
    text: str


@dataclass(frozen=True, slots=True)
class Steer:
    """Feed a donor text, instead of the request's own, to the sites of `concept`.

    `replacements` hold the found pieces of the request and their harmless substitutes. `toward` is the rule's own
    setting: `benign-word`, `$list`, a text, or None. `strength` is None for `auto`. `unfit` says what to do when this
    host has no pack for `concept`.
    """

    rule: str
    concept: str
    toward: str | None = None
    replacements: tuple[Replacement, ...] = ()
    strength: float | None = None
    unfit: Unfit = "block"
    do: Literal["steer"] = "steer"

    def donor(self, request: Request) -> str | None:
        """The prompt with every found piece replaced; None when nothing was found in the prompt itself."""
        return _replaced(request.prompt, self.replacements, "prompt")


@dataclass(frozen=True, slots=True)
class Verify:
    """Check the picture before it is returned; `read` is `lettering` or a concept's name.

    `Violation` describes what follows a failure.
    """

    rule: str
    read: str
    ladder: tuple[Rung, ...] = ()
    otherwise: Literal["block", "review-hold"] = "block"
    max_extra_generations: int = 0
    do: Literal["verify"] = "verify"


@dataclass(frozen=True, slots=True)
class Label:
    """Return the picture, marked with `value`."""

    rule: str
    value: str
    do: Literal["label"] = "label"


@dataclass(frozen=True, slots=True)
class ReviewHold:
    """Hold the picture for a human reviewer of `queue`."""

    rule: str
    queue: str = "default"
    do: Literal["review-hold"] = "review-hold"


@dataclass(frozen=True, slots=True)
class Block:
    """Refuse the request; the caller gets `message`, if there is one."""

    rule: str
    message: str | None = None
    do: Literal["block"] = "block"


Action = Steer | Verify | Label | ReviewHold | Block


def _replaced(text: str, replacements: Iterable[Replacement], source: TextSource) -> str | None:
    """`text` with the replacements of `source` put in, last first.

    Of two that overlap the earlier and longer is kept.
    """
    kept: list[Replacement] = []
    for item in sorted(replacements, key=lambda r: (r.span.start, -r.span.end)):
        if item.span.source == source and (not kept or item.span.start >= kept[-1].span.end):
            kept.append(item)
    for item in reversed(kept):
        text = text[: item.span.start] + item.text + text[item.span.end :]
    return text if kept else None
