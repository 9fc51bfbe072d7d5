"""Gives a host's pipeline a rewriter, as some of today's pipelines have one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from steering import Host

__all__ = ["rewrite_prompts"]


def rewrite_prompts(host: Host, write: Callable[[torch.Tensor], torch.Tensor]) -> Host:
    """The host, whose pipeline has the argument `use_pe`, which is on: then it encodes, in place of each prompt, what
    `write` gives for the prompt's tokens [1, l], decoded."""
    pipe = host.pipe
    stock = type(pipe)

    def rewritten(self: Any, prompt: str) -> str:
        given = self.tokenizer(prompt, return_tensors="pt").input_ids[:, :-1]  # its end is not the text's
        return str(self.tokenizer.decode(write(given)[0], skip_special_tokens=True)).strip()

    def call(self: Any, *args: Any, use_pe: bool = True, **kwargs: Any) -> Any:
        if use_pe:
            kwargs["prompt"] = [self.rewritten(prompt) for prompt in kwargs["prompt"]]
        return stock.__call__(self, *args, **kwargs)

    taken = inspect.signature(stock.__call__)
    switch = inspect.Parameter("use_pe", inspect.Parameter.KEYWORD_ONLY, default=True)
    named = [p for p in taken.parameters.values() if p.kind is not p.VAR_KEYWORD]
    call.__signature__ = taken.replace(parameters=[*named, switch])  # type: ignore[attr-defined]
    pipe.__class__ = type(stock.__name__, (stock,), {"__call__": call, "rewritten": rewritten})
    return host
