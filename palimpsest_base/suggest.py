"""The nearest known name, for errors that say what was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean", "nearest"]

_ALIKE = 0.6  # similarity of two names from which on one is taken for a typing mistake of the other


def nearest(name: str, known: Iterable[str], *, alike: float = _ALIKE) -> str | None:
    """The known name that is most like `name`, or None when none is at least `alike` (0 to 1)."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=alike)
    return found[0] if found else None


def did_you_mean(name: str, known: Iterable[str], *, list_all: bool = True) -> str:
    """A clause for the end of an error, beginning with a semicolon: the nearest known name, else all of them.

    Empty when nothing is near and `list_all` is false or nothing is known.
    """
    names = list(known)
    near = nearest(name, names)
    if near is not None:
        return f"; did you mean `{near}`?"
    return f"; known: {', '.join(f'`{each}`' for each in names)}" if list_all and names else ""
