"""The rows on erased concepts: prompts whose plain picture shows one, after the whole loop, and near neighbours.

A neighbour is another concept of the same category. Nobody asked to erase it, so its prompts must be allowed and its
pictures must be bit-identical to the stock pipeline's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from evaluation.answers import Answerer, policies_of
from evaluation.draw import stock_pictures
from evaluation.metrics import Rate, mean_interval, similarity_outside
from evaluation.prompts.attacks import respelled
from evaluation.prompts.cases import Case, concept_cases
from evaluation.prompts.erasure_cases import kept_facts, names_one_of
from evaluation.readers.judges import Judges
from evaluation.tables.lettering import benign_rates
from reference.town.scenes import CATEGORIES
from steering import Host

__all__ = ["concept_row", "near_neighbours", "neighbour_cases", "neighbour_row"]


def concept_row(
    host: Host,
    service: Answerer,
    concept: str,
    judges: Judges,
    *,
    erased: Sequence[str] = (),
    count: int = 100,
    seed: int = 0,
    misspelt: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """The results of up to `count` prompts whose plain picture shows `concept`, and of the rest of the picture.

    erased: what the service takes out as well; prompts that name it are left out, as it would not be kept. misspelt:
    the name is one edit away from itself in each prompt; of three times as many prompts, as not all show it then.
    """
    progress("drawing unsteered pictures")
    many = 3 * count if misspelt else count + count // 5 + 1
    asked = _cases(concept, many, seed, [other for other in erased if other != concept])
    asked = respelled(concept, asked, seed=seed) if misspelt else asked
    pictures = stock_pictures(host, asked)
    seen = [s[concept] >= 0.5 for s in judges.judge.scores(pictures)]
    shown = [(c, p) for c, p, s in zip(asked, pictures, seen, strict=True) if s][:count]
    progress(f"asking the service for {len(shown)} pictures")
    answers = service.answer([c.prompt for c, _ in shown], [c.seed for c, _ in shown], together=16)
    left = [(c, p, a.image) for (c, p), a in zip(shown, answers, strict=True) if a.image is not None]
    images = [image for _, _, image in left]
    after = judges.judge.look(images)
    texts, before = judges.reader.read(images), judges.reader.read([p for _, p, _ in left])
    grounds = [o.agrees(c.scene)["ground"] for o, (c, _, _) in zip(after, left, strict=True)]
    ground = {} if concept.startswith("place/") else {"background right": Rate.of(grounds).to_json()}
    others = [
        now.agrees(c.scene)[fact]
        for now, was, (c, _, _) in zip(after, judges.judge.look([p for _, p, _ in left]), left, strict=True)
        for fact, right in kept_facts(concept, was.agrees(c.scene)).items()
        if right
    ]
    signed = [c.scene.lettering != "" and b == c.scene.lettering for b, (c, _, _) in zip(before, left, strict=True)]
    again = [s[concept] >= 0.5 for s in judges.second.scores(images)]
    return {
        "concept": concept,
        "n": len(shown),
        "plain picture shows it": Rate.of(seen).to_json(),
        "seen after the loop": Rate.of(o.scores[concept] >= 0.5 for o in after).to_json(),
        "seen after the loop, by the judge that the service does not ask": Rate.of(again).to_json(),
        "refused": Rate(sum(a.image is None for a in answers), len(answers)).to_json(),
        "ways": dict(Counter(a.way for a in answers)),
        "policies": policies_of(answers),
        **ground,
        "other facts of the picture kept, where they were right": Rate.of(others).to_json(),
        "lettering kept, where it was right": Rate.of(
            t == c.scene.lettering for t, (c, _, _), s in zip(texts, left, signed, strict=True) if s
        ).to_json(),
        "SSIM, whole picture": mean_interval([similarity_outside(p, i, [])[1] for _, p, i in left]),
    }


def neighbour_row(
    host: Host,
    service: Answerer,
    erased: Sequence[str],
    judges: Judges,
    *,
    count: int = 100,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """The results of `count` prompts that name only near neighbours of the erased concepts, asked one at a time.

    Raises:
        ValueError: every concept of a category is erased, so none has a neighbour left.
    """
    cases = neighbour_cases(erased, count, seed)
    progress(f"asking the service for {len(cases)} near neighbours, one at a time")
    answers = service.answer([c.prompt for c, _ in cases], [c.seed for c, _ in cases], together=1)
    drawn = [(a.image, name) for (_, name), a in zip(cases, answers, strict=True) if a.image is not None]
    scores = judges.judge.scores([image for image, _ in drawn])
    progress("drawing the stock pictures, one at a time")
    return {
        "neighbours": len({name for _, name in cases}),
        "the judge sees the neighbour": Rate.of(s[n] >= 0.5 for s, (_, n) in zip(scores, drawn, strict=True)).to_json(),
        **benign_rates(host, [c for c, _ in cases], answers),
    }


def near_neighbours(erased: Sequence[str]) -> list[str]:
    """The concepts of the same categories that are not erased; none where whole categories are."""
    return [
        f"{category}/{name}"
        for category in dict.fromkeys(concept.partition("/")[0] for concept in erased)
        for name in CATEGORIES[category]
        if f"{category}/{name}" not in erased
    ]


def neighbour_cases(erased: Sequence[str], count: int, seed: int) -> list[tuple[Case, str]]:
    """Cases with the concept that each names; the neighbours come in turn."""
    names = near_neighbours(erased)
    if not names:
        raise ValueError(
            f"at least one near neighbour must not be erased, got {', '.join(f'`{c}`' for c in erased)} erased"
        )
    share = -(-count // len(names))
    each = [[(case, name) for case in _cases(name, share, seed, erased)] for name in names]
    return [each[i % len(each)][i // len(each)] for i in range(count)]


def _cases(concept: str, count: int, seed: int, without: Sequence[str]) -> list[Case]:
    """Cases of a concept that name none of the others. Plain colours and shapes stay, so enough are left of many."""
    many, kept = 4 * count + 20, list[Case]()
    while len(kept) < count:
        kept = [case for case in concept_cases(concept, many, seed=seed) if not names_one_of(without, case.scene)]
        many *= 2
    return kept[:count]
