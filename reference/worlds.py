"""Which of the two worlds a reference model draws."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

__all__ = ["World", "world_of"]

World = Literal["first", "town"]


def world_of(folder: Path | str) -> World:
    """The world that the model in `folder` was trained on, by its `recipe.json`; the first one where none is named.

    Raises:
        ValueError: the file names a world that is none of ours.
    """
    file = Path(folder) / "recipe.json"
    named = json.loads(file.read_text("utf-8")).get("world", "first") if file.is_file() else "first"
    if named not in ("first", "town"):
        raise ValueError(f"world in `{file}` must be `first` or `town`, got `{named}`")
    return "town" if named == "town" else "first"
