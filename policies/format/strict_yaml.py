"""The subset of YAML that policies use: no aliases, no duplicate keys, no YAML 1.1 booleans, bounded in size and depth.

Plain `yaml.safe_load` reads `off` and `NO` as False and `1:20` as 80, silently keeps the last of two equal keys, and
expands alias bombs. Here scalars follow YAML 1.2, and the rest is an error with line and column. Several errors are
reported at once: a line that breaks the syntax is blanked out, and the rest is read again to find more errors.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Hashable, Iterator
from typing import Any

import yaml

from policies.problems import Problem

__all__ = ["MAX_BYTES", "Marks", "dump_yaml", "parse_yaml"]

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
_MOST_ERRORS = 8

_BLANKS = "\u00a0\u2007\u202f\u3000"  # no-break, figure, narrow no-break and ideographic spaces
_ODD = re.compile(rf"[ {_BLANKS}-]*([\w-]+:[ {_BLANKS}]*)?")  # the begin of a line, as far as YAML needs spaces there

Path = tuple[str | int, ...]


class Marks(dict[Path, tuple[int, int]]):
    """The line and column of each value, or of its key, from 1.

    `written` has the numbers, dates and truth values as the file has them: the value of `1.10` is 1.1.
    """

    def __init__(self) -> None:
        self.written: dict[Path, str] = {}


_TAG = "tag:yaml.org,2002:"
_SCALARS = (
    ("bool", r"true|false", "tf"),
    ("null", r"null|~|", ["n", "~", ""]),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?", "-+0123456789"),
    ("timestamp", r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\dZ)?", "0123456789"),
)


def parse_yaml(text: str, *, file: str) -> tuple[Any, Marks, list[Problem]]:
    """The value of one YAML document, the place of each value in it, and the problems; with problems it is None."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        problem = f"the file is larger than {MAX_BYTES} bytes; move words into list files"
        return None, Marks(), [Problem(file, 0, 0, "", problem, "unreadable")]
    try:
        node, loader = _compose(text)
    except yaml.YAMLError:
        odd, text = _odd_spaces(text)
        found = (*odd, *_syntax_errors(text))
        return None, Marks(), [Problem(file, *place, "", said, "syntax") for place, said in found]
    if node is None:
        return None, Marks(), [Problem(file, 0, 0, "", "the file is empty; it must hold one policy", "syntax")]
    value = loader.construct_document(node)
    if loader.faults:
        return None, Marks(), [Problem(file, *place, "", said, "syntax") for place, said in loader.faults]
    marks = Marks()
    _walk(node, (), marks)
    return value, marks, []


