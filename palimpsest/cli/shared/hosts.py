"""Opens the model of `--model` and what belongs to it, or ends the command with an error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palimpsest.cli.shared.console import fail, model_from, settings_from

if TYPE_CHECKING:
    from steering import Host, Pack

__all__ = ["is_ours", "lettering_places", "open_host", "pack_for", "size_of"]


def open_host(model: str | None) -> Host:
    """The host of an embedded model, a folder or a hub id. Ends the command with an error if it cannot be opened."""
    from service.engine.host import load_host
    from service.settings import SettingsError
    from steering import SteeringError

    try:
        return load_host(model_from({"model": model}))
    except (SteeringError, SettingsError) as error:
        fail(str(error))


def is_ours(model: str | None) -> bool:
    """Whether the model draws the town, so that town prompts and the town's judge apply. Errors as in `open_host`."""
    from reference.folders import draws_town
    from service.loading.source import source_of
    from service.settings import SettingsError

    try:
        source = source_of(model_from({"model": model}))
        return source.kind != "file" and source.folder is not None and draws_town(source.folder)
    except (SettingsError, ValueError) as error:
        fail(str(error))


def pack_for(host: Host, concept: str, file: Path | None = None) -> Pack:
    """The pack in a file, or the one of a concept on a host. Ends the command with an error if there is none."""
    from reference.folders import packs_of
    from service.rules.support import extra_packs
    from service.settings import SettingsError
    from steering import Pack, SteeringError, find_pack, pack_roots

    try:
        if file is not None:
            return Pack.load(file, host=host)
        return find_pack(concept, host, pack_roots([*extra_packs(settings_from({})), packs_of(host.name)]))
    except (SteeringError, SettingsError) as error:
        fail(str(error))


def size_of(host: Host) -> tuple[int, int]:
    """Width and height of the model's own pictures."""
    height, width = host.defaults.height, host.defaults.width
    native = host.native_size
    if height and width:
        return width, height
    if native is None:
        fail("the model does not say how large its pictures are; put `height` and `width` into its `defaults.json`")
    return native[1], native[0]


def lettering_places() -> Callable[[Any], list[tuple[float, float, float, float]]]:
    """Says where lettering stands in a picture."""
    from detectors.images import RapidOcr

    reader = RapidOcr()
    return lambda image: [(b.left, b.top, b.right, b.bottom) for b in reader.find(image)]
