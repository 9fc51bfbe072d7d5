"""The table of families in `docs/your-model.md`: what a run of the marked tests found, and which of them there are.

A test that checks a column is marked `@pytest.mark.law("L0")` and has a parameter `name`, a host of `zoo`; one that
checks that something is refused by name is marked `law("offload", refused=True)`. A run of `pytest tests/steering -m
law --families-table=docs/your-model.md` writes what it found between the two marks of that file. No row can claim what
no test checks: `test_families_table` compares the file with the tests that are marked.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.steering.released import RELEASED

__all__ = ["COLUMNS", "FAMILIES", "Found", "cells_of", "checked", "law_of", "render", "written"]

_TESTS = Path(__file__).resolve().parents[1]
COLUMNS = ("L0", "L1", "all sites = donor", "mixed batch", "windows", "pooled", "compile", "LoRA", "offload")
FAMILIES: dict[str, tuple[str, ...]] = {
    "Stable Diffusion 1, 2": ("sd1", "sd2"),
    "Stable Diffusion XL, refiner": ("sdxl", "sdxl-refiner"),
    "DeepFloyd IF I, II, III": ("if1", "if2", "if3"),
    "Stable Diffusion 3, 3.5": ("sd3", "sd35"),
    "PixArt-alpha, -sigma": ("pixart-alpha", "pixart-sigma"),
    "FLUX.1 dev, schnell": ("flux-dev", "flux-schnell"),
    "SANA, SANA-Sprint": ("sana", "sana-sprint"),
}
_CLASSES = {
    "Stable Diffusion 1, 2": ("StableDiffusionPipeline",),
    "Stable Diffusion XL, refiner": ("StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline"),
    "DeepFloyd IF I, II, III": ("IFPipeline", "IFSuperResolutionPipeline", "StableDiffusionUpscalePipeline"),
    "Stable Diffusion 3, 3.5": ("StableDiffusion3Pipeline",),
    "PixArt-alpha, -sigma": ("PixArtAlphaPipeline", "PixArtSigmaPipeline"),
    "FLUX.1 dev, schnell": ("FluxPipeline",),
    "SANA, SANA-Sprint": ("SanaPipeline", "SanaSprintPipeline"),
}
_BEGIN, _END = "<!-- families -->", "<!-- /families -->"


@dataclass
class Found:
    """What a run found: for each column and host, whether every test passed, and whether it is a refusal."""

    passed: dict[tuple[str, str], bool] = field(default_factory=dict)
    refused: set[tuple[str, str]] = field(default_factory=set)

    def add(self, cell: tuple[str, str], *, passed: bool, refused: bool) -> None:
        """Takes the outcome of one test."""
        self.passed[cell] = self.passed.get(cell, True) and passed
        if refused:
            self.refused.add(cell)


def law_of(item: Any) -> tuple[tuple[str, str], bool] | None:
    """The cell that a collected test checks, and whether as a refusal; None for a test that is not marked."""
    mark = item.get_closest_marker("law")
    name = getattr(item, "callspec", None) and item.callspec.params.get("name")
    return ((mark.args[0], name), bool(mark.kwargs.get("refused"))) if mark is not None and name else None


def checked() -> set[tuple[str, str]]:
    """The cells that some marked test checks, told from the tests' marks; nothing is run."""
    cells: set[tuple[str, str]] = set()
    for path in sorted(_TESTS.joinpath("steering").rglob("test_*.py")):
        if ".law(" not in path.read_text("utf-8"):
            continue
        module = importlib.import_module(".".join(path.relative_to(_TESTS.parent).with_suffix("").parts))
        for thing in vars(module).values():
            marks = getattr(thing, "pytestmark", ())
            laws = [m.args[0] for m in marks if m.name == "law"]
            cells |= {(law, name) for law in laws for m in marks if m.name == "parametrize" for name in _names(m)}
    return cells


def cells_of(cells: set[tuple[str, str]] | Mapping[tuple[str, str], bool], column: str, family: str) -> list[str]:
    """The hosts of a family for which a column's cell is there."""
    return [name for name in FAMILIES[family] if (column, name) in cells]


def render(found: Found) -> str:
    """The table, in Markdown."""
    head = ["family", "sites", *COLUMNS]
    rows = [[family, _sites(family), *(_cell(found, column, family) for column in COLUMNS)] for family in FAMILIES]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def written(text: str, table: str | None = None) -> str:
    """A file's text with the table put between its marks; without one, the table that stands there.

    Raises: ValueError, when the marks are not there.
    """
    if text.count(_BEGIN) != 1 or text.count(_END) != 1:
        raise ValueError(f"the file must hold `{_BEGIN}` and `{_END}` once each")
    before, rest = text.split(_BEGIN)
    inside, after = rest.split(_END)
    return inside.strip() if table is None else f"{before}{_BEGIN}\n{table}\n{_END}{after}"


def _names(parametrize: Any) -> list[str]:
    """The hosts that a `parametrize` mark gives to `name`, alone or among others."""
    arguments = parametrize.args[0]
    names = [a.strip() for a in arguments.split(",")] if isinstance(arguments, str) else list(arguments)
    if "name" not in names:
        return []
    values = [getattr(v, "values", v) for v in parametrize.args[1]]
    return [v if isinstance(v, str) else v[names.index("name")] for v in values]


def _cell(found: Found, column: str, family: str) -> str:
    there = cells_of(found.passed, column, family)
    if not there:
        return "not applicable"
    if not all(found.passed[column, name] for name in there):
        return "**no**"
    word = "refused" if all((column, name) in found.refused for name in there) else "yes"
    return word if len(there) == len(FAMILIES[family]) else f"{word} ({', '.join(f'`{name}`' for name in there)})"


def _sites(family: str) -> str:
    """How many sites the released models of a family have."""
    counts = [r.sites for r in RELEASED.values() if r.pipeline in _CLASSES[family]]
    return ", ".join(dict.fromkeys(str(c) for c in counts))
