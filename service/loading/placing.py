"""What is done with a pipeline between reading and serving: quantized, put on its device or offloaded, compiled.

A setting that would do nothing is refused by name, before the model is read where that can be known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from service.loading.quantize import check_quantization, quantize, quantized_share
from service.settings import Settings, SettingsError

if TYPE_CHECKING:
    from torch import nn

    from steering import Host

__all__ = ["check_placing", "check_tiles", "facts_of", "offload", "place"]

_COMPILER = "inductor"


def check_placing(settings: Settings, device: str) -> None:
    """Refuses what does nothing, or cannot work, on this device. Raises `SettingsError`."""
    import torch

    kind, _, number = settings.device.partition(":")
    if kind in ("cuda", "mps", "xpu") and int(number or 0) >= (there := getattr(torch, kind).device_count()):
        found = f"{there} of `{kind}`" if there else f"no `{kind}`"
        raise SettingsError(f"`device` is `{settings.device}`, but torch finds {found} here; use `auto` or `cpu`")
    if settings.offload != "none" and not device.startswith("cuda"):
        raise SettingsError(
            f"`offload` is `{settings.offload}`, and the model runs on `{device}`: weights already wait where they are"
            " used; leave it out, or use a GPU"
        )
    if settings.vae_slicing and (settings.batching == "solo" or settings.max_batch == 1):
        raise SettingsError("`vae_slicing` decodes a batch one picture at a time, and batches have one picture here")
    if settings.quantization is not None:
        stored = {"auto": torch.float32 if device == "cpu" else torch.bfloat16}
        check_quantization(settings.quantization, device, stored.get(settings.dtype) or getattr(torch, settings.dtype))
    if settings.compile:
        _check_compiler(device)


def place(pipe: Any, settings: Settings, device: str) -> None:
    """Quantizes, offloads and compiles a pipeline as the settings say, and puts it on its device if no offload does.
    Raises `SettingsError` for what it cannot do.
    """
    from steering.families.checkpoint import denoisers_of

    denoisers = denoisers_of(pipe)
    if not denoisers and (settings.quantization or settings.compile or settings.attention_backend):
        raise SettingsError(f"`{type(pipe).__name__}` has no denoiser that is known, so nothing of it can be changed")
    for denoiser in denoisers.values():
        if settings.quantization is not None:
            quantize(denoiser, settings.quantization, device)
        if settings.attention_backend is not None:
            _attend(denoiser, settings.attention_backend)
    for way in ("tiling", "slicing"):
        if getattr(settings, f"vae_{way}"):
            _decode_by(pipe, way)
    if settings.offload != "none":
        offload(pipe, settings.offload, device)
    elif not _is_placed(pipe):
        pipe.to(device)
    if settings.compile:
        for denoiser in denoisers.values():
            _compile(denoiser)


def offload(pipe: Any, way: str, device: str) -> None:
    """Lets weights wait in the memory of the CPU until they are used: whole components (`model`), or single layers
    (`sequential`). Raises `SettingsError` if the pipeline cannot.
    """
    import torch

    if _is_placed(pipe):
        raise SettingsError(f"`offload` is `{way}`, and the pipeline of the factory is placed already")
    try:
        if way == "model":
            pipe.enable_model_cpu_offload(device=device)
        else:
            pipe.enable_group_offload(
                onload_device=torch.device(device), offload_device=torch.device("cpu"), offload_type="leaf_level"
            )
    except (ValueError, AttributeError, NotImplementedError) as error:
        raise SettingsError(f"`offload` `{way}` does not work for `{type(pipe).__name__}`: {_said(error)}") from error


def check_tiles(host: Host, sizes: Sequence[str]) -> None:
    """Refuses tiling where no picture that may be asked for is larger than a tile. Raises `SettingsError`."""
    vae = host.pipe.vae
    side = getattr(vae, "tile_sample_min_size", None)
    rows, columns = (getattr(vae, f"tile_sample_min_{n}", side) for n in ("height", "width"))
    if rows is None or columns is None:
        return
    asked = [tuple(map(int, size.split("x"))) for size in sizes]
    if all(width <= columns and height <= rows for width, height in asked):
        raise SettingsError(
            f"`vae_tiling` does nothing: tiles are {columns}x{rows}, and no picture is larger ({', '.join(sizes)})"
        )


def facts_of(host: Host, settings: Settings) -> str:
    """One line on a loaded model: its class, precision, device, and what was done with it."""
    pipe, denoiser = host.pipe, host.denoiser
    dtype = str(denoiser.dtype).removeprefix("torch.")
    device = getattr(pipe, "_execution_device", None) or denoiser.device
    done = [f"{type(pipe).__name__}, {dtype} on {device}"]
    if settings.quantization is not None:
        done.append(f"{settings.quantization} in {quantized_share(denoiser):.0%} of its weights")
    if settings.offload != "none":
        done.append(f"{settings.offload} offload")
    if settings.attention_backend is not None:
        done.append(f"attention `{settings.attention_backend}`")
    done += [name for name in ("compile", "vae_tiling", "vae_slicing") if getattr(settings, name)]
    return ", ".join(done)


def _attend(denoiser: nn.Module, backend: str) -> None:
    """Sets the attention backend of a denoiser's own modules, and leaves that of other models alone."""
    from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry
    from diffusers.utils import logging

    known = [each.value for each in AttentionBackendName]
    if backend not in known:
        shown = ", ".join(f"`{name}`" for name in known if not name.startswith("_"))
        raise SettingsError(f"`attention_backend` must be one of diffusers', {shown}, got `{backend}`")
    kind = type(denoiser).__name__
    processors = [getattr(module, "processor", None) for module in denoiser.modules()]
    if not any(hasattr(processor, "_attention_backend") for processor in processors):
        raise SettingsError(f"`attention_backend` does nothing for `{kind}`: its attention takes no backend")
    active, shown_before = _AttentionBackendRegistry._active_backend, logging.get_verbosity()
    logging.set_verbosity_error()  # it warns that backends are experimental
    try:
        denoiser.set_attention_backend(backend)  # type: ignore[operator]
    except Exception as error:  # a package that is not there, a device that is too old, and others
        raise SettingsError(f"`attention_backend` `{backend}` does not work here: {_said(error)}") from error
    finally:
        _AttentionBackendRegistry._active_backend = active  # diffusers sets it for every model of the process
        logging.set_verbosity(shown_before)


