"""The result of judging a condition: true, false or unknown, with the reasons.

Unknown has two causes that are kept apart. Either a detector failed or did not run (an error, which makes the decision
stricter), or the picture does not exist yet (pending, which makes the service read the picture).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from policies.types import Box, Span

__all__ = ["FALSE", "Judgement", "Reason"]


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a rule matched: one predicate that held, in words, and what it points at.

    `word` is the list entry, `list` its list, `view` the view in which it was found. The service never shows reasons
    to its callers.
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


class Judgement(NamedTuple):
    """The truth of a condition, with its reasons.

    `truth` is None when it is unknown: because of `error`, or because the names in `pending` are not read yet.
    """

    truth: bool | None
    reasons: tuple[Reason, ...] = ()
    error: str | None = None
    pending: frozenset[str] = frozenset()


FALSE = Judgement(False)
