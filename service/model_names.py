"""Resolves a model name: an embedded model, a diffusers folder, or a hub id with a pinned revision."""

from __future__ import annotations

from pathlib import Path

from reference.folders import MODELS
from service.settings import SettingsError

__all__ = ["embedded_models", "resolve_model", "written_at"]


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


def written_at(name: str) -> int:
    """When the files of the model `name` were written here, in Unix time. It is the same in every worker."""
    where, revision = resolve_model(name)
    index = Path(where) / "model_index.json"
    if revision is not None:
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(where, "model_index.json", revision=revision)
        if not isinstance(cached, str):  # loaded from elsewhere
            return 0
        index = Path(cached)
    return int(index.stat().st_mtime)
