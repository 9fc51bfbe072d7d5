"""Asks hosts on pipelines that a test has changed with a feature of diffusers, and states the law that all features
share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from tests.steering import zoo
from tests.steering.family_cases import GREEN, RED, Asked, apart

__all__ = [
    "JOINT",
    "KINDS",
    "adapt",
    "adapters_of",
    "denoiser_of",
    "loud",
    "on",
    "plan_of",
    "projections",
    "scale",
    "steers",
    "unload",
]

KINDS = ("sd1", "sdxl", "if1", "sd3", "pixart-alpha", "flux-dev", "sana")  # one of each kind
TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "add_k_proj", "add_v_proj", "add_q_proj")  # of a LoRA
JOINT = ("sd3", "sd35", "flux-dev", "flux-schnell")


def on(name: str, pipe: Any = None, *, self_test: bool = False) -> Asked:
    """A host of the test's own, on a pipeline that it may change before or after."""
    return Asked(name, zoo.build(name) if pipe is None else pipe, self_test=self_test)


def denoiser_of(pipe: Any) -> nn.Module:
    """The U-Net or transformer, behind a compiler's wrapper."""
    part = pipe.unet if hasattr(pipe, "unet") else pipe.transformer
    return getattr(part, "_orig_mod", part)


def steers(it: Asked, *, share: float | None = None, **more: Any) -> torch.Tensor:
    """The stock pictures of two prompts as the pipeline is now, when the first, all its sites swapped, is the second
    one's picture, the second untouched bit for bit, and every site counted alike.

    `share`: for lower precisions, the part of the prompts' distance that may be missed.
    """
    stock = it.stock(it.beside([RED, GREEN], GREEN), **more)
    out = it.output_of([RED, GREEN], [it.swap(GREEN), None], **more)
    between = apart(stock[0], stock[1])
    assert between > it.different
    assert apart(out.images[0], stock[1]) < (it.tolerance if share is None else share * between)
    assert torch.equal(torch.as_tensor(out.images)[1], stock[1])
    fired = set(out.report[0].fired.values())
    assert len(fired) == 1
    assert 0 not in fired
    return stock


def adapt(module: Any, targets: Sequence[str] = TARGETS, adapter: str = "loud", seed: int = 0) -> None:
    """Puts a LoRA on a module, so large that pictures change a lot."""
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(r=4, lora_alpha=4, target_modules=list(targets))
    if hasattr(module, "add_adapter") and hasattr(module, "set_adapters"):
        module.add_adapter(config, adapter)
    else:
        inject_adapter_in_model(config, module, adapter)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        if f".{adapter}." in name:
            parameter.data.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
            parameter.requires_grad_(False)


def adapters_of(module: nn.Module, adapter: str = "loud") -> dict[str, Any]:
    """The LoRA that peft holds on a module, by the names of the layers."""
    from steering import Adapter

    return {
        name: Adapter(
            layer.lora_A[adapter].weight.clone(), layer.lora_B[adapter].weight.clone(), float(layer.scaling[adapter])
        )
        for name, layer in module.named_modules()
        if adapter in getattr(layer, "lora_A", {})
    }


def projections(it: Asked, *places: str) -> list[str]:
    """Modules of the denoiser that are a projection of some site, at all places unless told which."""
    found = (it.host.projections(site).items() for site in it.names)
    return [name for site in found for place, name in site if not places or place in places]


def loud(it: Asked, seed: int = 0, *, rank: int = 4, places: Sequence[str] = ("keys", "values")) -> dict[str, Any]:
    """A LoRA of random weights on all sites of a host, so large that pictures change a lot."""
    from steering import Adapter

    generator, found = torch.Generator().manual_seed(seed), {}
    for name in projections(it, *places):
        linear: Any = it.host.denoiser.get_submodule(name)
        shapes = (rank, linear.in_features), (linear.out_features, rank)
        found[name] = Adapter(*(0.3 * torch.randn(shape, generator=generator) for shape in shapes))
    return found


def plan_of(it: Asked, lora: Any, **more: Any) -> Any:
    """The plan that does what a LoRA file does."""
    from steering import Edit, Plan, operators_of_lora

    of_sites = operators_of_lora(it.host, lora).items()
    return Plan(*(Edit((site,), operator, **({"rows": "both"} | more)) for site, own in of_sites for operator in own))


def scale(module: Any, factor: float, adapter: str = "loud") -> None:
    """Sets how strongly a LoRA speaks."""
    if hasattr(module, "set_adapters"):
        module.set_adapters([adapter], [factor])
        return
    for layer in module.modules():
        if hasattr(layer, "set_scale"):
            layer.set_scale(adapter, factor)


def unload(module: Any) -> None:
    """Takes all LoRA off a module."""
    from diffusers.utils import recurse_remove_peft_layers

    if hasattr(module, "unload_lora"):
        module.unload_lora()
    else:
        recurse_remove_peft_layers(module)
