"""Checks policies against each other and against the detectors.

It refuses at load time what would fail at run time: a list that does not exist, a concept that no detector covers, a
steer because of a picture without a check of the new picture, two rules that steer one concept in two ways.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pydantic import BaseModel

from palimpsest_base.suggest import did_you_mean
from policies.decide.donor import list_of
from policies.fields import moment
from policies.format.model import RuleModel, SteerModel, VerifyModel
from policies.predicates.lettering import LetteringModel
from policies.predicates.when import WhenModel
from policies.predicates.words import WordsModel
from policies.problems import Problem
from policies.store.document import Document
from policies.store.environment import Environment, what_is_covered
from policies.types import concept_of

__all__ = ["place", "review", "where", "words_in"]

_Path = tuple[str | int, ...]


def review(documents: Sequence[Document], environment: Environment, *, whole: bool) -> Iterator[Problem]:
    """Every problem of `documents` together.

    `whole` is False when some file could not be read; a missing name is then no problem, because it may be there.
    """
    yield from _doubles(documents)
    yield from _conflicts(documents)
    for document in documents:
        for i, rule in document.rules:
            for path, message in _rule(document, rule, environment):
                yield place(document, ("rules", i, *path), message)
        yield from _tests(document, documents, whole)


def place(document: Document, path: _Path, message: str, code: Any = "invalid") -> Problem:
    """The problem at `path`, or at the nearest place above it that the file has."""
    return Problem(*where(document, path), message, code)


def where(document: Document, path: _Path) -> tuple[str, int, int, str]:
    """The file, line and column of `path`, or of the nearest place above it that the file has, and the path as text."""
    there = path
    while there and there not in document.marks:
        there = there[:-1]
    dotted = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).lstrip(".")
    return (document.file, *document.marks.get(there, (0, 0)), dotted)


def _doubles(documents: Sequence[Document]) -> Iterator[Problem]:
    names: dict[str, str] = {}
    rules: dict[str, str] = {}
    for document in documents:
        name = document.name
        if name in names:
            yield place(document, ("name",), f"policy `{name}` is also in {names[name]}; names are unique")
        names.setdefault(name, document.file)
        for i, rule in document.rules:
            if rule.id in rules:
                said = f"rule `{rule.id}` is also in {rules[rule.id]}; ids are unique"
                yield place(document, ("rules", i, "id"), said)
            rules.setdefault(rule.id, document.file)
    renamed: dict[str, str] = {}
    for document in documents:
        for i, rule in document.rules:
            for k, old in enumerate(rule.renamed_from):
                if old in rules or renamed.setdefault(old, rule.id) != rule.id:
                    said = f"`{old}` is still a rule, or was renamed to another one; list an old id in one rule only"
                    yield place(document, ("rules", i, "renamed_from", k), said)


def _conflicts(documents: Sequence[Document]) -> Iterator[Problem]:
    """Rules that steer one concept in two ways, because no order decides between them."""
    first: dict[str, tuple[str, tuple[Any, ...]]] = {}
    for document in documents:
        for i, rule in document.rules:
            for k, action in enumerate(rule.then):
                if not isinstance(action, SteerModel) or rule.rollout.mode == "disabled":
                    continue
                other, way = first.setdefault(action.concept, (rule.id, (action.toward, action.strength)))
                if way != (action.toward, action.strength):
                    both = f"`{rule.id}` and `{other}` steer `{action.concept}` in two ways"
                    said = f"{both}; use the same `toward` and `strength`"
                    yield place(document, ("rules", i, "then", k), said)


def _rule(document: Document, rule: RuleModel, environment: Environment) -> Iterator[tuple[_Path, str]]:
    yield from _list_names(document, rule)
    conditions: list[tuple[_Path, WhenModel]] = [(("when",), rule.when)]
    conditions += [(("exceptions", k, "when"), e.when) for k, e in enumerate(rule.exceptions) if e.when]
    for where, when in conditions:
        for need in when.needs():
            if need.stage == "prompt" and need.name not in environment.in_prompts:
                concepts = (n for n in environment.in_prompts if "/" in n)
                said = f"no detector finds `{need.name}` in prompts{what_is_covered(need.name, concepts)}"
                yield (*where, *need.path), said
    seen = {("when", *need.path): need.name for need in rule.when.needs() if need.stage == "picture"}
    verified = {a.read for a in rule.then if isinstance(a, VerifyModel)}
    if any(isinstance(a, SteerModel) for a in rule.then):
        for path, name in seen.items():
            if name not in verified and concept_of(name) not in verified:
                way_out = f"add `do: verify` with `read: {name}`"
                yield path, f"a rule that steers because of a picture must check the new picture; {way_out}"
    read = ((("then", i, "read"), a.read) for i, a in enumerate(rule.then) if isinstance(a, VerifyModel))
    for path, name in [*seen.items(), *read]:
        if concept_of(name) is not None:
            continue  # a pack's: the worker asks its packs
        if environment.in_pictures is not None and name not in environment.in_pictures:
            yield path, f"no detector reads `{name}` in pictures{what_is_covered(name, environment.in_pictures)}"
    if rule.rollout.mode == "canary" and not environment.canaries:
        yield (
            ("rollout", "mode"),
            "a canary needs a secret key to draw requests; configure one, or use `shadow` or `enforce`",
        )
    if rule.active:
        start, end = moment(rule.active.since), moment(rule.active.until)
        if start is not None and end is not None and start >= end:
            yield ("active", "until"), "must be later than `from`, or the rule is never in force"


def _list_names(document: Document, rule: RuleModel) -> Iterator[tuple[_Path, str]]:
    known = sorted(document.list_names)
    for path, item in words_in(rule, ()):
        if item.startswith("$") and item[1:] not in known:
            yield path, f"unknown list `{item}`{did_you_mean(item[1:], known) or '; the policy has no lists'}"
    for i, action in enumerate(rule.then):
        name = list_of(action.toward) if isinstance(action, SteerModel) else None
        if name is not None and name not in known:
            yield ("then", i, "toward"), f"needs the list `{name}`, which the policy does not have"


def words_in(value: Any, path: _Path) -> Iterator[tuple[_Path, str]]:
    """Every entry of a words field below `value`."""
    if isinstance(value, WordsModel | LetteringModel | VerifyModel):
        for name in ("any_of", "none_of", "unless", "near_unless"):
            for i, item in enumerate(getattr(value, name, None) or ()):
                yield (*path, name, i), item
    elif isinstance(value, BaseModel):
        for name, info in type(value).model_fields.items():
            yield from words_in(getattr(value, name), (*path, info.alias or name))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from words_in(item, (*path, i))


def _tests(document: Document, documents: Iterable[Document], whole: bool) -> Iterator[Problem]:
    known = sorted(id for d in documents for id in d.rule_ids)
    seen: defaultdict[str, int] = defaultdict(int)
    for i, test in document.tests:
        seen[test.name] += 1
        if seen[test.name] == 2:
            yield place(document, ("tests", i, "name"), f"two tests are called `{test.name}`")
        for name in ("matched", "rules", "shadow", "exempted", "errors", "violations"):
            for k, rule in enumerate(getattr(test.expect, name) or ()):
                if whole and rule not in known:
                    said = f"unknown rule `{rule}`{did_you_mean(rule, known)}"
                    yield place(document, ("tests", i, "expect", name, k), said)
