"""One parsed policy file: its valid parts with their places, and the problems of the rest.

If one rule of a file is wrong, the others are still reviewed, so the author sees all problems at once. Only a file
without problems has a `model`, and only such a file is compiled.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from policies.format.examples import TestModel
from policies.format.model import OverrideModel, PolicyModel, RequiresModel, RuleModel, WordListModel
from policies.format.strict_yaml import Marks, parse_yaml
from policies.format.validation import problems_of, problems_of_nothing
from policies.problems import Problem
from policies.store.sources import LIST_BYTES, PolicySource

__all__ = ["Document", "list_lines", "parse_document"]

_LIST_ENTRIES = 200_000
_NOT_UTF8 = "is not UTF-8; save the file as UTF-8"
_M = TypeVar("_M", bound=BaseModel)
Numbered = tuple[tuple[int, _M], ...]  # with the place in the file's own list


@dataclass(frozen=True, slots=True)
class Document:
    """One parsed policy file. `model` is None when the file has problems; the other fields then hold its valid parts.

    `rule_ids` and `list_names` name all rules and lists, malformed ones too. `words` has the entries of the lists,
    `files` the bytes of everything that was read, by name from the policy's folder.
    """

    file: str
    name: str
    model: PolicyModel | None
    marks: Marks
    lists: Mapping[str, WordListModel] = field(default_factory=dict)
    rules: Numbered[RuleModel] = ()
    overrides: Numbered[OverrideModel] = ()
    tests: Numbered[TestModel] = ()
    requires: RequiresModel = field(default_factory=RequiresModel)
    rule_ids: tuple[str, ...] = ()
    list_names: tuple[str, ...] = ()
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)


def parse_document(source: PolicySource, problems: list[Problem]) -> Document | None:
    """The document of `source`, None when it is not YAML. Its problems are added to `problems`."""
    label = source.label
    try:
        content = source.read()
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        problems.append(Problem(label, line, 0, "", _NOT_UTF8, "unreadable"))
        return None
    except OSError as error:
        problems.append(Problem(label, 0, 0, "", f"cannot be read: {error}", "unreadable"))
        return None
    value, marks, found = parse_yaml(text, file=label)
    problems += found
    if found:
        return None
    problems += problems_of_nothing(value, marks, file=label)
    try:
        model = PolicyModel.model_validate(value)
    except ValidationError as error:
        problems += problems_of(error, value, marks, file=label)
        document = _salvaged(label, value, marks)
    else:
        document = Document(
            label,
            model.name,
            model,
            marks,
            model.lists,
            tuple(enumerate(model.rules)),
            tuple(enumerate(model.overrides)),
            tuple(enumerate(model.tests)),
            model.requires,
            tuple(r.id for r in model.rules),
            tuple(model.lists),
        )
    return _with_lists(document, source, content, problems)


def _salvaged(label: str, value: Any, marks: Marks) -> Document:
    """The valid parts of a file with problems."""
    raw = value if isinstance(value, dict) else {}
    lists = raw.get("lists")
    named = ((str(k), _sound(WordListModel, v)) for k, v in lists.items()) if isinstance(lists, dict) else ()
    rules = raw["rules"] if isinstance(raw.get("rules"), list) else []
    return Document(
        label,
        str(raw.get("name", label)),
        None,
        marks,
        {k: v for k, v in named if v is not None},
        _sound_items(RuleModel, rules),
        _sound_items(OverrideModel, raw.get("overrides")),
        _sound_items(TestModel, raw.get("tests")),
        _sound(RequiresModel, raw.get("requires", {})) or RequiresModel(),
        tuple(str(r["id"]) for r in rules if isinstance(r, dict) and "id" in r),
        tuple(map(str, lists)) if isinstance(lists, dict) else (),
    )


def _sound(kind: type[_M], value: Any) -> _M | None:
    try:
        return kind.model_validate(value)
    except ValidationError:
        return None


def _sound_items(kind: type[_M], items: Any) -> Numbered[_M]:
    found = ((i, _sound(kind, item)) for i, item in enumerate(items if isinstance(items, list) else []))
    return tuple((i, item) for i, item in found if item is not None)


def _with_lists(document: Document, source: PolicySource, content: bytes, problems: list[Problem]) -> Document:
    """The document with the entries of its lists."""
    words: dict[str, tuple[str, ...]] = {}
    files = {source.name: content}
    for name, entry in document.lists.items():
        if entry.values is not None:
            words[name] = tuple(entry.values)
            continue
        assert entry.file is not None
        try:
            path = posixpath.normpath(entry.file)
            files[path] = source.fetch(entry.file)
            words[name] = tuple(text for _, _, text in list_lines(files[path]))
        except (OSError, ValueError) as error:
            line, column = document.marks.get(("lists", name, "file"), (0, 0))
            said = f"`{entry.file}`: {_NOT_UTF8 if isinstance(error, UnicodeDecodeError) else error}"
            problems.append(Problem(document.file, line, column, f"lists.{name}.file", said, "unreadable"))
    return replace(document, words=words, files=files)


def list_lines(content: bytes) -> tuple[tuple[int, int, str], ...]:
    """The line, column and text of each entry of a list file, one a line; `#` at the start of a line, or after a blank,
    starts a comment. Raises `ValueError`.
    """
    if len(content) > LIST_BYTES:
        raise ValueError(f"a list may have {LIST_BYTES} bytes at most")
    lines = [line.partition(" #")[0] for line in content.decode("utf-8-sig").splitlines()]
    entries = [(n, len(line) - len(line.lstrip()) + 1, line.strip()) for n, line in enumerate(lines, 1)]
    kept = tuple(e for e in entries if e[2] and not e[2].startswith("#"))
    if not kept:
        raise ValueError("the list is empty")
    if len(kept) > _LIST_ENTRIES:
        raise ValueError(f"a list may have {_LIST_ENTRIES} entries at most, got {len(kept)}")
    return kept
