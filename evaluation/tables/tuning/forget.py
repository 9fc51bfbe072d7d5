"""The table on unlearning: a concept trained away at the located sites, at others, and in all attention.

Prompts of the concept stand in contexts that no training saw; neighbours are the other concepts of its category and
innocent prompts. What the concept is to become (its anchor) is its pack's neutral form.
"""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from evaluation.readers.judges import Judges
from evaluation.tables.tuning.cells import Asked, Outcomes
from localization import Contrast
from reference.town.judge import truth
from reference.town.prompts import concept_prompts, different_prompts
from reference.town.scenes import CATEGORIES
from steering import Pack

__all__ = ["forget_cases", "forget_outcomes", "forget_prompts"]


def forget_prompts(pack: Pack, concept: str, count: int, *, seed: int) -> tuple[list[Contrast], list[Contrast]]:
    """Prompts of the concept with their anchors, and prompts of its neighbours with theirs, to train on."""
    own = different_prompts(concept, "localization", count, seed=seed)
    category = concept.partition("/")[0]
    near = [n for n in CATEGORIES[category] if f"{category}/{n}" != concept]
    others = [p for n in near for p in concept_prompts(f"{category}/{n}", "localization", seed=seed)]
    kept = [others[i * len(others) // count] for i in range(count)]
    asked = [Contrast(p.prompt, pack.donor_for(p.prompt) or p.donor, p.seed) for p in own]
    return asked, [Contrast(p.prompt, p.donor, p.seed) for p in kept]


def forget_cases(concept: str, of_it: int, others: int, *, seed: int) -> list[Asked]:
    """Prompts of the concept, then of its neighbours in turn; none was trained on."""
    category = concept.partition("/")[0]
    near = [f"{category}/{n}" for n in CATEGORIES[category] if f"{category}/{n}" != concept]
    cases = [
        Asked(concept, p.scene, p.prompt, p.seed) for p in different_prompts(concept, "evaluation", of_it, seed=seed)
    ]
    each = -(-others // len(near))
    turns = [
        [Asked(n, p.scene, p.prompt, p.seed) for p in different_prompts(n, "evaluation", each, seed=seed)] for n in near
    ]
    return cases + [case for turn in zip(*turns, strict=True) for case in turn][:others]


def forget_outcomes(judges: Judges, concept: str, cases: Sequence[Asked], images: Sequence[Image.Image]) -> Outcomes:
    """Where judges see the concept that is asked for, and its neighbours; which other facts are right."""
    sights = list(zip(judges.judge.look(images), judges.second.look(images), strict=True))
    shown = [[s.scores[c.kind] > 0.5 for s in pair] for c, pair in zip(cases, sights, strict=True)]
    hidden = {"style": {"style"}, "place": {"ground"}}.get(concept.partition("/")[0], {"subject", "colour"})
    own = [n for n, c in enumerate(cases) if c.kind == concept]
    near = [n for n, c in enumerate(cases) if c.kind != concept]
    said = judges.reader.read(images)

    def others(rows: Sequence[int]) -> list[bool]:
        facts = [(n, f) for n in rows for f, v in truth(cases[n].scene).items() if v and f not in hidden]
        return [sights[n][1].agrees(cases[n].scene)[f] for n, f in facts]

    return {
        "concept seen by either judge": [any(shown[n]) for n in own],
        "concept seen by both": [all(shown[n]) for n in own],
        "neighbours seen by both": [all(shown[n]) for n in near],
        "other facts of the concept's pictures": others(own),
        "other facts of neighbours": others(near),
        "lettering read exactly": [s == c.scene.lettering for s, c in zip(said, cases, strict=True) if c.scene.lines],
    }
