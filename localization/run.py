"""From contrasts to a pack: screens sites, chooses K on joint effect, checks it on other contrasts and on pictures."""

from __future__ import annotations

import hashlib
import json
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from localization.choose import choose_sites
from localization.effects import Bench, Contrast, Shares, SiteSet
from steering import CalibrationPoint, Choice, Host, Pack, Plan, Swap, Window

__all__ = ["Aim", "Outcome", "Witness", "localize", "witness_lettering", "witness_score"]

# what is still seen of the prompt's own concept, and what is seen of the donor's, picture by picture
Witness = Callable[[Sequence[Image.Image], Sequence[Contrast]], tuple[list[bool], list[bool]]]
_LEVELS = (0.1, 0.35, 0.6)  # early, middle and late in the trajectory
_STRENGTHS = (0.25, 0.5, 0.75, 1.0)
_VERSION = "1"


@dataclass(frozen=True, slots=True)
class Aim:
    """What to localize, and how sure to be.

    Attributes:
        concept: the pack's name for it.
        target: share of the full swap's effect that the chosen sites must carry together.
        wider: share that the second set must carry, for requests that the first did not repair.
        most: a set of more than this part of the sites is no compact answer.
        phrases, neutral: the concept's words in prompts and what stands for them in a donor; empty for lettering.
    """

    concept: str
    target: float = 0.9
    wider: float = 0.985
    most: float = 0.5
    phrases: tuple[str, ...] = ()
    neutral: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The pack, and whether its set is compact; the pack's evidence holds every number behind it."""

    pack: Pack
    answer: Literal["compact", "no compact set"]
    evidence: Mapping[str, Any]


def localize(
    host: Host,
    aim: Aim,
    *,
    search: Sequence[Contrast],
    check: Sequence[Contrast],
    controls: Sequence[Contrast],
    witness: Witness | None = None,
    progress: Callable[[str], None] = lambda _: None,
    seed: int = 0,
) -> Outcome:
    """The smallest set of sites found for a concept, with its evidence.

    Args:
        search: contrasts that the set is chosen on.
        check: other contrasts, that share and interval are reported on; pictures are drawn for these.
        controls: contrasts of matched other concepts, for specificity.
        witness: reads pictures of the finalists; without it the evidence has no pictures.

    Raises:
        ValueError: prompts that appear both in search and in check.
    """
    if shared := {c.prompt for c in search} & {c.prompt for c in check}:
        raise ValueError(
            f"prompts to search and prompts to check must differ, got {len(shared)} in both: `{min(shared)}`"
        )
    began = time.monotonic()
    names = [site.name for site in host.sites]
    bench = Bench(host, search, _LEVELS)
    progress(f"one site at a time: {len(names)} sites, {len(search)} contrasts, {len(_LEVELS)} noise levels")
    singles = bench.ask([frozenset({name}) for name in names])
    progress("growing the smallest sufficient set")
    grown = choose_sites(names, _asker(bench), target=aim.target, most=aim.most)
    wider = choose_sites(names, _asker(bench), target=aim.wider, most=1.0)
    wide = tuple(name for name in names if name in set(wider.sites) | set(grown.sites))
    chosen = tuple(name for name in names if name in grown.sites)
    progress(f"checking {len(chosen)} sites on {len(check)} other contrasts")
    checked, other = Bench(host, check, _LEVELS), Bench(host, controls, _LEVELS)
    sets = _rivals(names, chosen, wide, singles, seed=seed)
    evidence: dict[str, Any] = {
        "kind": "measured",
        "method": "patching",
        "contrasts": {
            "search": len(search),
            "check": len(check),
            "controls": len(controls),
            "digest": _digest(search, check, controls),
        },
        "levels": list(_LEVELS),
        "single": {n: round(s.share(), 4) for n, s in zip(names, singles, strict=True)},
        "path": [{"k": k, "share": round(share, 4), "sites": list(s)} for k, share, s in grown.path],
        "answer": "compact" if grown.compact else "no compact set",
        "check": _table(checked, sets),
        "controls": {name: round(s.share(), 4) for name, s in zip(sets, other.ask(sets.values()), strict=True)},
    }
    curve: tuple[CalibrationPoint, ...] = ()
    if witness is not None:
        progress("drawing pictures with the finalists")
        evidence["pictures"] = _pictures(host, check, sets, witness)
        progress("measuring erasure and drift against strength")
        curve = _calibrate(host, check, chosen, witness)
    evidence["cost"] = {
        "row evaluations": {"search": bench.rows, "check": checked.rows, "controls": other.rows},
        "seconds": round(time.monotonic() - began, 1),
    }
    pack = _pack(host, aim, chosen, wide, singles, checked, curve, evidence)
    return Outcome(pack, "compact" if grown.compact else "no compact set", evidence)


def _asker(bench: Bench) -> Callable[[Any], list[float]]:
    return lambda sets: [shares.share() for shares in bench.ask(list(sets))]


def _rivals(
    names: Sequence[str], chosen: Sequence[str], wide: Sequence[str], singles: Sequence[Shares], *, seed: int
) -> dict[str, SiteSet]:
    """The chosen set and what it must beat: random sets of its size, the sites with the least effect, all others."""
    rng = random.Random(seed)
    k = len(chosen)
    ranked = [name for _, name in sorted(zip((s.share() for s in singles), names, strict=True))]
    rivals = {
        "chosen": frozenset(chosen),
        "wider": frozenset(wide),
        "all": frozenset(names),
        "bottom": frozenset(ranked[:k]),
    }
    rivals |= {f"random {i + 1}": frozenset(rng.sample(list(names), k)) for i in range(5)}
    if k < len(names):
        rivals["all but chosen"] = frozenset(names) - frozenset(chosen)
    return rivals


