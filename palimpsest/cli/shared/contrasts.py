"""The prompts for localizing a concept (from a file, the town or a template), and the judge of its pictures.

A model that draws the town has prompts and a judge for each of the town's concepts. For other models and concepts the
caller gives the concept's words and a neutral replacement, or a file of prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from localization import Aim, Contrast, Witness
    from reference.planted import Plant

__all__ = [
    "ContrastSets",
    "contrast_sets",
    "held_out_contrasts",
    "plant_judge",
    "witness_for",
    "worker_for",
]


@dataclass(frozen=True, slots=True)
class ContrastSets:
    """What to localize, and the contrasts to search with, to check on, and of matched other concepts."""

    aim: Aim
    search: Sequence[Contrast]
    check: Sequence[Contrast]
    controls: Sequence[Contrast]


def contrast_sets(
    concept: str,
    *,
    town: bool,
    prompts: Path | None = None,
    phrase: str | None = None,
    neutral: str | None = None,
    count: int = 8,
    check: int = 12,
    target: float = 0.9,
    seed: int = 0,
) -> ContrastSets:
    """The sets of a concept: `count` contrasts to search with, `check` others to check on.

    `town`: whether the model draws the town. Raises: ValueError, when the concept is none of its own and nobody says
    how prompts name it, or for a neutral form of lettering, whose donors say another word.
    """
    from localization import Aim, load_contrasts

    if concept == "lettering" and neutral is not None:
        raise ValueError(f"--neutral must be left out for `lettering`, whose donors use another word, got `{neutral}`")
    own = town and _in_town(concept)
    words, stand_in = (phrase,) if phrase else _phrases(concept, own), neutral
    if stand_in is None and own:
        stand_in = _neutral(concept)
    aim = Aim(concept, target=target, phrases=words, neutral=stand_in)
    if prompts is not None:
        pairs = load_contrasts(prompts, seed=seed + 1)
        # a file's prompts name the concept as they like: they are held to a phrase only when one is given
        aim = Aim(concept, target=target, phrases=(phrase,) if phrase else (), neutral=neutral)
    else:
        pairs = _pairs(concept, words, stand_in, 2 * (count + check), own=own, seed=seed)
    searched, checked = _apart(pairs, count, check)
    return ContrastSets(aim, searched, checked, _controls(concept, len(searched), own=own, seed=seed + 3))


def held_out_contrasts(
    concept: str, count: int, *, town: bool, neutral: str | None = None, seed: int = 0
) -> list[Contrast]:
    """Contrasts that no localization saw: the town's evaluation split, or templates of another seed.

    `neutral`: what stands for the concept in donors, as in the pack that is verified; default: the town's.

    Raises: ValueError, for a concept that the model's prompts cannot be made up for.
    """
    words = _phrases(concept, town)
    if not town:
        return _pairs(concept, words, neutral, count, own=False, seed=seed + 100)
    pairs = _town_pairs(concept, "evaluation", count, seed=seed)
    return pairs if neutral in (None, _neutral(concept)) else [_shown_instead(c, words, neutral or "") for c in pairs]


def witness_for(concept: str, *, town: bool) -> Witness | None:
    """What judges pictures: RapidOCR for lettering; the town's judge for its concepts, on a model that draws it."""
    from localization import witness_lettering, witness_score

    if concept == "lettering":
        from detectors.images import RapidOcr
        from evaluation.readers.judges import read_words

        ocr = RapidOcr()
        return witness_lettering(lambda images: [read_words(ocr, image) for image in images])
    if not town or not _in_town(concept):
        return None
    from reference.town.judge import Judge

    judge, name = Judge.load(), concept.replace("-", " ")
    return witness_score(lambda images: [scores[name] for scores in judge.scores(images)])


def worker_for(model: str | None, concept: str) -> object:
    """A worker of its own, for another process: the model's host and the concept's witness."""
    from localization import Worker
    from palimpsest.cli.shared.hosts import is_ours, open_host

    return Worker(open_host(model), witness_for(concept, town=is_ours(model)))


def plant_judge(plant: Plant) -> Witness:
    """The judge that tells whether a picture shows what a plant draws."""
    from localization import witness_score
    from reference.planted.words import BEHIND, load_judge
    from reference.town.judge import Judge
    from reference.town.scenes import category_of

    if plant.subject in BEHIND.phrases:  # colours have no concept's name, so no score
        see = load_judge()
        return witness_score(lambda images: [float(plant.subject in told) for told in see(images)])
    judge, name = Judge.load(), f"{category_of(plant.subject)}/{plant.subject}"
    return witness_score(lambda images: [scores[name] for scores in judge.scores(images)])


