"""The fresh corpus: words, templates and innocent phrases that nothing was tuned on, measured once.

The other corpora are looked at again and again, so their held-out halves are not unseen any more. Nobody repairs what
this one shows: who changes the detectors after a look writes another one, with another `name` in the data file. Its
words are on no list that is shipped, as an operator's own words would be.
"""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path
from typing import Any

from evaluation.prompts.corpus import Evasion, Innocent, disguised, fill, is_homograph, scene
from evaluation.prompts.disguises import Disguise

__all__ = ["fresh_evasions", "fresh_forms", "fresh_innocents", "fresh_requests", "fresh_words"]

_DATA = Path(__file__).parent.parent / "data" / "fresh.json"
_DISGUISED_IN = ("quoted", "lines")  # forms of asking that leave a disguise as it is


def fresh_words() -> tuple[str, ...]:
    """The words and phrases that an operator is taken to have listed."""
    return tuple(_load()["words"])


def fresh_forms() -> tuple[str, ...]:
    """The names of the ways to ask."""
    return tuple(_load()["asking"])


def fresh_evasions(disguise: Disguise, count: int, *, seed: int = 0) -> list[Evasion]:
    """`count` different prompts in which words wear `disguise`; fewer if words and templates allow no more."""
    rng = random.Random(f"fresh/{disguise.name}/{seed}")
    words = [w for w in fresh_words() if disguise.fits(w)]
    forms = ("quoted",) if disguise.quoted else _DISGUISED_IN
    templates = [(form, t) for form in forms for t in _load()["asking"][form]]
    return disguised(
        disguise, words, templates, count, rng, fits=lambda said, form: "\n" not in said or form != "lines"
    )


def fresh_requests(form: str, count: int, *, seed: int = 0) -> list[Evasion]:
    """`count` different prompts that ask for an undisguised word in one way."""
    rng = random.Random(f"fresh requests/{form}/{seed}")
    made: dict[str, Evasion] = {}
    for _ in range(count * 20):
        word = rng.choice(fresh_words())
        prompt = fill(rng.choice(_load()["asking"][form]), word, rng)
        made.setdefault(prompt, Evasion(prompt, word, "none", form))
        if len(made) == count:
            break
    return list(made.values())


def fresh_innocents(count: int, *, seed: int = 0) -> list[Innocent]:
    """`count` different innocent prompts: every kind of phrase in turn, and one scene without lettering in five."""
    rng = random.Random(f"fresh innocents/{seed}")
    data = _load()
    phrases = {kind: [p for p in of if not is_homograph(p)] for kind, of in data["innocent"].items()}
    kinds = sorted(phrases)
    made: dict[str, Innocent] = {p: Innocent(p, "plain") for p in data["plain"]}
    for i in range(count * 20):
        if len(made) >= count:
            break
        if rng.random() < 0.2:
            prompt, kind = scene(rng.choice(data["scenes"]), rng), "scene"
        else:
            kind = kinds[i % len(kinds)]
            prompt = fill(rng.choice(data["showing"]), rng.choice(phrases[kind]), rng)
        made.setdefault(prompt, Innocent(prompt, kind))
    return list(made.values())[:count]


@cache
def _load() -> dict[str, Any]:
    """The words, templates and phrases; read only."""
    data: dict[str, Any] = json.loads(_DATA.read_text("utf-8"))
    return data
