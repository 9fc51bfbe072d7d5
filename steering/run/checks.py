"""Checks before a call: plans that a host cannot carry out, and arguments that are wrong, are refused."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from palimpsest_base.suggest import did_you_mean, nearest
from steering.errors import BadPlan, NotFinite, NotSupported, UnknownSite
from steering.families.discovery import Placed
from steering.plans import Edit, Plan, Swap
from steering.run.prepared import PreparedPipeline
from steering.sentinel import Sentinel
from steering.values import PROJECTED

__all__ = [
    "check_arguments",
    "check_caches",
    "check_count",
    "check_finite",
    "check_lengths",
    "check_plan",
    "check_scale",
    "check_values",
    "check_watched",
    "find_site",
]

# arguments of pipelines that `generate` fills itself, and what to write instead
_EMBEDDED = "`generate` encodes `prompts`; to drive the pipeline with embeddings use `host.steer`"
_ENCODED = re.compile(r"prompt_embeds|prompt_attention_mask|^(negative_)?attention_mask$")  # by any encoder
_OURS = {
    "prompt": "write `prompts`, the first argument",
    "negative_prompt": "write `negative_prompts`, one entry a prompt",
    "generator": "write `seeds`, one entry a prompt",
    "callback": "write `on_step`",
    "callback_steps": "write `on_step`, which is called after every step",
    "callback_on_step_end": "write `on_step`",
    "return_dict": "`generate` always returns an `Output`",
    "prompt_embeds": _EMBEDDED,
    "negative_prompt_embeds": _EMBEDDED,
    "pooled_prompt_embeds": _EMBEDDED,
    "negative_pooled_prompt_embeds": _EMBEDDED,
    "prompt_attention_mask": _EMBEDDED,
    "negative_prompt_attention_mask": _EMBEDDED,
}


# parts of the names under which diffusers keeps the hooks of its step caches
_CACHES = ("cache", "fbc_", "pyramid_attention_broadcast")


def check_caches(denoiser: nn.Module) -> None:
    """Nothing, when a denoiser computes every block in every step. Raises: NotSupported.

    A cache is also looked for among the hooks, because the functions that apply one do not tell the model.
    """
    hooks = (name for m in denoiser.modules() for name in getattr(getattr(m, "_diffusers_hook", None), "hooks", ()))
    found = next((name for name in hooks if any(part in name for part in _CACHES)), None)
    if found is not None or getattr(denoiser, "is_cache_enabled", False):
        which = "" if found is None else f" (hook `{found}`)"
        raise NotSupported(
            f"a step cache{which} skips blocks for the whole batch at once, so rows would depend on each other;"
            " disable it to steer"
        )


def check_scale(prepared: PreparedPipeline, kwargs: Mapping[str, Any]) -> None:
    """Nothing, unless a call of the denoiser scales an adapter of a module that donors' text passes outside of the
    call. Raises: NotSupported."""
    given = [v.get("scale", 1.0) for k, v in kwargs.items() if k.endswith("attention_kwargs") and isinstance(v, dict)]
    adapted = any(hasattr(m, "active_adapters") for part in prepared.projection() for m in part.modules())
    if adapted and any(scale != 1.0 for scale in given):
        raise NotSupported(
            f"the call scales adapters by `{given[0]}`, and one sits where donors' text enters the denoiser, before the"
            " sites; set its scale with `set_adapters` instead"
        )


def check_plan(plan: Plan, pipelines: Sequence[PreparedPipeline], host: str) -> None:
    """Nothing, when the host can carry out the plan. Raises: UnknownSite, BadPlan, NotSupported."""
    for act in plan.interventions:
        for name in act.sites:
            prepared, placed = find_site(name, pipelines, host)
            if placed.site.kind == "global" and isinstance(act, Swap):
                raise BadPlan(
                    f"site `{name}` is where pooled text enters; write `pooled` in a swap instead of naming it"
                )
            if isinstance(act, Swap):
                _check_swap(act, prepared, placed, host)
            else:
                _check_edit(act, placed)


def find_site(name: str, pipelines: Sequence[PreparedPipeline], host: str) -> tuple[PreparedPipeline, Placed]:
    """A site, and the pipeline that it is of. Raises: UnknownSite."""
    found = next(((g, g.placed[g.names.index(name)]) for g in pipelines if name in g.names), None)
    if found is None:
        raise UnknownSite(_unknown_site(name, [p.name for g in pipelines for p in g.sites], host))
    return found


def check_finite(heard: np.ndarray, names: Sequence[str]) -> None:
    """Nothing, when what sentinels read at each site [L, B, k] is finite. Raises: NotFinite."""
    broken = np.argwhere(~np.isfinite(heard))
    if len(broken):
        raise NotFinite(
            f"site `{names[broken[0][0]]}` wrote values that are not finite into the picture, so no sentinel can tell"
            " what is drawn; the picture must not be used"
        )


def check_watched(sentinels: Sequence[Sentinel], prepared: PreparedPipeline, host: str, digest: str) -> None:
    """Nothing, when the host's first pipeline can be watched by these sentinels. Raises: BadPlan, UnknownSite."""
    at = {p.name: p for p in prepared.sites}
    for sentinel in sentinels:
        what = f"sentinel of `{sentinel.concept}`"
        if sentinel.made_for != digest:
            raise BadPlan(f"{what} was made for another host than `{host}`; use that of a pack for this one")
        for name, direction in sentinel.path.items():
            if name not in at:
                raise UnknownSite(_unknown_site(name, list(at), host))
            if at[name].output_width != len(direction):
                raise BadPlan(
                    f"{what} reads outputs {len(direction)} wide at site `{name}`, which are {at[name].output_width}"
                )


