"""Weights in fewer bits, by torchao: what the setting `quantization` may be, and what works on a device.

A way is tried on a small layer before the model is read, because torchao's kernels depend on the device, on torch and
on further packages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.settings import SettingsError

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["check_quantization", "quantize", "quantized_share"]

_CONFIGS = {
    "int8": "Int8WeightOnlyConfig",
    "int8-dynamic": "Int8DynamicActivationInt8WeightConfig",
    "float8": "Float8WeightOnlyConfig",
    "float8-dynamic": "Float8DynamicActivationFloat8WeightConfig",
    "int4": "Int4WeightOnlyConfig",
}
_WIDTH = 256  # of the layer that a way is tried on: a multiple of every group size


def check_quantization(way: str, device: str, dtype: torch.dtype) -> None:
    """Tries a way on one small layer. Raises `SettingsError` if it does not work here."""
    import torch
    from torch import nn

    layer = nn.Sequential(nn.Linear(_WIDTH, _WIDTH, bias=False)).to(device, dtype)
    try:
        _apply(layer, way, device)
        layer(torch.zeros(1, _WIDTH, device=device, dtype=dtype))
    except Exception as error:  # torchao and the kernels below it raise errors of many kinds
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        kind = str(dtype).removeprefix("torch.")
        raise SettingsError(f"`quantization` `{way}` does not work on `{device}` in {kind} here: {said}") from error
    if not quantized_share(layer):
        raise SettingsError(f"`quantization` `{way}` changes nothing on `{device}` here")


def quantize(denoiser: nn.Module, way: str, device: str) -> None:
    """Puts the weights of a denoiser's linear layers into fewer bits. Raises `SettingsError` if there are none."""
    _apply(denoiser, way, device)
    if not quantized_share(denoiser):
        raise SettingsError(f"`quantization` `{way}` changes no layer of `{type(denoiser).__name__}`")


def quantized_share(module: nn.Module) -> float:
    """The share of a module's weights, by number, that torchao holds, from 0 to 1."""
    from torchao.utils import TorchAOBaseTensor

    sizes = [(parameter.numel(), isinstance(parameter, TorchAOBaseTensor)) for parameter in module.parameters()]
    return sum(size for size, held in sizes if held) / max(1, sum(size for size, _ in sizes))


def _apply(module: nn.Module, way: str, device: str) -> None:
    quantization: Any = _torchao()
    quantization.quantize_(module, getattr(quantization, _CONFIGS[way])(), device=device)


def _torchao() -> Any:
    import logging

    told = logging.getLogger("torchao")
    before = told.level
    told.setLevel(logging.ERROR)  # it warns of every kernel that was built for another torch
    try:
        from torchao import quantization
    except ImportError as error:
        raise SettingsError(
            "`quantization` needs torchao: install `palimpsest[quantization]`, or quantize in a `module:function`"
        ) from error
    finally:
        told.setLevel(before)
    return quantization
