"""The table on erasure: a concept removed by `Swap` and by each `Edit`, at chosen sites and at all sites.

Every method gets its dose on the same prompts and is judged on others. It is also applied to near neighbours, because
an edit that erases what stands beside the concept is no success. A swap replaces the words that name the concept, so a
prompt without them is not touched by it. An edit can be applied to any prompt, and here it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from PIL import Image

from evaluation.draw import draw
from evaluation.metrics import Rate, mean_interval
from evaluation.prompts.erasure_cases import ErasureCase, Judged, cases_of, kept_facts, neighbours_of
from localization.calibrate import Asked, Curve, Plain, Setup, Way, calibrate, draw_plain, drift_of
from localization.fit import FitRecipe, fit_edit
from localization.fit_methods import METHODS
from steering import BadPlan, Edit, Host, Operator, Plan, Swap

__all__ = ["WAYS", "ErasureJob", "erasure_rows"]

WAYS: tuple[str, ...] = ("swap", *METHODS)
SiteSet = Literal["chosen", "all"]


@dataclass(frozen=True, slots=True)
class ErasureJob:
    """What to measure.

    * `ways`: `swap` and methods of edits; `sites`: of a concept, its chosen sites, None when they are not known.
    * `count`: pictures a row; `fit`, `calibrate`: pairs to fit and to choose the dose on; `doses`: to choose from, one
      alone is taken as it is.
    * `target`, `drift`: what the dose must reach, and its bound. `call`: more arguments of the pipeline.
    """

    count: int = 40
    fit: int = 12
    calibrate: int = 12
    ways: tuple[str, ...] = WAYS
    doses: tuple[float, ...] = (0.5, 1.0, 2.0)
    target: float = 0.95
    drift: float = 0.03
    seed: int = 0
    sites: Mapping[str, tuple[str, ...] | None] = field(default_factory=dict)
    call: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _ErasurePrompts:
    """One concept's prompts with their plain pictures: those that show it, and neighbours that show themselves.

    `setup`, `tried`: what doses are chosen on, with its plain pictures; None where there is nothing to choose.
    """

    concept: str
    shown: Sequence[ErasureCase]
    plain: Sequence[Image.Image]
    near: Sequence[ErasureCase]
    near_plain: Sequence[Image.Image]
    asked: int
    setup: Setup
    tried: Plain | None


def erasure_rows(
    host: Host,
    judge: Judged,
    concepts: Sequence[str],
    job: ErasureJob,
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, dict[str, Any]]:
    """A row for each concept, way and set of sites, by `concept / way / sites`.

    Raises: ValueError, for concepts or ways that are not known, or a concept that no plain picture shows.
    """
    if strange := [w for w in job.ways if w not in WAYS]:
        raise ValueError(f"way must be one of {', '.join(f'`{w}`' for w in WAYS)}, got `{strange[0]}`")
    rows: dict[str, dict[str, Any]] = {}
    for concept in concepts:
        progress(f"{concept}: plain pictures")
        prompts = _erasure_prompts(host, judge, concept, job)
        for sites_name, sites in _site_sets(host, concept, job).items():
            for way in job.ways:
                progress(f"{concept}: `{way}` at {len(sites)} sites")
                rows[f"{concept} / {way} / {sites_name}"] = _row(host, judge, prompts, way, sites, job)
    return rows


def _site_sets(host: Host, concept: str, job: ErasureJob) -> dict[SiteSet, tuple[str, ...]]:
    chosen, every = job.sites.get(concept), tuple(s.name for s in host.sites if "/" not in s.name)
    sets: dict[SiteSet, tuple[str, ...]] = {"chosen": chosen} if chosen else {}
    return sets | {"all": every}


def _erasure_prompts(host: Host, judge: Judged, concept: str, job: ErasureJob) -> _ErasurePrompts:
    asked = cases_of(concept, "evaluation", job.count, seed=job.seed)
    near = neighbours_of(concept, "evaluation", job.count, seed=job.seed)
    plain, _ = draw(host, asked, [None] * len(asked), job.call)
    near_plain, _ = draw(host, near, [None] * len(near), job.call)
    shown = [i for i, seen in enumerate(judge.seen(concept, plain)) if seen]
    themselves = [i for i, c in enumerate(near) if judge.seen(c.concept, [near_plain[i]])[0]]
    if not shown:
        raise ValueError(
            f"none of {len(asked)} plain pictures shows `{concept}`; choose a concept that this model draws"
        )
    setup = Setup(
        cases_of(concept, "localization", job.calibrate, seed=job.seed + 1),
        neighbours_of(concept, "localization", job.calibrate, seed=job.seed + 2),
        lambda images: judge.seen(concept, images),
        target=job.target,
        drift=job.drift,
        call=job.call,
    )
    return _ErasurePrompts(
        concept,
        [asked[i] for i in shown],
        [plain[i] for i in shown],
        [near[i] for i in themselves],
        [near_plain[i] for i in themselves],
        len(asked),
        setup,
        draw_plain(host, concept, setup) if len(job.doses) > 1 else None,
    )


def _row(
    host: Host, judge: Judged, prompts: _ErasurePrompts, name: str, sites: tuple[str, ...], job: ErasureJob
) -> dict[str, Any]:
    try:
        way, about = _way(host, prompts.concept, name, sites, job)
        dose, why = _dose(host, prompts, way, job)
    except BadPlan as error:
        return {"sites": len(sites), "why not": str(error)}
    images, reports = draw(host, prompts.shown, [way.plan(c, dose) for c in prompts.shown], job.call)
    seen = judge.seen(prompts.concept, images)
    row: dict[str, Any] = {
        "sites": len(sites),
        **about,
        "dose": dose,
        "chosen": why,
        "plain picture shows it": Rate(len(prompts.shown), prompts.asked).to_json(),
        "erased": Rate.of(not s for s in seen).to_json(),
        "kept in the picture": _kept(judge, prompts, images).to_json(),
        "own pictures, change of pixels": _change(prompts.plain, images),
    }
    if not way.edits:
        return row | {"kept near neighbours": "not touched", "drift": "not touched"}
    near, _ = draw(host, prompts.near, [way.plan(c, dose) for c in prompts.near], job.call)
    still = [judge.seen(c.concept, [image])[0] for c, image in zip(prompts.near, near, strict=True)]
    moved = [sum(r.moved.values()) / len(r.moved) for r in reports if r.moved]
    return row | {
        "kept near neighbours": Rate.of(still).to_json(),
        "drift": _change(prompts.near_plain, near),
        "hidden states moved by": round(sum(moved) / len(moved), 4) if moved else 0.0,
    }


def _kept(judge: Judged, prompts: _ErasurePrompts, images: Sequence[Image.Image]) -> Rate:
    """Of the other facts that were right in the plain picture, how many still are."""
    scenes = [c.scene for c in prompts.shown]
    pairs = zip(judge.agrees(prompts.plain, scenes), judge.agrees(images, scenes), strict=True)
    return Rate.of(
        after[fact] for before, after in pairs for fact, right in kept_facts(prompts.concept, before).items() if right
    )


def _change(a: Sequence[Image.Image], b: Sequence[Image.Image]) -> dict[str, Any]:
    return mean_interval([drift_of(x, y) for x, y in zip(a, b, strict=True)])


# ways, and their doses


def _way(host: Host, concept: str, name: str, sites: tuple[str, ...], job: ErasureJob) -> tuple[Way, dict[str, Any]]:
    """A way to steer, and what it is made of."""
    if name == "swap":
        pooled: Literal["donor", "keep"] = "donor" if host.global_sites else "keep"

        def swapped(asked: Asked, dose: float) -> Plan:
            return Plan(Swap(asked.donor, sites=sites, pooled=pooled, source=host.usual_source, strength=dose))

        return Way(concept, False, swapped), {}
    pairs = cases_of(concept, "localization", job.fit, seed=job.seed)
    beside = neighbours_of(concept, "localization", job.fit, seed=job.seed + 7)
    operators = fit_edit(
        host,
        [c.prompt for c in pairs],
        [c.donor for c in pairs],
        sites,
        seeds=[c.seed for c in pairs],
        recipe=FitRecipe(name, call=job.call),
        preserve=[c.prompt for c in beside],
    )
    groups: dict[Operator, list[str]] = {}
    for site, operator in operators.items():
        groups.setdefault(operator, []).append(site)

    def edited(asked: Asked, dose: float) -> Plan:
        return Plan(*(Edit(tuple(at), operator, strength=dose) for operator, at in groups.items()))

    first = next(iter(operators.values()))  # some sites may lack the place that the method edits
    return Way(concept, True, edited), {"where": first.where, "rank": max(len(o.e) for o in groups)}


def _dose(host: Host, prompts: _ErasurePrompts, way: Way, job: ErasureJob) -> tuple[float, str]:
    """The dose that a way is judged at, and how it was chosen.

    The bound on drift is about pictures without the concept. A swap is never shown to their prompts, so nothing but
    erasure chooses its dose; how far it moves the concept's own pictures is a column of the table.
    """
    doses = tuple(d for d in job.doses if way.edits or d <= 1) or (1.0,)
    if len(doses) == 1:
        return doses[0], "given"
    setup = prompts.setup if way.edits else replace(prompts.setup, drift=1.0)
    curve = calibrate(host, way, setup, doses=doses, plain=prompts.tried)
    return (curve.strength, "auto") if curve.strength is not None else _next_best(curve, job)


def _next_best(curve: Curve, job: ErasureJob) -> tuple[float, str]:
    """Where no dose does, the one that erases most with drift in bounds, else the one with the least drift."""
    within = [p for p in curve.points if p.drift <= job.drift]
    if within:
        return max(within, key=lambda p: (p.erasure, -p.strength)).strength, f"no dose does: {curve.why}"
    return min(curve.points, key=lambda p: p.drift).strength, f"no dose does: {curve.why}"