def dump_yaml(value: Any) -> str:
    """YAML text that `parse_yaml` reads as `value`, a plain value; keys keep their order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def _compose(text: str) -> tuple[yaml.Node | None, _Loader]:
    loader = _Loader(text)
    try:
        return loader.get_single_node(), loader
    finally:
        loader.dispose()


def _odd_spaces(text: str) -> tuple[list[tuple[tuple[int, int], str]], str]:
    """The places of blanks that look like spaces and are none, where YAML needs a space; and the text with spaces there
    in their place, so that what else is wrong can be told.
    """
    found = []
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        begin = _ODD.match(line)
        odd = [place for place, c in enumerate(begin.group() if begin else "") if c in _BLANKS]
        if odd:
            name = unicodedata.name(line[odd[0]]).lower()
            said = f"U+{ord(line[odd[0]]):04X} ({name}) stands where a space must"
            found.append(((number + 1, odd[0] + 1), said))
            lines[number] = "".join(" " if place in odd else c for place, c in enumerate(line))
    return found, "".join(lines)


def _syntax_errors(text: str) -> Iterator[tuple[tuple[int, int], str]]:
    """The places and messages of the syntax errors, at most `_MOST_ERRORS`, from top to bottom."""
    last = -1
    for _ in range(_MOST_ERRORS):
        try:
            _compose(text)
            return
        except yaml.MarkedYAMLError as error:
            mark, spoilt = _place(error)
            if mark is None or mark.line <= last:
                return
            yield (mark.line + 1, mark.column + 1), _sentence(error)
            last = mark.line
        except yaml.reader.ReaderError as error:
            before = text[: error.position]
            line = before.count("\n")
            if line <= last:
                return
            said = f"holds the character U+{ord(text[error.position]):04X}, which YAML does not allow"
            yield (line + 1, error.position - before.rfind("\n")), said
            last, spoilt = line, range(line, line + 1)
        text = "".join(_blank(s) if i in spoilt else s for i, s in enumerate(text.splitlines(keepends=True)))


def _blank(line: str) -> str:
    """An empty line in place of a broken one; a line that began an item of a list still begins one."""
    indent = line[: len(line) - len(line.lstrip(" "))]
    return f"{indent}- _: 0\n" if line.startswith(f"{indent}- ") else "\n"


def _place(error: yaml.MarkedYAMLError) -> tuple[yaml.Mark | None, range]:
    """The place to report for an error, and the lines to blank so that the rest can be read."""
    mark, opened = error.problem_mark or error.context_mark, error.context_mark
    if mark is None or opened is None:
        return mark, range(mark.line, mark.line + 1) if mark else range(0)
    context = str(error.context)
    if "quoted scalar" in context:
        return opened, range(opened.line, opened.line + 1)
    if "flow" in context:
        return mark, range(opened.line, max(mark.line, opened.line + 1))
    return mark, range(mark.line, mark.line + 1)


def _sentence(error: yaml.MarkedYAMLError) -> str:
    said, opened = str(error.problem or error.context), error.context_mark
    if said.startswith(r"found character '\t'"):
        return "a tab stands where YAML takes none; use spaces"
    if "quoted scalar" in str(error.context) and "end of stream" in said:
        return "a quote is opened here and never closed"
    if "flow" in str(error.context) and opened is not None:
        return f"{said}; the bracket opened at {opened.line + 1}:{opened.column + 1} may not be closed"
    return said


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
    elif isinstance(node, yaml.ScalarNode) and node.tag != f"{_TAG}str":
        marks.written[path] = node.value


class _Loader(yaml.SafeLoader):
    """A `SafeLoader` with the resolvers of YAML 1.2. It collects what policies may not use in `faults`."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  PyYAML's own class attribute, filled below

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self.faults: list[tuple[tuple[int, int], str]] = []

    def fault(self, text: str, mark: Any) -> None:
        self.faults.append(((mark.line + 1, mark.column + 1), text))

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            self.get_event()
            if not self.faults:  # its anchor is reported already
                self.fault("anchors and aliases are not allowed", event.start_mark)
            return yaml.ScalarNode(_TAG + "str", "")
        if getattr(event, "anchor", None):
            self.fault("anchors and aliases are not allowed", event.start_mark)
            event.anchor = None
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
        kept = []
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.fault("a key must be a plain word", key.start_mark)
            elif key.value in seen:
                self.fault(f"duplicate key `{key.value}`", key.start_mark)
            else:
                seen.add(key.value)
                kept.append((key, value))
        node.value = kept
        return super().construct_mapping(node, deep)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Leaves merge keys (`<<`) alone: they become ordinary, unknown keys."""

    def construct_date(self, node: yaml.ScalarNode) -> Any:
        try:
            return self.construct_yaml_timestamp(node)
        except ValueError as error:  # such as the 31st of February
            self.fault(f"`{node.value}` is not a date: {error}", node.start_mark)
            return None

    def construct_unknown(self, node: yaml.Node) -> None:
        self.fault(f"could not determine a constructor for the tag `{node.tag}`; leave it out", node.start_mark)


class _Dumper(yaml.SafeDumper):
    """A `SafeDumper` that quotes every text that the loader above would read as another type."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  PyYAML's own class attribute, filled below

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _name, _pattern, _first in _SCALARS:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern})$"), list(_first))
_Loader.add_constructor(_TAG + "timestamp", _Loader.construct_date)
_Loader.add_constructor(None, _Loader.construct_unknown)
