"""Where a model comes from: an embedded model, a diffusers folder, a hub id at a commit, a checkpoint in one file, or a
factory.

Nothing is downloaded. What can be said without reading weights is said here, so that a mistake is one line.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from palimpsest_base.hub import fetched_folder
from palimpsest_base.suggest import did_you_mean
from reference.folders import MODELS
from service.settings import Settings, SettingsError

__all__ = ["Source", "embedded_models", "is_factory", "resolve_model", "source_of", "written_at"]

_FACTORY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_PICKLES = (".ckpt", ".bin", ".pt", ".pth")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model comes from. `where`: the folder, hub id, file, or `module:function`. `folder`: the diffusers folder
    that describes the model, if there is one; of a checkpoint it is the setting `base`.
    """

    kind: Literal["folder", "hub", "file", "factory"]
    where: str
    folder: Path | None = None
    revision: str | None = None

    @property
    def base(self) -> Path | None:
        """The folder of the configurations of a checkpoint; None for other sources."""
        return self.folder if self.kind == "file" else None


def embedded_models() -> tuple[str, ...]:
    """The names of the models that ship with the repository."""
    return tuple(sorted(p.parent.name for p in MODELS.glob("*/model_index.json")))


def is_factory(name: str) -> bool:
    """Whether `name` is a `module:function`."""
    return _FACTORY.fullmatch(name) is not None and not Path(name).exists()


def source_of(settings: Settings) -> Source:
    """The source of the model that the settings name. Raises `SettingsError`, also for a setting that this kind of
    source does not have.
    """
    source = resolve_model(settings.model, revision=settings.revision, base=settings.base)
    factory = source.kind == "factory"
    useless = {
        "revision": settings.revision is not None and source.kind != "hub",
        "base": settings.base is not None and source.kind != "file",
        "variant": settings.variant is not None and source.kind in ("file", "factory"),
        "dtype": settings.dtype != "auto" and factory,
        "app_dir": settings.app_dir is not None and not factory,
    }
    for name in (name for name, given in useless.items() if given):
        raise SettingsError(f"`{name}` {_MEANT_FOR[name]}, and `model` is `{settings.model}`, {_KINDS[source.kind]}")
    return source


def resolve_model(name: str, *, revision: str | None = None, base: Path | None = None) -> Source:
    """The source that `name` is: an embedded model, a diffusers folder, `owner/model` with a `revision` or
    `owner/model@revision`, a `.safetensors` file with a `base`, or `module:function`. Raises `SettingsError` for
    anything else, and for a hub model that is not on this machine.
    """
    for folder in (Path(name), MODELS / name):
        if (folder / "model_index.json").is_file():
            return Source("folder", str(folder.absolute()), folder.absolute())
    if name.endswith(_PICKLES):
        raise SettingsError(f"`model` must be no pickle, which may run code when it is read: got `{name}`")
    if name.endswith(".safetensors"):
        return _checkpoint(Path(name), base)
    if is_factory(name):
        return Source("factory", name)
    hub, _, commit = name.partition("@")
    if hub.count("/") == 1 and not hub.startswith((".", "/", "~")) and not Path(hub).exists():
        if commit and revision and commit != revision:
            raise SettingsError(f"`model` names the commit `{commit}`, and `revision` is `{revision}`; leave one out")
        return _fetched(hub, commit or revision)
    known = embedded_models()
    near = did_you_mean(name, known, list_all=False)
    listed = ", ".join(f"`{m}`" for m in known) or "none in this installation"
    raise SettingsError(
        f"unknown model `{name}`: neither a diffusers folder nor a hub id, a `.safetensors` file, `module:function` or"
        f" an embedded model; embedded: {listed}{near}"
    )


def written_at(source: Source) -> int:
    """When the files of a model were written here, in Unix time; 0 for a factory. It is the same in every worker."""
    if source.folder is None:
        return 0
    file = Path(source.where) if source.kind == "file" else source.folder / "model_index.json"
    return int(file.stat().st_mtime)


_MEANT_FOR = {
    "revision": "is the commit of a hub model",
    "base": "is the folder with the configurations of a `.safetensors` checkpoint",
    "variant": "chooses among the weight files of a folder",
    "dtype": "is chosen by the factory",
    "app_dir": "is the folder of a `module:function`",
}
_KINDS = {"folder": "a folder", "hub": "a hub model", "file": "a checkpoint in one file", "factory": "a factory"}


def _checkpoint(file: Path, base: Path | None) -> Source:
    if not file.is_file():
        raise SettingsError(f"`model`: no checkpoint at `{file}`")
    if base is None:
        raise SettingsError(
            f"`model` is the checkpoint `{file}`, which has no configurations: set `base` to a diffusers folder of the"
            " same kind of model (its `model_index.json`, `config.json` and tokenizer files are enough)"
        )
    if not (base / "model_index.json").is_file():
        raise SettingsError(f"`base` must be a diffusers folder, got `{base}`, which has no `model_index.json`")
    return Source("file", str(file.absolute()), base.absolute())


def _fetched(hub: str, commit: str | None) -> Source:
    try:
        return Source("hub", hub, fetched_folder(hub, commit), commit)
    except ValueError as error:
        raise SettingsError(f"`model`: {error}") from None
