"""From contrasts to a pack: finds sites, checks them on other contrasts and on pictures, and keeps the evidence."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch

from localization.contrasts import Contrast, SiteSet, check_contrasts, digest_of
from localization.errors import BadContrasts, NotDrawn
from localization.measure.cells import Treatment
from localization.measure.executors import Executor, LocalExecutor
from localization.measure.gallery import WINDOWS, Gallery, treatment_of, windows_of
from localization.measure.questions import Bench
from localization.measure.worker import Witness, Worker
from localization.search.answers import AnswerKind
from localization.search.finish import Finish, finish, finish_contrasts
from localization.search.smallest_set import BASELINE, Aim, Found, Search, find_sites
from steering import CalibrationPoint, Choice, Host, Pack, Window

__all__ = ["Outcome", "Progress", "localize"]

Progress = Callable[[str, int, int], None]  # what is under way, and how many of how many of its parts are done
_STRENGTHS = (0.25, 0.5, 0.75, 1.0)
_VERSION = "4"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The pack, and the class of the answer; the pack's evidence holds every number behind it.

    `strips`: for pictures of the check, small PNGs (base64) plain, steered at the chosen sites, and steered everywhere.
    """

    pack: Pack
    answer: AnswerKind
    evidence: Mapping[str, Any]
    strips: tuple[Mapping[str, str], ...] = ()

    @property
    def compact(self) -> bool:
        """True when a small set is enough."""
        return self.answer != "no compact set"


def localize(
    host: Host,
    aim: Aim,
    *,
    search: Sequence[Contrast],
    check: Sequence[Contrast],
    controls: Sequence[Contrast],
    how: Search | None = None,
    witness: Witness | None = None,
    executor: Executor | None = None,
    progress: Progress = lambda stage, done, total: None,
    seed: int = 0,
    anyway: bool = False,
    given: Sequence[str] | None = None,
) -> Outcome:
    """The smallest set of sites found for a concept, with its evidence.

    Args:
        search: contrasts that the set is chosen on.
        check: other contrasts, that share and interval are reported on; pictures are drawn for these.
        controls: contrasts of matched other concepts, for specificity.
        witness: judges pictures of the finalists; without it none are judged.
        executor: answers cells; None: this process, with this host.
        given: measure these units instead of searching for a set.
        anyway: go on with a concept that the witness sees in too few plain pictures.

    Raises:
        BadContrasts: prompts that do not contrast the concept, or that appear both in search and in check; NotDrawn.
    """
    _check_prompts(aim, search, check)
    how = (how or Search()).for_sites(sum(1 for s in host.sites if "/" not in s.name))
    job = _Job(host, executor or LocalExecutor(Worker(host, witness)), how, progress, seed, witness)
    gallery = Gallery(job.executor, check, job.stage("drawing plain pictures"), witness=_name(witness))
    plain = gallery.look(Treatment(), keep=4)
    if witness is not None and not anyway:
        _check_drawn(aim, plain.own)
    bench = job.bench(search, f"screening {len(job.units)} places")
    other = job.bench(controls, "controls")
    upstream = [site.name for site in host.sites if site.kind == "text"]
    found = find_sites(bench, aim, how, sites=job.sites, upstream=upstream, given=given, controls=other)
    ended = _finish(job, bench, found, given)
    numbers, found = found, ended.found
    wide = _wider(bench, aim, found, job)
    sets = _rivals(job, found, wide)
    if numbers.chosen != found.chosen:
        sets["before pictures were asked"] = frozenset(numbers.chosen)
    checked = job.bench(check, f"checking {len(found.chosen)} places on {len(check)} other contrasts")
    evidence = _evidence(job, aim, found, wide, sets, (search, check, controls), checked, other)
    evidence["finalists"] = list(ended.asked)
    gallery.tick = job.stage("drawing pictures")
    curve, window = _confirm(job, aim, gallery, found, sets, evidence)
    baseline = len(job.sites) * BASELINE
    spent = {
        **found.rows,
        "finalists": ended.rows,
        "wider": bench.rows - sum(found.rows.values()) - ended.measured,
        "check": checked.rows,
        "controls": other.rows,
        "pictures": gallery.rows,
    }
    evidence["cost"] = {
        "row evaluations": spent,
        "baseline": baseline,
        "screening and choice, of the baseline": round(sum(found.rows.values()) / baseline, 5),
    }
    pack = _pack(job, aim, found, wide, checked, curve, window, evidence)
    return Outcome(pack, found.answer, evidence, gallery.strips(job.treatment(found.chosen), job.everywhere))


