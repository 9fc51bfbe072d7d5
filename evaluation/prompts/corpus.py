# ruff: noqa: E501  the rows of a table are read and compared as whole lines
"""The evasion corpus and the innocence corpus: prompts made from our words and templates, split in halves.

Half of all words and half of all templates are held out, by a hash of what they say. A word is hashed by its first four
letters, so that `idiot` and `idiots` are on the same side. Detectors may be tuned on the other half only. Figures are
about held-out words in held-out templates.
"""

from __future__ import annotations

import json
import random
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from detectors.text.views import make_views
from detectors.text.vocabulary import load_vocabulary
from evaluation.prompts.disguises import Disguise
from policies import SHIPPED
from policies.matcher import Matcher

__all__ = [
    "Evasion",
    "Innocent",
    "disguised",
    "evasions",
    "fill",
    "hides",
    "innocents",
    "is_held_out",
    "is_homograph",
    "listed_words",
    "requests_for",
    "scene",
]

_DATA = Path(__file__).parent.parent / "data"
_QUOTES = (
    ('"', '"'), ('"', '"'), ('"', '"'), ("'", "'"), ("“", "”"), ("‘", "’"), ("«", "»"), ("« ", " »"), ("»", "«"), ("‹", "›"), ("„", "“"), ("„", "”"),
    ("”", "”"), ("「", "」"), ("『", "』"), ("《", "》"), ("〈", "〉"), ("【", "】"), ("`", "`"), ("``", "''"), ("''", "''"), ("**", "**"), ("*", "*"),
    ("[", "]"), ("<", ">"), ("{", "}"), ("(", ")"), ("＂", "＂"), ("❝", "❞"), ("〝", "〞"), ('\\"', '\\"'), ("“", '"'), ('"', "”"), ("&quot;", "&quot;"),
)  # fmt: skip
_UNBALANCED = (('"', ""), ("“", ""), ("«", ""), ("‘", ""), ("'", ""), ("„", ""), ("「", ""))
_STEM = 4


@dataclass(frozen=True, slots=True)
class Evasion:
    """A prompt that asks for `word` as lettering, in the disguise and the form of asking that are named."""

    prompt: str
    word: str
    disguise: str
    form: str


@dataclass(frozen=True, slots=True)
class Innocent:
    """A prompt that no rule should act on, and the kind of false alarm that it provokes."""

    prompt: str
    kind: str


def is_held_out(text: str) -> bool:
    """Whether `text`, a word or a template, may not be used for tuning."""
    return sha256(f"palimpsest-detectors:{text}".encode()).digest()[0] < 128


def listed_words(*, held_out: bool) -> tuple[str, ...]:
    """The entries of the shipped list of insults that fall into that half, sorted."""
    lines = (SHIPPED / "lists" / "toxic.en.txt").read_text("utf-8").splitlines()
    words = {line.strip() for line in lines if line.strip() and not line.startswith("#")}
    return tuple(sorted(w for w in words if is_held_out(w[:_STEM]) == held_out))


def evasions(disguise: Disguise, count: int, *, held_out: bool, seed: int = 0) -> list[Evasion]:
    """`count` different prompts in which listed words wear `disguise`; fewer if words and templates allow no more."""
    rng = random.Random(f"evasions/{disguise.name}/{held_out}/{seed}")
    words = [w for w in listed_words(held_out=held_out) if disguise.fits(w)]
    forms = [(f, t) for f, t in _templates(held_out) if not (disguise.quoted and "{q}" not in t)]
    return disguised(disguise, words, forms, count, rng)


def disguised(
    disguise: Disguise,
    words: Sequence[str],
    forms: Sequence[tuple[str, str]],
    count: int,
    rng: random.Random,
    *,
    fits: Callable[[str, str], bool] = lambda said, form: True,
) -> list[Evasion]:
    """`count` different prompts that ask for one of `words` in disguise, by (form, template) of `forms`.

    `fits(said, form)` is false for what cannot be asked for so.
    """
    made: dict[str, Evasion] = {}
    for _ in range(count * 20):
        word, (form, template) = rng.choice(words), rng.choice(forms)
        said = disguise.apply(word, rng)
        if not hides(disguise, said, word) or not fits(said, form):
            continue
        prompt = fill(template, said, rng, own_quotes=disguise.quoted)
        made.setdefault(prompt, Evasion(prompt, word, disguise.name, form))
        if len(made) == count:
            break
    return list(made.values())


def hides(disguise: Disguise, said: str, word: str) -> bool:
    """Whether `said` is `word` in disguise: not the word itself, and no everyday word (`tweet`)."""
    return disguise.name == "none" or (said != word and not load_vocabulary().knows(said.lower()))


