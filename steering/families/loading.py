"""Loads a pipeline from a folder or hub id: safetensors only, offline unless told otherwise, one dtype."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from palimpsest_base.suggest import nearest
from steering.errors import BadModel
from steering.families.defaults import Defaults, load_defaults
from steering.families.fingerprint import KeptDigests, weights_digest
from steering.families.folder import check_folder, pipeline_class, weight_files
from steering.families.table import refuse_by_name

__all__ = ["LoadedPipeline", "force_dtype", "load_pipeline"]


@dataclass(frozen=True, slots=True)
class LoadedPipeline:
    """A pipeline with what its folder says of it."""

    pipe: Any
    name: str
    folder: Path
    defaults: Defaults
    variant: str | None = None

    def weights_digest(self, kept: Path, denoiser: nn.Module, component: str) -> str:
        """The digest of the denoiser's weights, from the file of kept digests when the weight files have not
        changed."""
        files = weight_files(self.folder / component, self.variant)
        digests = KeptDigests(kept)
        known = digests.get(files) if files else None
        if known is None:
            known = weights_digest(denoiser)
            if files:
                digests.put(files, known)
        return known


def load_pipeline(
    model: str | Path,
    *,
    device: str | torch.device,
    dtype: torch.dtype,
    offline: bool,
    revision: str | None,
    variant: str | None = None,
) -> LoadedPipeline:
    """The pipeline of a diffusers folder or of a hub id. Raises: BadModel, NotSupported (before any weights are
    read).

    `variant` names the weight files that are read where a component has them, such as `fp16`.
    """
    from diffusers import DiffusionPipeline

    folder = _folder(str(model), offline, revision, variant)
    refuse_by_name(pipeline_class(folder))
    check_folder(folder, variant)
    defaults = load_defaults(folder)
    try:
        with _no_bars():
            pipe = DiffusionPipeline.from_pretrained(
                str(folder), dtype=dtype, use_safetensors=True, local_files_only=True, variant=variant
            )
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # the libraries raise errors of many kinds for what a folder has or lacks
        raise BadModel(f"model `{model}` cannot be loaded from safetensors: {_first_line(error)}") from error
    for part in pipe.components.values():
        if isinstance(part, nn.Module):
            force_dtype(part, dtype)
            part.eval()
    pipe.to(device)
    pipe.set_progress_bar_config(disable=True)
    return LoadedPipeline(pipe, folder.name if Path(str(model)).exists() else str(model), folder, defaults, variant)


def force_dtype(module: nn.Module, dtype: torch.dtype) -> None:
    """Casts floating weights and buffers that are not in `dtype`.

    transformers 5 loads a model in the dtype of its checkpoint unless told otherwise, which in half precision is slow
    and inexact on a CPU. What a class keeps in float32 on purpose (`_keep_in_fp32_modules`: T5's `wo` overflows in
    float16) stays there.
    """
    kept = tuple(getattr(module, "_keep_in_fp32_modules", None) or ()) if dtype == torch.float16 else ()
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        stays = tensor.dtype == torch.float32 and any(part in kept for part in name.split("."))
        if tensor.is_floating_point() and tensor.dtype != dtype and not stays:
            tensor.data = tensor.data.to(dtype)


@contextmanager
def _no_bars() -> Iterator[None]:
    """Keeps the libraries' progress bars off a server's log while a model loads."""
    from diffusers.utils import logging as theirs
    from transformers.utils import logging as others

    shown = theirs.is_progress_bar_enabled(), others.is_progress_bar_enabled()
    theirs.disable_progress_bar()
    others.disable_progress_bar()
    try:
        yield
    finally:
        if shown[0]:
            theirs.enable_progress_bar()
        if shown[1]:
            others.enable_progress_bar()


def _folder(model: str, offline: bool, revision: str | None, variant: str | None) -> Path:
    path = Path(model)
    if path.is_dir():
        return path
    if path.is_absolute() or model.startswith(".") or model.count("/") != 1:
        siblings = [p.name for p in path.parent.iterdir() if p.is_dir()] if path.parent.is_dir() else []
        near = nearest(path.name, siblings)
        hint = f"; did you mean `{path.parent / near}`?" if near else ""
        raise BadModel(f"model must be a diffusers folder or a hub id `owner/name`, got `{model}`{hint}")
    if not offline and revision is None:
        raise BadModel(
            f"a download of `{model}` needs a pinned `revision` (a commit), so that it is always the same model"
        )
    return _from_hub(model, offline, revision, variant)


def _from_hub(model: str, offline: bool, revision: str | None, variant: str | None) -> Path:
    from diffusers import DiffusionPipeline

    try:
        found = DiffusionPipeline.download(
            model, revision=revision, local_files_only=offline, use_safetensors=True, variant=variant
        )
    except (OSError, ValueError) as error:
        way_out = "; offline=False downloads it" if offline else ""
        raise BadModel(
            f"model `{model}` is neither a folder nor in the local hub cache{way_out}: {_first_line(error)}"
        ) from error
    return Path(found)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
