"""What two papers report of models that were not at hand, as data: one `Preset` a pack.

`_LETTERING` names the first paper, and `_KNOWLEDGE` the second, which is about categories of concepts. The numbers are
those that they print; where this project works otherwise than they did, `evidence` says so. None of it was confirmed
here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from steering.packs.checkpoints import FLUX, IF, PIXART, SANA, SD3, SDXL, Checkpoint
from steering.plans import WHOLE, Window

__all__ = ["PRESETS", "Preset"]


@dataclass(frozen=True, slots=True)
class Preset:
    """One pack to be written; `sites` and `wider` count the checkpoint's sites in execution order, from 0."""

    file: str
    concept: str
    on: Checkpoint
    sites: tuple[int, ...]
    wider: tuple[int, ...]
    evidence: Mapping[str, Any]
    window: Window = WHOLE
    phrases: tuple[str, ...] = ()
    neutral: str | None = None


_LETTERING = {
    "paper": "Precise Parameter Localization for Textual Generation in Diffusion Models, ICLR 2025, arXiv 2502.09935",
    "layers": "Figure 2, counted in execution order",
    "effect": "Tables 3 and 4",
}
_INJECTED = "the paper swaps uncond rows as well; on cross-attention their text is the same, so it comes to the same"
_LETTERING_FIGURES = (
    "f1: overlap of letters read by EasyOCR, order ignored, chance about 0.29; toxicity: share of pictures as the paper"
    " scores them, relative to the 20 % of its word list that the scorer knows; ssim: whole picture, lettering included"
)


def _lettering(
    file: str,
    on: Checkpoint,
    sites: Sequence[int],
    wider: Sequence[int],
    *,
    start: float = 0.0,
    source: Mapping[str, str],
    figures: Mapping[str, Any],
    differs: Sequence[str],
) -> Preset:
    evidence = {
        "source": _LETTERING | dict(source),
        "figures": {"read as": _LETTERING_FIGURES, **figures},
        "differs": list(differs),
    }
    return Preset(
        file, "lettering", on, tuple(sites), tuple(wider), evidence, window=Window(start, 1.0) if start else WHOLE
    )


_TEXT_PRESETS = (
    _lettering(
        "sdxl-lettering",
        SDXL,
        sites=(55, 56, 57),
        wider=range(54, 64),
        start=0.08,
        source={"wider": "Table 5, 10 layers", "window": "Table 3, t_s = 46 of 50"},
        figures={
            "sites alone, Table 5": {"f1 of the target": 0.32, "ssim": 0.90},
            "wider set, Table 5": {"f1 of the target": 0.33, "ssim": 0.89},
            "all 70, Table 5": {"f1 of the target": 0.34, "ssim": 0.72},
            "toxic prompts, Table 4": {"f1 of the insult": 0.20, "toxicity": 0.003, "ssim": 0.79},
        },
        differs=[_INJECTED],
    ),
    _lettering(
        "if-lettering",
        IF,
        sites=(17,),
        wider=range(22),
        start=0.04,
        source={"wider": "none is given: all sites", "window": "Table 3, t_s = 48 of 50"},
        figures={
            "simple signs, Table 3": {"f1 of the target": 0.70, "ssim": 0.64},
            "toxic prompts, Table 4": {"f1 of the insult": 0.32, "toxicity": 0.018, "ssim": 0.61},
        },
        differs=[_INJECTED, "stage I only, as in the paper: later stages go on reading the request's own text"],
    ),
    _lettering(
        "sd3-lettering",
        SD3,
        sites=(10,),
        wider=range(24),
        source={"wider": "none is given: all sites", "window": "Table 3: a later start costs f1 .68 to .53"},
        figures={
            "simple signs, Table 3": {"f1 of the target": 0.68, "ssim": 0.74},
            "toxic prompts, Table 4": {"f1 of the insult": 0.32, "toxicity": 0.018, "ssim": 0.70},
        },
        differs=["the paper swaps uncond rows from the donor's uncond run as well; here cond rows alone are swapped"],
    ),
)


@dataclass(frozen=True, slots=True)
class _Category:
    """A category of the second paper: its name there, phrases in which a concept stands, and what replaces them."""

    concepts: str
    name: str
    phrases: tuple[str, ...]
    neutral: str  # the paper's own; empty: the phrase is taken out


_NOUN = ("a *", "an *", "the *", "*")
_CATEGORIES = (
    _Category("style", "style", ("in the style of *", "in * style", "by *", "*"), ""),
    _Category("animal", "animal", _NOUN, "an animal"),
    _Category("place", "place", _NOUN, "a place"),
    _Category("character", "copyright", _NOUN, "a character"),
    _Category("person", "celebrity", _NOUN, "a person"),
    _Category("harm", "safety", _NOUN, "a person"),
)


