"""Reviews policies against each other and against the detectors: what a single file's shape cannot show.

Whatever a rule asks for and could not get at run time is refused here, at load time: a list that does not exist, a
concept that no detector knows, a steer that nothing checks, two rules that steer one concept in two directions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from policies.conditions import LetteringModel, WhenModel, WordsModel
from policies.donor import list_of
from policies.model import RuleModel, SteerModel, VerifyModel
from policies.problems import Problem, did_you_mean
from policies.types import Request, Signals

if TYPE_CHECKING:
    from policies.loader import Document

__all__ = ["review"]

_Path = tuple[str | int, ...]


def review(
    documents: Sequence[Document],
    sense: Callable[[Request], Signals],
    *,
    reads: frozenset[str] | None,
    canaries: bool,
) -> Iterator[Problem]:
    """Every problem of `documents` together; `reads` None means that nobody said what pictures can be read for."""
    heard = frozenset(name for stage, name in sense(Request("a probe")).covered if stage == "prompt")
    yield from _doubles(documents)
    yield from _conflicts(documents)
    for document in documents:
        for i, rule in enumerate(document.model.rules):
            for path, message in _rule(document, rule, heard, reads, canaries):
                yield _problem(document, ("rules", i, *path), message)
        yield from _tests(document, documents)


def _problem(document: Document, path: _Path, message: str) -> Problem:
    """The problem at `path`, or at the nearest place above it that the file has."""
    place = path
    while place and place not in document.marks:
        place = place[:-1]
    line, column = document.marks.get(place, (0, 0))
    dotted = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).lstrip(".")
    return Problem(document.file, line, column, dotted, message)


def _doubles(documents: Sequence[Document]) -> Iterator[Problem]:
    names: dict[str, str] = {}
    rules: dict[str, str] = {}
    for document in documents:
        name = document.model.name
        if name in names:
            yield _problem(document, ("name",), f"policy `{name}` is also in {names[name]}; names are unique")
        names.setdefault(name, document.file)
        for i, rule in enumerate(document.model.rules):
            if rule.id in rules:
                yield _problem(
                    document, ("rules", i, "id"), f"rule `{rule.id}` is also in {rules[rule.id]}; ids are unique"
                )
            rules.setdefault(rule.id, document.file)


def _conflicts(documents: Sequence[Document]) -> Iterator[Problem]:
    """Two rules may steer one concept only in one way: which of two wins must not be left to an order."""
    first: dict[str, tuple[str, tuple[Any, ...]]] = {}
    for document in documents:
        for i, rule in enumerate(document.model.rules):
            for k, action in enumerate(rule.then):
                if not isinstance(action, SteerModel) or rule.rollout.mode == "disabled":
                    continue
                other, way = first.setdefault(action.concept, (rule.id, (action.toward, action.strength)))
                if way != (action.toward, action.strength):
                    yield _problem(
                        document,
                        ("rules", i, "then", k),
                        f"`{rule.id}` and `{other}` steer `{action.concept}` in two ways; say the same in both",
                    )


def _rule(
    document: Document, rule: RuleModel, heard: frozenset[str], reads: frozenset[str] | None, canaries: bool
) -> Iterator[tuple[_Path, str]]:
    yield from _list_names(document, rule)
    seen = dict(_picture_reads(rule.when, ("when",)))
    for path, name in _concepts(rule.when, ("when",)):
        if name not in heard:
            yield (
                path,
                f"no detector finds `{name}` in prompts{did_you_mean(name, sorted(n for n in heard if '/' in n))}",
            )
    verified = {a.read for a in rule.then if isinstance(a, VerifyModel)}
    steers = any(isinstance(a, SteerModel) for a in rule.then)
    for path, name in seen.items():
        if steers and name not in verified:
            yield (
                path,
                f"a rule that steers because of a picture must judge the new one: add `do: verify` with `read: {name}`",
            )
    for path, name in [
        *seen.items(),
        *((("then", i, "read"), a.read) for i, a in enumerate(rule.then) if isinstance(a, VerifyModel)),
    ]:
        if reads is not None and name not in reads:
            yield path, f"no detector reads `{name}` in pictures{did_you_mean(name, sorted(reads))}"
    if rule.rollout.mode == "canary" and not canaries:
        yield (
            ("rollout", "mode"),
            "a canary needs a secret key to draw requests by; configure one, or use `shadow` or `enforce`",
        )
    if rule.active and rule.active.since and rule.active.until and str(rule.active.since) >= str(rule.active.until):
        yield ("active", "until"), "must be later than `from`, or the rule is never in force"


def _list_names(document: Document, rule: RuleModel) -> Iterator[tuple[_Path, str]]:
    known = sorted(document.model.lists)
    for path, item in _words(rule, ()):
        if item.startswith("$") and item[1:] not in known:
            yield path, f"unknown list `{item}`{did_you_mean(item[1:], known) or '; the policy has no lists'}"
    for i, action in enumerate(rule.then):
        name = list_of(action.toward) if isinstance(action, SteerModel) else None
        if name is not None and name not in known:
            yield ("then", i, "toward"), f"takes its words from a list `{name}`, which the policy does not have"


def _words(value: Any, path: _Path) -> Iterator[tuple[_Path, str]]:
    """Every entry of a words field below `value`."""
    if isinstance(value, WordsModel | LetteringModel | VerifyModel):
        for name in ("any_of", "none_of", "unless"):
            for i, item in enumerate(getattr(value, name, None) or ()):
                yield (*path, name, i), item
    elif isinstance(value, BaseModel):
        for name, info in type(value).model_fields.items():
            yield from _words(getattr(value, name), (*path, info.alias or name))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _words(item, (*path, i))


def _leaves(when: WhenModel, path: _Path) -> Iterator[tuple[_Path, WhenModel]]:
    compound = [(k, getattr(when, k)) for k in ("all", "any", "none") if getattr(when, k) is not None]
    for kind, parts in compound:
        for i, part in enumerate(parts):
            yield from _leaves(part, (*path, kind, i))
    if not compound:
        yield path, when


def _concepts(when: WhenModel, path: _Path) -> Iterator[tuple[_Path, str]]:
    for where, leaf in _leaves(when, path):
        if leaf.concept is not None:
            yield (*where, "concept", "name"), leaf.concept.name


def _picture_reads(when: WhenModel, path: _Path) -> Iterator[tuple[_Path, str]]:
    for where, leaf in _leaves(when, path):
        if leaf.picture is not None:
            yield (*where, "picture"), leaf.picture.concept.name if leaf.picture.concept else "lettering"


def _tests(document: Document, documents: Iterable[Document]) -> Iterator[Problem]:
    known = sorted(r.id for d in documents for r in d.model.rules)
    seen: defaultdict[str, int] = defaultdict(int)
    for i, test in enumerate(document.model.tests):
        seen[test.name] += 1
        if seen[test.name] == 2:
            yield _problem(document, ("tests", i, "name"), f"two tests are called `{test.name}`")
        for name in ("rules", "shadow", "errors", "violations"):
            for k, rule in enumerate(getattr(test.expect, name) or ()):
                if rule not in known:
                    yield _problem(
                        document, ("tests", i, "expect", name, k), f"unknown rule `{rule}`{did_you_mean(rule, known)}"
                    )
