"""Plug-ins: objects that other packages offer under entry points, of which only those that are allowed are loaded.

An installed package is code that somebody chose to install, and not yet code that may run in a safety service. So a
plug-in is loaded only if its name stands on the caller's allow-list (setting `plugins`); a name on the list that no
package offers is an error, and so is a name that two packages offer.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, get_args

from palimpsest_base.suggest import did_you_mean

__all__ = ["GROUPS", "BadPlugin", "Group", "load_plugins"]

Group = Literal["palimpsest.detectors", "palimpsest.families", "palimpsest.fitters", "palimpsest.watermarks"]
GROUPS: tuple[Group, ...] = get_args(Group)


class BadPlugin(ValueError):
    """A plug-in that is allowed and cannot be had: not installed, offered twice, or it fails to import."""


def load_plugins(group: Group, allowed: Collection[str]) -> Mapping[str, Any]:
    """The allowed plug-ins of a group by name, in the order of their names.

    A name of `allowed` may belong to any group; it is an error only if no group has it. Raises: BadPlugin.
    """
    if not allowed:  # reading the entry points of all installed packages takes a while
        return {}
    offered = {each: _offered(each) for each in GROUPS}
    known = sorted({name for found in offered.values() for name in found})
    for name in allowed:
        if name not in known:
            raise BadPlugin(f"no installed package offers the plug-in `{name}`{did_you_mean(name, known)}")
    return {name: _load(found) for name, found in sorted(offered[group].items()) if name in allowed}


def _offered(group: Group) -> dict[str, list[EntryPoint]]:
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=group):
        if point not in found.setdefault(point.name, []):  # a path that stands twice in `sys.path` lists it twice
            found[point.name].append(point)
    return found


def _load(found: list[EntryPoint]) -> Any:
    point = found[0]
    if len(found) > 1:
        packages = ", ".join(sorted(str(each.dist.name if each.dist else each.value) for each in found))
        raise BadPlugin(f"the plug-in `{point.name}` is offered twice, by {packages}; uninstall one")
    try:
        return point.load()
    except Exception as error:
        raise BadPlugin(f"the plug-in `{point.name}` (`{point.value}`) cannot be imported: {error}") from error
