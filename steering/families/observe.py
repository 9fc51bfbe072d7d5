"""Records what the modules of an unknown pipeline are called with, in the first denoiser call of a small run."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from steering.attach import replaced, watched
from steering.errors import NotSupported
from steering.families.description import Encode

__all__ = ["PROMPTS", "ObservedCall", "observe_call", "parameters"]

PROMPTS = ("red", "a green ring")  # short, and of different lengths


@dataclass
class ObservedCall:
    """The records of a small call: the encoder's results, the denoiser's arguments at its first call, and for each
    module called in it the text-like tensors among its arguments, and its output."""

    encoded: list[tuple[Any, ...]] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    inputs: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    steps: int = 0


def observe_call(pipe: Any, component: str, encode: Encode, small: Mapping[str, Any]) -> ObservedCall:
    """The records of one call of two steps, both prompts from the same noise. Raises: NotSupported, when it fails."""
    seen, denoiser = ObservedCall(), getattr(pipe, component)
    taken = parameters(pipe.__call__)
    side = 8 * int(getattr(pipe, "vae_scale_factor", 8))
    call: dict[str, Any] = {"num_inference_steps": 2, "guidance_scale": 2.0, "output_type": "latent"}
    call |= {k: side for k in ("height", "width") if k in taken} | {"num_frames": 9}
    generators = [torch.Generator("cpu").manual_seed(0) for _ in PROMPTS]

    def encoded(original: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        seen.encoded.append(tuple(result) if isinstance(result, tuple | list) else (result,))
        return result

    def stepped(original: Any, *args: Any, **kwargs: Any) -> Any:
        seen.steps += 1
        return original(*args, **kwargs)

    def called(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.calls.append(_named(denoiser, args, kwargs))

    try:
        with ExitStack() as stack:
            stack.enter_context(replaced(pipe, encode.method, encoded))
            stack.enter_context(watched(denoiser, called))
            stack.enter_context(replaced(pipe.scheduler, "step", stepped))
            stack.enter_context(_all_modules(denoiser, seen))
            pipe(prompt=list(PROMPTS), generator=generators, **{k: v for k, v in call.items() if k in taken}, **small)
    except Exception as error:  # whatever it raises, the finding is that it could not be watched
        raise NotSupported(
            f"pipeline `{type(pipe).__name__}` cannot be probed: a small call of it failed with"
            f" {type(error).__name__}: {error}"
        ) from error
    if not seen.calls or not seen.encoded:
        raise NotSupported(f"pipeline `{type(pipe).__name__}` neither encoded prompts nor called its denoiser")
    return seen


@contextmanager
def _all_modules(denoiser: nn.Module, seen: ObservedCall) -> Iterator[None]:
    """Notes the arguments and outputs of modules in the denoiser's first call."""
    with ExitStack() as stack:
        for name, module in denoiser.named_modules():
            if not name:
                continue

            def before(m: nn.Module, args: Any, kwargs: Any, name: str = name) -> None:
                if len(seen.calls) == 1 and name not in seen.inputs:
                    named = _named(m, args, kwargs)
                    seen.inputs[name] = {k: v for k, v in named.items() if isinstance(v, torch.Tensor)}
                    seen.order.append(name)

            def after(m: nn.Module, args: Any, output: Any, name: str = name) -> None:
                if len(seen.calls) == 1:
                    seen.outputs.setdefault(name, output)

            for handle in (
                module.register_forward_pre_hook(before, with_kwargs=True),
                module.register_forward_hook(after),
            ):
                stack.callback(handle.remove)
        yield


def _named(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    names = [n for n, p in parameters(module.forward).items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return dict(zip(names, args, strict=False)) | dict(kwargs)


def parameters(method: Any) -> Mapping[str, inspect.Parameter]:
    """A method's parameters by name."""
    return inspect.signature(method).parameters