def _decode_by(pipe: Any, way: str) -> None:
    """Switches tiling or slicing of the autoencoder on. Raises `SettingsError` if it has none."""
    vae = getattr(pipe, "vae", None)
    if not hasattr(vae, f"use_{way}"):
        what = f"`{type(vae).__name__}` has none" if vae is not None else f"`{type(pipe).__name__}` has no autoencoder"
        raise SettingsError(f"`vae_{way}` does nothing: {what}")
    getattr(vae, f"enable_{way}")()


def _compile(denoiser: Any) -> None:
    """Compiles the repeated blocks of a denoiser, or all of it where diffusers does not name them. The compiler runs
    when it is first called.
    """
    if getattr(denoiser, "_repeated_blocks", None):
        denoiser.compile_repeated_blocks(backend=_COMPILER)
    else:
        denoiser.compile(backend=_COMPILER)


def _check_compiler(device: str) -> None:
    """Whether torch finds the compiler that it needs for a device. Raises `SettingsError`."""
    if device.startswith("cuda"):
        from torch.utils._triton import has_triton

        if not has_triton():
            raise SettingsError("`compile` needs Triton on a GPU, and torch finds none that supports this one")
        return
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except Exception as error:  # torch raises a class of its own, which has moved between versions
        raise SettingsError(f"`compile` needs a C++ compiler on a CPU: {_said(error)}; install g++") from error


def _is_placed(pipe: Any) -> bool:
    """Whether somebody placed the components already: a device map, or hooks of offloading."""
    import torch

    if getattr(pipe, "hf_device_map", None) is not None:
        return True
    parts = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    return any(hasattr(m, "_hf_hook") or hasattr(m, "_diffusers_hook") for part in parts for m in part.modules())


def _said(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