@dataclass(frozen=True, slots=True)
class _Job:
    """What all parts of one search share."""

    host: Host
    executor: Executor
    how: Search
    progress: Progress
    seed: int
    witness: Witness | None
    units: tuple[str, ...] = field(init=False)
    sites: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        units = self.host.units
        names = {s.name for s in self.host.sites}
        object.__setattr__(self, "units", units)
        object.__setattr__(self, "sites", tuple(u for u in units if u in names))

    @property
    def levels(self) -> tuple[float, ...]:
        """Where in the trajectory effects are measured."""
        assert self.how.levels is not None
        return self.how.levels

    def treatment(self, units: SiteSet | Sequence[str]) -> Treatment:
        """The treatment that swaps these units in whole pictures."""
        return treatment_of(units, sites=self.sites, units=self.units)

    @property
    def everywhere(self) -> Treatment:
        """The whole other prompt."""
        return self.treatment(self.units)

    def stage(self, what: str) -> Callable[[int, int], None]:
        """A tick that says what is under way."""
        return lambda done, total: self.progress(what, done, total)

    def bench(self, contrasts: Sequence[Contrast], what: str) -> Bench:
        own = self.host.defaults.num_inference_steps
        least = self.host.defaults.min_inference_steps
        steps = max(least, self.how.steps if own is None else min(own, self.how.steps))
        twins = int(self.host.joint)
        return Bench(self.executor, self.units, contrasts, self.levels, steps, twins=twins, tick=self.stage(what))


def _finish(job: _Job, bench: Bench, found: Found, given: Sequence[str] | None) -> Finish:
    """What pictures show of the finalists. Sites that were given stay as they are, and so do all without a witness."""
    if job.witness is None or given is not None:
        return Finish(found)
    more = finish_contrasts(bench.contrasts)
    gallery = Gallery(job.executor, more, job.stage("pictures of the finalists"), witness=_name(job.witness))
    return finish(found, bench, gallery, sites=job.sites)


def _name(witness: Witness | None) -> str:
    return "" if witness is None else str(getattr(witness, "__name__", type(witness).__name__))


def _check_prompts(aim: Aim, search: Sequence[Contrast], check: Sequence[Contrast]) -> None:
    for contrasts in (search, check):
        check_contrasts(contrasts, aim.phrases, mutual=aim.concept == "lettering")
    if shared := {c.prompt for c in search} & {c.prompt for c in check}:
        raise BadContrasts(
            f"prompts to search and prompts to check must differ, got {len(shared)} in both: `{min(shared)}`"
        )


