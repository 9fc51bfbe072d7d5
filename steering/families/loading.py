"""Loads a pipeline from a folder, a fetched hub model or one file: safetensors only, offline, one dtype."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from palimpsest_base.hub import fetched_folder
from palimpsest_base.suggest import nearest
from steering.errors import BadModel
from steering.families.checkpoint import check_checkpoint, denoiser_component, read_checkpoint
from steering.families.defaults import Defaults, load_defaults
from steering.families.fingerprint import KeptDigests, weights_digest
from steering.families.folder import check_folder, pipeline_class, stored_dtype, weight_files
from steering.families.table import refuse_by_name

__all__ = ["LoadedPipeline", "force_dtype", "load_pipeline", "quiet"]


@dataclass(frozen=True, slots=True)
class LoadedPipeline:
    """A pipeline with what its folder says of it."""

    pipe: Any
    name: str
    folder: Path
    defaults: Defaults
    variant: str | None = None
    checkpoint: Path | None = None

    def weights_digest(self, kept: Path, denoiser: nn.Module, component: str) -> str:
        """The digest of the denoiser's weights, from the file of kept digests when the weight files have not
        changed."""
        files = [self.checkpoint] if self.checkpoint else weight_files(self.folder / component, self.variant)
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
    dtype: torch.dtype | None,
    revision: str | None = None,
    variant: str | None = None,
    base: Path | None = None,
    place: Callable[[Any], None] | None = None,
) -> LoadedPipeline:
    """The pipeline of a diffusers folder, of a hub id at a commit that was fetched before, or of a checkpoint in one
    safetensors file, whose configurations are in the folder `base`. Raises: BadModel, NotSupported (before any weights
    are read).

    `dtype`: None takes the one that the denoiser's weights have; float16 computes in float32 on a CPU. `variant` names
    the weight files that are read where a component has them, such as `fp16`. `place` is called with the pipeline in
    place of moving it to `device`.
    """
    checkpoint = None if base is None else Path(model)
    folder = _folder(str(model), revision) if base is None else base
    refuse_by_name(pipeline_class(folder))
    check_folder(folder, variant)
    if checkpoint is not None:
        check_checkpoint(checkpoint)
    defaults = load_defaults(folder)
    files = [checkpoint] if checkpoint else weight_files(folder / denoiser_component(folder), variant)
    dtype = dtype or _dtype_on(stored_dtype(files), torch.device(device))
    try:
        with quiet(), _whole():
            pipe = _read(folder, variant, dtype) if checkpoint is None else read_checkpoint(checkpoint, folder, dtype)
    except (MemoryError, torch.OutOfMemoryError, BadModel):
        raise
    except Exception as error:  # the libraries raise errors of many kinds for what a folder has or lacks
        raise BadModel(f"model `{model}` cannot be loaded from safetensors: {_first_line(error)}") from error
    _refuse_empty(pipe)
    for part in pipe.components.values():
        if isinstance(part, nn.Module):
            force_dtype(part, dtype)
            part.eval()
    if place is None:
        pipe.to(device)
    else:
        place(pipe)
    pipe.set_progress_bar_config(disable=True)
    name = checkpoint.stem if checkpoint else folder.name if Path(str(model)).exists() else str(model)
    return LoadedPipeline(pipe, name, folder, defaults, variant, checkpoint)


def _read(folder: Path, variant: str | None, dtype: torch.dtype) -> Any:
    from diffusers import DiffusionPipeline

    return DiffusionPipeline.from_pretrained(
        str(folder), dtype=dtype, use_safetensors=True, local_files_only=True, variant=variant
    )


def _dtype_on(stored: torch.dtype, device: torch.device) -> torch.dtype:
    """The dtype to compute in: CPUs compute float16 slowly and inexactly."""
    return torch.float32 if device.type == "cpu" and stored == torch.float16 else stored


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
def _whole() -> Iterator[None]:
    """Refuses a component of which transformers finds no value for some weights: it would give them random ones and
    say so in its log alone. Raises: BadModel."""
    from transformers import PreTrainedModel

    plain = PreTrainedModel.__dict__["from_pretrained"]

    def checked(cls: Any, path: Any, *args: Any, **kwargs: Any) -> Any:
        model, info = plain.__get__(None, cls)(path, *args, **(kwargs | {"output_loading_info": True}))
        if info["missing_keys"]:
            raise BadModel(_lacks(f"`{path}`", model, sorted(info["missing_keys"])))
        return (model, info) if kwargs.get("output_loading_info") else model

    # diffusers reads the components, and hands nothing on that would ask transformers for this
    PreTrainedModel.from_pretrained = classmethod(checked)
    try:
        yield
    finally:
        PreTrainedModel.from_pretrained = plain


def _refuse_empty(pipe: Any) -> None:
    """Nothing, unless a component has weights without a value, as diffusers leaves those that it does not find.
    Raises: BadModel."""
    for name, part in pipe.components.items():
        if isinstance(part, nn.Module):
            tensors = (*part.named_parameters(), *part.named_buffers())
            empty = [key for key, tensor in tensors if tensor.device.type == "meta"]
            if empty:
                raise BadModel(_lacks(f"component `{name}`", part, empty))


def _lacks(what: str, model: nn.Module, missing: Sequence[str]) -> str:
    shown = ", ".join(f"`{key}`" for key in missing[:3]) + (", ..." if len(missing) > 3 else "")
    return f"{what} must hold all weights of a `{type(model).__name__}`, and lacks {len(missing)}: {shown}"


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps the libraries' progress bars and warnings off a server's log while a model loads; errors are raised."""
    from diffusers.utils import logging as theirs
    from transformers.utils import logging as others

    shown = [(library, library.is_progress_bar_enabled(), library.get_verbosity()) for library in (theirs, others)]
    for library, _, _ in shown:
        library.disable_progress_bar()
        library.set_verbosity_error()
    try:
        yield
    finally:
        for library, bars, verbosity in shown:
            library.set_verbosity(verbosity)
            if bars:
                library.enable_progress_bar()


def _folder(model: str, revision: str | None) -> Path:
    path = Path(model)
    if path.is_dir():
        return path
    if path.is_absolute() or model.startswith(".") or model.count("/") != 1:
        siblings = [p.name for p in path.parent.iterdir() if p.is_dir()] if path.parent.is_dir() else []
        near = nearest(path.name, siblings)
        hint = f"; did you mean `{path.parent / near}`?" if near else ""
        raise BadModel(f"model must be a diffusers folder or a hub id `owner/name`, got `{model}`{hint}")
    try:
        return fetched_folder(model, revision)
    except ValueError as error:
        raise BadModel(str(error)) from None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
