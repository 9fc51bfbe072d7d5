"""Owns packs: one `.safetensors` file that says where a concept sits in one host and how to steer it (surface first)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from .host import Fingerprint, Host
from .plans import WHOLE, Donor, Operator, Plan, Pooled, Rows, Source, Window

__all__ = ["CalibrationPoint", "Choice", "Pack", "find_pack", "pack_roots"]


@dataclass(frozen=True, slots=True)
class Choice:
    """How many sites were chosen: `k`, the share of the full swap's effect that they reach together, and its interval."""

    k: int
    share: float
    low: float
    high: float
    target: float = 0.9


@dataclass(frozen=True, slots=True)
class CalibrationPoint:
    """At `strength`, the measured erasure and drift (both 0 to 1)."""

    strength: float
    erasure: float
    drift: float


@dataclass(frozen=True, slots=True)
class Pack:
    """The artefact of localizing, fitting and verifying one concept on one host."""

    concept: str
    host: Fingerprint
    sites: tuple[str, ...]
    wider: tuple[str, ...]
    site_names: tuple[str, ...]  # rows of `scores`
    scores: torch.Tensor  # [sites, bins] effect of each site alone in each part of the trajectory
    bins: tuple[Window, ...]  # columns of `scores`
    choice: Choice
    strength: float = 1.0  # what `auto` means
    window: Window = WHOLE
    pooled: Pooled = "keep"
    rows: Rows = "cond"
    source: Source = "text"
    operator: Operator | None = None  # None: the pack swaps text
    phrases: tuple[str, ...] = ()  # words of the concept in prompts
    neutral: str | None = None  # what stands for them in a donor; None: the caller must give `toward`
    calibration: tuple[CalibrationPoint, ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)  # JSON; `kind`: measured | published
    versions: Mapping[str, str] = field(default_factory=dict)

    def save(self, path: str | Path) -> Path:
        """The path of the written file."""
        raise NotImplementedError

    @classmethod
    def load(cls, path: str | Path, *, host: Host) -> Pack:
        """The pack in a file, when it was made for `host`. Raises: BadPack, PackMismatch."""
        raise NotImplementedError

    def donor_for(self, prompt: str) -> str | None:
        """A donor prompt for `prompt`: its `phrases` replaced by `neutral`; None for a pack without a neutral phrase (lettering)."""
        raise NotImplementedError

    def plan(
        self,
        toward: str | Donor | None = None,
        strength: float | Literal["auto"] = "auto",
        window: Window | None = None,
        *,
        wider: bool = False,
    ) -> Plan:
        """The plan that steers with this pack; `wider` takes the second site set over the whole trajectory."""
        raise NotImplementedError


def pack_roots(host: Host, extra: Sequence[str | Path] = ()) -> tuple[Path, ...]:
    """The folders to search, in order: `extra` (the service passes PALIMPSEST_PACKS), `reference/packs/<model>`, `steering/published`."""
    raise NotImplementedError


def find_pack(concept: str, host: Host, roots: Sequence[str | Path]) -> Pack:
    """The pack for a concept on a host, from the first root that has one. Raises: PackNotFound (with what was near), PackError."""
    raise NotImplementedError
