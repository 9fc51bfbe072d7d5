"""Writes the prompt sets of `evaluation/data/prompts`: `python -m reference.town.shipped_prompts FOLDER`.

The files are for people and for tools that read files. They hold what the functions of `prompts` and `word_prompts`
return at seed 0.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from reference.town.captions import NEUTRAL
from reference.town.prompts import COUNTS, PromptPair, Split, concept_prompts
from reference.town.scenes import CATEGORIES
from reference.town.word_prompts import creative_pairs, simple_pairs

__all__ = ["write_prompts"]

_SPLITS: tuple[Split, ...] = ("localization", "evaluation")


def write_prompts(folder: Path) -> None:
    """Writes `contexts.json` and the two sets of words into `folder`.

    The sets of words begin with 100 pairs to localize with; 100 to evaluate with follow.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for category in COUNTS:
        first = CATEGORIES[category][0]
        found[category] = {
            split: [{"prompt": p.prompt, "neutral": p.donor} for p in concept_prompts(f"{category}/{first}", split)]
            for split in _SPLITS
        } | {"written for": first, "neutral form": NEUTRAL.get(category, "nothing is said")}
    (folder / "contexts.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    for name, make in (("simple", simple_pairs), ("creative", creative_pairs)):
        _write([pair for split in _SPLITS for pair in make(split, 100)], folder / f"lettering-{name}.jsonl")


def _write(pairs: Sequence[PromptPair], file: Path) -> None:
    file.write_text("".join(json.dumps(pair.to_json()) + "\n" for pair in pairs), "utf-8")


if __name__ == "__main__":
    write_prompts(Path(sys.argv[1]))
