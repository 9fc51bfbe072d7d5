"""The values that other rooms exchange with the policies: requests, signals and decisions.

Everything here is frozen data without behaviour beyond reading itself, so that `decide` can stay a pure function and
a decision can be logged, compared and replayed. Detectors fill `Signals`; `decide` answers with a `Decision`; the
service turns its actions into a plan.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime
from typing import Any, Literal, get_args

__all__ = [
    "EPOCH",
    "RUNGS",
    "VERDICTS",
    "Action",
    "Block",
    "Box",
    "Decision",
    "Disclosure",
    "Form",
    "Label",
    "Ladder",
    "OnError",
    "Reason",
    "Replacement",
    "Request",
    "ReviewHold",
    "RuleError",
    "Rung",
    "Shadow",
    "Signal",
    "Signals",
    "Source",
    "Span",
    "Stage",
    "Steer",
    "Unfit",
    "Verdict",
    "Verify",
    "View",
    "Violation",
    "strictest",
]

Verdict = Literal["allow", "label", "steer", "review-hold", "block"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)  # from the mildest to the strictest
Stage = Literal["prompt", "picture"]
Source = Literal["prompt", "negative_prompt", "picture"]
Rung = Literal["wider", "swap-prompt", "blur"]
RUNGS: tuple[Rung, ...] = get_args(Rung)  # in the order in which they are climbed
OnError = Literal["block", "apply", "allow"]
Unfit = Literal["swap-prompt", "block", "refuse-load"]
Form = Literal["plain", "leet", "repeats"]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def strictest(verdicts: Iterable[Verdict]) -> Verdict:
    """The strictest of `verdicts`; `allow` when there are none."""
    return max(verdicts, key=VERDICTS.index, default="allow")


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

    def text(self, source: Source) -> str:
        """The text that a span of `source` points into; empty for `picture`."""
        return {"prompt": self.prompt, "negative_prompt": self.negative_prompt}.get(source, "")


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` to `end` (exclusive) of the text named by `source`.

    For `picture`, of the text that was read.
    """

    source: Source
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
    form: Form = "plain"
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


@dataclass(frozen=True, slots=True)
class Replacement:
    """A piece of a request's text and what a donor says in its place."""

    span: Span
    text: str


@dataclass(frozen=True, slots=True)
class Steer:
    """Show the sites of `concept` a donor text instead of the request's own.

    `replacements` name the found pieces of the request and their innocent substitutes; `toward` is the rule's
    wording: `benign-word`, `$list`, a text, or None. `strength` is None for `auto`. `unfit` says what to do when
    there is no pack for `concept` on this host.
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
    """Read the picture before it leaves: `read` is `lettering` or a concept's name.

    See `Violation` for what follows a failure.
    """

    rule: str
    read: str
    ladder: tuple[Rung, ...] = ()
    otherwise: Literal["block", "review-hold"] = "block"
    max_extra_generations: int = 0
    do: Literal["verify"] = "verify"


@dataclass(frozen=True, slots=True)
class Label:
    """Let the picture pass and mark it with `value`."""

    rule: str
    value: str
    do: Literal["label"] = "label"


@dataclass(frozen=True, slots=True)
class ReviewHold:
    """Hold the picture back for a person of `queue`."""

    rule: str
    queue: str = "default"
    do: Literal["review-hold"] = "review-hold"


@dataclass(frozen=True, slots=True)
class Block:
    """Refuse the request; `message` may be shown to the caller."""

    rule: str
    message: str = "this request is refused by policy"
    do: Literal["block"] = "block"


Action = Steer | Verify | Label | ReviewHold | Block


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a rule matched: one predicate that held, in words, and what it points at.

    `word` is the list entry, `list` its list, `view` the view in which it was found. Never shown to callers of the
    service.
    """

    rule: str
    predicate: str
    text: str
    word: str = ""
    list: str = ""
    view: str = ""
    span: Span | None = None
    box: Box | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True)
class RuleError:
    """A rule that could not be judged, and what its `on_error` made of it."""

    rule: str
    text: str
    on_error: OnError


