"""What commands share that need a model: the host that `--model` names and its world, or a clear end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.console import fail, settings_from

if TYPE_CHECKING:
    from reference.worlds import World
    from steering import Host

__all__ = ["open_host", "world_named"]


def open_host(model: str | None) -> Host:
    """The host of an embedded model, a folder or a hub id; a command that cannot have it ends with the reason."""
    from service.models import load_host
    from service.settings import SettingsError
    from steering import SteeringError

    try:
        return load_host(settings_from({"model": model}))
    except (SteeringError, SettingsError) as error:
        fail(str(error))


def world_named(model: str | None) -> World:
    """The reference world that the model draws, the first one for models that are not ours; else as `open_host`."""
    from reference.worlds import world_of
    from service.models import resolve_model
    from service.settings import SettingsError

    try:
        return world_of(resolve_model(settings_from({"model": model}).model)[0])
    except (SettingsError, ValueError) as error:
        fail(str(error))
