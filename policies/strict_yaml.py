"""YAML as policies may use it: no aliases, no duplicate keys, no YAML 1.1 booleans, bounded, each value with its place.

Plain `yaml.safe_load` reads `off` as False, `NO` as False and `1:20` as 80, keeps the last of two equal keys without
a word and expands alias bombs. Here scalars are those of YAML 1.2, and everything else of the list is an error with
line and column.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

from policies.problems import Problem

__all__ = ["MAX_BYTES", "Marks", "parse_yaml"]

MAX_BYTES = 1 << 20
MAX_DEPTH = 32

Path = tuple[str | int, ...]
Marks = dict[Path, tuple[int, int]]  # path of a value (or key) -> line and column, from 1

_TAG = "tag:yaml.org,2002:"
_SCALARS = (
    ("bool", r"true|false", "tf"),
    ("null", r"null|~|", ["n", "~", ""]),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?", "-+0123456789"),
    ("timestamp", r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\dZ)?", "0123456789"),
)


def parse_yaml(text: str, *, file: str) -> tuple[Any, Marks, list[Problem]]:
    """The value of one YAML document, the place of everything in it, and what is wrong (value None then)."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        return (
            None,
            {},
            [Problem(file, 0, 0, "", f"the file is larger than {MAX_BYTES} bytes; move words into list files")],
        )
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None, {}, [Problem(file, 0, 0, "", "the file is empty; it must hold one policy")]
        marks: Marks = {}
        _walk(node, (), marks)
        return loader.construct_document(node), marks, []
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        return None, {}, [Problem(file, line, column, "", str(error.problem or error.context))]
    except yaml.YAMLError as error:
        return None, {}, [Problem(file, 0, 0, "", " ".join(str(error).split()))]
    except ValueError as error:  # a date that does not exist, for instance
        return None, {}, [Problem(file, 0, 0, "", str(error))]
    finally:
        if loader is not None:
            loader.dispose()


def _walk(node: yaml.Node, path: Path, marks: Marks) -> None:
    marks.setdefault(path, (node.start_mark.line + 1, node.start_mark.column + 1))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*path, str(key.value))
            marks[here] = (key.start_mark.line + 1, key.start_mark.column + 1)
            _walk(value, here, marks)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            _walk(value, (*path, i), marks)


class _Loader(yaml.SafeLoader):
    """A `SafeLoader` with the resolvers of YAML 1.2 that refuses what a policy has no use for."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  PyYAML's own class attribute, filled below

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise yaml.composer.ComposerError(None, None, "anchors and aliases are not allowed", event.start_mark)
        self._depth += 1
        try:
            if self._depth > MAX_DEPTH:
                raise yaml.composer.ComposerError(
                    None, None, f"nested deeper than {MAX_DEPTH} levels", event.start_mark
                )
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a plain word", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key `{key.value}`", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Leaves merge keys (`<<`) alone: they become ordinary, unknown keys."""


for _name, _pattern, _first in _SCALARS:
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern})$"), list(_first))
