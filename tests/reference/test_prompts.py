"""Prompt sets: what one localizes with is never what one evaluates with, and pairs differ in the concept alone.

| break | red |
|---|---|
| drop the hash of ground and style | contexts share no scenery |
| take every word for both splits | no word is in both splits |
| give a style's neutral form another style | a neutral form names nothing of the concept's category |
| use the concept's own name as donor | a pair differs in the concept alone |
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import evaluation
from localization.prompts import load_contrasts
from reference.town.captions import CAPTION_BYTES, ground_words, noun
from reference.town.drawing.paint import paint
from reference.town.letters import is_held_out, load_words
from reference.town.prompts import COUNTS, concept_prompts, contexts
from reference.town.scenes import CATEGORIES
from reference.town.word_prompts import SIMPLE, creative_pairs, simple_pairs, templates

CONCEPTS = [f"{c}/{n}" for c in COUNTS for n in CATEGORIES[c]]
DATA = Path(evaluation.__file__).parent / "data" / "prompts"


@pytest.mark.parametrize("category", COUNTS)
def test_contexts_to_localize_and_to_evaluate_with_share_no_scenery(category: str) -> None:
    concept = f"{category}/{CATEGORIES[category][0]}"
    sides = [{p.prompt for p in concept_prompts(concept, s)} for s in ("localization", "evaluation")]
    assert [len(side) for side in sides] == list(COUNTS[category])
    assert not sides[0] & sides[1]
    seen = [set(), set()]  # type: ignore[var-annotated]
    for i, split in enumerate(("localization", "evaluation")):
        for scene in contexts(category, split):  # type: ignore[arg-type]
            style = scene.subject if category == "style" else scene.style
            seen[i].add((scene.subject if category == "place" else scene.ground, style))
    assert not seen[0] & seen[1]


@pytest.mark.parametrize("category", COUNTS)
def test_contexts_to_localize_and_to_evaluate_with_share_no_word(category: str) -> None:
    localized = {line for s in contexts(category, "localization") for line in s.lines}
    evaluated = {line for s in contexts(category, "evaluation") for line in s.lines}
    assert localized
    assert evaluated
    assert not localized & evaluated
    assert all(map(is_held_out, evaluated))
    assert not any(map(is_held_out, localized))


@pytest.mark.parametrize("concept", CONCEPTS)
def test_a_pair_differs_in_the_concept_alone(concept: str) -> None:
    category, _, name = concept.partition("/")
    phrase = {"place": ground_words, "style": " in {} style ".format}.get(category, noun)(name)
    others = [noun(n) for n in CATEGORIES[category]] if category not in ("place", "style") else CATEGORIES[category]
    for split in ("localization", "evaluation"):
        for pair in concept_prompts(concept, split):  # type: ignore[arg-type]
            assert concept in pair.scene.concepts()
            assert name in pair.prompt
            assert not [other for other in others if f" {other} " in f" {pair.donor} "]
            assert _difference(pair.prompt, pair.donor) in phrase
            assert not pair.scene.lines or f'"{pair.scene.lettering}"' in pair.donor
            assert len(pair.prompt.encode()) < CAPTION_BYTES
            assert paint(pair.scene).size == (64, 64)


def _difference(prompt: str, donor: str) -> str:
    """What is left of `prompt` without what both begin and end with."""
    head = _alike(prompt, donor)
    tail = _alike(prompt[head:][::-1], donor[head:][::-1])
    return prompt[head : len(prompt) - tail]


def _alike(a: str, b: str) -> int:
    """How many letters both begin with."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def test_seeds_are_pictures_of_their_own() -> None:
    pairs = concept_prompts("harm/gun", "localization", seeds=3)
    assert len({p.seed for p in pairs}) == len(pairs) == 30
    assert concept_prompts("harm/gun", "localization", seeds=3) == pairs
    assert {p.prompt for p in concept_prompts("harm/gun", "localization", seed=1)} != {p.prompt for p in pairs}


def test_words_to_evaluate_with_are_held_out_and_others_are_not() -> None:
    for make in (simple_pairs, creative_pairs):
        for split, held in (("localization", False), ("evaluation", True)):
            pairs = make(split, 150)  # type: ignore[operator]
            words = [p.scene.lettering for p in pairs]
            assert len(pairs) == 150
            assert len(set(words)) == 150
            assert all(is_held_out(w) == held for w in words)
            assert len({p.seed for p in pairs}) == 150
            for p in pairs:
                assert p.prompt != p.donor
                assert len(p.prompt) == len(p.donor)
                assert _difference(p.prompt, p.donor) in p.scene.lettering
                start = p.prompt.index(p.scene.lettering)
                other = p.donor[start : start + len(p.scene.lettering)]
                assert other in load_words()
                assert is_held_out(other) == held


def test_templates_of_the_two_splits_are_apart_and_varied() -> None:
    a, b = (dict(templates(s)) for s in ("localization", "evaluation"))  # type: ignore[arg-type]
    assert len(a) == len(b) == 100
    assert not set(a) & set(b)
    assert all(t.count("{}") == 1 for t in (*a, *b, SIMPLE))


def test_an_unknown_concept_or_category_is_a_mistake() -> None:
    with pytest.raises(ValueError, match=r"concept must be one of .* got `animal/dog`"):
        concept_prompts("animal/dog", "evaluation")
    with pytest.raises(ValueError, match="category must be one of"):
        contexts("shape", "evaluation")


def test_shipped_sets_are_what_the_functions_make(tmp_path: Path) -> None:
    from reference.town.shipped_prompts import write_prompts

    write_prompts(tmp_path)
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == sorted(p.name for p in DATA.iterdir())
    for name in names:
        assert (tmp_path / name).read_text() == (DATA / name).read_text(), name


def test_localization_reads_a_shipped_set() -> None:
    pairs = load_contrasts(DATA / "lettering-creative.jsonl", seed=0)
    assert len(pairs) == 200
    contexts_file = json.loads((DATA / "contexts.json").read_text())
    assert {c: [len(v["localization"]), len(v["evaluation"])] for c, v in contexts_file.items()} == {
        c: list(n) for c, n in COUNTS.items()
    }
