"""The front door: what `import palimpsest` gives, plug-ins, and the command line.

The names below are loaded on first use, so `import palimpsest` alone imports neither torch nor diffusers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from policies import Loader, Request, Store, decide
    from steering import Donor, Edit, Host, Operator, Pack, Plan, Swap, Window

__all__ = [
    "Donor",
    "Edit",
    "Host",
    "Loader",
    "Operator",
    "Pack",
    "Plan",
    "Request",
    "Store",
    "Swap",
    "Window",
    "decide",
]

_POLICIES = {"Loader", "Request", "Store", "decide"}


def __getattr__(name: str) -> object:
    """The public name, imported from its room (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module `palimpsest` has no attribute `{name}`")
    value = getattr(import_module("policies" if name in _POLICIES else "steering"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
