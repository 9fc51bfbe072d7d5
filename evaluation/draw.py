"""Draws pictures of many cases, several in each call of the pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from PIL import Image

from steering import Host, PictureReport, Plan

__all__ = ["BATCH", "Drawable", "draw", "stock_pictures"]

BATCH = 16  # rows of one call


class Drawable(Protocol):
    """A prompt with the seed of its picture; every kind of case is one."""

    @property
    def prompt(self) -> str: ...
    @property
    def seed(self) -> int: ...


def draw(
    host: Host, cases: Sequence[Drawable], plans: Sequence[Plan | None], call: Mapping[str, Any]
) -> tuple[list[Image.Image], list[PictureReport]]:
    """The picture of each case under its plan, and what was done to it; `call` goes to the pipeline."""
    images: list[Image.Image] = []
    reports: list[PictureReport] = []
    for start in range(0, len(cases), BATCH):
        part = cases[start : start + BATCH]
        seeds = [c.seed for c in part]
        made = host.generate([c.prompt for c in part], plans=plans[start : start + BATCH], seeds=seeds, **call)
        images += made.images
        reports += made.report
    return images, reports


def stock_pictures(host: Host, cases: Sequence[Drawable]) -> list[Image.Image]:
    """The unsteered picture of each case."""
    return draw(host, cases, [None] * len(cases), {})[0]
