"""Reads a checkpoint that is one safetensors file, with the configurations of a diffusers folder.

diffusers converts the original layouts, Stability's and Black Forest Labs' among them. A file with the whole model goes
to the pipeline's own reader. Of a file with the denoiser alone, the rest is read from the folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from steering.errors import BadModel
from steering.families.folder import check_weights, parts_of, pipeline_class, tensors_in
from steering.families.table import FAMILIES

__all__ = ["check_checkpoint", "denoiser_component", "denoisers_of", "read_checkpoint"]

_AUTOENCODER = ("first_stage_model.", "vae.")  # how the names of its weights begin where a file has the whole model


def denoiser_component(folder: Path) -> str:
    """The component of a diffusers folder that denoises; `transformer` where its index names none that we know."""
    return next((name for name in parts_of(folder) if name in _denoiser_names()), "transformer")


def denoisers_of(pipe: Any) -> dict[str, nn.Module]:
    """The denoisers of a pipeline by component, without a compiler's wrapper."""
    found = {name: part for name, part in pipe.components.items() if name in _denoiser_names()}
    return {n: getattr(part, "_orig_mod", part) for n, part in found.items() if isinstance(part, nn.Module)}


def check_checkpoint(file: Path) -> None:
    """Checks that a checkpoint is one whole safetensors file. Raises: BadModel."""
    if file.suffix != ".safetensors":
        raise BadModel(f"a checkpoint must be a `.safetensors` file, which runs no code when it is read, got `{file}`")
    if not file.is_file():
        raise BadModel(f"no checkpoint at `{file}`")
    check_weights(file)


def read_checkpoint(file: Path, base: Path, dtype: torch.dtype) -> Any:
    """The pipeline of a checkpoint. Raises: BadModel, and what diffusers raises for a file of another model."""
    import diffusers

    kind = getattr(diffusers, pipeline_class(base))
    if any(name.startswith(_AUTOENCODER) for name in tensors_in(file)):
        if not hasattr(kind, "from_single_file"):
            raise BadModel(
                f"diffusers reads no whole `{kind.__name__}` from one file; save it as a folder, or give a file with"
                " the denoiser alone"
            )
        pipe = kind.from_single_file(str(file), config=str(base), local_files_only=True, torch_dtype=dtype)
    else:
        name = denoiser_component(base)
        _, class_name = parts_of(base)[name]
        part = getattr(diffusers, class_name, None)
        if not hasattr(part, "from_single_file"):
            raise BadModel(f"diffusers reads no `{class_name}` from one file; save the model as a folder")
        denoiser = part.from_single_file(
            str(file), config=str(base), subfolder=name, local_files_only=True, torch_dtype=dtype
        )
        pipe = diffusers.DiffusionPipeline.from_pretrained(
            str(base), **{name: denoiser}, dtype=dtype, use_safetensors=True, local_files_only=True
        )
    _check_whole(pipe, file)
    return pipe


def _check_whole(pipe: Any, file: Path) -> None:
    """Checks that every weight has a value: one that no file has is left on the meta device. Raises: BadModel."""
    for name, part in pipe.components.items():
        missing = [n for n, p in part.named_parameters() if p.is_meta] if isinstance(part, nn.Module) else []
        if missing:
            raise BadModel(
                f"`{file}` must hold all weights of `{name}`, and lacks {len(missing)}, such as `{missing[0]}`"
            )


def _denoiser_names() -> frozenset[str]:
    return frozenset(name for family in FAMILIES for name in (family.denoiser, *family.others))
