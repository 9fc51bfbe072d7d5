"""The description of a predicate: its field in `when`, the type of the field, and how its value is compiled."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from policies.predicates.condition import Condition
from policies.spelling import fold
from policies.types import Stage

__all__ = ["Need", "Predicate", "RuleScope"]

V = TypeVar("V")


class Need(NamedTuple):
    """A signal that a written predicate needs: `name` at `stage`. `path` leads from `when` to the field that names
    it."""

    stage: Stage
    name: str
    path: tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class RuleScope:
    """The rule whose conditions are compiled, and the word lists of the snapshot.

    `lists` has the folded entries of each list under `policy/list`. `used` collects the names of the lists that
    conditions use, `near` of those whose near words count, and `innocent` of those that are never near. Compiling adds
    to all of them.
    """

    policy: str
    rule: str
    lists: dict[str, tuple[str, ...]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    near: set[str] = field(default_factory=set)
    innocent: set[str] = field(default_factory=set)

    def resolve(self, items: Iterable[str]) -> frozenset[str]:
        """The names of the lists that `items` mean. Words written in a rule become a list under the rule's name.

        `items` come from a `WordsModel` or a `LetteringModel`: the loader has checked that their `$lists` exist.
        """
        names = {f"{self.policy}/{item[1:]}" for item in items if item.startswith("$")}
        literals = tuple(sorted({fold(item) for item in items if not item.startswith("$")}))
        if literals:
            name = f"{self.rule}#{hashlib.sha256(repr(literals).encode()).hexdigest()[:8]}"
            self.lists[name] = literals
            names.add(name)
        self.used.update(names)
        return frozenset(names)


def _no_needs(value: object) -> Iterable[Need]:
    return ()


@dataclass(frozen=True, slots=True)
class Predicate(Generic[V]):
    """One predicate of the format.

    `field` is its name in `when`, `value` the type of the value there, as pydantic takes it (`V` once validated).
    `compile` makes the condition. `needs` lists the signals that a detector must provide; the loader refuses a policy
    when no detector does.
    """

    field: str
    value: Any
    compile: Callable[[V, RuleScope], Condition]
    needs: Callable[[V], Iterable[Need]] = _no_needs