def _apart(pairs: Sequence[Contrast], count: int, check: int) -> tuple[list[Contrast], list[Contrast]]:
    """The first pairs to search with, and others whose prompts are not among them to check on.

    A file with too few for both is halved.
    """
    first = min(count, len(pairs) // 2)
    searched = list(pairs[:first])
    used = {c.prompt for c in searched}
    left = [c for c in pairs[first:] if c.prompt not in used][:check]
    if not searched or not left:
        raise ValueError(
            f"need prompts to search and other prompts to check, got {len(searched)} and {len(left)}; give more pairs"
        )
    return searched, left


def _pairs(
    concept: str, words: Sequence[str], neutral: str | None, count: int, *, own: bool, seed: int
) -> list[Contrast]:
    """The town's pairs of a concept that is its `own`, else those of templates."""
    from localization import concept_contrasts, lettering_contrasts

    if own:
        pairs = _town_pairs(concept, "localization", count, seed=seed)
        usual = concept == "lettering" or neutral == _neutral(concept)
        return pairs if usual else [_shown_instead(c, words, neutral or "") for c in pairs]
    if concept == "lettering":
        half = [lettering_contrasts(count // 2, seed=seed + k) for k in (1, 2)]
        return [*half[0], *half[1]]
    if neutral is None:
        raise ValueError(
            f"concept `{concept}` needs --neutral, the words that replace `{words[0]}` in donors, or --prompts"
        )
    return [c for k in (1, 2) for c in concept_contrasts(words[0], neutral, count // 2, seed=seed + k)]


def _town_pairs(concept: str, split: str, count: int, *, seed: int) -> list[Contrast]:
    """Pairs of the town, its contexts in turn, so that the first and the later ones are of different contexts."""
    from localization import Contrast
    from reference.town.prompts import concept_prompts
    from reference.town.word_prompts import creative_pairs, simple_pairs

    if concept == "lettering":
        simple = simple_pairs(split, (count + 1) // 2, seed=seed)  # type: ignore[arg-type]
        creative = creative_pairs(split, (count + 1) // 2, seed=seed)  # type: ignore[arg-type]
        pairs = [p for two in zip(simple, creative, strict=True) for p in two]
    else:
        own = concept_prompts(concept.replace("-", " "), split, seed=seed)  # type: ignore[arg-type]
        rounds = -(-count // len(own))
        pairs = [p for k in range(rounds) for p in concept_prompts(own[0].concept, split, seed=seed + k)]  # type: ignore[arg-type]
    return [Contrast(p.prompt, p.donor, p.seed + 7 * n) for n, p in enumerate(pairs[:count])]


def _shown_instead(contrast: Contrast, words: Sequence[str], neutral: str) -> Contrast:
    """The contrast with a donor of the caller's own: the concept's words replaced by `neutral`."""
    named = max((w for w in words if w in contrast.prompt), key=len, default=None)
    if named is None:  # prompts that do not name the concept are refused by who measures
        return contrast
    return replace(contrast, donor=contrast.prompt.replace(named, neutral, 1))


def _controls(concept: str, count: int, *, own: bool, seed: int) -> list[Contrast]:
    """Matched other concepts: for lettering pictures that differ in all but the lettering; for the rest lettering and,
    in the town, a neighbour of the same category."""
    from localization import control_contrasts, lettering_contrasts

    if concept == "lettering":
        return control_contrasts(count, seed=seed)
    if not own:
        return lettering_contrasts(count, seed=seed)
    from reference.town.scenes import CATEGORIES

    category, _, name = concept.replace("-", " ").partition("/")
    near = next(n for n in CATEGORIES[category] if n != name)
    half = count // 2
    return [
        *_town_pairs("lettering", "localization", count - half, seed=seed),
        *_town_pairs(f"{category}/{near}", "localization", half, seed=seed),
    ]


def _in_town(concept: str) -> bool:
    from reference.town.judge import CONCEPTS

    return concept.replace("-", " ") in CONCEPTS


def _phrases(concept: str, own: bool) -> tuple[str, ...]:
    """How prompts name a concept; nothing for lettering, which a quoted word asks for."""
    if concept == "lettering":
        return ()
    category, _, name = concept.replace("-", " ").partition("/")
    if own:
        from reference.town.captions import ground_words, noun

        if category == "style":
            return (f"in {name} style", f"in the style of {name}", f"{name} style")
        if category == "place":
            return (ground_words(name),)
        articled = (noun(name), f"the {name}") if noun(name) != name else ()
        return (*articled, name)
    return (name,)


def _neutral(concept: str) -> str | None:
    """What stands for a concept of the town when it must not be named; None for lettering."""
    from reference.town.captions import NEUTRAL

    category = concept.partition("/")[0]
    return "" if category == "style" else NEUTRAL.get(category)