@dataclass(frozen=True, slots=True)
class Violation:
    """A picture that failed a rule's `verify`, with the rungs that may still repair it."""

    rule: str
    verify: Verify
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Ladder:
    """What may be tried for one picture, over all violated rules; `otherwise` holds when the rungs are used up.

    `rungs` is the union in climbing order, `max_extra_generations` the smallest and `otherwise` the strictest of the
    rules'. `reads` is what must be read again after each rung; `boxes` are the offending boxes of the picture just
    judged (for `blur`).
    """

    rules: tuple[str, ...]
    reads: frozenset[str]
    rungs: tuple[Rung, ...]
    otherwise: Literal["block", "review-hold"]
    max_extra_generations: int
    boxes: tuple[Box, ...] = ()

    def after(self, rung: Rung) -> tuple[Rung, ...]:
        """The rungs above `rung`."""
        return tuple(r for r in self.rungs if RUNGS.index(r) > RUNGS.index(rung))


@dataclass(frozen=True, slots=True)
class Shadow:
    """What the decision would have been had the shadow rules (and the canaries not drawn) been enforced."""

    verdict: Verdict
    rules: tuple[str, ...]
    reasons: tuple[Reason, ...]
    errors: tuple[RuleError, ...] = ()


@dataclass(frozen=True, slots=True)
class Disclosure:
    """What a caller may learn of one rule that acted; None where `disclose` withholds it."""

    category: str
    rule: str | None = None
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The policies' answer for one request, or for one of its pictures.

    `verdict` is what holds if nothing more is done: at stage `picture` it already counts `otherwise` of every
    violated rule, so a caller that cannot climb is strict by default. `reads` are the names that the picture must be
    read for before it may leave.
    """

    verdict: Verdict
    stage: Stage
    policy: str
    actions: tuple[Action, ...] = ()
    rules: tuple[str, ...] = ()
    reasons: tuple[Reason, ...] = ()
    errors: tuple[RuleError, ...] = ()
    violations: tuple[Violation, ...] = ()
    reads: frozenset[str] = frozenset()
    shadow: Shadow | None = None
    disclosures: tuple[Disclosure, ...] = ()

    @property
    def steers(self) -> tuple[Steer, ...]:
        return tuple(a for a in self.actions if isinstance(a, Steer))

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(a.value for a in self.actions if isinstance(a, Label))

    @property
    def refused(self) -> bool:
        return self.verdict in ("block", "review-hold")

    @property
    def ladder(self) -> Ladder | None:
        """What may be climbed for this picture.

        None when nothing is violated, or when something else refuses it anyway.
        """
        if not self.violations or self._refused_anyway():
            return None
        verifies = [v.verify for v in self.violations]
        boxes = dict.fromkeys(r.box for v in self.violations for r in v.reasons if r.box is not None)
        return Ladder(
            rules=tuple(v.rule for v in self.violations),
            reads=frozenset(v.read for v in verifies),
            rungs=tuple(rung for rung in RUNGS if any(rung in v.ladder for v in verifies)),
            otherwise="block" if any(v.otherwise == "block" for v in verifies) else "review-hold",
            max_extra_generations=min(v.max_extra_generations for v in verifies),
            boxes=tuple(boxes),
        )

    def _refused_anyway(self) -> bool:
        return any(isinstance(a, Block | ReviewHold) for a in self.actions)

    def to_dict(self) -> dict[str, Any]:
        """The decision as plain JSON values: what `policy explain` prints and the audit keeps."""
        names = ("verdict", "stage", "policy", "rules", "actions", "reasons", "errors", "violations", "reads", "shadow")
        return {name: _plain(getattr(self, name)) for name in names}


def _plain(value: Any) -> Any:
    """`value` as JSON would hold it: dataclasses as mappings without empty fields, sets sorted."""
    if is_dataclass(value):
        pairs = ((f.name, _plain(getattr(value, f.name))) for f in fields(value))
        return {name: v for name, v in pairs if v not in (None, "", [])}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return value


def _replaced(text: str, replacements: Iterable[Replacement], source: Source) -> str | None:
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
