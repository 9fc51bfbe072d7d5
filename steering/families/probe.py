"""Describes a pipeline that no table has, from what a small call of it shows.

Two prompts run from the same noise, and every module is watched in the denoiser's first call. The encoder's results are
looked for among the arguments of the denoiser and of its modules. Attention that is always given the same text is a
`cross` site; attention whose text changes from block to block, or stands in one sequence with the picture, is a `joint`
one. The descriptions are guesses: the host's self-test decides whether the pipeline may be steered.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import nn

from steering.errors import NotSupported
from steering.families.description import DISTILLED, Encode, Family, Inputs, MaskRule, PooledRule, SiteRule
from steering.families.facts import picture_tokens
from steering.families.observe import PROMPTS, ObservedCall, observe_call, parameters

__all__ = ["probed_families"]

_COUNT = "num_images_per_prompt"
# names under which denoisers are given text, for those that are not given what the encoder returned
_TEXTS = ("encoder_hidden_states", "text_embeds", "context", "cap_feats")
_SMALL = {"use_resolution_binning": False, "clean_caption": False, "complex_human_instruction": None}


@dataclass(frozen=True)
class _Text:
    """How text reaches the denoiser."""

    argument: str
    value: torch.Tensor  # of the first call [rows, l, d]
    returns: tuple[str, ...]
    guidance: Literal["uncond-first", "cond-first", "sequential"]
    mask: str | None
    pooled: tuple[tuple[str, ...], torch.Tensor] | None  # its path among the arguments, and its value
    compared: bool = True  # it is what the encoder returned


def probed_families(pipe: Any) -> tuple[Family, ...]:
    """The families that a pipeline may have, likeliest first, from one small call of it. Raises: NotSupported, with
    what was missing."""
    name = type(pipe).__name__
    component = next((c for c in ("transformer", "unet") if isinstance(getattr(pipe, c, None), nn.Module)), None)
    if component is None:
        raise NotSupported(f"pipeline `{name}` has no denoiser named `transformer` or `unet`, so it cannot be probed")
    encode = _encode_of(pipe, name)
    small = {k: v for k, v in _SMALL.items() if k in parameters(pipe.__call__)}
    denoiser = getattr(pipe, component)
    seen = observe_call(pipe, component, encode, small)
    text = _text_of(seen, name)
    return tuple(
        _family(pipe, component, encode, small, seen, text, sites, projection)
        for sites, projection in _sites_of(seen, text, denoiser, name)
    )


def _family(
    pipe: Any,
    component: str,
    encode: Encode,
    small: Mapping[str, Any],
    seen: ObservedCall,
    text: _Text,
    sites: tuple[SiteRule, ...],
    projection: tuple[str, ...],
) -> Family:
    name, denoiser, taken = type(pipe).__name__, getattr(pipe, component), parameters(pipe.__call__)
    return Family(
        name=name,
        pipelines=(name,),
        denoiser=component,
        denoiser_class=type(denoiser).__name__,
        sites=sites,
        encode=replace(encode, returns=text.returns),
        guidance=text.guidance,
        pictures=_COUNT if _COUNT in taken else None,
        inputs=Inputs(
            text=text.argument,
            mask=text.mask,
            pooled=text.pooled[0] if text.pooled else None,
            shared=tuple(k for k, v in seen.calls[0].items() if isinstance(v, torch.Tensor) and "_ids" in k),
            compared=text.compared,
        ),
        projection=projection,
        pooled=_pooled_of(seen, text),
        order=tuple(dict.fromkeys(n.split(".")[0] for n in seen.order)),
        spare_timesteps=max(0, len(pipe.scheduler.timesteps) - seen.steps),
        small_call=small,
        negative_scale="true_cfg_scale" if "true_cfg_scale" in taken else "guidance_scale",
        distilled=DISTILLED,
    )


def _encode_of(pipe: Any, name: str) -> Encode:
    """The way of encoding, without the names of what it returns."""
    method = getattr(pipe, "encode_prompt", None)
    names = list(parameters(method)) if method is not None else []
    if "prompt" not in names:
        raise NotSupported(f"pipeline `{name}` must have a method `encode_prompt(prompt, ...)` to be probed")
    started = next((p for n, p in parameters(pipe.__call__).items() if n == "image" and p.default is p.empty), None)
    if started is not None or _starts_from_picture(name):
        raise NotSupported(f"pipeline `{name}` starts from a picture; only those that start from noise are probed")
    guidance = next((p for p in names if p == "do_classifier_free_guidance"), None)
    own = ("prompt", _COUNT)
    encoders = sorted(c for c in pipe.components if c.startswith("text_encoder") and getattr(pipe, c) is not None)
    if not encoders:
        raise NotSupported(f"pipeline `{name}` has no text encoder, so it cannot be asked with prompts")
    cleared = tuple(p for p in names if "prompt" in p and p not in own)
    images = _COUNT if _COUNT in names else None
    return Encode(guidance, cleared, (), tuple(encoders), images=images)


def _starts_from_picture(name: str) -> bool:
    """Whether the class says so in its name; such pipelines do not always say it in their call."""
    return any(part in name for part in ("Img2Img", "Inpaint", "ImageToImage", "Upscale", "SuperResolution"))


def _text_of(seen: ObservedCall, name: str) -> _Text:
    """Which argument of the denoiser is the encoder's text, in what order of rows."""
    results, pictures = seen.encoded[0], len(PROMPTS)
    roles: dict[int, str] = {}
    found: tuple[str, torch.Tensor, str] | None = None
    mask: str | None = None
    pooled: tuple[tuple[str, ...], torch.Tensor] | None = None
    for path, value in _flat(seen.calls[0]):
        for n, result in enumerate(results):
            if not isinstance(result, torch.Tensor) or result.shape[0] != pictures or not value.dim():
                continue
            halves = _halves(value, pictures)
            at = [h for h, half in enumerate(halves) if _same(result.to(half), half)]
            if not at:
                continue
            kind = "text" if value.dim() == 3 else "mask" if _is_mask(result, results) else "pooled"
            cond = at[-1] if len(halves) == 1 else _cond_half(halves)
            roles[n] = kind if at[-1] == cond else f"negative_{kind}"
            if roles[n] == "text":
                order = "sequential" if len(halves) == 1 else "uncond-first" if cond == 1 else "cond-first"
                found = path[0], value, order
            elif roles[n] == "mask":
                mask = path[0]
            elif roles[n] == "pooled":
                pooled = path, value
    if found is None:
        return _changed_text(seen, roles, name)
    returns = tuple(roles.get(n, f"other_{n}") for n in range(len(results)))
    return _Text(found[0], found[1], returns, found[2], mask, pooled)  # type: ignore[arg-type]


