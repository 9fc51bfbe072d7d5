"""Checks a diffusers folder before its weights are read, so that an error names the file and what it must be."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from palimpsest_base.suggest import nearest
from steering.errors import BadModel

__all__ = ["check_folder", "check_weights", "json_object", "parts_of", "pipeline_class", "stored_dtype"]
__all__ += ["tensors_in", "weight_files"]

_PICKLED = (".bin", ".pt", ".pth", ".ckpt")
_SAFE = ".safetensors"
_VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "tekken.json")
_OF_BYTES = ("ByT5Tokenizer", "PerceiverTokenizer")  # whose words are the bytes
_DTYPES = {"F64": torch.float32, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def pipeline_class(folder: Path) -> str:
    """The name of the pipeline's class. Raises: BadModel."""
    name = _index(folder).get("_class_name")
    if not isinstance(name, str):
        raise BadModel(f"`{folder / 'model_index.json'}` must have a `_class_name`, got `{name}`")
    return name


def check_folder(folder: Path, variant: str | None) -> None:
    """Checks that the classes of a folder are known, its weights whole safetensors, and that its tokenizers have a
    vocabulary. Raises: BadModel."""
    _known(pipeline_class(folder), folder, "_class_name")
    for name, (library, class_name) in parts_of(folder).items():
        if library == "diffusers":
            _known(class_name, folder, name)
        if library == "transformers" and _splits_text(name, class_name):
            _vocabulary(folder / name, class_name)
        if (folder / name).is_dir():
            _weights(folder / name, variant)


def parts_of(folder: Path) -> dict[str, tuple[str, str]]:
    """Library and class of each component that the folder's index names. Raises: BadModel."""
    found = {name: value for name, value in _index(folder).items() if isinstance(value, list) and len(value) == 2}
    return {name: (str(value[0]), str(value[1])) for name, value in found.items()}


def weight_files(component: Path, variant: str | None) -> list[Path]:
    """The weight files of a component that are read: those of the variant if there are any, else the plain ones."""
    files = sorted(component.glob(f"*{_SAFE}"))
    chosen = [f for f in files if variant is not None and _variant_of(f) == variant]
    return chosen or [f for f in files if _variant_of(f) is None]


def _index(folder: Path) -> dict[str, Any]:
    file = folder / "model_index.json"
    if not file.is_file():
        raise BadModel(f"`{folder}` must be a diffusers folder, but it has no `model_index.json`")
    return json_object(file)


def json_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file of a model's folder. Raises: BadModel."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadModel(f"`{file}` must be JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadModel(f"`{file}` must be a JSON object, got `{type(value).__name__}`")
    return value


def _known(name: str, folder: Path, field: str) -> None:
    import diffusers

    if name not in dir(diffusers):
        near = nearest(name, dir(diffusers), alike=0.85)
        hint = f"did you mean `{near}`?" if near else "code in the folder is never run"
        said = f"`{field}` of `{folder / 'model_index.json'}` must be a class of diffusers {diffusers.__version__}"
        raise BadModel(f"{said}, got `{name}`; {hint}")


def _splits_text(name: str, class_name: str) -> bool:
    """Whether a component is a tokenizer, or a processor that has one; not one of pictures alone."""
    of_pictures = any(word in class_name for word in ("Image", "Video", "Feature"))
    return "tokenizer" in f"{name} {class_name}".lower() or (class_name.endswith("Processor") and not of_pictures)


def _vocabulary(component: Path, class_name: str) -> None:
    """Nothing, when a tokenizer has its words: transformers makes one without any, which reads every prompt as nothing.
    Raises: BadModel."""
    names = [file.name for file in component.iterdir()] if component.is_dir() else []
    if class_name in _OF_BYTES and names:
        return
    if not any(name in _VOCABULARIES or name.endswith((".model", ".tiktoken")) for name in names):
        got = ", ".join(f"`{name}`" for name in sorted(names)[:4]) or ("no file" if component.is_dir() else "no folder")
        raise BadModel(
            f"`{component}` must hold the vocabulary of a `{class_name}`, such as `tokenizer.json`, and has {got}"
        )


def _weights(component: Path, variant: str | None) -> None:
    files = weight_files(component, variant)
    if not files:
        _no_weights(component, variant)
    for missing in (n for f in component.glob(f"*{_SAFE}.index*.json") for n in _shards(f) if _reads(n, files)):
        if not (component / missing).is_file():
            raise BadModel(f"`{component}` must hold the file `{missing}`, which its index names, and does not")
    for file in files:
        check_weights(file)


def _no_weights(component: Path, variant: str | None) -> None:
    """Tells what a component has in place of the weights that are looked for; a tokenizer needs none."""
    variants = sorted({v for f in component.glob(f"*{_SAFE}") if (v := _variant_of(f)) is not None})
    pickled = sorted(f.name for f in component.iterdir() if f.suffix in _PICKLED)
    if variants:
        got = ", ".join(f"`{v}`" for v in variants)
        asked = f"of the variant `{variant}`" if variant else "without a variant"
        raise BadModel(f"`{component}` must hold weights {asked}, got the variants {got}; set `variant` to one of them")
    if pickled:
        way_out = "a pickle may run code when it is read, so save the model again with `safe_serialization=True`"
        raise BadModel(f"`{component}` must hold weights as `*{_SAFE}`, got `{pickled[0]}`; {way_out}")


def _variant_of(file: Path) -> str | None:
    """The variant in the name of a weight file, such as `fp16` of `model.fp16-00001-of-00002.safetensors`."""
    parts = file.name.removesuffix(_SAFE).split(".")
    return parts[1].partition("-")[0] if len(parts) > 1 else None


def _reads(name: str, files: list[Path]) -> bool:
    """Whether the file `name` belongs to the same variant as the files that are read."""
    return _variant_of(Path(name)) == _variant_of(files[0]) if files else False


def _shards(index: Path) -> Iterator[str]:
    try:
        yield from sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadModel(f"`{index}` must be JSON with a `weight_map` of file names: {error}") from error


def stored_dtype(files: Sequence[Path]) -> torch.dtype:
    """The dtype that most bytes of these weights have; float32 for none. Weights in 8 bits are computed in bfloat16.
    Raises: BadModel."""
    counted: Counter[torch.dtype] = Counter()
    for file in files:
        for tensor in check_weights(file).values():
            dtype = _DTYPES.get(tensor["dtype"], torch.bfloat16 if tensor["dtype"].startswith("F8") else None)
            if dtype is not None:
                begin, end = tensor["data_offsets"]
                counted[dtype] += end - begin
    return counted.most_common(1)[0][0] if counted else torch.float32


def tensors_in(file: Path) -> frozenset[str]:
    """The names of the tensors in a safetensors file. Raises: BadModel."""
    return frozenset(check_weights(file))


def check_weights(file: Path) -> dict[str, dict[str, Any]]:
    """What the header of a safetensors file says of each tensor, after a check that the file is as long as it says: a
    download that was cut off is not. Raises: BadModel."""
    size = file.stat().st_size
    try:
        with file.open("rb") as content:
            length = int.from_bytes(content.read(8), "little")
            header = json.loads(content.read(length) if 8 + length <= size else b"")
        tensors = {name: value for name, value in header.items() if name != "__metadata__"}
        data = max((value["data_offsets"][1] for value in tensors.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise BadModel(
            f"`{file}` must be a safetensors file, got {size} bytes without a whole header; it may be cut off"
        ) from None
    if 8 + length + data != size:
        raise BadModel(f"`{file}` must have {8 + length + data} bytes by its header, got {size}; it may be cut off")
    return tensors
