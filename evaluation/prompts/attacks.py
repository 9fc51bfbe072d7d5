"""Attacks on a policy: prompts that ask for what is erased without spelling its name as the rules know it.

Four kinds. An `edit` is the name with one letter wrong, a `double` with two. A `description` says the same in other
words. A `searched` string was found by gradients (see `search`). All of them stand where the name would stand, in a
context kept for evaluation, with a seed of its own. Whether one of them is an attack at all is for the model to say:
only those count whose unsteered picture shows the concept.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal, get_args

from detectors.text.vocabulary import load_vocabulary
from evaluation.prompts.cases import Case, lettering_cases
from evaluation.prompts.erasure_cases import cases_of, name_of, names_one_of
from reference.town.letters import drawable, load_words

__all__ = ["INSULTS", "KINDS", "Attack", "Context", "Kind", "attacks_on", "contexts_of", "double_edits", "is_near"]
__all__ += ["innocent_words", "respelled", "sampled_insults", "single_edits"]

Kind = Literal["edit", "double", "description", "searched"]
KINDS: tuple[Kind, ...] = get_args(Kind)
INSULTS = "insults"  # the target that is no concept: words of a list, as lettering

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_DESCRIPTIONS = Path(__file__).parent.parent / "data" / "descriptions.json"
_SEEDS = 7_000_000  # of pictures; no other set of prompts has them
_CONTEXTS = 40  # of each concept


@dataclass(frozen=True, slots=True)
class Attack:
    """A prompt in which `text` stands for `word`: the concept's name, or an insult."""

    target: str
    kind: Kind
    word: str
    text: str
    prompt: str
    seed: int


@dataclass(frozen=True, slots=True)
class Context:
    """A prompt about a concept, cut at the concept's name."""

    before: str
    name: str
    after: str

    def about(self, text: str) -> str:
        """The prompt with `text` for the name."""
        return f"{self.before}{text}{self.after}"


def single_edits(name: str) -> list[str]:
    """Every text that is one edit away: a letter or digit more, less or other, two neighbours swapped, or one blank
    inside; sorted."""
    cuts = [(name[:i], name[i:]) for i in range(len(name) + 1)]
    made = {a + b[1:] for a, b in cuts if b}
    made |= {a + b[1] + b[0] + b[2:] for a, b in cuts if len(b) > 1}
    made |= {a + c + b[1:] for a, b in cuts if b for c in _LETTERS}
    made |= {a + c + b for a, b in cuts for c in _LETTERS}
    made |= {f"{a} {b}" for a, b in cuts}
    return sorted({" ".join(text.split()) for text in made} - {name, ""})


def double_edits(name: str, count: int, *, seed: int = 0) -> list[str]:
    """`count` different texts that two edits lead to and one does not; fewer, if there are not so many."""
    rng = random.Random(f"double edits/{name}/{seed}")
    near = single_edits(name)
    taken, found = {name, *near}, dict[str, None]()
    for _ in range(20 * count):
        if len(found) == count:
            break
        text = rng.choice(single_edits(rng.choice(near)))
        if text not in taken:
            found.setdefault(text)
    return list(found)


def is_near(text: str, word: str) -> bool:
    """Whether `text` is `word` or one edit away from it, capitals apart."""
    text, word = text.lower(), word.lower()
    return text == word or (abs(len(text) - len(word)) <= 1 and text in _near(word))


@cache
def _near(word: str) -> frozenset[str]:
    return frozenset(single_edits(word))


def sampled_insults(words: Sequence[str], count: int, *, seed: int = 0) -> list[str]:
    """`count` of the words that a sign can carry with one letter more, in small letters; all, if there are fewer.

    Raises:
        ValueError: none of the words can stand on a sign.
    """
    fit = [w.lower() for w in drawable(words, shortest=4) if len(w) < 6]
    if not fit:
        raise ValueError(f"none of {len(words)} words has the 4 or 5 letters that a sign can carry with one more")
    return sorted(random.Random(f"insults/{seed}").sample(fit, min(count, len(fit))))


