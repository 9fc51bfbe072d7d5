"""Owns the probe of unknown pipelines."""

from __future__ import annotations

from typing import Any

from .errors import NotSupported
from .families import Family

__all__ = ["probed_family"]


def probed_family(pipe: Any) -> Family:
    raise NotSupported(f"pipeline `{type(pipe).__name__}` (family unknown) cannot be steered yet")
