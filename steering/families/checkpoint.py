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
    """The pipeline of a checkpoint. Raises: BadModel."""
    kind = pipeline_class(base)
    whole = any(name.startswith(_AUTOENCODER) for name in tensors_in(file))
    try:
        return _read_whole(kind, file, base, dtype) if whole else _read_denoiser(file, base, dtype)
    except (MemoryError, torch.OutOfMemoryError, BadModel):
        raise
    except NotImplementedError as error:  # torch, of a weight that has no value
        raise BadModel(f"`{file}` must hold all weights of the `{kind}` in `{base}`, and lacks some") from error
    except Exception as error:  # diffusers raises errors of many kinds for a file of another model
        said = f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no reason'])[0]}"
        raise BadModel(f"`{file}` cannot be read as the `{kind}` in `{base}`: {said}") from error


def _read_whole(kind: str, file: Path, base: Path, dtype: torch.dtype) -> Any:
    import diffusers

    pipeline = getattr(diffusers, kind)
    if not hasattr(pipeline, "from_single_file"):
        raise BadModel(f"diffusers reads no whole `{kind}` from one file; give a file with the denoiser alone")
    return pipeline.from_single_file(str(file), config=str(base), local_files_only=True, torch_dtype=dtype)


def _read_denoiser(file: Path, base: Path, dtype: torch.dtype) -> Any:
    import diffusers

    name = denoiser_component(base)
    _, class_name = parts_of(base)[name]
    part: Any = getattr(diffusers, class_name, None)
    if not hasattr(part, "from_single_file"):
        raise BadModel(f"diffusers reads no `{class_name}` from one file; save the model as a folder")
    denoiser = part.from_single_file(
        str(file), config=str(base), subfolder=name, local_files_only=True, torch_dtype=dtype
    )
    return diffusers.DiffusionPipeline.from_pretrained(
        str(base), **{name: denoiser}, dtype=dtype, use_safetensors=True, local_files_only=True
    )


def _denoiser_names() -> frozenset[str]:
    return frozenset(name for family in FAMILIES for name in (family.denoiser, *family.others))
