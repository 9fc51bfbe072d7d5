"""Token positions of a contrast: where, in the text that the denoiser reads, two prompts differ.

A pipeline may have several tokenizers, clean or lower-case the prompt, put an instruction before it, or join the texts
of several encoders. So nothing is tokenized here: the ids are those that the encoders were really given, and an
encoder's token is found in the denoiser's text by comparing values.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from steering.errors import BadPlan, NotSupported
from steering.measure.replay import Call
from steering.run.prepared import PreparedPipeline

__all__ = ["differing", "differing_tokens"]


@dataclass
class _Heard:
    """What an encoder was given and gave: ids [n], and hidden states [n, w], the last ones first."""

    ids: list[int] = field(default_factory=list)
    states: list[torch.Tensor] = field(default_factory=list)


def differing_tokens(prepared: PreparedPipeline, call: Call, donor: str, *, encoder: str | None = None) -> list[int]:
    """Positions, in the call's text, of the tokens that its prompt has in another form than the donor prompt.

    encoder: take the ids of this component as positions as they are (what the code of arXiv 2505.18832 does on FLUX).

    Raises: BadPlan, when the prompt holds nothing that the donor does not; NotSupported, when no encoder's tokens are
    found in the text.
    """
    with _listening(prepared) as heard:
        text = call.encoding.encode(call.prompt).text
        own = dict(heard)
    with _listening(prepared) as heard:
        call.encoding.encode(donor)
    spans = {name: differing(own[name].ids, other.ids) for name, other in heard.items() if name in own}
    if encoder is not None:
        return list(range(*spans[encoder]))
    places: set[int] = set()
    known = False
    widths = [0, *(s.shape[1] for h in own.values() for s in h.states[:1])]
    for name, (start, end) in spans.items():
        where = _standing(text, own[name], widths)
        known = known or bool(where)
        places |= {place for place, token in where.items() if start <= token < end}
    if not known:
        raise NotSupported(
            f"cannot find the positions of the encoders' tokens in the text of `{type(prepared.pipe).__name__}`; use"
            " method `gradient` or `patching`, which need no positions"
        )
    if not places:
        raise BadPlan(f"prompt must hold words that its donor does not, got `{call.prompt}` and `{donor}`")
    return sorted(places)


def differing(own: list[int], other: list[int]) -> tuple[int, int]:
    """The span of `own` between what both begin with and what both end with, padding aside."""
    a, b = _trimmed(own), _trimmed(other)
    start = 0
    while start < min(len(a), len(b)) and a[start] == b[start]:
        start += 1
    end = 0
    while end < min(len(a), len(b)) - start and a[-1 - end] == b[-1 - end]:
        end += 1
    return start, len(a) - end


def _trimmed(ids: list[int]) -> list[int]:
    """Ids without padding: of equal ones at the end, one is left."""
    last = len(ids)
    while last > 1 and ids[last - 1] == ids[last - 2]:
        last -= 1
    return ids[:last]


@contextmanager
def _listening(prepared: PreparedPipeline) -> Iterator[dict[str, _Heard]]:
    heard: dict[str, _Heard] = {}
    with ExitStack() as stack:
        for name in prepared.family.encode.encoders:
            component = getattr(prepared.encoder, name, None)
            if component is None:
                continue

            def listen(module: Any, args: Any, kwargs: Any, output: Any, name: str = name) -> None:
                ids = kwargs.get("input_ids", args[0] if args else None)
                if isinstance(ids, torch.Tensor) and ids.dim() == 2:
                    heard[name] = _Heard(ids[0].tolist(), _states(output, ids.shape[1]))

            handle = component.register_forward_hook(listen, with_kwargs=True)
            stack.callback(handle.remove)
        yield heard


def _states(output: Any, length: int) -> list[torch.Tensor]:
    values = list(output.values()) if hasattr(output, "values") else list(output)
    flat = [t for v in values for t in (reversed(v) if isinstance(v, tuple | list) else (v,))]
    return [t[0] for t in flat if isinstance(t, torch.Tensor) and t.dim() == 3 and t.shape[1] == length]


def _standing(text: torch.Tensor, heard: _Heard, widths: list[int]) -> dict[int, int]:
    """For positions of the text [l, d], the encoder's token whose state is there; empty when none is."""
    for state in heard.states:
        rows = {_bytes(row): n for n, row in reversed(list(enumerate(state.to(text.dtype))))}
        for left in dict.fromkeys(widths):
            part = text[:, left : left + state.shape[1]]
            if part.shape[1] != state.shape[1]:
                continue
            found = {p: rows[key] for p, row in enumerate(part) if (key := _bytes(row)) in rows}
            if found:
                return found
    return {}


def _bytes(row: torch.Tensor) -> bytes:
    return row.detach().to("cpu").contiguous().view(torch.uint8).numpy().tobytes()