def _check_swap(swap: Swap, prepared: PreparedPipeline, placed: Placed, host: str) -> None:
    rule, pooled = placed.rule, prepared.family.pooled if swap.pooled != "keep" else ()
    masks = (p.mask for p in pooled)
    whole = placed.is_whole or any(mask is not None and mask.masked is None for mask in masks)
    if whole and 0.0 < swap.strength < 1.0:
        raise NotSupported(
            f"strength must be 1 at site `{placed.name}`, got {swap.strength}: its mask says yes or no of each token,"
            " and a donor's cannot be mixed with it"
        )
    if not prepared.family.joint:
        if swap.source != "text":
            raise NotSupported(
                f"source `{swap.source}` needs a host whose text evolves with the picture; host `{host}` has"
                " cross-attention, where `text` computes the same: use `text`"
            )
        return
    if swap.source == "text" and not placed.is_static:
        raise NotSupported(
            f"source `text` needs a host with cross-attention, or a site of static text; at site `{placed.name}` of"
            f" host `{host}` text evolves with the picture, and the encoded donor is not what it expects: use `twin`,"
            " `lockstep` or `canonical`"
        )
    if swap.mode == "pinned" and swap.source in ("canonical", "text"):
        raise NotSupported("mode `pinned` needs the donor as a row of the batch: use source `twin` or `lockstep`")
    if swap.mode == "kv":
        placed.readers()
    elif placed.site.kind == "text":
        raise NotSupported(
            f"mode `pinned` shows sites that read the picture a whole text stream; site `{placed.name}` comes before"
            " them: use mode `kv`"
        )
    elif rule.stream is None:  # type: ignore[union-attr]
        raise NotSupported(f"mode `pinned` needs to know the text stream around site `{placed.name}`; use mode `kv`")


def _check_edit(edit: Edit, placed: Placed) -> None:
    where, width = edit.operator.where, edit.operator.e.shape[1]
    if (where == "pooled") != (placed.site.kind == "global"):
        kind = "where pooled text enters" if placed.site.kind == "global" else "of attention"
        raise BadPlan(
            f"site `{placed.name}` is {kind}, and the operator is for `{where}`; pooled text is edited at global sites"
            " and nowhere else"
        )
    if where == "pooled":  # how wide pooled text is shows in the call
        return
    if where in PROJECTED:
        module = placed.projection(where)
        if (width, edit.operator.d.shape[1]) != (module.in_features, module.out_features):
            raise BadPlan(
                f"operator must read {module.in_features} and change {module.out_features} for the {where} of site"
                f" `{placed.name}`, got {width} and {edit.operator.d.shape[1]}"
            )
        return
    want = {"text": placed.text_width, "output": placed.output_width, "context": placed.context_width}[where]
    if want == 0:
        gives = "text alone" if where == "output" else "no text on to later blocks"
        raise BadPlan(f"site `{placed.name}` gives {gives}, so its `{where}` cannot be edited")
    if width != want:
        raise BadPlan(f"operator must be {want} wide for the {where} of site `{placed.name}`, got {width}")


def _unknown_site(name: str, names: Sequence[str], host: str) -> str:
    return f"unknown site `{name}` for host `{host}`; nearest: `{nearest(name, names, alike=0.0)}`"


def check_arguments(kwargs: Mapping[str, Any], pipes: Sequence[Any]) -> dict[str, Any]:
    """The arguments, when some pipeline has each of them. Raises: BadPlan."""
    known = dict.fromkeys(
        p.name
        for pipe in pipes
        for p in inspect.signature(pipe.__call__).parameters.values()
        if p.kind is not p.VAR_KEYWORD
    )
    for name in kwargs:
        if name in _OURS or _ENCODED.search(name):
            raise BadPlan(f"`{name}` is not for `generate`: {_OURS.get(name, _EMBEDDED)}")
        if name not in known:
            hint = did_you_mean(name, known, list_all=False)
            raise BadPlan(f"unknown argument `{name}` for `{type(pipes[0]).__name__}`{hint}")
        if name.endswith("guidance_scale") and isinstance(kwargs[name], str):
            raise BadPlan(f"`{name}` must be a number, got a string")
    return dict(kwargs)


def check_count(count: int) -> int:
    """A number of pictures a prompt, at least 1. Raises: BadPlan."""
    if type(count) is not int or count < 1:
        raise BadPlan(f"num_images_per_prompt must be a whole number of at least 1, got `{count}`")
    return count


def check_lengths(prompts: Sequence[str], **others: Sequence[Any] | None) -> None:
    """Nothing, when there is one entry a prompt everywhere. Raises: BadPlan."""
    if isinstance(prompts, str):
        raise BadPlan("prompts must be a sequence of prompts, got one string; write `[prompt]`")
    if not prompts:
        raise BadPlan("prompts must have at least one entry")
    for name, values in others.items():
        if values is not None and (isinstance(values, str) or len(values) != len(prompts)):
            got = "a string" if isinstance(values, str) else f"{len(values)}"
            raise BadPlan(f"{name} must have one entry a prompt, {len(prompts)}, got {got}")


def check_values(
    prompts: Sequence[str], seeds: Sequence[int], negative_prompts: Sequence[str | None] | None = None
) -> None:
    """Nothing, when prompts are strings, negative ones strings or None, and seeds fit. Raises: BadPlan."""
    for negative in negative_prompts or ():
        if negative is not None and not isinstance(negative, str):
            raise BadPlan(f"negative_prompts must hold strings or None, got `{type(negative).__name__}`")
    for prompt in prompts:
        if not isinstance(prompt, str):
            raise BadPlan(f"prompts must hold strings, got `{type(prompt).__name__}`")
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
            raise BadPlan(f"seeds must hold whole numbers in [0, 2**63), got `{seed}`")