def _check_drawn(aim: Aim, own: Sequence[bool] | None) -> None:
    seen = sum(own or ())
    if own is not None and seen < max(1, len(own) // 5):
        raise NotDrawn(
            f"the model shows `{aim.concept}` in {seen} of {len(own)} plain pictures, so nothing can be located;"
            " ask for what it can draw, or go on anyway (--anyway) with what its output says"
        )


def _wider(bench: Bench, aim: Aim, found: Found, job: _Job) -> tuple[str, ...]:
    """The second set: the chosen, and as many of the next best as reach the higher share."""
    ranked = [*found.grown.sites, *(u for u in found.screen.ranked(job.units) if u not in found.grown.sites)]
    k = len(found.grown.sites)
    while k < len(ranked):
        (got,) = bench.ask([frozenset(ranked[:k])])
        if got.share() >= aim.wider:
            break
        k += max(1, (len(ranked) - k) // 4)
    return tuple(u for u in job.units if u in ranked[:k])


def _rivals(job: _Job, found: Found, wide: Sequence[str]) -> dict[str, SiteSet]:
    """The chosen set and what it must beat: random sets of its size, the units with the least effect, all others."""
    rng = random.Random(job.seed)
    k, units = len(found.chosen), job.units
    rivals = {
        "chosen": frozenset(found.chosen),
        "wider": frozenset(wide),
        "all": frozenset(units),
        "bottom": frozenset(found.screen.weakest(units, k)),
    }
    if len(units) > len(job.sites):
        rivals["all sites, pooled kept"] = frozenset(job.sites)
        rivals["pooled alone"] = frozenset(units) - frozenset(job.sites)
    rivals |= {f"random {i + 1}": frozenset(rng.sample(list(units), k)) for i in range(5)}
    if k < len(units):
        rivals["all but chosen"] = frozenset(units) - frozenset(found.chosen)
    return rivals


def _evidence(
    job: _Job,
    aim: Aim,
    found: Found,
    wide: Sequence[str],
    sets: Mapping[str, SiteSet],
    contrasts: tuple[Sequence[Contrast], Sequence[Contrast], Sequence[Contrast]],
    checked: Bench,
    other: Bench,
) -> dict[str, Any]:
    search, check, controls = contrasts
    about = {n: round(s.share(), 4) for n, s in zip(sets, other.ask(sets.values()), strict=True)}
    return {
        "kind": "measured",
        "method": found.screen.method,
        "points": job.how.points,
        "contrasts": {
            "search": len(search),
            "check": len(check),
            "controls": len(controls),
            "seeds": [min(c.seed for c in check), max(c.seed for c in check)],
            "digest": digest_of(search, check, controls),
        },
        "levels": list(job.levels),
        "steps": job.how.steps,
        "scores": {u: [round(float(v), 5) for v in row] for u, row in zip(job.units, found.screen.scores, strict=True)},
        "scores add up to": round(found.screen.total, 4),
        "path": [{"k": k, "share": round(share, 4), "sites": list(s)} for k, share, s in found.grown.path],
        "answer": found.answer,
        "units": list(found.chosen),
        "alternatives": [list(s) for s in found.alternatives],
        "other sets": _others(found, other),
        "carried": {n: round(v, 4) for n, v in found.carried.items()},
        "finished": found.grown.finished,
        "check": _table(checked, sets),
        "controls": about,
    }


def _others(found: Found, controls: Bench) -> list[dict[str, Any]]:
    """Further sets of the size of the chosen that are enough, and the share of the controls that they carry."""
    carried = controls.ask([frozenset(sites) for sites, _ in found.grown.others])
    return [
        {"sites": list(sites), "share": round(share, 4), "controls": round(c.share(), 4)}
        for (sites, share), c in zip(found.grown.others, carried, strict=True)
    ]


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


def _confirm(
    job: _Job,
    aim: Aim,
    gallery: Gallery,
    found: Found,
    sets: Mapping[str, SiteSet],
    evidence: dict[str, Any],
) -> tuple[tuple[CalibrationPoint, ...], Window]:
    """The calibration curve and the pack's window, from pictures; the evidence gets what was seen in them."""
    chosen = job.treatment(found.chosen)
    if job.witness is None:
        gallery.look(chosen, keep=4)
        gallery.look(job.everywhere, keep=4)
        return (), Window()
    table = {"none": gallery.look(Treatment(), keep=4).counts()}
    table |= {name: gallery.look(job.treatment(s), keep=4).counts() for name, s in sets.items() if s}
    evidence["pictures"] = table
    cached = job.host.family.inputs.cached is not None
    windows, smallest = windows_of(gallery, chosen, () if cached else WINDOWS)
    evidence["windows"] = windows
    evidence["smallest window"] = list(smallest)
    whole = any(placed.is_whole for placed in job.host.prepared.sites if placed.name in chosen.sites)
    curve = gallery.curve(chosen, (1.0,) if whole else _STRENGTHS)
    points = tuple(CalibrationPoint(s, erasure, drift) for s, erasure, drift in curve)
    return points, Window(*smallest) if job.how.window == "auto" else Window()


def _pack(
    job: _Job,
    aim: Aim,
    found: Found,
    wide: tuple[str, ...],
    checked: Bench,
    curve: tuple[CalibrationPoint, ...],
    window: Window,
    evidence: Mapping[str, Any],
) -> Pack:
    treated = job.treatment(found.chosen)
    (final,) = checked.ask([frozenset(found.chosen)])
    low, high = final.interval()
    levels = job.levels
    edges = [0.0, *((a + b) / 2 for a, b in pairwise(levels)), 1.0]
    weights = checked.full().sum(0) / checked.full().sum()
    scores = found.screen.scores[: len(job.sites)] / weights
    return Pack(
        concept=aim.concept,
        host=job.host.fingerprint,
        sites=treated.sites,
        wider=tuple(dict.fromkeys((*(s for s in job.sites if s in wide or s in treated.sites),))),
        site_names=tuple(site.name for site in job.host.sites),
        scores=_padded(scores, len(job.host.sites)).float(),
        bins=tuple(Window(a, b) for a, b in pairwise(edges)),
        choice=Choice(k=len(treated.sites), share=final.share(), low=low, high=high, target=aim.target),
        window=window,
        pooled=treated.pooled,
        source=job.host.usual_source,
        phrases=aim.phrases,
        neutral=aim.neutral,
        calibration=curve,
        evidence=evidence,
        versions={"localization": _VERSION, "torch": torch.__version__},
    )


def _padded(scores: torch.Tensor, count: int) -> torch.Tensor:
    """Scores with zeros for sites of later stages, which are not searched."""
    return torch.cat([scores, scores.new_zeros(count - len(scores), scores.shape[1])])
