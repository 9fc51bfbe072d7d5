"""What can be wrong with a policy file, said so that its writer can mend it.

A problem has a place (file, line, column), the path of the field and one sentence: must-be, got, way out. All
problems of a load are collected and raised together, because a writer who must fix one error a run gives up. The code
says which kind it is, in words that a metric may count by.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

__all__ = ["CODES", "Code", "PolicyError", "Problem"]

Code = Literal[
    "unreadable",  # no such file, not UTF-8, too large
    "syntax",  # no YAML as policies may use it
    "invalid",  # a field or its meaning is wrong
    "tests",  # a test inside the files fails
    "unmet",  # something that the policy requires is not there
    "floor",  # would loosen the floor
    "unsigned",  # keys are configured, or a bundle is given without any
    "signature",  # no trusted key has signed it, or it was changed afterwards
    "damaged",  # no whole bundle: cut off, or its files are not those that were signed
    "replayed",  # older than what was in use already
    "expired",
    "other-host",  # made for another model or another service
]
CODES: tuple[Code, ...] = get_args(Code)


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong in one file; `line` and `column` count from 1, 0 when the whole file is meant."""

    file: str
    line: int
    column: int
    path: str
    message: str
    code: Code = "invalid"

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part)
        return f"{place}: {self.path}: {self.message}" if self.path else f"{place}: {self.message}"


class PolicyError(ValueError):
    """Policies that cannot be loaded; `problems` has every reason, sorted by place."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(p) for p in self.problems))

    @property
    def codes(self) -> tuple[Code, ...]:
        """The kinds of the problems, each once."""
        return tuple(sorted({p.code for p in self.problems}))

    def to_dict(self) -> dict[str, Any]:
        """The problems as plain JSON values, for `--json`."""
        return {"problems": [asdict(p) for p in self.problems]}
