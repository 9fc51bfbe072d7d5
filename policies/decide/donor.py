"""Chooses the words of the donor text that replace the words that a rule found.

If possible a substitute has the length of the word that it replaces, so the picture around the lettering stays the
same. It is chosen by a hash of the word, so a request has the same donor in every worker and on every retry.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace

from palimpsest_base.likeness import pieces_like
from policies.format.actions import Replacement
from policies.judgement import Reason
from policies.spelling import fold
from policies.types import Request, Span

__all__ = ["BENIGN", "list_of", "replacements"]

BENIGN = "benign-word"  # short for `$benign`


def list_of(toward: str | None) -> str | None:
    """The name of the list that `toward` takes words from; None when it is a text or None."""
    if toward == BENIGN:
        return "benign"
    return toward[1:] if toward is not None and toward.startswith("$") else None


def replacements(
    toward: str | None,
    reasons: Iterable[Reason],
    request: Request,
    words: Mapping[str, tuple[str, ...]],
    *,
    policy: str,
    asked: Iterable[Span] = (),
) -> tuple[Replacement, ...]:
    """One replacement for each piece of the request that `reasons` point at, by place; empty without `toward`.

    Where the reasons point at the picture alone and `toward` is a list, what is replaced are the words of the prompt
    that are like those that were read, or else all lettering that it asks for (`asked`).
    """
    if toward is None:
        return ()
    name = list_of(toward)
    reasons = list(reasons)
    if name is not None and not any(r.span is not None and r.span.source != "picture" for r in reasons):
        reasons = _asked_in_other_words(reasons, request, asked)
    done: dict[tuple[str, int, int], Replacement] = {}
    # words first, as they are written before any disguise: what they leave of a piece is kept
    for reason in sorted(reasons, key=lambda r: (not r.word, r.view != "folded")):
        if reason.span is None or reason.span.source == "picture":
            continue
        if not reason.word and any(item.span.within(reason.span) for item in done.values()):
            continue
        found = reason.span.of(request.text(reason.span.source))
        text = toward
        if name is not None:
            said = reason.word or fold(found)
            said = said if any(c.isspace() for c in found) else said.replace(" ", "")  # a phrase written as one word
            text = " ".join(_choose(word, words[f"{policy}/{name}"]) for word in said.split())
            text = text.upper() if found.isupper() else text
        done.setdefault((reason.span.source, reason.span.start, reason.span.end), Replacement(reason.span, text))
    return tuple(done[key] for key in sorted(done))


def _asked_in_other_words(reasons: Iterable[Reason], request: Request, asked: Iterable[Span]) -> list[Reason]:
    """Reasons that point at the pieces of the prompt that may have put the words into the picture."""
    words = {r.word: r for r in reasons if r.word}
    spans = {Span("prompt", p.start, p.end): words[p.phrase] for p in pieces_like(request.prompt, words)}
    first = next(iter(words.values()), None)
    if not spans and first is not None:
        spans = {span: first for span in asked if span.source == "prompt"}
    return [replace(reason, span=span, word="") for span, reason in spans.items()]


def _choose(word: str, words: tuple[str, ...]) -> str:
    """A word of `words` as long as `word`, else of the nearest length, shorter before longer; by hash among equals."""
    size = sum(c.isalnum() for c in word)
    best = min((abs(len(w) - size), len(w)) for w in words)
    fitting = sorted(w for w in words if (abs(len(w) - size), len(w)) == best)
    return fitting[int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big") % len(fitting)]