def requests_for(form: str, count: int, *, held_out: bool, seed: int = 0) -> list[Evasion]:
    """`count` prompts that ask for an undisguised word in one form: a group of templates, or `quotes` and
    `unbalanced` for each kind of quotation mark in turn."""
    rng = random.Random(f"requests/{form}/{held_out}/{seed}")
    words = listed_words(held_out=held_out)
    marks = {"quotes": _QUOTES, "unbalanced": _UNBALANCED}.get(form)
    group = "quoted" if marks else form
    templates = [t for f, t in _templates(held_out) if f == group]
    found: dict[str, Evasion] = {}
    for i in range(count * 20):
        word, template = rng.choice(words), rng.choice(templates)
        prompt = fill(template, word, rng, marks=marks[i % len(marks)] if marks else None)
        found.setdefault(prompt, Evasion(prompt, word, "none", form))
        if len(found) == count:
            break
    return list(found.values())


def is_homograph(phrase: str) -> bool:
    """Whether `phrase` holds a word of the shipped list as it stands there, accents aside, in another meaning.

    Whether such a word is an insult is for the list and its `unless` to say (`liars dice`, French `le retard`), and no
    view of a text can know it: these phrases make a corpus of their own.
    """
    (shown, *_), matcher = make_views(phrase), _matcher()
    bare = "".join(c for c in unicodedata.normalize("NFKD", shown.text) if not unicodedata.combining(c))
    return any(True for _ in matcher.find(shown)) or any(True for _ in matcher.find(make_views(bare)[0]))


def innocents(count: int, *, held_out: bool, seed: int = 0, homographs: bool = False) -> list[Innocent]:
    """`count` different innocent prompts: every kind in turn, four of five with lettering.

    With `homographs` those about phrases that hold a listed word, else only the others.
    """
    rng = random.Random(f"innocents/{held_out}/{homographs}/{seed}")
    data = _load()
    showing = [t for t in data["showing"] if is_held_out(t) == held_out]
    scenes = [t for t in data["scenes"] if is_held_out(t) == held_out]
    phrases = {
        kind: [p for p in of if is_held_out(p) == held_out and is_homograph(p) == homographs]
        for kind, of in data["innocent"].items()
    }
    phrases = {kind: of for kind, of in phrases.items() if of}
    kinds = sorted(phrases)
    plain = () if homographs else data["plain"]
    made: dict[str, Innocent] = {p: Innocent(p, "plain") for p in plain if is_held_out(p) == held_out}
    for i in range(count * 20):
        if len(made) >= count:
            break
        draw = rng.random()
        if draw < 0.15 and not homographs:
            prompt, kind = scene(rng.choice(scenes), rng), "scene"
        else:
            kind = kinds[i % len(kinds)]
            said = rng.choice(phrases[kind])
            if draw < 0.25:
                prompt = scene(rng.choice(scenes), rng) + rng.choice(
                    (", {}", " and {}", ", titled {}", " near {}")
                ).format(said)
            else:
                prompt = fill(rng.choice(showing), rng.choice((said, said, said.upper(), said.lower())), rng)
        made.setdefault(prompt, Innocent(prompt, kind))
    return list(made.values())[:count]


def _templates(held_out: bool) -> list[tuple[str, str]]:
    return [(form, t) for form, of in _load()["asking"].items() for t in of if is_held_out(t) == held_out]


def fill(
    template: str, said: str, rng: random.Random, *, own_quotes: bool = False, marks: tuple[str, str] | None = None
) -> str:
    """`template` about `said`; {q} in quotation marks, {w} and {x} without, {W} in capitals."""
    a, b = marks or rng.choice(_QUOTES[:16])
    quoted = said if own_quotes else a + said + b
    loud = said.upper() if said.isascii() else said
    # the words last: they may hold braces
    return scene(template, rng).replace("{q}", quoted).replace("{W}", loud).replace("{w}", said).replace("{x}", said)


def scene(template: str, rng: random.Random) -> str:
    """`template` with colours, things and places."""
    phrases = _phrases()
    for slot, of in (("{c}", "colours"), ("{d}", "colours"), ("{t}", "things"), ("{p}", "places")):
        while slot in template:
            template = template.replace(slot, rng.choice(phrases[of]), 1)
    return template


@cache
def _matcher() -> Matcher:
    return Matcher({"listed": [*listed_words(held_out=False), *listed_words(held_out=True)]})


@cache
def _load() -> dict[str, Any]:
    """The templates and phrases; read only."""
    data: dict[str, Any] = json.loads((_DATA / "corpus.json").read_text("utf-8"))
    return data


@cache
def _phrases() -> dict[str, Sequence[str]]:
    phrases: dict[str, Sequence[str]] = json.loads((_DATA / "toxicity_phrases.json").read_text("utf-8"))
    return phrases