@dataclass(frozen=True, slots=True)
class _Reading:
    """What the figures say of one model, read off to about 0.03.

    `often`: block -> how often it was among those chosen for a concept, where that is visibly more than never.
    `shown`: category -> share of pictures in which the concept was still seen, with 0, 10, 30 and 50 % of the blocks
    shown a neutral text.
    """

    file: str
    on: Checkpoint
    often: Mapping[int, float]
    shown: Mapping[str, tuple[float, ...]]
    differs: tuple[str, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)

    def chosen(self) -> tuple[int, ...]:
        """Blocks that were chosen for more than half of the concepts."""
        return tuple(sorted(i for i, share in self.often.items() if share > 0.5))

    def half(self) -> tuple[int, ...]:
        """The half of the model's blocks that were chosen most often: the largest set that the paper withholds."""
        ranked = sorted(self.often, key=lambda i: -self.often[i])
        return tuple(sorted(ranked[: len(self.on.sites) // 2]))


def _certain(*blocks: Iterable[int]) -> dict[int, float]:
    return dict.fromkeys(chain(*blocks), 1.0)


_READINGS = (
    _Reading(
        "pixart-alpha",
        PIXART,
        _certain(range(5))
        | {10: 0.99, 11: 0.97, 27: 0.99, 12: 0.84, 9: 0.71, 19: 0.67, 13: 0.40, 20: 0.32, 16: 0.30, 23: 0.21, 14: 0.19},
        {
            "copyright": (0.93, 0.91, 0.76, 0.42),
            "place": (0.97, 0.95, 0.77, 0.35),
            "animal": (0.93, 0.92, 0.94, 0.58),
            "celebrity": (0.76, 0.76, 0.58, 0.09),
            "safety": (0.47, 0.47, 0.29, 0.11),
        },
        more={"styles left of 156, by number of blocks": {"0": 156, "4": 32, "6": 8, "10": 2, "12": 0}},
    ),
    _Reading(
        "sana",
        SANA,
        _certain(range(6, 12)) | {5: 0.90, 12: 0.76, 4: 0.26, 13: 0.05},
        {
            "copyright": (0.95, 0.94, 0.92, 0.34),
            "place": (0.97, 0.95, 0.94, 0.24),
            "animal": (0.93, 0.92, 0.92, 0.35),
            "celebrity": (0.56, 0.51, 0.20, 0.02),
            "safety": (0.59, 0.57, 0.42, 0.10),
        },
    ),
    _Reading(
        "flux",
        FLUX,
        _certain(range(8, 19))
        | {7: 0.91, 5: 0.76, 3: 0.65, 6: 0.65, 4: 0.53, 2: 0.40, 0: 0.26}
        | {19: 0.45, 20: 0.40, 21: 0.17, 22: 0.39, 23: 0.38, 24: 0.19, 25: 0.24, 27: 0.11, 28: 0.38, 56: 0.08},
        {
            "copyright": (0.92, 0.57, 0.23, 0.13),
            "place": (0.94, 0.72, 0.07, 0.01),
            "animal": (0.90, 0.88, 0.57, 0.41),
            "celebrity": (0.48, 0.12, 0.03, 0.00),
            "safety": (0.52, 0.33, 0.09, 0.01),
        },
        differs=("the paper replaces the text's queries at these blocks as well; here keys and values are swapped",),
    ),
)

_KNOWLEDGE = {
    "paper": "Localizing Knowledge in Diffusion Transformers, NeurIPS 2025, arXiv 2505.18832",
    "sites": "heat map of how often a block is chosen, one a model over all categories: those chosen for most concepts",
    "wider": "the same heat map: the half of the blocks that is chosen most often",
    "effect": "radar plot and plot of styles against the number of blocks",
}
_KNOWLEDGE_CAUTIONS = (
    "figures are read off plots, to about 0.03",
    "the paper chooses blocks for each concept; one set for a whole category is ours, because the sets hardly differ",
    "its score counts the bias of output projections and ignores gates, so the order of blocks is a proposal",
    "with a tenth of the blocks little is withheld, with half of them most: expect the ladder to be climbed",
)


def _knowledge(reading: _Reading, category: _Category) -> Preset:
    sites, wider = reading.chosen(), reading.half()
    shown = reading.shown.get(category.name)
    figures: dict[str, Any] = {"chosen for this share of concepts": {str(i): reading.often[i] for i in wider}}
    if shown is not None:
        shares = dict(zip(("0", "0.1", "0.3", "0.5"), shown, strict=True))
        figures["still seen, by share of blocks shown a neutral text"] = shares
    if category.concepts == "style":
        figures |= reading.more
    evidence = {
        "source": _KNOWLEDGE | {"category": category.name},
        "figures": figures,
        "differs": list(reading.differs),
        "cautions": list(_KNOWLEDGE_CAUTIONS),
    }
    return Preset(
        f"{reading.file}-{category.concepts}",
        f"{category.concepts}/*",
        reading.on,
        sites,
        wider,
        evidence,
        phrases=category.phrases,
        neutral=category.neutral,
    )


PRESETS: tuple[Preset, ...] = (*_TEXT_PRESETS, *(_knowledge(r, c) for r in _READINGS for c in _CATEGORIES))
