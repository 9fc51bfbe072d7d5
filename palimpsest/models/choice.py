"""Which files of a hub repository a model needs: safetensors, configurations, and what its tokenizers read.

A repository also has weights in other formats, for other frameworks and of other variants. None of these is taken.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

__all__ = ["Choice", "ChoiceError", "HubFile", "choose"]

_WEIGHTS = ".safetensors"
_BESIDE = (".json", ".txt", ".model", ".jinja")  # configurations, vocabularies, sentencepiece, chat templates
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


class ChoiceError(ValueError):
    """A repository does not have what was asked for, or only as pickles. The message is one line."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository: its path, its size in bytes, and its digest: sha256 of a large file, otherwise the sha1
    that git gives it.
    """

    path: str
    size: int
    digest: str

    @property
    def large(self) -> bool:
        """Whether the digest is the content's sha256."""
        return len(self.digest) == 64


@dataclass(frozen=True, slots=True)
class Choice:
    """The files that are taken, in the order of the repository."""

    files: tuple[HubFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def choose(
    files: Sequence[HubFile], index: Mapping[str, Any] | None, *, variant: str | None = None, only: Sequence[str] = ()
) -> Choice:
    """The files of the pipeline whose `model_index.json` is `index`, or those that match the patterns `only`.

    `variant`: the weight files that are taken where a component has them. Raises `ChoiceError`.
    """
    for file in files:
        path = PurePosixPath(file.path)
        if path.is_absolute() or ".." in path.parts or "\\" in file.path:
            raise ChoiceError(f"the repository names a file outside of it: `{file.path}`")
    if only:
        return Choice(tuple(_matching(files, only)))
    if index is None:
        safe = [file.path for file in files if file.path.endswith(_WEIGHTS)]
        shown = f", such as `--only '{safe[0]}'`" if safe else ""
        raise ChoiceError(f"the repository has no `model_index.json`; say which files you want{shown}")
    parts = [name for name, value in index.items() if isinstance(value, list) and len(value) == 2 and value[1]]
    chosen = {file.path for file in files if "/" not in file.path and file.path.endswith((".json", ".txt"))}
    weights = [_weights(name, files, variant) for name in parts]
    if variant and not any(has for _, has in weights):
        raise ChoiceError(f"no component has weights of the variant `{variant}`; known: {_variants(files)}")
    for name, (taken, _) in zip(parts, weights, strict=True):
        chosen |= taken | _beside(name, files, taken)
    return Choice(tuple(file for file in files if file.path in chosen))


def _matching(files: Iterable[HubFile], only: Sequence[str]) -> list[HubFile]:
    found = [file for file in files if any(fnmatchcase(file.path, pattern) for pattern in only)]
    for pattern in only:
        if not any(fnmatchcase(file.path, pattern) for file in found):
            raise ChoiceError(f"no file of the repository matches `{pattern}`")
    for file in found:
        if file.path.endswith(_PICKLES):
            raise ChoiceError(f"`{file.path}` is a pickle, which may run code when it is read; it is not downloaded")
        if not file.path.endswith((_WEIGHTS, *_BESIDE)):
            raise ChoiceError(f"`{file.path}` is none of `*{_WEIGHTS}`, {', '.join(f'`*{s}`' for s in _BESIDE)}")
    return found


def _weights(part: str, files: Sequence[HubFile], variant: str | None) -> tuple[set[str], bool]:
    """The weight files of a component, none for a tokenizer, and whether they are of the variant."""
    inside = [file.path for file in files if file.path.startswith(f"{part}/")]
    safe = [path for path in inside if path.endswith(_WEIGHTS)]
    asked = {path for path in safe if variant and _variant_of(path) == variant}
    plain = {path for path in safe if _variant_of(path) is None}
    if safe and not (asked or plain):
        raise ChoiceError(f"`{part}` has weights of variants only: {_variants(files)}; choose one with `--variant`")
    pickles = [path for path in inside if path.endswith(_PICKLES)]
    if not safe and pickles:
        raise ChoiceError(
            f"`{part}` has its weights only as a pickle, `{pickles[0]}`, which may run code when it is read; it is not"
            " downloaded"
        )
    return asked or plain, bool(asked)


def _beside(part: str, files: Sequence[HubFile], weights: Collection[str]) -> set[str]:
    """The configurations and vocabularies of a component; of the indices of shards only those of its weights."""
    inside = {file.path for file in files if file.path.startswith(f"{part}/") and file.path.endswith(_BESIDE)}
    variants = {_variant_of(path) for path in weights}
    indices = {path for path in inside if path.endswith(".index.json") or ".index." in PurePosixPath(path).name}
    wanted = {path for path in indices if f"{_WEIGHTS}.index" in path and _index_variant(path) in variants}
    return (inside - indices) | wanted


def _variant_of(path: str) -> str | None:
    """The variant in the name of a weight file, such as `fp16` of `model.fp16-00001-of-00002.safetensors`."""
    parts = PurePosixPath(path).name.removesuffix(_WEIGHTS).split(".")
    return parts[1].partition("-")[0] if len(parts) > 1 else None


def _index_variant(path: str) -> str | None:
    """The variant in the name of an index, such as `fp16` of `model.safetensors.index.fp16.json`, which has another
    place in other versions: `model.fp16.safetensors.index.json`.
    """
    before, _, after = PurePosixPath(path).name.partition(f"{_WEIGHTS}.index")
    return _variant_of(before) or after.removesuffix(".json").removeprefix(".") or None


def _variants(files: Sequence[HubFile]) -> str:
    found = sorted({v for file in files if file.path.endswith(_WEIGHTS) and (v := _variant_of(file.path)) is not None})
    return ", ".join(f"`{name}`" for name in found) or "none"
