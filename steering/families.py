"""Owns what is known of each model family, as data: where text enters, how it is encoded, how guidance lays rows out.

Behaviour stands elsewhere, once for all families. A new family is an entry here and a host in the tests' list; where
it needs a word that the table has not, the word comes first and the behaviour with it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from .errors import NotSupported
from .sites import Kind, Site

__all__ = ["FAMILIES", "Encode", "Family", "MaskRule", "Placed", "SiteRule", "family_of", "find_sites"]


@dataclass(frozen=True, slots=True)
class MaskRule:
    """The mask that travels with the text: `argument` of the site, additive with `masked` where a token is hidden."""

    argument: str
    masked: float


@dataclass(frozen=True, slots=True)
class SiteRule:
    """Which modules are sites: full match of the name, and the class; and the argument that carries the text."""

    pattern: str
    module_class: str
    kind: Kind
    text: str
    mask: MaskRule | None


@dataclass(frozen=True, slots=True)
class Encode:
    """How the pipeline encodes prompts: the method, its arguments' names, and what it returns, in order."""

    method: str
    prompt: str
    guidance: str  # the argument that asks for uncond rows
    images: str
    cleared: tuple[str, ...]  # arguments that belong to the request, not to the way of encoding
    returns: tuple[str, ...]  # of text, mask, negative_text, negative_mask
    encoder: str  # the component whose weights decide the result


@dataclass(frozen=True, slots=True)
class Family:
    """One family of pipelines that are steered alike."""

    name: str
    pipelines: tuple[str, ...]
    denoiser: str  # name of the component
    denoiser_class: str
    sites: tuple[SiteRule, ...]
    encode: Encode
    guidance: Literal["uncond-first", "cond-first"]  # rows of one call; other ways come with their families
    projection: str | None  # module of the denoiser that text passes before the first site
    pooled: bool  # pooled text enters the timestep modulation
    small_call: Mapping[str, Any] = field(default_factory=dict)  # arguments of a small quick call, for the self-test
    small_latent: int = 8  # rows and columns of latents in it


_PIXART = Family(
    name="PixArt",
    pipelines=("PixArtAlphaPipeline", "PixArtSigmaPipeline"),
    denoiser="transformer",
    denoiser_class="PixArtTransformer2DModel",
    sites=(
        SiteRule(
            pattern=r"transformer_blocks\.\d+\.attn2",
            module_class="Attention",
            kind="cross",
            text="encoder_hidden_states",
            mask=MaskRule("attention_mask", masked=-10000.0),
        ),
    ),
    encode=Encode(
        method="encode_prompt",
        prompt="prompt",
        guidance="do_classifier_free_guidance",
        images="num_images_per_prompt",
        cleared=(
            "negative_prompt",
            "prompt_embeds",
            "negative_prompt_embeds",
            "prompt_attention_mask",
            "negative_prompt_attention_mask",
        ),
        returns=("text", "mask", "negative_text", "negative_mask"),
        encoder="text_encoder",
    ),
    guidance="uncond-first",
    projection="caption_projection",
    pooled=False,
    small_call={"use_resolution_binning": False, "clean_caption": False},
)

FAMILIES: tuple[Family, ...] = (_PIXART,)

# families that DESIGN 4 names and that have no entry yet, by the beginning of their pipelines' names; the longest
# match counts
_COMING = {
    "StableDiffusionXL": "Stable Diffusion XL",
    "StableDiffusion3": "Stable Diffusion 3",
    "StableDiffusion": "Stable Diffusion",
    "IF": "DeepFloyd IF",
    "Flux": "FLUX",
    "Sana": "SANA",
    "Kandinsky": "Kandinsky",
    "QwenImage": "Qwen-Image",
}


def family_of(pipeline_class: str) -> Family:
    """The family of a pipeline class, by its name. Raises: NotSupported."""
    for family in FAMILIES:
        if pipeline_class in family.pipelines:
            return family
    supported = ", ".join(f"{f.name} ({', '.join(f.pipelines)})" for f in FAMILIES)
    near = [prefix for prefix in _COMING if pipeline_class.startswith(prefix)]
    name = _COMING[max(near, key=len)] if near else "unknown"
    raise NotSupported(f"pipeline `{pipeline_class}` (family {name}) cannot be steered yet; supported: {supported}")


@dataclass(frozen=True, slots=True)
class Placed:
    """A site with its module and the rule that found it; `text` and `mask` are positions in its `forward`."""

    site: Site
    module: nn.Module
    rule: SiteRule
    text: int
    mask: int | None
    text_width: int
    output_width: int


def find_sites(family: Family, denoiser: nn.Module) -> tuple[Placed, ...]:
    """The sites of a denoiser in execution order. Raises: NotSupported, when it is not the family's or has none."""
    if type(denoiser).__name__ != family.denoiser_class:
        raise NotSupported(
            f"denoiser of a {family.name} pipeline must be `{family.denoiser_class}`, got `{type(denoiser).__name__}`"
        )
    placed = tuple(
        _place(name, module, rule)
        for name, module in denoiser.named_modules()
        for rule in family.sites
        if re.fullmatch(rule.pattern, name) and type(module).__name__ == rule.module_class
    )
    if not placed:
        raise NotSupported(
            f"found no place where text enters this `{family.denoiser_class}`; its blocks have no cross-attention"
        )
    return placed


def _place(name: str, module: nn.Module, rule: SiteRule) -> Placed:
    forward: Callable[..., Any] = module.forward
    arguments = list(inspect.signature(forward).parameters)
    site = Site(name, rule.kind, sum(p.numel() for p in module.parameters()))
    mask = arguments.index(rule.mask.argument) if rule.mask else None
    widths = int(getattr(module, "cross_attention_dim", 0)), int(getattr(module, "out_dim", 0))
    return Placed(site, module, rule, arguments.index(rule.text), mask, *widths)
