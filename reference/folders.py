"""Where our models, their packs and judges are stored, and how to recognise a model that was trained on the town."""

from __future__ import annotations

import json
from pathlib import Path

__all__ = ["JUDGES", "MODELS", "draws_town", "packs_of"]

MODELS = Path(__file__).parent / "models"
JUDGES = Path(__file__).parent / "judges"


def packs_of(model: str) -> Path:
    """The folder of the packs that were measured on a model of ours, by its name; for other models there is none."""
    return MODELS.parent / "packs" / model


def draws_town(folder: Path | str) -> bool:
    """Whether the model in `folder` was trained on the town, by its `recipe.json`; false where that names no world.

    Raises:
        ValueError: the file names a world that is none of ours.
    """
    file = Path(folder) / "recipe.json"
    named = json.loads(file.read_text("utf-8")).get("world") if file.is_file() else None
    if named not in (None, "town"):
        raise ValueError(f"world in `{file}` must be `town`, got `{named}`")
    return named == "town"
