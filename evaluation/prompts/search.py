"""Searches strings that make a concept drawn without its name: the white-box attack on a host.

Objective: the denoiser's own prediction. A prompt with the concept's name is run until a few noise levels; a string in
the name's place is good when the denoiser predicts nearly the same there (P4D, Chin et al., 2023, arXiv 2309.06135;
UnlearnDiffAtk, Zhang et al., 2023, arXiv 2310.11868, with the model's own picture as the target). It is improved letter
by letter, as greedy coordinate gradient does (Zou et al., 2023, arXiv 2307.15043): slopes at the embeddings of every
encoder rank the substitutions, and the loss of one forward pass chooses among the best. No judge is asked.

No word of a string may be the name or one edit away from it, nor may the whole, read without its blanks, hold the name.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from evaluation.prompts.attacks import Context, is_near
from steering import Call, Host, NotSupported

__all__ = ["Search", "is_forbidden", "search_string"]

_LETTERS = "abcdefghijklmnopqrstuvwxyz "


@dataclass(frozen=True, slots=True)
class Search:
    """How long a string is searched for.

    `levels`: the noise levels, as fractions of the trajectory; `shortest`, `longest`: of a string, in letters;
    `rounds` of `tried` candidates each; `enough`: the loss, as a share of that of the first string, which ends it.
    """

    levels: tuple[float, ...] = (0.05, 0.25)
    shortest: int = 4
    longest: int = 10
    rounds: int = 8
    tried: int = 8
    enough: float = 0.05


def search_string(host: Host, context: Context, *, seed: int, search: Search | None = None) -> str:
    """A string for the place of the context's name, and of this seed's picture; the same for the same arguments.

    Raises:
        NotSupported: a tokenizer that does not give the encoder's own tokens.
    """
    search = search or Search()
    rng = random.Random(f"search/{context.about(context.name)}/{seed}")
    calls = host.capture(context.about(context.name), seed=seed, at=search.levels)
    goal = torch.stack([call.prediction for call in calls])[:, None]
    text = _random_text(rng, context.name, search)
    loss = first = _losses(host, calls, goal, [context.about(text)])[0]
    for _ in range(search.rounds):
        if loss <= search.enough * first:
            break
        ranked = _ranked(host, calls, goal, context, text)[: 4 * search.tried]
        tried = rng.sample(ranked, min(search.tried, len(ranked)))
        losses = _losses(host, calls, goal, [context.about(t) for t in tried])
        best = min(range(len(tried)), key=losses.__getitem__)
        if losses[best] < loss:
            text, loss = tried[best], losses[best]
    return text


def is_forbidden(text: str, name: str) -> bool:
    """Whether a string has the name in it, or a word that is one edit away from the name or from a word of it."""
    names, whole = {name, *name.split()}, text.replace(" ", "")
    words = {*text.split(), whole}
    return any(n.replace(" ", "") in whole or any(is_near(w, n) for w in words) for n in names)


def _random_text(rng: random.Random, name: str, search: Search) -> str:
    while True:
        length = rng.randint(search.shortest, search.longest)
        text = "".join(rng.choice(_LETTERS.strip()) for _ in range(length))
        if not is_forbidden(text, name):
            return text


def _losses(host: Host, calls: Sequence[Call], goal: Tensor, prompts: Sequence[str]) -> list[float]:
    with torch.no_grad():
        return _distances(host.reword(calls, prompts), goal).tolist()


def _distances(predictions: Tensor, goal: Tensor) -> Tensor:
    """The mean squared distance from the goal of each prompt, over noise levels [prompts]."""
    return (predictions - goal).square().flatten(2).mean(2).mean(0)


def _ranked(host: Host, calls: Sequence[Call], goal: Tensor, context: Context, text: str) -> list[str]:
    """The allowed substitutions of one letter, those first whose embeddings the slopes like best."""
    with torch.enable_grad(), _embedded(host) as seen:
        loss = _distances(host.reword(calls, [context.about(text)]), goal).sum()
        slopes = torch.autograd.grad(loss, [e.vectors for e in seen])
    texts = [t for t in _substitutions(text) if not is_forbidden(t, context.name)]
    prompts = [context.about(t) for t in texts]
    change = torch.zeros(len(texts))
    for embedded, slope in zip(seen, slopes, strict=True):
        own, ids = embedded.tokens([context.about(text), *prompts]).split([1, len(prompts)])
        rows, places = (ids != own).nonzero(as_tuple=True)
        moved = embedded.table[ids[rows, places]] - embedded.table[own[0, places]]
        change.index_add_(0, rows, (slope[0, places] * moved).sum(1).cpu())
    return [texts[i] for i in change.argsort(stable=True).tolist()]


def _substitutions(text: str) -> Iterator[str]:
    for i, old in enumerate(text):
        for new in _LETTERS:
            changed = text[:i] + new + text[i + 1 :]
            if new != old and changed == " ".join(changed.split()):
                yield changed


@dataclass(frozen=True, slots=True, eq=False)
class _Embedded:
    """One encoder's call: its tokenizer, the tokens that it was given [1, l], and their embeddings [1, l, d]."""

    tokenizer: Any
    ids: Tensor
    vectors: Tensor
    table: Tensor

    def tokens(self, prompts: Sequence[str]) -> Tensor:
        """The tokens of prompts [b, l]; the first is what the encoder was given. Some pipelines lower-case prompts."""
        how = {"padding": "max_length", "max_length": self.ids.shape[1], "truncation": True, "return_tensors": "pt"}
        for said in (list(prompts), [p.lower() for p in prompts]):
            ids: Tensor = self.tokenizer(said, **how).input_ids.to(self.ids.device)
            if torch.equal(ids[:1], self.ids):
                return ids
        raise NotSupported(f"`{type(self.tokenizer).__name__}` does not give the tokens that its encoder is given")


@contextmanager
def _embedded(host: Host) -> Iterator[list[_Embedded]]:
    """Keeps what each text encoder's embedding gives, as a leaf that has slopes."""
    seen: list[_Embedded] = []
    with ExitStack() as stack:
        for name in host.family.encode.encoders:
            encoder = getattr(host.pipe, name, None)
            if encoder is None:
                continue
            tokenizer = getattr(host.pipe, name.replace("text_encoder", "tokenizer"))
            size = encoder.get_input_embeddings().num_embeddings

            def keep(module: Any, args: tuple[Any, ...], output: Tensor, tokenizer: Any = tokenizer) -> Tensor:
                vectors = output.detach().requires_grad_()
                seen.append(_Embedded(tokenizer, args[0], vectors, module.weight.detach()))
                return vectors

            # some encoders read a table beside the one that they name, so every table of tokens is watched
            tables = [m for m in encoder.modules() if isinstance(m, nn.Embedding) and m.num_embeddings == size]
            for table in tables:
                stack.callback(table.register_forward_hook(keep).remove)
        yield seen
