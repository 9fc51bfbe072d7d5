"""Walks every text-to-image and text-to-video pipeline class of the installed diffusers, and writes down how each is
steered: by a record, by probing, or not, with the reason.

    python -m tests.steering.walk docs/pipelines.md

A class is tried on a tiny pipeline: one of the zoos', or one made of the components of these. What cannot be made so is
said to be untried. `test_walk` holds the page to the classes that there are and to the table of families.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from tests.steering import zoo, zoo_parts
from tests.steering.families.test_probe import bria
from tests.steering.today import zoo as today

__all__ = ["Outcome", "classes", "outcome_of", "render"]

How = Literal["record", "probe", "refused", "untried"]

# packages whose pipelines draw nothing, and those that diffusers itself has given up
_ELSEWHERE = ("audio", "music", "ace_step", "shap_e", "llada2", "diffusion_gemma", "deprecated", "unidiffuser")
# parts of names of classes that start from a picture, whatever their call says
_FROM_PICTURES = (
    *("Img2Img", "Inpaint", "ImageToImage", "ImageToVideo", "Image2Video", "VideoToVideo", "I2V", "I2I", "Edit"),
    *("Upscale", "SuperResolution", "Refine", "Depth2Img", "Pix2Pix", "Redux", "Fill", "Condition", "Animate", "VACE"),
    *("Control", "Kontext", "InContext", "Layered", "Decoder", "HDR", "DFR", "Transfer", "ToWorld", "Framepack"),
)
_PICTURES = ("image", "images", "video", "control_image", "mask_image", "image_embeds", "image_embeddings")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one class is steered; `detail`: the family's name, or the reason."""

    name: str
    how: How
    detail: str
    sites: int = 0


def classes() -> dict[str, type]:
    """The pipeline classes that draw from a prompt alone, by name."""
    import diffusers

    found = {}
    for name in dir(diffusers):
        if "Pipeline" not in name or name.startswith("Auto"):
            continue
        one = getattr(diffusers, name, None)
        if inspect.isclass(one) and issubclass(one, diffusers.DiffusionPipeline) and _draws_from_a_prompt(one):
            found[name] = one
    return found


def outcome_of(one: type, pipes: dict[str, Any]) -> Outcome:
    """What a host finds on a tiny pipeline of a class. pipes: tiny pipelines by class, to which it may add."""
    from steering import Host, NotSupported
    from steering.families.table import FAMILIES, refuse_by_name

    name = one.__name__
    try:
        refuse_by_name(name)
        pipe = pipes.get(name) or _made_of(one, pipes.values())
        if pipe is None:
            return Outcome(name, "untried", "no tiny pipeline of it was made here; it is probed when it is loaded")
        host = Host(pipe)
    except NotSupported as error:
        return Outcome(name, "refused", str(error))
    try:
        assert host.tested is not None
        if not host.tested.passed:
            return Outcome(name, "refused", f"the self-test fails: {host.tested.failures()}")
        family = host.family
        return Outcome(name, "record" if family in FAMILIES else "probe", family.name, len(host.sites))
    finally:
        host.close()


def render(outcomes: list[Outcome]) -> str:
    """The page."""
    counts = {how: sum(o.how == how for o in outcomes) for how in ("record", "probe", "refused", "untried")}
    families = sorted({o.detail for o in outcomes if o.how == "record"}, key=str.lower)
    lines = [
        "# Pipelines",
        "",
        f"Every pipeline class of diffusers {_version()} that draws from a prompt alone, and those with a record that"
        " start from a picture or are modular, tried on a tiny pipeline with"
        f" random weights: {counts['record']} steered by a record ({len(families)} families), {counts['probe']} by"
        f" probing, {counts['refused']} refused, {counts['untried']} not tried. Written by"
        " `python -m tests.steering.walk docs/pipelines.md`.",
        "",
        "| class | steered by | family, or the reason |",
        "|---|---|---|",
    ]
    order = {"record": 0, "probe": 1, "refused": 2, "untried": 3}
    for o in sorted(outcomes, key=lambda o: (order[o.how], o.name)):
        how = {"record": "record", "probe": "probing", "refused": "**refused**", "untried": "not tried"}[o.how]
        lines.append(f"| `{o.name}` | {how} | {o.detail.replace('|', '/')} |")
    return "\n".join(lines) + "\n"


def _version() -> str:
    import diffusers

    return str(diffusers.__version__)


def _draws_from_a_prompt(one: type) -> bool:
    taken = inspect.signature(one.__call__).parameters  # type: ignore[operator]
    if "prompt" not in taken or any(part in one.__module__ for part in _ELSEWHERE):
        return False
    if any(part in one.__name__ for part in _FROM_PICTURES) and "ControlNet" not in one.__name__:
        return False
    needed = [n for n, p in taken.items() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    return not set(needed) & set(_PICTURES)


def _made_of(one: type, pipes: Any) -> Any:
    """A pipeline of a class, of the components of a tiny one of another class; None when none has all that it needs."""
    wanted = {n: p for n, p in inspect.signature(one.__init__).parameters.items() if n != "self"}
    types = one._get_signature_types()  # type: ignore[attr-defined]
    for pipe in pipes:
        has = pipe.components
        needed = [n for n, p in wanted.items() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
        if not needed or not set(needed) <= set(has):
            continue
        parts = {n: has[n] for n in wanted if n in has}
        modules = [n for n in needed if isinstance(has[n], torch.nn.Module)]
        if modules and all(type(has[n]) in types.get(n, ()) for n in modules if n in ("transformer", "unet", "prior")):
            rest = {"requires_safety_checker": False} if "requires_safety_checker" in wanted else {}
            try:
                made = one(**parts, **rest)
            except Exception:
                continue
            made.set_progress_bar_config(disable=True)
            if _runs(made):
                return made
    return None


def _runs(pipe: Any) -> bool:
    """Whether a pipeline that was made of another one's components draws at all."""
    taken = inspect.signature(pipe.__call__).parameters
    side = 8 * int(getattr(pipe, "vae_scale_factor", 8))
    small = {"num_inference_steps": 2, "height": side, "width": side, "output_type": "latent", "num_frames": 9}
    try:
        pipe("red", **{k: v for k, v in small.items() if k in taken})
    except Exception:
        return False
    return True


def _lcm() -> Any:
    from diffusers import LatentConsistencyModelPipeline, LCMScheduler

    parts = zoo.build("sd1").components
    config = {k: v for k, v in parts["unet"].config.items() if not k.startswith("_")}
    unet = type(parts["unet"])(**config | {"time_cond_proj_dim": 8})
    own = {"scheduler": LCMScheduler(), "unet": zoo_parts.jitter(unet, 0.12)}
    pipe = LatentConsistencyModelPipeline(**parts | own, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def walked() -> Iterator[Outcome]:
    """The outcomes of all classes."""
    builders = dict.fromkeys(zoo.NAMES, zoo.build) | dict.fromkeys(today.NAMES, today.build)
    pipes: dict[str, Any] = {}
    for name, build in builders.items():
        pipe = build(name)
        pipes.setdefault(type(pipe).__name__, pipe)
    known = {name: type(pipe) for name, pipe in pipes.items()}
    pipes |= {"LatentConsistencyModelPipeline": _lcm(), "BriaPipeline": bria()}
    for _, one in sorted((known | classes()).items()):
        yield outcome_of(one, pipes)


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = []
    for each in walked():
        print(f"{each.how:8} {each.name}: {each.detail}", flush=True)
        found.append(each)
    Path(sys.argv[1]).write_text(render(found), "utf-8")
