"""The values that detectors and policies exchange: a request, and the signals about it and about its pictures.

Everything here is frozen data without behaviour beyond reading itself, so that `decide` can stay a pure function and
a decision can be logged, compared and replayed. What a decision is made of stands in `actions` and `decision`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

__all__ = ["EPOCH", "Box", "Request", "Signal", "Signals", "Span", "Spelling", "Stage", "TextSource", "View"]

Stage = Literal["prompt", "picture"]
TextSource = Literal["prompt", "negative_prompt", "picture"]
Spelling = Literal["plain", "leet", "repeats"]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Request:
    """What a caller asked for, as far as rules may look at it.

    `id` and `tenant` decide a canary rule's share. `now` is injected, never read from a clock in this room.
    """

    prompt: str
    negative_prompt: str = ""
    tenant: str = ""
    id: str = ""
    now: datetime = EPOCH

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


@dataclass(frozen=True, slots=True)
class View:
    """One way to read a text: its characters after some undoing of disguises, and where each came from.

    `starts[i]` and `ends[i]` bound the piece of the original text that `text[i]` stands for; they may run backwards
    in a view that undoes a reversal. `form` says in which spelling list entries are compared: `plain`, `leet` (i, l,
    1, !, | are one letter) or `repeats` (leet, and runs collapsed: `runs[i]` is how often the letter stood there).
    `least` is the length of the shortest entry that may be found here: aggressive views would see short words
    everywhere. `whole` asks that an entry fills the view.
    """

    name: str
    text: str
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    form: Spelling = "plain"
    runs: tuple[int, ...] = ()
    least: int = 1
    whole: bool = False

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
    """A detector's finding, or with `error` the fact that it could not look.

    `name` is `text` (a whole text with its views), `lettering`, `toxicity` or a concept's name such as
    `character/pip`. A lettering signal with empty `text` says that lettering is asked for, or seen, without saying
    what it reads. `label` names a category of toxicity.
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
    """An immutable collection of signals, and what was looked for.

    `covered` holds (stage, name) for every detector that ran to its end, findings or not: silence counts as innocence
    only where somebody listened. A rule that needs a name which is neither covered nor reported as failed is an
    erroring rule.
    """

    items: tuple[Signal, ...] = ()
    covered: frozenset[tuple[Stage, str]] = frozenset()

    def __add__(self, other: Signals) -> Signals:
        """Both collections as one, e.g. those of the prompt and those of one picture."""
        return Signals(self.items + other.items, self.covered | other.covered)

    def of(self, stage: Stage, name: str) -> tuple[Signal, ...]:
        """The findings called `name` at `stage`, errors left out."""
        return tuple(s for s in self.items if s.name == name and s.stage == stage and s.error is None)

    def error(self, stage: Stage, name: str) -> str | None:
        """Why `name` cannot be judged at `stage`, or None when it can."""
        for signal in self.items:
            if signal.name == name and signal.stage == stage and signal.error is not None:
                return f"{signal.detector}: {signal.error}"
        if (stage, name) not in self.covered:
            return f"no detector read `{name}` of the {stage}"
        return None
