"""Turns pydantic's errors into problems for the author of a policy.

Pydantic knows no lines, suggests no names and prints types such as `literal['auto']`. This module adds the place in
the file, the fields that are allowed there and a sentence. It changes no value.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from palimpsest_base.suggest import did_you_mean
from policies.format.model import NOT_YET, PolicyModel
from policies.format.strict_yaml import Marks
from policies.problems import Problem

__all__ = ["problems_of", "problems_of_nothing"]

_Loc = tuple[str | int, ...]


def problems_of(error: ValidationError, value: Any, marks: Marks, *, file: str) -> list[Problem]:
    """One problem for each error, at the place of the nearest value in the file; duplicates are dropped."""
    seen: dict[tuple[_Loc, str], Problem] = {}
    items = error.errors(include_url=False)
    for item in items:
        if item["type"] == "literal_error" and isinstance(item.get("input"), dict) and _is_of_union(item, items):
            continue  # it is one of the mappings that may stand there, and what is wrong inside is told
        path = _in_file(item["loc"], value)
        if _at(value, path) is None and path:
            continue  # `problems_of_nothing` reports it
        line, column = marks.get(path, (0, 0))
        missing = item["type"] == "missing"
        shown = (*path, item["loc"][-1]) if missing else path
        problem = Problem(file, line, column, _dotted(shown), _sentence(dict(item), path, marks.written.get(path)))
        seen.setdefault((path, item["type"] if missing else ""), problem)
        if missing:
            seen[(shown, "missing")] = problem
    return list(dict.fromkeys(seen.values()))


def problems_of_nothing(value: Any, marks: Marks, *, file: str, path: _Loc = ()) -> Iterator[Problem]:
    """One problem for each field without a value, because an empty value means nothing in the format."""
    if value is None:
        line, column = marks.get(path, (0, 0))
        said = "has no value; give it one, or remove it" if path else "the file holds nothing but a null"
        yield Problem(file, line, column, _dotted(path), said)
    for part, inner in (
        value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list) else ())
    ):
        yield from problems_of_nothing(inner, marks, file=file, path=(*path, part))


def _is_of_union(item: Any, items: Iterable[Any]) -> bool:
    """Whether another error lies in the value that `item` is about. The last of a location in a union is a member."""
    place = item["loc"][:-1]
    return any(other is not item and other["loc"][: len(place)] == place for other in items)


def _at(value: Any, path: _Loc) -> Any:
    for part in path:
        value = value[part]
    return value


def _dotted(path: _Loc) -> str:
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).lstrip(".")


def _in_file(loc: _Loc, value: Any) -> _Loc:
    """The part of `loc` that exists in the file: pydantic adds the names of union members, and of missing fields."""
    path: list[str | int] = []
    for part in loc:
        inside = part in value if isinstance(value, Mapping) else isinstance(value, list) and part in range(len(value))
        if inside:
            value = value[part]
            path.append(part)
    return tuple(path)


def _sentence(item: dict[str, Any], path: _Loc, written: str | None) -> str:
    """What is wrong, in words; `written` is the value as the file has it, if it is not a text."""
    kind, got = item["type"], item.get("input")
    if written is not None and not isinstance(got, str):  # a text is the name of a field, or a value as it is written
        got = written
    ctx = item.get("ctx", {})
    if kind == "extra_forbidden":
        name = str(item["loc"][-1])
        if name in NOT_YET:
            return f"`{name}` is reserved for {NOT_YET[name]}, which this version cannot do; remove it"
        return f"unknown field `{name}`{did_you_mean(name, _fields_at(item['loc'][:-1]))}"
    if kind == "missing":
        return f"the field `{item['loc'][-1]}` is required"
    if kind == "union_tag_invalid":
        known = [t.strip(" '") for t in str(ctx["expected_tags"]).split(",")]
        return f"unknown action `{ctx['tag']}`{did_you_mean(str(ctx['tag']), known)}"
    if kind == "union_tag_not_found":
        return "an action needs `do: steer | verify | label | review-hold | block`"
    if kind == "literal_error":
        known = [k.strip(" '") for k in str(ctx["expected"]).replace(" or ", ", ").split(",")]
        near = did_you_mean(str(got), known) if isinstance(got, str) else ""
        near = near if "did you mean" in near else ""
        return f"must be one of {', '.join(f'`{k}`' for k in known)}, got `{got}`{near}"
    if kind == "string_pattern_mismatch":
        return f"{_shape(path)}, got `{got}`"
    if kind == "string_type" and _field(path) in _DURATIONS:
        return f"{_shape(path)}, got `{got}`"
    if kind == "string_type":
        return f"must be text, got `{got}`; put it in quotes if it is meant so"
    if kind == "list_type" and isinstance(item.get("input"), str):
        return f"must be a list; write `[{got}]`"
    if kind == "model_type":
        return f"must be a mapping of fields, got `{got}`"
    message = str(item["msg"]).removeprefix("Input should be ").removeprefix("Value error, ")
    if item["msg"].startswith("Input should be "):
        quoted = repr(got) if got is item.get("input") else got
        shown = quoted if not isinstance(got, dict | list) else type(got).__name__
        return f"must be {message}, got `{shown}`"
    return message[:1].lower() + message[1:]


def _field(path: _Loc) -> str:
    """The last name of `path` that is not a place in a list."""
    return next((str(p) for p in reversed(path) if not isinstance(p, int)), "")


def _shape(path: _Loc) -> str:
    """The shape that the text at `path` must have, in words."""
    if "concept" in path[-2:]:  # the field itself, a name below it, or the key of a mapping of concepts
        return _CONCEPT
    return _PATTERNS.get(_field(path), "must be lower case words joined by dashes, such as `no-slurs`")


_CONCEPT = "must be `lettering`, or a kind and a name in lower case, such as `character/pip` or `logo/acme`"
_DURATIONS = ("max_age", "age", "within", "ago")
_PATTERNS = {
    "engine": "must be three numbers such as 1.0.0",
    **dict.fromkeys(_DURATIONS, "must be a length of time such as `15m`, `24h` or `7d`"),
    "version": "must be three numbers such as 1.0.0",
    "read": _CONCEPT,
    "packs": _CONCEPT,
    "picture": _CONCEPT,
    "prompt": "must be `text`, `lettering`, `toxicity` or a concept such as `character/pip`",
    "errors": "must be `text`, `lettering`, `toxicity` or a concept such as `character/pip`",
    "between": 'must be two times of day in UTC such as ["22:00", "06:00"]',
}


def _fields_at(loc: _Loc) -> list[str]:
    """The names of the fields that the format allows at `loc`."""
    at: Any = PolicyModel
    for part in loc:
        at = _step(at, part)
    return [info.alias or name for name, info in at.model_fields.items()] if _is_model(at) else []


def _step(annotation: Any, part: str | int) -> Any:
    """The type found under `part` of a value of type `annotation`; None where the format has nothing."""
    annotation = _bare(annotation)
    if _is_model(annotation):
        for name, info in annotation.model_fields.items():
            if part in (name, info.alias):
                return _bare(info.annotation)
        return None
    args = typing.get_args(annotation)
    if typing.get_origin(annotation) is list and isinstance(part, int):
        return _bare(args[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        for member in map(_bare, args):  # a tag of the actions' union
            tag = member.model_fields.get("do") if _is_model(member) else None
            if tag is not None and part in typing.get_args(tag.annotation):
                return member
    return args[1] if typing.get_origin(annotation) is dict else None


def _bare(annotation: Any) -> Any:
    """`annotation` without `Annotated` and without `| None`."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _bare(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        rest = [a for a in typing.get_args(annotation) if a is not type(None)]
        return _bare(rest[0]) if len(rest) == 1 else annotation
    return annotation


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
