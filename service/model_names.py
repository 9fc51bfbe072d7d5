"""Resolves a model name: an embedded model, a diffusers folder, or a hub id with a pinned revision."""

from __future__ import annotations

from pathlib import Path

from reference.folders import MODELS
from service.settings import SettingsError

__all__ = ["embedded_models", "resolve_model"]


def embedded_models() -> tuple[str, ...]:
    """The names of the models that ship with the repository."""
    return tuple(sorted(p.parent.name for p in MODELS.glob("*/model_index.json")))


def resolve_model(name: str) -> tuple[str, str | None]:
    """The folder or hub id of the model `name`, and its revision (None for a folder).

    `name` is an embedded model, a diffusers folder, or `owner/model@revision`. Raises `SettingsError` for anything
    else.
    """
    for folder in (Path(name), MODELS / name):
        if (folder / "model_index.json").is_file():
            return str(folder.resolve()), None
    hub, at, revision = name.partition("@")
    if hub.count("/") == 1 and not Path(hub).exists():
        if at and revision:
            return hub, revision
        raise SettingsError(f"a hub model needs a pinned revision: `{hub}@<commit>`, got `{name}`")
    known = ", ".join(f"`{m}`" for m in embedded_models()) or "none in this installation"
    raise SettingsError(f"unknown model `{name}`: neither a diffusers folder nor an embedded model; embedded: {known}")
