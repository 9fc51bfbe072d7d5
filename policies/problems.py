"""What can be wrong with a policy file, said so that its writer can mend it.

A problem has a place (file, line, column), the path of the field and one sentence: must-be, got, way out. All
problems of a load are collected and raised together, because a writer who must fix one error a run gives up.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["PolicyError", "Problem", "did_you_mean"]


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong in one file; `line` and `column` count from 1, 0 when the whole file is meant."""

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part)
        return f"{place}: {self.path}: {self.message}" if self.path else f"{place}: {self.message}"


class PolicyError(ValueError):
    """Policies that cannot be loaded; `problems` has every reason, sorted by place."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(p) for p in self.problems))

    def to_dict(self) -> dict[str, Any]:
        """The problems as plain JSON values, for `--json`."""
        return {"problems": [asdict(p) for p in self.problems]}


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """A clause that names the nearest known word, else all of them; starts with a semicolon, empty without `known`."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f"; did you mean `{near[0]}`?"
    return f"; known: {', '.join(f'`{k}`' for k in known)}" if known else ""
