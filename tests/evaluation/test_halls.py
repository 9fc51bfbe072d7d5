"""The order of the files in `evaluation` and `reference`: a file imports only its own level and those before it.

| break | red |
|---|---|
| import `evaluation.tables.model` in `evaluation/prompts/cases.py` | the levels of evaluation |
| import `reference.recipes` in `reference/town/scenes.py` | the levels of reference |
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# patterns of files, lowest level first; a file belongs to the first level that matches it
LEVELS: dict[str, tuple[tuple[str, ...], ...]] = {
    "evaluation": (
        ("metrics", "answers", "draw"),
        ("prompts/*",),
        ("readers/*",),
        ("training/*",),
        ("tables/*",),
        ("__init__",),
    ),
    "reference": (
        ("__init__", "loop", "folders", "batches", "autoencoder"),
        ("town/scenes", "town/letters", "town/layout", "town/captions"),
        ("town/drawing/*",),
        ("town/*",),
        ("recipes/shapes", "recipes/tokens", "recipes/texts", "recipes/family"),
        ("recipes/models/*",),
        ("recipes/*",),
        ("planted/*",),
    ),
}


def level_of(room: str, name: str) -> int:
    for level, patterns in enumerate(LEVELS[room]):
        if any(fnmatch(name, pattern) for pattern in patterns):
            return level
    raise AssertionError(f"{room}/{name}.py has no level")


def imports_of(path: Path, room: str) -> Iterator[str]:
    """The files of the same room that a file imports, by their names in it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for module in (m for m in modules if m.startswith(f"{room}.")):
            name = module.removeprefix(f"{room}.").replace(".", "/")
            yield f"{name}/__init__" if (ROOT / room / name).is_dir() else name


@pytest.mark.parametrize("room", LEVELS)
def test_a_file_imports_only_its_own_level_and_those_before_it(room: str) -> None:
    checked = 0
    for path in sorted((ROOT / room).rglob("*.py")):
        name = path.relative_to(ROOT / room).with_suffix("").as_posix()
        for used in imports_of(path, room):
            checked += 1
            assert level_of(room, used) <= level_of(room, name), f"{room}/{name}.py imports {used}"
    assert checked > 50
