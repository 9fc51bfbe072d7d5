"""Problems of policy files, written for the author of the file.

A problem has a place (file, line, column), the path of the field and one sentence that says what is required, what was
found and how to correct it. A load collects all problems and raises them together. The code names the kind of the
problem; metrics count by it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

__all__ = ["CODES", "Code", "PolicyError", "Problem", "Remark"]

Code = Literal[
    "unreadable",  # no such file, not UTF-8, too large
    "syntax",  # not the subset of YAML that policies use
    "invalid",  # a field or its meaning is wrong
    "tests",  # a test inside the files fails
    "unmet",  # something that the policy requires is not there
    "floor",  # it would loosen the floor
    "unsigned",  # it is not signed although keys are configured, or there is no key to verify it with
    "signature",  # no trusted key signed it, or it was changed afterwards
    "damaged",  # not a complete bundle: cut off, or its files are not the signed ones
    "replayed",  # older than a bundle that was in use before
    "expired",
    "other-host",  # made for another model or another service
]
CODES: tuple[Code, ...] = get_args(Code)


@dataclass(frozen=True, slots=True, order=True)
class Remark:
    """A sentence about a place in a file; `line` and `column` count from 1, and are 0 when it is about the whole file.

    By itself it is a hint: what is there is valid, and probably not meant.
    """

    file: str
    line: int
    column: int
    path: str
    message: str

    @property
    def place(self) -> tuple[str, int, int, str]:
        return self.file, self.line, self.column, self.path

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part)
        return f"{place}: {self.path}: {self.message}" if self.path else f"{place}: {self.message}"


@dataclass(frozen=True, slots=True, order=True)
class Problem(Remark):
    """One error in one file, with its kind."""

    code: Code = "invalid"


class PolicyError(ValueError):
    """Policies that cannot be loaded; `problems` has every reason, sorted by place."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(p) for p in self.problems))

    @property
    def codes(self) -> tuple[Code, ...]:
        """The codes of the problems, each once."""
        return tuple(sorted({p.code for p in self.problems}))

    def to_dict(self) -> dict[str, Any]:
        """The problems as plain JSON values, for `--json`."""
        return {"problems": [asdict(p) for p in self.problems]}