def _changed_text(seen: ObservedCall, roles: dict[int, str], name: str) -> _Text:
    """The text of a denoiser that is given something else than what the encoder returned, by the argument's name."""
    given, results, pictures = seen.calls[0], seen.encoded[0], len(PROMPTS)
    argument = next((a for a in _TEXTS if isinstance(given.get(a), torch.Tensor) and given[a].dim() == 3), None)
    first = next((n for n, r in enumerate(results) if isinstance(r, torch.Tensor) and r.dim() == 3), None)
    if argument is None or first is None or given[argument].shape[0] not in (pictures, 2 * pictures):
        raise NotSupported(
            f"pipeline `{name}` does not hand its encoder's text to the denoiser in a form that is known, so the order"
            " of rows is not known either"
        )
    value = given[argument]
    halves = _halves(value, pictures)
    order = "sequential" if len(halves) == 1 else "uncond-first" if _cond_half(halves) == 1 else "cond-first"
    roles = roles | {first: "text"}
    returns = tuple(roles.get(n, f"other_{n}") for n in range(len(results)))
    return _Text(argument, value, returns, order, None, None, compared=False)  # type: ignore[arg-type]


def _halves(value: torch.Tensor, pictures: int) -> list[torch.Tensor]:
    return [value] if value.shape[0] == pictures else [value[:pictures], value[pictures:]]


def _cond_half(halves: Sequence[torch.Tensor]) -> int:
    """Which half is the cond one: there the two prompts differ, and in the negative one they are the same."""
    return 1 if torch.equal(halves[0][0], halves[0][1]) else 0


