"""The top-level packages of this product, and whether Python would import them from here.

They have plain names (`policies`, `service`, ...), which other packages or a folder of the caller's may have, too.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path

__all__ = ["ROOMS", "foreign_rooms"]

ROOMS = (
    "policies",
    "detectors",
    "marking",
    "steering",
    "localization",
    "tuning",
    "reference",
    "evaluation",
    "service",
    "palimpsest",
)


def foreign_rooms(rooms: Iterable[str] = ROOMS) -> tuple[str, ...]:
    """One line for each of `rooms` that Python would import from another place than this package. Imports nothing."""
    here = Path(__file__).resolve().parents[1]
    told = []
    for room in rooms:
        spec = importlib.util.find_spec(room)
        places = [Path(place).resolve() for place in (spec.submodule_search_locations or ())] if spec else []
        found = places[0] if places else spec.origin if spec else None
        if found != here / room:
            told.append(
                f"the package `{room}` must be `{here / room}`, got `{found or 'none'}`: another package of that name"
                " hides it. Install Palimpsest in an environment of its own, or start it in another folder"
            )
    return tuple(told)
