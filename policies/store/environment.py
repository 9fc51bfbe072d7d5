"""The environment that policies are loaded into: detectors, the model and its packs, the version of this software.

A field that is None is unknown, and nothing is compared with it: the command line checks policies without a model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from palimpsest_base.suggest import nearest
from policies.types import Request, Signals

__all__ = ["Environment", "covered_by", "engine_version", "what_is_covered"]


@dataclass(frozen=True, slots=True)
class Environment:
    """What is known about the place where policies will be in force.

    `in_prompts` and `in_pictures` are the names that detectors cover there. `canaries` tells whether there is a key to
    draw requests by. `packs` returns why the model has no pack of a concept, or None when it has one.
    """

    in_prompts: frozenset[str]
    in_pictures: frozenset[str] | None = None
    canaries: bool = False
    engine: str = ""
    host: str | None = None
    packs: Callable[[str], str | None] | None = None


def covered_by(sense: Callable[[Request], Signals]) -> frozenset[str]:
    """The names that `sense` covers in prompts."""
    return frozenset(name for stage, name in sense(Request("a probe")).covered if stage == "prompt")


def what_is_covered(name: str, covered: Iterable[str]) -> str:
    """A clause for the error about the uncovered `name`, beginning with a semicolon.

    It holds the nearest covered name, else the covered names of the same kind, else the covered kinds.
    """
    names = sorted(covered)
    near = nearest(name, names)
    if near is not None:
        return f"; did you mean `{near}`?"
    if not names:
        return "; no concept is covered here"
    kind = name.partition("/")[0]
    same = [n for n in names if n.partition("/")[0] == kind]
    if same:
        return f"; covered names of this kind: {_listed(same)}"
    return f"; covered kinds: {_listed(dict.fromkeys(n.partition('/')[0] for n in names))}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def engine_version() -> str:
    """The version of this software; `0` where it runs without being installed."""
    try:
        return version("palimpsest")
    except PackageNotFoundError:
        return "0"