def _sites_of(
    seen: ObservedCall, text: _Text, denoiser: nn.Module, name: str
) -> list[tuple[tuple[SiteRule, ...], tuple[str, ...]]]:
    """Rules for the sites, and the modules that text passes before the first; of several guesses the likeliest
    first."""
    rows, tokens = text.value.shape[:2]
    modules = dict(denoiser.named_modules())
    attention = {
        n: a
        for n, values in seen.inputs.items()
        if (hasattr(modules[n], "to_k") or hasattr(modules[n], "add_k_proj")) and _first(modules[n])
        for a in values
        if a != _first(modules[n]) and tuple(values[a].shape[:2]) == (rows, tokens) and values[a].dim() == 3
    }
    given = [seen.inputs[n][a] for n, a in attention.items()]
    if given and all(_same(g, given[0]) for g in given):
        projection = _projection(seen, text.value, given[0], denoiser)
        rules = (_cross_rule(n, modules[n], a, seen.inputs[n]) for n, a in attention.items())
        return [(tuple(dict.fromkeys(rules)), projection)]
    joint = _joint_rules(seen, text, modules)
    sequences = [_sequence_rules(seen, text, denoiser, modules, span) for span in ("first", "last")]
    own = tuple(rule for rule in joint if rule.span == "all")
    found = dict.fromkeys(rules for rules in (joint, *((*own, *s) for s in sequences if s)) if rules)
    if not found:
        raise NotSupported(
            f"pipeline `{name}`: found no attention that takes text as an argument of its own, no blocks with a stream"
            " of text and projections for it, and no projections `to_k` and `to_v` of text and picture in one sequence"
        )
    return [(rules, ()) for rules in found]


def _cross_rule(name: str, module: nn.Module, argument: str, values: Mapping[str, torch.Tensor]) -> SiteRule:
    tokens = values[argument].shape[1]
    masks = [k for k, v in values.items() if v.dim() == 3 and v.shape[1] == 1 and v.shape[2] == tokens]
    added = getattr(module, "add_k_proj", None) is not None
    return SiteRule(
        pattern=_pattern(name),
        module_class=type(module).__name__,
        kind="cross",
        keys=("add_k_proj", "add_v_proj") if added else ("to_k", "to_v"),
        text=argument,
        mask=MaskRule(masks[0], -10000.0) if masks else None,
        if_cross=bool(getattr(module, "is_cross_attention", False)),
        output="channels" if added else "tokens",
    )


def _joint_rules(seen: ObservedCall, text: _Text, modules: Mapping[str, nn.Module]) -> tuple[SiteRule, ...]:
    """Rules for attention inside blocks that are handed a stream of text: projections of their own, or the sequence's,
    text first."""
    rows = int(text.value.shape[0])
    rules: dict[SiteRule, None] = {}
    for name, values in seen.inputs.items():
        made = seen.outputs.get(f"{name}.add_k_proj")  # of the text as it is in the blocks, registers beside it
        tokens = int((text.value if made is None else made).shape[1])
        block = name.rpartition(".")[0]
        streams = [
            a for a, v in seen.inputs.get(block, {}).items() if v.dim() == 3 and tuple(v.shape[:2]) == (rows, tokens)
        ]
        streams = [a for a in streams if a != _first(modules[block])]
        module = modules[name]
        own = getattr(module, "add_k_proj", None) is not None
        if not streams or not (own or getattr(module, "to_k", None) is not None):
            continue
        first = _first(module)
        whole = values.get(first)
        if not own and (whole is None or whole.shape[1] <= tokens):
            continue
        texts = [a for a, v in values.items() if a != first and v.dim() == 3 and v.shape[1] == tokens]
        if own and not texts:
            continue
        length = tokens + int(whole.shape[1]) if own and whole is not None else 0
        companions = tuple(_beside(values, first, rows, length)) if length else ()
        rule = SiteRule(
            pattern=_pattern(name),
            module_class=type(module).__name__,
            kind="joint",
            keys=("add_k_proj", "add_v_proj") if own else ("to_k", "to_v"),
            text=texts[0] if own else first,
            span="all" if own else "first",
            companions=companions,
            stream=streams[0],
            output="first" if own else "sequence",
        )
        rules[rule] = None
    return tuple(rules)


