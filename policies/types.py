"""The values that detectors and policies exchange: a request, and the signals about it and about its pictures.

All values are frozen. So `decide` can be a pure function, and a decision can be logged, compared and replayed. The
values that make up a decision are in `format.actions` and `decide.decision`.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args

__all__ = [
    "EPOCH",
    "NO_STRIKES",
    "STRIKE_KINDS",
    "Box",
    "Request",
    "Signal",
    "Signals",
    "Span",
    "Spelling",
    "Stage",
    "Strike",
]
__all__ += ["StrikeKind", "Strikes", "TextSource", "View", "concept_of", "sentinel_of"]

Stage = Literal["prompt", "picture"]
TextSource = Literal["prompt", "negative_prompt", "picture"]
Spelling = Literal["plain", "leet", "repeats"]
StrikeKind = Literal["refused", "held", "repaired"]  # what became of a request on which rules acted
STRIKE_KINDS: tuple[StrikeKind, ...] = get_args(StrikeKind)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SENTINEL = "sentinel:"


def sentinel_of(concept: str) -> str:
    """The name of the signals of a concept's sentinel, such as `sentinel:harm/gun`."""
    return f"{_SENTINEL}{concept}"


def concept_of(name: str) -> str | None:
    """The concept whose sentinel gives the signals called `name`; None for signals of other detectors."""
    return name[len(_SENTINEL) :] if name.startswith(_SENTINEL) else None


@dataclass(frozen=True, slots=True)
class Strike:
    """An earlier request on which rules of `categories` acted, and how long `ago` that was. A `kind` or `categories` of
    None stand for any: so a test or an explanation says only how many.
    """

    kind: StrikeKind | None = None
    categories: frozenset[str] | None = None
    ago: timedelta = timedelta()


@dataclass(frozen=True, slots=True)
class Strikes:
    """What is known of earlier requests for the same person. `error` says why it may not be all."""

    items: tuple[Strike, ...] = ()
    error: str | None = None

    @staticmethod
    def of(count: int) -> Strikes:
        """So many strikes of a moment ago, which every condition counts. Raises `ValueError` for a negative number."""
        if count < 0:
            raise ValueError(f"the number of strikes must be 0 or more, got {count}")
        return Strikes((Strike(),) * count)

    def count(self, within: timedelta, kinds: Collection[StrikeKind], category: str | None = None) -> int:
        """The strikes of `kinds`, and of `category` if there is one, that are not older than `within`."""
        return sum(
            strike.ago <= within
            and (strike.kind is None or strike.kind in kinds)
            and (category is None or strike.categories is None or category in strike.categories)
            for strike in self.items
        )


NO_STRIKES = Strikes()


