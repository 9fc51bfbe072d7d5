"""Where a watermark comes from: it is our own, or a plug-in of the group `palimpsest.watermarks`.

A plug-in's entry point names a function that takes the secret key, as bytes, and returns a `Watermark`.
"""

from __future__ import annotations

from collections.abc import Collection

from marking.watermark import BUILT_IN, Watermark
from palimpsest_base.plugins import BadPlugin, load_plugins

__all__ = ["load_watermark"]


def load_watermark(name: str, key: bytes, plugins: Collection[str] = ()) -> Watermark:
    """The watermark of this name with this key: the built-in one, or one of `plugins`. Raises: BadPlugin."""
    if name == BUILT_IN:
        from marking.spread import Spread

        return Spread(key)
    if name not in plugins:
        raise BadPlugin(f"must be `{BUILT_IN}` or the name of a plug-in that `plugins` allows, got `{name}`")
    factory = load_plugins("palimpsest.watermarks", plugins).get(name)
    if factory is None:
        raise BadPlugin(f"the plug-in `{name}` is no watermark")
    try:
        made = factory(key)
    except Exception as error:
        raise BadPlugin(f"the plug-in `{name}` cannot be set up: {error}") from error
    if not isinstance(made, Watermark):
        raise BadPlugin(f"the plug-in `{name}` must return a `Watermark`, got `{type(made).__name__}`")
    return made
