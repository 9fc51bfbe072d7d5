"""The arrows inside the room: ground < predicates < format < decide < store, and no folder too large to survey."""

from __future__ import annotations

import ast
from pathlib import Path

import policies

ROOM = Path(policies.__file__).parent
HALLS = ("predicates", "format", "decide", "store")  # each may import the ground, itself and those before it


def _hall(path: Path) -> int:
    """The place of a module's hall, from 0 for the ground."""
    folder = path.relative_to(ROOM).parts[0]
    return HALLS.index(folder) + 1 if folder in HALLS else 0


def test_no_hall_imports_one_above_it():
    for path in ROOM.rglob("*.py"):
        if path == ROOM / "__init__.py":
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("policies."):
                part = (node.module or "").split(".")[1]
                above = HALLS.index(part) + 1 if part in HALLS else 0
                assert above <= _hall(path), f"{path.relative_to(ROOM)} imports {node.module}"


def test_a_folder_holds_fifteen_files_at_most():
    for folder in (ROOM, *(ROOM / hall for hall in HALLS)):
        assert len(list(folder.glob("*.py"))) <= 15, folder.name
