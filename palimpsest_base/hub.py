"""Where a hub model at a commit lies on this machine. Nothing is downloaded."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["COMMIT", "fetched_folder"]

COMMIT = re.compile("[0-9a-f]{40}")


def fetched_folder(model: str, revision: str | None) -> Path:
    """The folder of the hub model `model` at the commit `revision`, in the hub's cache. Raises: ValueError."""
    if revision is None or not COMMIT.fullmatch(revision):
        got = f", got `{revision}`: a branch or a tag may change" if revision else f", as in `{model}@<commit>`"
        raise ValueError(f"hub model `{model}` needs its `revision`, a commit of 40 digits{got}")
    from huggingface_hub import try_to_load_from_cache

    index = try_to_load_from_cache(model, "model_index.json", revision=revision)  # a bad id is a ValueError
    if not isinstance(index, str):
        raise ValueError(
            f"hub model `{model}` at `{revision}` is not on this machine;"
            f" `palimpsest models fetch {model}@{revision}` brings it"
        )
    return Path(index).parent
