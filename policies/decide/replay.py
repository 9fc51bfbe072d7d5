"""Runs two policies on the same prompts and compares their decisions, to show the effect of a change.

The detectors read each prompt once. No picture is made.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from policies.decide.decide import decide
from policies.decide.decision import Decision
from policies.decide.snapshot import Snapshot
from policies.format.actions import VERDICTS, Verdict
from policies.predicates.strikes import MOST_STRIKES
from policies.types import NO_STRIKES, Request, Signals, Strikes

__all__ = ["Changed", "Replay", "parse_requests", "replay"]


@dataclass(frozen=True, slots=True)
class Changed:
    """One prompt whose verdict or rules differ, with both decisions."""

    request: Request
    old: Decision
    new: Decision

    @property
    def milder(self) -> bool:
        return VERDICTS.index(self.new.verdict) < VERDICTS.index(self.old.verdict)

    def to_dict(self) -> dict[str, Any]:
        said = [r.text for r in (*self.old.reasons, *self.new.reasons)]
        return {
            "prompt": self.request.prompt,
            "old": {"verdict": self.old.verdict, "rules": list(self.old.rules)},
            "new": {"verdict": self.new.verdict, "rules": list(self.new.rules)},
            "milder": self.milder,
            "reasons": list(dict.fromkeys(said)),
        }


@dataclass(frozen=True, slots=True)
class Replay:
    """Two policies on the same prompts: how many prompts by (old verdict, new verdict), and the changed prompts."""

    prompts: int
    transitions: Mapping[tuple[Verdict, Verdict], int]
    changed: tuple[Changed, ...]

    @property
    def milder(self) -> int:
        """The number of prompts with a milder verdict."""
        return sum(c.milder for c in self.changed)

    def matrix(self) -> list[dict[str, Any]]:
        """One row for each old verdict that occurs, one column for each verdict."""
        rows = [v for v in VERDICTS if any(old == v for old, _ in self.transitions)]
        return [{"old \\ new": old, **{new: self.transitions.get((old, new), 0) for new in VERDICTS}} for old in rows]


def parse_requests(
    lines: Iterable[str], *, tenant: str, now: datetime, strikes: Strikes = NO_STRIKES
) -> Iterator[Request]:
    """One request per line: a prompt, or a JSON object with `prompt` and others, where `strikes` is a number. Empty
    lines are left out. `strikes` are those of lines that say nothing of them. Raises `ValueError`.
    """
    for number, line in enumerate(lines, 1):
        if line.strip():
            given: dict[str, Any] = {"tenant": tenant, "id": str(number), "strikes": strikes, **_fields(line, number)}
            yield Request(**given, now=now)


def _fields(line: str, number: int) -> dict[str, Any]:
    text = line.rstrip("\n")
    if not text.lstrip().startswith('{"'):
        return {"prompt": text}
    try:
        given = json.loads(text)
    except ValueError:
        return {"prompt": text}
    known = ("prompt", "negative_prompt", "tenant", "id")
    more = {name: Strikes.of(_count(given.pop(name), number)) for name in ("strikes",) if name in given}
    if "prompt" not in given or not all(k in known and isinstance(v, str) for k, v in given.items()):
        others = ", ".join((*known[1:], "strikes"))
        raise ValueError(f"line {number} must be a prompt, or an object of texts with `prompt` and some of {others}")
    return {**given, **more}


def _count(strikes: object, number: int) -> int:
    if type(strikes) is not int or not 0 <= strikes <= MOST_STRIKES:
        got = json.dumps(strikes)
        raise ValueError(f"`strikes` of line {number} must be a number from 0 to {MOST_STRIKES}, got `{got}`")
    return strikes


def replay(requests: Iterable[Request], old: Snapshot, new: Snapshot, sense: Callable[[Request], Signals]) -> Replay:
    """The decisions of `old` and `new` on each of `requests`, compared."""
    transitions: Counter[tuple[Verdict, Verdict]] = Counter()
    changed: list[Changed] = []
    for request in requests:
        signals = sense(request)
        before, after = decide(request, signals, old), decide(request, signals, new)
        transitions[before.verdict, after.verdict] += 1
        if (before.verdict, before.rules, before.errors) != (after.verdict, after.rules, after.errors):
            changed.append(Changed(request, before, after))
    return Replay(sum(transitions.values()), dict(transitions), tuple(changed))