def _table(bench: Bench, sets: Mapping[str, SiteSet]) -> dict[str, Any]:
    table = {}
    for name, shares in zip(sets, bench.ask(sets.values()), strict=True):
        low, high = shares.interval()
        table[name] = {
            "share": round(shares.share(), 4),
            "interval": [round(low, 4), round(high, 4)],
            "k": len(sets[name]),
        }
    return table


def _pictures(
    host: Host, contrasts: Sequence[Contrast], sets: Mapping[str, SiteSet], witness: Witness
) -> dict[str, Any]:
    """For each set, in how many pictures the prompt's own concept and the donor's are seen; `none` is unsteered."""
    table = {}
    for name, sites in {"none": frozenset[str](), **sets}.items():
        ordered = tuple(site.name for site in host.sites if site.name in sites)
        plans = [_plan(host, c, ordered) if ordered else None for c in contrasts]
        images = host.generate([c.prompt for c in contrasts], plans=plans, seeds=[c.seed for c in contrasts]).images
        own, donor = witness(images, contrasts)
        table[name] = {"own seen": sum(own), "donor seen": sum(donor), "n": len(contrasts)}
    return table


def _plan(host: Host, contrast: Contrast, sites: tuple[str, ...], strength: float = 1.0) -> Plan:
    return Plan(Swap(contrast.donor, sites=sites, pooled="keep", source=host.usual_source, strength=strength))


def _calibrate(
    host: Host, contrasts: Sequence[Contrast], chosen: tuple[str, ...], witness: Witness
) -> tuple[CalibrationPoint, ...]:
    """At each strength: the share of pictures in which the own concept is gone, and the mean absolute change of pixels.

    Pictures that did not show the concept unsteered are left out.
    """
    prompts, seeds = [c.prompt for c in contrasts], [c.seed for c in contrasts]
    plain = host.generate(prompts, plans=[None] * len(prompts), seeds=seeds).images
    shown, _ = witness(plain, contrasts)
    points = []
    for strength in _STRENGTHS:
        plans = [_plan(host, c, chosen, strength) for c in contrasts]
        images = host.generate(prompts, plans=plans, seeds=seeds).images
        still, _ = witness(images, contrasts)
        gone = [not now for now, before in zip(still, shown, strict=True) if before]
        drift = [_change(a, b) for a, b, before in zip(plain, images, shown, strict=True) if before]
        if gone:
            points.append(CalibrationPoint(strength, sum(gone) / len(gone), sum(drift) / len(drift)))
    return tuple(points)


def _change(a: Image.Image, b: Image.Image) -> float:
    """The mean absolute difference of two pictures, in [0, 1]."""
    return float(np.abs(np.asarray(a, float) - np.asarray(b, float)).mean() / 255)


def _pack(
    host: Host,
    aim: Aim,
    chosen: tuple[str, ...],
    wide: tuple[str, ...],
    singles: Sequence[Shares],
    checked: Bench,
    curve: tuple[CalibrationPoint, ...],
    evidence: Mapping[str, Any],
) -> Pack:
    (final,) = checked.ask([frozenset(chosen)])
    low, high = final.interval()
    edges = [0.0, *((a + b) / 2 for a, b in pairwise(_LEVELS)), 1.0]
    return Pack(
        concept=aim.concept,
        host=host.fingerprint,
        sites=chosen,
        wider=wide,
        site_names=tuple(site.name for site in host.sites),
        scores=torch.stack([s.by_level() for s in singles]).float(),
        bins=tuple(Window(a, b) for a, b in pairwise(edges)),
        choice=Choice(k=len(chosen), share=final.share(), low=low, high=high, target=aim.target),
        source=host.usual_source,
        phrases=aim.phrases,
        neutral=aim.neutral,
        calibration=curve,
        evidence=evidence,
        versions={"localization": _VERSION, "torch": torch.__version__},
    )


def _digest(*sets: Sequence[Contrast]) -> str:
    text = json.dumps([[[c.prompt, c.donor, c.seed] for c in s] for s in sets])
    return hashlib.sha256(text.encode()).hexdigest()


def witness_lettering(read: Callable[[Sequence[Image.Image]], Sequence[str]]) -> Witness:
    """A witness that reads: the own and the donor's quoted words, exactly, in capitals."""

    def see(images: Sequence[Image.Image], contrasts: Sequence[Contrast]) -> tuple[list[bool], list[bool]]:
        texts = read(images)
        words = [[re.findall(r'"([^"]+)"', p)[-1].upper() for p in (c.prompt, c.donor)] for c in contrasts]
        return (
            [text == own for text, (own, _) in zip(texts, words, strict=True)],
            [text == donor for text, (_, donor) in zip(texts, words, strict=True)],
        )

    return see


def witness_score(score: Callable[[Sequence[Image.Image]], Sequence[float]], *, at_least: float = 0.5) -> Witness:
    """A witness that classifies: the concept is seen from `at_least` on; the donor is not looked for."""

    def see(images: Sequence[Image.Image], contrasts: Sequence[Contrast]) -> tuple[list[bool], list[bool]]:
        return [value >= at_least for value in score(images)], [False] * len(contrasts)

    return see
