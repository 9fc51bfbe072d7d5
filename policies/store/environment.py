"""What policies are loaded into: the detectors, the model and its packs, and this software's own version.

What nobody has said (`None`) is not compared: the command line checks policies without a model at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from policies.types import Request, Signals

__all__ = ["Surroundings", "engine_version", "heard_by"]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """`heard` are the names that detectors find in prompts, `reads` those that they read in pictures.

    `packs` says why there is no pack of a concept for the model, or None when there is one.
    """

    heard: frozenset[str]
    reads: frozenset[str] | None = None
    canaries: bool = False
    engine: str = ""
    host: str | None = None
    packs: Callable[[str], str | None] | None = None


def heard_by(sense: Callable[[Request], Signals]) -> frozenset[str]:
    """The names that `sense` covers in prompts."""
    return frozenset(name for stage, name in sense(Request("a probe")).covered if stage == "prompt")


def engine_version() -> str:
    """The version of this software; `0` where it runs without being installed."""
    try:
        return version("palimpsest")
    except PackageNotFoundError:
        return "0"
