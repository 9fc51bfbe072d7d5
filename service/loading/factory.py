"""Calls `module:function`, the operator's own code that returns a diffusers pipeline.

It is imported as uvicorn imports an application: from a folder of the operator's, by default the working directory. It
is not checked.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import reduce
from pathlib import Path
from typing import Any

from palimpsest_base.suggest import did_you_mean
from service.settings import SettingsError

__all__ = ["call_factory", "check_factory"]


def check_factory(target: str, folder: Path) -> None:
    """Checks that the top module of `target` can be found, without importing it. Raises `SettingsError`."""
    top = target.partition(":")[0].partition(".")[0]
    _import_from(folder)
    if top not in sys.modules and importlib.util.find_spec(top) is None:
        raise SettingsError(f"`model` is `{target}`, and there is no module `{top}` in `{folder}`; see `app_dir`")


def call_factory(target: str, folder: Path) -> Any:
    """The pipeline that `target` returns. Whatever it raises is a `SettingsError` with that as its cause."""
    module, _, path = target.partition(":")
    _import_from(folder)
    try:
        found = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        raise _failed(target, f"cannot be imported from `{folder}`", error) from error
    try:
        factory = reduce(getattr, path.split("."), found)
    except AttributeError:
        near = did_you_mean(path, [n for n in dir(found) if not n.startswith("_")], list_all=False)
        raise SettingsError(f"`model` is `{target}`, and `{module}` has no `{path}`{near}") from None
    if not callable(factory):
        raise SettingsError(f"`model` is `{target}`, which must be a function, got `{type(factory).__name__}`")
    try:
        pipe = factory()
    except (Exception, SystemExit) as error:
        raise _failed(target, "failed", error) from error
    if not _is_pipeline(pipe):
        raise SettingsError(
            f"`model` is `{target}`, which must return a diffusers pipeline, got `{type(pipe).__name__}`"
        )
    return pipe


def _import_from(folder: Path) -> None:
    """Puts a folder first on the path of imports, for good: the operator's code may import more while it is used."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    importlib.invalidate_caches()


def _is_pipeline(value: Any) -> bool:
    from diffusers import DiffusionPipeline, ModularPipeline

    return isinstance(value, DiffusionPipeline | ModularPipeline)


def _failed(target: str, what: str, error: BaseException) -> SettingsError:
    said = (str(error).strip().splitlines() or [""])[0]
    return SettingsError(f"`model` is `{target}`, which {what}: {type(error).__name__}{said and ': '}{said}")
