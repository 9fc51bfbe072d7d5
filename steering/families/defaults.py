"""Call defaults: arguments that belong to a model rather than to a request, in `defaults.json` beside
`model_index.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from palimpsest_base.suggest import did_you_mean
from steering.errors import BadModel
from steering.families.folder import json_object

__all__ = ["Defaults", "load_defaults", "parse_defaults"]

_MOST = {"height": 16_384, "width": 16_384, "num_inference_steps": 10_000, "min_inference_steps": 10_000}


@dataclass(frozen=True, slots=True)
class Defaults:
    """Call arguments of a model; None leaves the pipeline's own. `call` goes to the pipeline as it is; `sizes` is what
    a service offers, and `min_inference_steps` the fewest steps that the model's scheduler can take.
    """

    height: int | None = None
    width: int | None = None
    num_inference_steps: int | None = None
    min_inference_steps: int = 1
    guidance_scale: float | None = None
    call: Mapping[str, Any] = field(default_factory=dict)
    sizes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, most in _MOST.items():
            value = getattr(self, name)
            if value is not None and (type(value) is not int or not 1 <= value <= most):
                raise BadModel(f"{name} in the model's defaults must be a whole number from 1 to {most}, got `{value}`")
        if self.guidance_scale is not None and not (
            isinstance(self.guidance_scale, int | float) and self.guidance_scale >= 0
        ):
            raise BadModel(f"guidance_scale in the model's defaults must be a number >= 0, got `{self.guidance_scale}`")
        object.__setattr__(self, "call", MappingProxyType(dict(self.call)))
        object.__setattr__(self, "sizes", tuple(self.sizes))

    def arguments(self) -> dict[str, Any]:
        """The arguments for a call of the pipeline."""
        named = {n: getattr(self, n) for n in ("height", "width", "num_inference_steps", "guidance_scale")}
        return {n: v for n, v in named.items() if v is not None} | dict(self.call)


def parse_defaults(value: Mapping[str, Any]) -> Defaults:
    """The defaults in a JSON object. Raises: BadModel, for a name that is not known."""
    known = [f.name for f in fields(Defaults)]
    for name in value:
        if name not in known:
            raise BadModel(f"unknown name `{name}` in the model's defaults{did_you_mean(name, known)}")
    return Defaults(**value)


def load_defaults(folder: Path) -> Defaults:
    """The defaults of a diffusers folder; empty when it has no `defaults.json`. Raises: BadModel."""
    file = folder / "defaults.json"
    if not file.is_file():
        return Defaults()
    return parse_defaults(json_object(file))
