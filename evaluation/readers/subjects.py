"""How well a subject was learned: its identity, and what else was asked.

The names are those of Zarei et al. (*Localizing Knowledge in Diffusion Transformers*, 2025), who publish no formula.
Here the *Identity Score* is a cosine of the verifier's features, and the *Customized Knowledge Prompt Alignment Score*
the share of the other asked facts that judge and reader find.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from evaluation.metrics import Rate, mean_interval
from evaluation.readers.reader import Reader
from reference.town.judge import Judge
from reference.town.scenes import Scene
from reference.town.verifier import Verifier, examples

__all__ = ["FACTS", "asked_facts", "facts_right", "identity_scores", "prompt_alignment", "repasted", "subject_row"]

FACTS = ("ground", "style", "sign", "lettering")


def subject_row(
    verifier: Verifier,
    judge: Judge,
    reader: Reader,
    images: Sequence[Image.Image],
    scenes: Sequence[Scene],
    *,
    references: Sequence[Image.Image],
    grounds: Sequence[str],
) -> dict[str, Any]:
    """The scores of pictures whose prompts ask for the verifier's creature in `scenes`.

    Args:
        references: true pictures of the creature, those that the model was tuned on.
        grounds: the grounds of these.
    """
    identity = identity_scores(verifier, images, references)
    accepted = [kind == "subject" for kind in verifier.kinds(images)]
    return {
        "n": len(images),
        "identity score": mean_interval(identity),
        "accepted by the verifier": Rate.of(accepted).to_json(),
        **prompt_alignment(judge, reader, images, scenes),
        "background repasted": repasted(judge, images, scenes, grounds).to_json(),
    }


def identity_scores(
    verifier: Verifier, images: Sequence[Image.Image], references: Sequence[Image.Image], *, others: int = 100
) -> list[float]:
    """For each picture its mean cosine with the references, scaled: 1 is what the references have with one another,
    0 what `others` true pictures of other creatures have with them.

    Raises:
        ValueError: there are fewer than two references, or they are no more like one another than like others.
    """
    if len(references) < 2:
        raise ValueError(f"references must be at least 2 pictures, got {len(references)}")
    strangers = [e for e in examples(verifier.creature, 8 * others, seed=2, held_out=True) if e.kind == "creature"]
    known = verifier.features(references).numpy()
    other = verifier.features([e.paint(verifier.recipe.size) for e in strangers[:others]]).numpy()
    within = (known @ known.T)[~np.eye(len(known), dtype=bool)].mean()
    between = (other @ known.T).mean()
    if within <= between:
        got = f"cosines {within:.2f} and {between:.2f}"
        raise ValueError(f"references must be more like one another than like other creatures, got {got}")
    cosines = (verifier.features(images).numpy() @ known.T).mean(1)
    return [float(v) for v in (cosines - between) / (within - between)]


def asked_facts(scene: Scene) -> tuple[str, ...]:
    """The facts beside the subject that a caption of the scene asks for: ground, and style and sign if it has them."""
    return ("ground", *(("style",) if scene.style else ()), *(("sign", "lettering") if scene.lines else ()))


def facts_right(
    judge: Judge, reader: Reader, images: Sequence[Image.Image], scenes: Sequence[Scene]
) -> list[Mapping[str, bool]]:
    """For each picture whether each asked fact is seen as asked: a sign by its place, its lettering by all letters."""
    told: list[Mapping[str, bool]] = []
    for sight, read, scene in zip(judge.look(images), reader.read(images), scenes, strict=True):
        right = sight.agrees(scene) | {"lettering": read == scene.lettering}
        told.append({fact: right[fact] for fact in asked_facts(scene)})
    return told


def prompt_alignment(
    judge: Judge, reader: Reader, images: Sequence[Image.Image], scenes: Sequence[Scene]
) -> dict[str, Any]:
    """The share of asked facts that is right, over pictures and for each fact.

    For pictures of the untuned model, whose prompts name the class, it is what the tuned model's is to be held against.
    """
    told = facts_right(judge, reader, images, scenes)
    each = {f"{fact} right": Rate.of(t[fact] for t in told if fact in t).to_json() for fact in FACTS}
    return {"prompt alignment": mean_interval([sum(t.values()) / len(t) for t in told]), **each}


def repasted(judge: Judge, images: Sequence[Image.Image], scenes: Sequence[Scene], grounds: Sequence[str]) -> Rate:
    """How many pictures show one of `grounds` where another ground was asked."""
    seen = [sight.answers["ground"] for sight in judge.look(images)]
    return Rate.of(s in grounds and s != scene.ground for s, scene in zip(seen, scenes, strict=True))