@dataclass(frozen=True, slots=True)
class Request:
    """The part of a caller's request that rules may use.

    `id` and `tenant` decide whether a canary rule acts. The caller passes `now`; this room never reads a clock. With
    `given` its picture is the caller's own and not drawn from the prompt: every rule that verifies pictures looks at
    it. `strikes` are of the person for whom the tenant asks.
    """

    prompt: str
    negative_prompt: str = ""
    tenant: str = ""
    id: str = ""
    now: datetime = EPOCH
    given: bool = False
    strikes: Strikes = NO_STRIKES

    def __post_init__(self) -> None:
        if self.now.tzinfo is None:
            raise ValueError(f"`now` must carry a time zone, got `{self.now.isoformat()}`; use datetime.now(UTC)")

    def text(self, source: TextSource) -> str:
        """The text that a span of `source` points into; empty for `picture`."""
        return {"prompt": self.prompt, "negative_prompt": self.negative_prompt}.get(source, "")


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` to `end` (exclusive) of the text named by `source`.

    For `picture`, of the text that was read.
    """

    source: TextSource
    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise ValueError(f"a span must satisfy 0 <= start <= end, got {self.start}..{self.end}")

    def of(self, text: str) -> str:
        """The piece of `text` that the span covers."""
        return text[self.start : self.end]

    def within(self, other: Span) -> bool:
        return self.source == other.source and other.start <= self.start and self.end <= other.end


@dataclass(frozen=True, slots=True)
class Box:
    """An axis-aligned box of a picture in pixels, origin top left, right and bottom exclusive."""

    left: float
    top: float
    right: float
    bottom: float

    def __post_init__(self) -> None:
        if not (-math.inf < self.left <= self.right < math.inf and -math.inf < self.top <= self.bottom < math.inf):
            got = f"{self.left}..{self.right} and {self.top}..{self.bottom}"
            raise ValueError(f"a box must have finite edges, left <= right and top <= bottom, got {got}")

    def holds(self, other: Box) -> bool:
        """Whether `other` lies in this box, its edges included."""
        inside = self.left <= other.left and other.right <= self.right
        return inside and self.top <= other.top and other.bottom <= self.bottom


@dataclass(frozen=True, slots=True)
class View:
    """One way to read a text: its characters with some disguises undone, and the origin of each character.

    `starts[i]` and `ends[i]` bound the piece of the original text that `text[i]` replaces; they may run backwards in a
    view that undoes a reversal. `form` is the spelling in which list entries are compared: `plain`, `leet` (i, l, 1,
    !, | are one letter) or `repeats` (leet, with runs collapsed: `runs[i]` is the length of the run). `least` is the
    length of the shortest entry that may be found here, because short words match everywhere in aggressive views.
    With `whole`, an entry must fill the view. `odd` bounds the words of the view that no dictionary knows; near words
    are looked for among these. It is None when no dictionary was asked: then any word of a plain view may be near.
    """

    name: str
    text: str
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    form: Spelling = "plain"
    runs: tuple[int, ...] = ()
    least: int = 1
    whole: bool = False
    odd: tuple[tuple[int, int], ...] | None = None

    def __post_init__(self) -> None:
        if not len(self.text) == len(self.starts) == len(self.ends):
            raise ValueError(f"view `{self.name}` has {len(self.text)} characters, but {len(self.starts)} offsets")
        if self.form == "repeats" and len(self.runs) != len(self.text):
            raise ValueError(f"view `{self.name}` folds repeats, so it needs one run length for each character")

    def origin(self, start: int, end: int) -> tuple[int, int]:
        """The bounds in the original text of characters `start` to `end` (exclusive, not empty) of the view."""
        return min(self.starts[start:end]), max(self.ends[start:end])


@dataclass(frozen=True, slots=True)
class Signal:
    """What one detector found, or why it failed (`error`).

    `name` is `text` (a whole text with its views), `lettering`, `toxicity`, a concept's name such as `character/pip`,
    or that of its sentinel (`sentinel_of`). A lettering signal with empty `text` means that lettering is asked for, or
    seen, and its words are unknown. `label` names a category of toxicity.
    """

    name: str
    detector: str
    version: str
    stage: Stage = "prompt"
    score: float = 1.0
    text: str = ""
    label: str = ""
    span: Span | None = None
    box: Box | None = None
    views: tuple[View, ...] = ()
    error: str | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.score <= 1.0:
            raise ValueError(f"the score of `{self.name}` must lie in [0, 1], got {self.score}")


@dataclass(frozen=True, slots=True)
class Signals:
    """An immutable collection of signals, and the names that detectors covered.

    `covered` holds (stage, name) for every detector that finished, with findings or without. A missing signal means
    "not found" only for a covered name. A rule that needs an uncovered name cannot be judged, which is an error.
    """

    items: tuple[Signal, ...] = ()
    covered: frozenset[tuple[Stage, str]] = frozenset()

    def __add__(self, other: Signals) -> Signals:
        """Both collections as one, e.g. those of the prompt and those of one picture."""
        return Signals(self.items + other.items, self.covered | other.covered)

    def of(self, stage: Stage, name: str) -> tuple[Signal, ...]:
        """The signals called `name` at `stage`, without those that report an error."""
        return tuple(s for s in self.items if s.name == name and s.stage == stage and s.error is None)

    def error(self, stage: Stage, name: str) -> str | None:
        """Why `name` cannot be judged at `stage`, or None when it can."""
        for signal in self.items:
            if signal.name == name and signal.stage == stage and signal.error is not None:
                return f"{signal.detector}: {signal.error}"
        if (stage, name) not in self.covered:
            return f"no detector read `{name}` of the {stage}"
        return None