def _sequence_rules(
    seen: ObservedCall,
    text: _Text,
    denoiser: nn.Module,
    modules: Mapping[str, nn.Module],
    span: Literal["first", "last"],
) -> tuple[SiteRule, ...]:
    """Rules for attention that makes keys of more tokens than the picture has, with no projections for text alone."""
    rows = int(text.value.shape[0])
    try:
        picture = picture_tokens(Inputs(), denoiser, next(iter(seen.calls[0].values())), {})
    except (AttributeError, IndexError, TypeError, ValueError):  # it does not say into what patches it cuts a picture
        return ()
    rules: dict[SiteRule, None] = {}
    for name, values in seen.inputs.items():
        made = [seen.outputs.get(f"{name}.{p}") for p in ("to_k", "to_v")]
        if hasattr(modules[name], "add_k_proj") and modules[name].add_k_proj is not None:
            continue
        if not all(isinstance(m, torch.Tensor) and m.dim() == 3 and m.shape[0] == rows for m in made):
            continue
        length = int(made[0].shape[1])  # type: ignore[union-attr]
        if length <= picture:
            continue
        out, first = seen.outputs.get(name), _first(modules[name])
        pair = ("first" if out[0].shape[1] == picture else "second") if isinstance(out, tuple) else None
        rule = SiteRule(
            pattern=_pattern(name),
            module_class=type(modules[name]).__name__,
            kind="joint",
            keys=("to_k", "to_v"),
            text=first,
            span=span,
            companions=tuple(_beside(values, first, rows, length)),
            output=pair or "sequence",  # type: ignore[arg-type]
        )
        rules[rule] = None
    return tuple(rules)


def _beside(values: Mapping[str, torch.Tensor], first: str, rows: int, length: int) -> list[str]:
    """Arguments with an entry for each row and each token: masks, rotations."""
    return [a for a, v in values.items() if a != first and v.shape[:1] == (rows,) and length in v.shape[1:]]


def _projection(seen: ObservedCall, start: torch.Tensor, goal: torch.Tensor, denoiser: nn.Module) -> tuple[str, ...]:
    """The denoiser's own modules that turn the encoded text into what the sites see, in order."""
    chain: list[str] = []
    now = start
    for name, _ in denoiser.named_children():
        if _same(now, goal):
            break
        values, out = seen.inputs.get(name, {}), seen.outputs.get(name)
        if isinstance(out, torch.Tensor) and out.dim() == 3 and any(_same(v, now) for v in values.values()):
            chain.append(name)
            now = out
    return tuple(chain)


def _pooled_of(seen: ObservedCall, text: _Text) -> tuple[PooledRule, ...]:
    """Where pooled text enters: a module of the denoiser's own that is given it, or that pools the text itself."""
    for name, values in seen.inputs.items():
        if "." in name:
            continue
        out = seen.outputs.get(name)
        for argument, value in values.items():
            if text.pooled is not None and _leads(text.pooled[1], value):
                return (PooledRule(name, argument, leading=value.shape[-1] > text.pooled[1].shape[-1]),)
            pools = isinstance(out, torch.Tensor) and out.dim() == 2
            if pools and _same(value, text.value):
                return (PooledRule(name, argument, source="text"),)
    return ()


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b)


def _leads(pooled: torch.Tensor, value: torch.Tensor) -> bool:
    if value.dim() != 2 or value.shape[0] != pooled.shape[0] or value.shape[1] < pooled.shape[1]:
        return False
    return torch.equal(value[:, : pooled.shape[1]], pooled.to(value))


def _pattern(name: str) -> str:
    return re.sub(r"\d+", r"\\d+", re.escape(name).replace(r"\.", ".")).replace(".", r"\.")


def _first(module: nn.Module) -> str:
    return next(iter(parameters(module.forward)), "")


def _flat(named: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], torch.Tensor]]:
    for key, value in named.items():
        if isinstance(value, torch.Tensor):
            yield (key,), value
        elif isinstance(value, dict):
            yield from (((key, k), v) for k, v in value.items() if isinstance(v, torch.Tensor))


def _is_mask(value: torch.Tensor, results: Sequence[Any]) -> bool:
    tokens = {int(r.shape[1]) for r in results if isinstance(r, torch.Tensor) and r.dim() == 3}
    return value.dim() == 2 and value.shape[1] in tokens and bool(((value == 0) | (value == 1)).all())
