"""Loads Detoxify from a local folder, offline, without unpickling code.

Detoxify's own loader asks the hub for the model type's configuration even when it has a checkpoint, and unpickles
that with all that a pickle may do. Here the folder answers for the hub, and `weights_only=True` refuses anything but
tensors and plain values.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

__all__ = ["EMBEDDED", "DetoxifyScorer"]

# a tiny checkpoint of our own in Detoxify's format: it proves the loading code, and is no Detoxify
EMBEDDED = Path(__file__).parent / "data" / "detoxify"

# Detoxify's older checkpoints say it otherwise
_CATEGORIES = {"toxic": "toxicity", "identity_hate": "identity_attack", "severe_toxic": "severe_toxicity"}


class DetoxifyScorer:
    """Detoxify as a scorer of texts; the checkpoint is read at the first text.

    `folder` holds one `*.ckpt` in Detoxify's format beside `config.json` and the tokenizer's files of its model.
    Raises `FileNotFoundError` when it is made and something is missing, and `ValueError` when the files do not belong
    together.
    """

    name = "detoxify"

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        found = sorted(self._folder.glob("*.ckpt"))
        if len(found) != 1:
            raise FileNotFoundError(f"`{folder}` must hold exactly one Detoxify checkpoint (*.ckpt), got {len(found)}")
        if not (self._folder / "config.json").is_file():
            raise FileNotFoundError(f"`{folder}` must contain the model's `config.json` and tokenizer files")
        self._checkpoint = found[0]

    @property
    def version(self) -> str:
        return self._checkpoint.stem

    def scores(self, texts: Sequence[str]) -> list[dict[str, float]]:
        """The categories of each text, from `toxicity` on, each in [0, 1]."""
        if not texts:
            return []
        import torch

        model, tokenizer, classes = self._loaded
        inputs = tokenizer(list(texts), return_tensors="pt", truncation=True, padding=True, max_length=512)
        with torch.inference_mode():
            scores = torch.sigmoid(model(**inputs)[0]).tolist()
        return [dict(zip(classes, row, strict=True)) for row in scores]

    @cached_property
    def _loaded(self) -> tuple[Any, Any, list[str]]:
        import torch
        from detoxify.detoxify import get_model_and_tokenizer

        checkpoint = torch.load(self._checkpoint, map_location="cpu", weights_only=True)
        try:
            classes = checkpoint["config"]["dataset"]["args"]["classes"]
            arguments = dict(checkpoint["config"]["arch"]["args"])
            state = checkpoint["state_dict"]
        except (KeyError, TypeError) as error:
            raise ValueError(f"`{self._checkpoint}` is not a Detoxify checkpoint: it lacks {error}") from None
        folder = str(self._folder)
        # the model type is only ever used to fetch a configuration, so the folder stands for it
        model, tokenizer = get_model_and_tokenizer(
            **{**arguments, "model_type": folder}, state_dict=state, huggingface_config_path=folder
        )
        if model.config.num_labels != len(classes):
            got = model.config.num_labels
            raise ValueError(
                f"`{folder}/config.json` must set num_labels to {len(classes)} as the checkpoint, got {got}"
            )
        model.float().eval()  # a checkpoint may be kept in half precision, which would be computed so
        return model, tokenizer, [_CATEGORIES.get(c, c) for c in classes]
