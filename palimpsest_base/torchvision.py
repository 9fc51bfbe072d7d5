"""Lets EasyOCR's torchvision import beside a CPU build of torch.

EasyOCR depends on torchvision, and PyPI's torchvision is built for CUDA. Beside a CPU torch its extension cannot
load, its import raises ``operator torchvision::nms does not exist``, and because transformers looks whether
torchvision is installed, diffusers and transformers break with it although neither needs it. The cure is to declare
the two operator schemas before torchvision is first executed. `install` puts a finder on `sys.meta_path` that does
so; it imports nothing and costs nothing until somebody imports torchvision. Beside a matching pair of torch and
torchvision it loads the extension and changes nothing.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["install"]

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_KEEP: list[Any] = []  # torch drops a library's operators with the last reference to it


def install() -> None:
    """Puts the finder in place, once; nothing happens if torchvision is already imported."""
    if "torchvision" not in sys.modules and not any(isinstance(f, _Finder) for f in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    """Declares the operators when torchvision is about to be executed, then steps aside."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "torchvision":
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        # `importlib.util.find_spec` also comes here without executing the module: declaring is harmless then
        if spec is not None and not _KEEP and not _extension_loads(spec):
            _declare()
        return spec


def _extension_loads(spec: importlib.machinery.ModuleSpec) -> bool:
    import torch

    for root in spec.submodule_search_locations or ():
        for file in sorted(Path(root).glob("_C*.so")) + sorted(Path(root).glob("_C*.pyd")):
            try:
                torch.ops.load_library(str(file))
            except (OSError, ImportError):
                return False
            return True
    return False


def _declare() -> None:
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        library.define(schema)
    _KEEP.append(library)
