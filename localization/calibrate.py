"""Measures what each dose of a pack does, and picks the smallest that erases enough while drift stays in bounds.

Erasure is counted on pictures that showed the concept unsteered. Drift is how far pictures move that should not change:
for an edit, those of prompts without the concept, steered all the same; for a swap, which is never applied to such
prompts, the concept's own. One dose may be enough, or none: then the curve says so, and the pack has no strength.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from PIL import Image

from palimpsest_base.statistics import wilson
from steering import BadPlan, CalibrationPoint, Host, Pack, Plan

__all__ = [
    "DOSES",
    "Asked",
    "Curve",
    "PictureFacts",
    "Plain",
    "Seen",
    "Setup",
    "Way",
    "calibrate",
    "choose",
    "draw_plain",
    "drift_of",
    "measure_dose",
    "way_of",
]

DOSES = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
Seen = Callable[[Sequence[Image.Image]], Sequence[bool]]  # whether each picture shows the concept
# what else each picture shows, by question
PictureFacts = Callable[[Sequence[Image.Image]], Sequence[Mapping[str, Any]]]


class Asked(Protocol):
    """A prompt with its seed, and what stands for it in a swap; `localization.Contrast` is one."""

    @property
    def prompt(self) -> str: ...
    @property
    def donor(self) -> str: ...
    @property
    def seed(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Way:
    """A way to steer away from `concept`: the plan of a prompt at a dose. `edits`: it needs no donor, and can
    therefore be applied to prompts without the concept."""

    concept: str
    edits: bool
    plan: Callable[[Asked, float], Plan]


def way_of(pack: Pack) -> Way:
    """The way that a pack steers."""
    if pack.edits:
        return Way(pack.concept, True, lambda asked, dose: pack.plan(strength=dose))
    return Way(pack.concept, False, lambda asked, dose: pack.plan(toward=asked.donor, strength=dose))


@dataclass(frozen=True, slots=True)
class Setup:
    """The prompts that doses are measured on, the judges, and the limits.

    * `shown`: prompts of the concept; those whose plain picture does not show it are left out. `benign`: prompts
      without it, for an edit's drift.
    * `seen`: whether pictures show the concept; `look`: what else they show, None when that is not asked.
    * `target`: share of pictures in which the concept must be gone; `drift`: bound of the mean absolute change of
      pixels, in [0, 1].
    """

    shown: Sequence[Asked]
    benign: Sequence[Asked]
    seen: Seen
    look: PictureFacts | None = None
    target: float = 0.95
    drift: float = 0.03
    rows_at_once: int = 16
    call: Mapping[str, Any] = field(default_factory=dict)  # more arguments of the pipeline


@dataclass(frozen=True, slots=True)
class Curve:
    """The results of each dose, in ascending order; `strength`: the smallest that is good enough, or None; `why`:
    the reason."""

    points: tuple[CalibrationPoint, ...]
    strength: float | None
    why: str


def calibrate(
    host: Host,
    steered: Pack | Way,
    setup: Setup,
    *,
    doses: Sequence[float] | None = None,
    plain: Plain | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Curve:
    """The curve of a pack, or any way to steer, on a host, and the strength that `auto` means.

    doses: ascending; None takes `DOSES`, up to 1 for a swap. plain: pictures of this setup, if they are there already.
    Raises: BadPlan, when no plain picture shows the concept,
    or an edit has no benign prompts.
    """
    way = steered if isinstance(steered, Way) else way_of(steered)
    tried = tuple(doses or (d for d in DOSES if way.edits or d <= 1))
    drawn = plain or _drawn_for(host, way, setup)
    points = []
    for dose in tried:
        points.append(_point(host, way, setup, drawn, dose))
        progress(_line(points[-1]))
    return choose(points, target=setup.target, drift=setup.drift)


def choose(points: Sequence[CalibrationPoint], *, target: float, drift: float) -> Curve:
    """The curve of points, with the smallest strength that reaches `target` while drift stays under its bound."""
    ordered = tuple(sorted(points, key=lambda p: p.strength))
    wanted = f"erasure of at least {target:g} with drift of at most {drift:g}"
    for p in ordered:
        if p.erasure >= target and p.drift <= drift:
            return Curve(ordered, p.strength, f"{p.strength:g} is the smallest dose with {wanted}")
    if all(p.erasure < target for p in ordered):
        best = max(ordered, key=lambda p: p.erasure)
        return Curve(ordered, None, f"no dose erases enough: wanted {wanted}, most is {_line(best)}")
    first = next(p for p in ordered if p.erasure >= target)
    return Curve(ordered, None, f"erasure costs too much drift: wanted {wanted}, first is {_line(first)}")


def measure_dose(host: Host, steered: Pack | Way, setup: Setup, dose: float) -> CalibrationPoint:
    """The results of one dose, to verify it on prompts that it was not chosen on."""
    way = steered if isinstance(steered, Way) else way_of(steered)
    return _point(host, way, setup, _drawn_for(host, way, setup), dose)


@dataclass(frozen=True, slots=True)
class Plain:
    """Unsteered pictures: of the prompts that show the concept, and of those that should stay."""

    shown: Sequence[Asked]
    pictures: Sequence[Image.Image]
    benign: Sequence[Asked]
    benign_pictures: Sequence[Image.Image]


def draw_plain(host: Host, concept: str, setup: Setup) -> Plain:
    """The unsteered pictures of a setup, drawn once for all ways that are compared on it.

    Raises: BadPlan, when none shows the concept.
    """
    pictures, _ = _draw(host, setup.shown, [None] * len(setup.shown), setup)
    here = [i for i, seen in enumerate(setup.seen(pictures)) if seen]
    if not here:
        raise BadPlan(
            f"none of {len(pictures)} plain pictures shows `{concept}`, so erasure cannot be measured: the model"
            " does not draw it, or the prompts do not ask for it"
        )
    benign, _ = _draw(host, setup.benign, [None] * len(setup.benign), setup)
    return Plain([setup.shown[i] for i in here], [pictures[i] for i in here], setup.benign, benign)


def _drawn_for(host: Host, way: Way, setup: Setup) -> Plain:
    if way.edits and not setup.benign:
        raise BadPlan("an edit's drift is measured on prompts without the concept; give at least one")
    return draw_plain(host, way.concept, setup if way.edits else replace(setup, benign=()))


def _point(host: Host, way: Way, setup: Setup, plain: Plain, dose: float) -> CalibrationPoint:
    images, moved = _draw(host, plain.shown, [way.plan(a, dose) for a in plain.shown], setup)
    gone = [not seen for seen in setup.seen(images)]
    before, after = plain.pictures, images
    if way.edits:
        before = plain.benign_pictures
        after, _ = _draw(host, plain.benign, [way.plan(a, dose) for a in plain.benign], setup)
    drift = [drift_of(a, b) for a, b in zip(before, after, strict=True)]
    kept: list[bool] = []
    if setup.look is not None:
        pairs = zip(setup.look(plain.pictures), setup.look(images), strict=True)
        kept = [now[name] == value for then, now in pairs for name, value in then.items()]
    mean = sum(drift) / len(drift)
    return CalibrationPoint(
        strength=dose,
        erasure=sum(gone) / len(gone),
        drift=mean,
        n=len(gone),
        erasure_interval=wilson(sum(gone), len(gone)),
        drift_n=len(drift),
        drift_interval=_interval(drift),
        kept=sum(kept) / len(kept) if kept else None,
        kept_n=len(kept),
        kept_interval=wilson(sum(kept), len(kept)) if kept else None,
        moved=sum(moved) / len(moved) if moved else None,
    )


def _draw(
    host: Host, asked: Sequence[Asked], plans: Sequence[Plan | None], setup: Setup
) -> tuple[list[Image.Image], list[float]]:
    """Pictures under plans, and how far edits moved hidden states, a mean over sites for each picture."""
    images: list[Image.Image] = []
    moved: list[float] = []
    for i in range(0, len(asked), setup.rows_at_once):
        part = slice(i, i + setup.rows_at_once)
        prompts, seeds = [a.prompt for a in asked[part]], [a.seed for a in asked[part]]
        out = host.generate(prompts, plans=plans[part], seeds=seeds, **setup.call)
        images += out.images
        moved += [sum(r.moved.values()) / len(r.moved) for r in out.report if r.moved]
    return images, moved


def drift_of(a: Image.Image, b: Image.Image) -> float:
    """The mean absolute difference of two pictures' pixels, in [0, 1]."""
    return float(np.abs(np.asarray(a, float) - np.asarray(b, float)).mean() / 255)


def _interval(values: Sequence[float], *, draws: int = 1000) -> tuple[float, float]:
    """The 95 % bootstrap interval of a mean."""
    data = np.asarray(values, float)
    means = np.random.default_rng(0).choice(data, (draws, len(data))).mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _line(p: CalibrationPoint) -> str:
    kept = "" if p.kept is None else f", kept {p.kept:.3f}"
    return f"dose {p.strength:g}: erased {p.erasure:.3f} (n {p.n}), drift {p.drift:.4f} (n {p.drift_n}){kept}"
