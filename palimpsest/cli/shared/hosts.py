"""Loads the host that `--model` names, or ends the command with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palimpsest.cli.shared.console import fail, settings_from

if TYPE_CHECKING:
    from steering import Host

__all__ = ["is_ours", "open_host"]


def open_host(model: str | None) -> Host:
    """The host of an embedded model, a folder or a hub id; a command that cannot have it ends with the reason."""
    from service.engine.host import load_host
    from service.settings import SettingsError
    from steering import SteeringError

    try:
        return load_host(settings_from({"model": model}))
    except (SteeringError, SettingsError) as error:
        fail(str(error))


def is_ours(model: str | None) -> bool:
    """Whether the model draws the town, so that its prompts are made up and its judge can be believed; else as
    `open_host`."""
    from reference.folders import draws_town
    from service.model_names import resolve_model
    from service.settings import SettingsError

    try:
        return draws_town(resolve_model(settings_from({"model": model}).model)[0])
    except (SettingsError, ValueError) as error:
        fail(str(error))
