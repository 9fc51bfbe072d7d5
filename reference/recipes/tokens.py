"""Tokenizers that need no files, and token ids as the pipelines make them.

ByT5's tokens are bytes. CLIP's tokenizer gets a vocabulary of single letters and no merges, so every text is spelled
out. Its own pattern decides where words end, and it lower-cases.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

__all__ = ["byte_ids", "clip_ids", "clip_tokenizer"]


def byte_ids(captions: Sequence[str], *, length: int | None = None) -> tuple[Tensor, Tensor]:
    """Token ids and mask [b, l] as `ByT5Tokenizer` makes them, padded to `length` or to the longest."""
    rows = [[byte + 3 for byte in caption.encode()] for caption in captions]
    most = length or max(map(len, rows)) + 1
    ids = torch.zeros(len(rows), most, dtype=torch.long)
    for i, row in enumerate(rows):
        kept = [*row[: most - 1], 1]
        ids[i, : len(kept)] = torch.tensor(kept)
    return ids, (ids > 0).long()


@lru_cache(maxsize=4)
def clip_tokenizer(length: int) -> Any:
    """A CLIP tokenizer of letters for texts of `length` tokens; the token that ends a text also pads it."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={w: i for i, w in enumerate(words)}, merges=[], model_max_length=length)


def clip_ids(captions: Sequence[str], *, length: int) -> Tensor:
    """Token ids [b, length] as pipelines of the SDXL, SD3 and FLUX families make them."""
    tokenizer = clip_tokenizer(length)
    return tokenizer(list(captions), padding="max_length", truncation=True, return_tensors="pt").input_ids