def contexts_of(concept: str, erased: Sequence[str], *, seed: int = 0) -> list[Context]:
    """Contexts of a concept that name nothing else that is erased.

    Raises:
        ValueError: a concept that the town does not have.
    """
    others, name = [c for c in erased if c != concept], name_of(concept).partition("/")[2]
    many = cases_of(concept, "evaluation", 4 * _CONTEXTS, seed=seed)
    kept = [case.prompt for case in many if not names_one_of(others, case.scene)][:_CONTEXTS]
    cuts = [prompt.partition(name) for prompt in kept]
    return [Context(before, name, after) for before, _, after in cuts]


def respelled(concept: str, cases: Sequence[Case], *, seed: int = 0) -> list[Case]:
    """The cases with the concept's name one edit away from itself, another edit in each.

    Raises:
        ValueError: a prompt that does not hold the name.
    """
    name = concept.partition("/")[2].replace("-", " ")
    rng = random.Random(f"respelled/{concept}/{seed}")
    made = []
    for case in cases:
        before, found, after = case.prompt.partition(name)
        if not found:
            raise ValueError(f"the prompt must hold `{name}`, got `{case.prompt}`")
        made.append(replace(case, prompt=before + rng.choice(single_edits(name)) + after))
    return made


def attacks_on(
    target: str,
    kind: Kind,
    count: int,
    *,
    words: Sequence[str] = (),
    erased: Sequence[str] = (),
    seed: int = 0,
) -> list[Attack]:
    """`count` attacks of a kind, `searched` apart; as many as there are, if there are fewer.

    words: the insults to attack, as of `sampled_insults`, for the target `insults`, which takes edits only. An edit
    that is an innocent word itself is none of them. erased: what the policies erase besides.
    """
    texts = _insulting(kind, words, count, seed) if target == INSULTS else _named(target, kind, count, seed)
    if target == INSULTS:
        return [
            Attack(target, kind, word, text, _on_sign(word, text, seed + i), _SEEDS + 100_000 * seed + i)
            for i, (word, text) in enumerate(texts)
        ]
    contexts = contexts_of(target, erased, seed=seed)
    return [
        Attack(target, kind, word, text, contexts[i % len(contexts)].about(text), _SEEDS + 100_000 * seed + i)
        for i, (word, text) in enumerate(texts)
    ]


def _named(concept: str, kind: Kind, count: int, seed: int) -> list[tuple[str, str]]:
    name = name_of(concept).partition("/")[2]
    if kind == "description":
        said: list[str] = json.loads(_DESCRIPTIONS.read_text("utf-8")).get(concept, [])
        return [(name, text) for text in said[:count]]
    if kind == "double":
        return [(name, text) for text in double_edits(name, count, seed=seed)]
    texts = single_edits(name)
    return [(name, text) for text in random.Random(f"attacks/{concept}/{seed}").sample(texts, min(count, len(texts)))]


def _insulting(kind: Kind, words: Sequence[str], count: int, seed: int) -> list[tuple[str, str]]:
    if kind == "description":
        return []
    listed, known = set(words), innocent_words()
    each = {w: double_edits(w, 2 * -(-count // len(words)), seed=seed) for w in words} if kind == "double" else {}
    pairs = [(w, text) for w in words for text in (each[w] if kind == "double" else single_edits(w))]
    pairs = [(w, text) for w, text in pairs if text not in listed and text not in known]
    random.Random(f"attacks/{INSULTS}/{kind}/{seed}").shuffle(pairs)
    return pairs[:count]


@cache
def innocent_words() -> frozenset[str]:
    """Innocent words: `dump` beside `dumb` is no attack."""
    return load_vocabulary().words | {word.lower() for word in load_words()}


def _on_sign(word: str, text: str, seed: int) -> str:
    """A scene's caption that asks for `text` on the sign, where it would ask for `word`."""
    (case,) = lettering_cases([word], 1, seed=seed)
    at = case.prompt.upper().index(word.upper())
    low = case.prompt[at : at + len(word)] == word
    return case.prompt[:at] + (text if low else text.upper()) + case.prompt[at + len(word) :]
