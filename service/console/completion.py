"""What may be written at a place of a policy file, from the JSON Schema of policies.

The file is read by its indentation and brackets only, so that it need not be valid yet.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Suggestion", "path_at", "suggestions"]

_ITEM = "[]"
_KEY = re.compile(r"([\w-]+):(?=\s|$)")
_FLOW = re.compile(r"(?:([\w-]+):\s*)?([{\[])|([}\]])")


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A field with what it is for, or a value of the field at the place."""

    text: str
    help: str = ""
    is_value: bool = False


def path_at(text: str, line: int, column: int) -> tuple[tuple[str, ...], str | None]:
    """The fields around a place (counted from 1), `[]` for an item of a list; and the field whose value stands at the
    place, if one does.
    """
    lines = text.split("\n")[:line]
    before = lines[-1][: column - 1] if lines else ""
    stack: list[tuple[int, str]] = []
    for each in lines[:-1]:
        if each.strip() and not each.lstrip().startswith("#"):
            _enter(stack, each)
    rest = _enter(stack, before, unfinished=True)
    path = [token for _, token in stack]
    return _in_brackets(path, rest)


def suggestions(schema: Mapping[str, Any], text: str, line: int, column: int) -> list[Suggestion]:
    """What may stand at a place: values where a field has a closed set of them, else fields."""
    path, field = path_at(text, line, column)
    nodes = _nodes(schema, path)
    if field is not None:
        at = [n for node in nodes for n in _below(schema, node, field)]
        return [Suggestion(v, is_value=True) for v in dict.fromkeys(v for n in at for v in _values(n))]
    found: dict[str, str] = {}
    for node in nodes:
        for name, value in node.get("properties", {}).items():
            found.setdefault(name, _help(schema, value))
    return [Suggestion(name, said) for name, said in found.items()]


def _enter(stack: list[tuple[int, str]], line: str, *, unfinished: bool = False) -> str:
    """Takes a line into the stack of (indentation, field), returns what follows. Of an `unfinished` line, which ends
    at the place asked for, a field counts once its colon is written.
    """
    at = len(line) - len(line.lstrip(" "))
    while line[at : at + 2] == "- " or line[at:] == "-":
        while stack and (stack[-1][0] > at or stack[-1] == (at, _ITEM)):
            stack.pop()
        stack.append((at, _ITEM))
        at += 1 + (len(line) - at - 1 - len(line[at + 1 :].lstrip(" ")))
    while stack and stack[-1][0] >= at:
        stack.pop()
    key = _KEY.match(line, at)
    if key is not None:
        stack.append((at, key[1]))
        return line[key.end() :] or (" " if not unfinished else "")
    return line[at:]


def _in_brackets(path: Sequence[str], rest: str) -> tuple[tuple[str, ...], str | None]:
    """The path within the brackets that `rest` opens, and the field whose value stands at its end."""
    opened: list[tuple[str, ...]] = []
    for key, bracket, closing in _FLOW.findall(rest):
        if closing:
            opened = opened[:-1]
        else:
            inside = (key,) if key else ()
            opened.append((*inside, _ITEM) if bracket == "[" else inside)
    whole = (*path, *(token for tokens in opened for token in tokens))
    last = re.split(r"[{\[,]", rest)[-1]
    key = re.search(r"([\w-]+):\s", last)
    if opened and key is not None and "}" not in last and "]" not in last:
        return whole, key[1]
    if not opened and rest.startswith(" ") and path and path[-1] != _ITEM:
        return tuple(path[:-1]), path[-1]
    return whole, None


def _nodes(schema: Mapping[str, Any], path: Sequence[str]) -> list[Mapping[str, Any]]:
    """The schemas that may apply at a path."""
    nodes = list(_alternatives(schema, schema))
    for token in path:
        nodes = [below for node in nodes for below in _below(schema, node, token)]
    return nodes


def _below(schema: Mapping[str, Any], node: Mapping[str, Any], token: str) -> Iterator[Mapping[str, Any]]:
    if token == _ITEM:
        below = node.get("items")
    else:
        below = node.get("properties", {}).get(token, node.get("additionalProperties"))
    if isinstance(below, Mapping):
        yield from _alternatives(schema, below)


def _alternatives(schema: Mapping[str, Any], node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A schema with its references followed, or each of those that it is one of."""
    if "$ref" in node:
        found = schema
        for name in str(node["$ref"]).removeprefix("#/").split("/"):
            found = found[name]
        yield from _alternatives(schema, found)
        return
    choices = [*node.get("anyOf", ()), *node.get("oneOf", ()), *node.get("allOf", ())]
    if "properties" in node or "items" in node or not choices:
        yield node
    for choice in choices:
        yield from _alternatives(schema, choice)


def _values(node: Mapping[str, Any]) -> Iterator[str]:
    if "const" in node:
        yield str(node["const"])
    yield from map(str, node.get("enum", ()))
    if node.get("type") == "boolean":
        yield from ("true", "false")


def _help(schema: Mapping[str, Any], value: Mapping[str, Any]) -> str:
    said = value.get("description") or next(
        (n["description"] for n in _alternatives(schema, value) if n.get("description")), ""
    )
    return str(said).split("\n")[0]
