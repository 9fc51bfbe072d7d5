"""Fits sentinels: draws stock pictures of many wordings once, and learns for each pack what told its concept.

What a picture shows is the label, never what its prompt says; a judge's doubt is kept as a share. Wordings are split in
two halves. A probe is fitted on one half, and its threshold is set on the innocents of the other; the sentinel is the
mean of the two probes, each with its threshold at zero. The evidence is counted on the half that a probe has not seen.
The false alarms in it are counted with thresholds from one quarter on the other quarter of that half, so that no
innocent judges itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from localization.errors import LocalizationError
from localization.probes import PathProbe, TextProbe, Texts, area_under_curve, fit_path, fit_text, threshold
from palimpsest_base.statistics import wilson
from steering import Host, Pack, Sentinel, Window
from steering.measure.activations import has_place
from steering.measure.traces import trace
from steering.sentinel import EncodedText

__all__ = ["Repair", "SentinelRecipe", "SentinelSamples", "Worded", "fit_sentinel", "measure_repair", "sample_texts"]

# each picture's concepts by score, of cases and their pictures
Judge = Callable[[Sequence["Worded"], Sequence[Any]], Sequence[Mapping[str, float]]]


class Worded(Protocol):
    """A prompt with its seed, the kind of wording that it is, the concept that it was made for, if any, and the
    wording itself, which is never in both halves."""

    @property
    def prompt(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def about(self) -> str | None: ...
    @property
    def wording(self) -> str: ...


@dataclass(frozen=True, slots=True)
class SentinelRecipe:
    """How sentinels are fitted.

    `false_alarms`: the share that thresholds allow; `windows`: their ends to try; `heads` of each text probe and its
    `passes`; `least`: the fewest prompts with and without the concept in each half.
    """

    false_alarms: float = 0.005
    windows: tuple[float, ...] = (0.1, 0.35)
    heads: int = 1
    passes: int = 200
    least: int = 8
    seed: int = 0
    call: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SentinelSamples:
    """What was drawn: the cases, their encoded texts, the means of sites [n, steps, w], and what pictures show."""

    cases: tuple[Worded, ...]
    texts: tuple[EncodedText, ...]
    means: Mapping[str, Tensor]
    scores: tuple[Mapping[str, float], ...]


@dataclass(frozen=True, slots=True)
class Repair:
    """Of `n` pictures that showed the concept, in how many the judge still sees it: the whole trajectory steered, and
    from the end of the sentinel's window on."""

    n: int
    restart: int
    from_now_on: int

    @property
    def better(self) -> str:
        """The way that leaves fewer; if they are equal, from now on, which is the shorter. Unmeasured, restart."""
        return "from-now-on" if self.n and self.from_now_on <= self.restart else "restart"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"n": self.n, "seen after": {"restart": self.restart, "from-now-on": self.from_now_on}}


_SLACK = 0.005  # AUROC that fewer sites and a shorter window may cost
_UNMEASURED = Repair(0, 0, 0)


def sample_texts(
    host: Host,
    cases: Sequence[Worded],
    sites: Sequence[str],
    judge: Judge,
    *,
    recipe: SentinelRecipe,
    rows_at_once: int = 16,
    progress: Callable[[str], None] = lambda _: None,
) -> SentinelSamples:
    """Stock pictures of `cases`, judged, with what `sites` wrote along the way; those of text alone write nothing."""
    sites = [name for name in sites if has_place(host, name, "output")]
    texts: list[EncodedText] = []
    scores: list[Mapping[str, float]] = []
    means: dict[str, list[Tensor]] = {name: [] for name in sites}
    for first in range(0, len(cases), rows_at_once):
        part = cases[first : first + rows_at_once]
        drawn = trace(host, [c.prompt for c in part], sites=sites, seeds=[c.seed for c in part], **recipe.call)
        texts += drawn.texts
        scores += judge(part, drawn.images)
        for name, rows in drawn.means.items():
            means[name].append(rows)
        progress(f"drew {first + len(part)} of {len(cases)} pictures")
    together = {name: torch.cat(rows) for name, rows in means.items()}
    return SentinelSamples(tuple(cases), tuple(texts), together, tuple(scores))


def fit_sentinel(
    host: Host, pack: Pack, samples: SentinelSamples, recipe: SentinelRecipe, *, repair: Repair | None = None
) -> Sentinel:
    """The sentinel of a pack's concept, with its evidence: at the pack's sites, or at its wider set where these tell
    clearly more; both over the shortest window that tells as much.

    Raises: LocalizationError, when too few prompts of a half show the concept, or too few do not.
    """
    told = torch.tensor([s[_told(pack.concept)] for s in samples.scores])
    shows = told >= 0.5
    half = _sides([c.wording for c in samples.cases], recipe.seed)
    quarter = _sides([c.prompt for c in samples.cases], recipe.seed + 1)
    _check_halves(pack.concept, shows, half, recipe)
    data = _Data(_together(samples.texts), told, half, quarter)
    sets = (tuple(name for name in sites if name in samples.means) for sites in (pack.sites, pack.wider))
    ways = [(sites, end) for sites in dict.fromkeys(sets) if sites for end in recipe.windows]
    if not ways:
        raise LocalizationError(
            f"no site of pack `{pack.concept}` writes into the picture, so no sentinel can read there"
        )
    tried = [_path_halves(samples, *way, data, recipe) for way in ways]
    areas = [area_under_curve(t.logits, shows) for t in tried]
    chosen = next(i for i, area in enumerate(areas) if area >= max(areas) - _SLACK)
    path, (sites, end) = tried[chosen], ways[chosen]
    text = _text_halves(path, data, recipe)
    steps = next(iter(samples.means.values())).shape[1]
    evidence = {
        "auroc": {"text": round(area_under_curve(text.logits, shows), 4), "path": round(areas[chosen], 4)},
        "recall by text, path, either, of": {
            kind: [text.caught(which), path.caught(which), text.caught(which, path), int(which.sum())]
            for kind, which in _kinds(samples.cases, shows).items()
        },
        "false alarms": {
            "asked": recipe.false_alarms,
            "text": text.alarms(data, recipe.false_alarms),
            "path": path.alarms(data, recipe.false_alarms),
        },
        "window needed": end,
        "prompts": len(shows),
        "showing it": int(shows.sum()),
        "steps": steps,
        "seed": recipe.seed,
        "repair": (repair or _UNMEASURED).better,
        "repair measured": (repair or _UNMEASURED).to_json(),
    }
    return _sentinel(host, pack.concept, sites, path, text, Window(0.0, end), evidence)


def measure_repair(
    host: Host,
    pack: Pack,
    cases: Sequence[Worded],
    donor: Callable[[str], str | None],
    judge: Judge,
    start: float,
    *,
    call: Mapping[str, Any],
) -> Repair:
    """What is left of the concept in pictures of `cases`, all of which showed it: steered from the first step, and from
    `start` on. An edit takes no donor; with a swap, prompts that have none are left out."""
    donors = [None if pack.edits else donor(c.prompt) for c in cases]
    asked = [(c, d) for c, d in zip(cases, donors, strict=True) if pack.edits or d is not None]
    if not asked:
        return Repair(0, 0, 0)
    left = []
    for window in (pack.window, Window(start, 1.0)):
        plans = [pack.plan(d, window=window) for _, d in asked]
        prompts, seeds = [c.prompt for c, _ in asked], [c.seed for c, _ in asked]
        images = host.generate(prompts, plans=plans, seeds=seeds, **call).images
        left.append(sum(s[_told(pack.concept)] >= 0.5 for s in judge([c for c, _ in asked], images)))
    return Repair(len(asked), *left)


# halves


@dataclass(frozen=True, slots=True)
class _Data:
    texts: Texts
    told: Tensor
    half: Tensor
    quarter: Tensor

    @property
    def shows(self) -> Tensor:
        """Whether each picture shows the concept, by even odds [n]."""
        return self.told >= 0.5


@dataclass(frozen=True, slots=True)
class _Halves:
    """Two probes, `raw` [n] their logits on all, and `logits` [n]: on the half that each has not seen, less its
    threshold."""

    probes: tuple[Any, ...]
    thresholds: tuple[float, ...]
    raw: tuple[Tensor, ...]
    logits: Tensor

    def caught(self, which: Tensor, other: _Halves | None = None) -> int:
        """How many of those at `which` reach the threshold, or that of the other probe."""
        reached = self.logits >= 0 if other is None else (self.logits >= 0) | (other.logits >= 0)
        return int(reached[which].sum())

    def alarms(self, data: _Data, rate: float) -> dict[str, Any]:
        """False alarms, counted in each quarter with the threshold of the other quarter of its half."""
        hits = n = 0
        for own, raw in enumerate(self.raw):
            for part in (0, 1):
                innocent = ~data.shows & (data.half != own)
                here, there = innocent & (data.quarter == part), innocent & (data.quarter != part)
                hits += int((raw[here] >= threshold(raw[there], rate)).sum())
                n += int(here.sum())
        low, high = wilson(hits, n)
        return {"hits": hits, "n": n, "interval": [round(low, 4), round(high, 4)]}


def _halves(probes: Sequence[Any], raw: Sequence[Tensor], data: _Data, rate: float) -> _Halves:
    limits, logits = [], torch.zeros(len(data.shows))
    for own, scored in enumerate(raw):
        unseen = data.half != own
        limits.append(threshold(scored[unseen & ~data.shows], rate))
        logits[unseen] = scored[unseen] - limits[-1]
    return _Halves(tuple(probes), tuple(limits), tuple(raw), logits)


def _path_halves(
    samples: SentinelSamples, sites: Sequence[str], end: float, data: _Data, recipe: SentinelRecipe
) -> _Halves:
    steps = next(iter(samples.means.values())).shape[1]
    window = Window(0.0, end)
    inside = [step for step in range(steps) if window.covers(step, steps)]
    y = torch.cat([samples.means[name][:, inside].mean(1) for name in sites], 1)
    probes = [fit_path(y[data.half == own], data.told[data.half == own]) for own in (0, 1)]
    return _halves(probes, [p.logits(y) for p in probes], data, recipe.false_alarms)


def _text_halves(path: _Halves, data: _Data, recipe: SentinelRecipe) -> _Halves:
    probes = [
        fit_text(
            data.texts[data.half == own],
            data.told[data.half == own],
            path.raw[own][data.half == own],
            heads=recipe.heads,
            passes=recipe.passes,
            seed=recipe.seed,
        )
        for own in (0, 1)
    ]
    return _halves(probes, [p.logits(data.texts) for p in probes], data, recipe.false_alarms)


def _sentinel(
    host: Host,
    concept: str,
    sites: Sequence[str],
    path: _Halves,
    text: _Halves,
    window: Window,
    evidence: Mapping[str, Any],
) -> Sentinel:
    """The mean of both halves' probes, each with its threshold at zero. Directions are rounded to what a file keeps."""
    paths: tuple[PathProbe, ...] = path.probes
    texts: tuple[TextProbe, ...] = text.probes
    widths = [p.output_width for name in sites for p in host._prepared[0].sites if p.name == name]
    mean = (paths[0].e + paths[1].e) / 2
    return Sentinel(
        concept=concept,
        made_for=host.fingerprint.digest,
        keys=torch.cat([p.keys for p in texts]).half(),
        values=(torch.cat([p.values for p in texts]) / 2).half(),
        pooled=(texts[0].pooled + texts[1].pooled).half() / 2 if len(texts[0].pooled) else None,
        text_bias=sum(p.bias - t for p, t in zip(texts, text.thresholds, strict=True)) / 2,
        path={name: e.half() for name, e in zip(sites, mean.split(widths), strict=True)},
        path_bias=sum(p.bias - t for p, t in zip(paths, path.thresholds, strict=True)) / 2,
        window=window,
        evidence=evidence,
    )


def _together(texts: Sequence[EncodedText]) -> Texts:
    """The shown tokens and pooled texts of all prompts."""
    rows = [t.rows if t.shown is None else t.rows[t.shown] for t in texts]
    return Texts.of([r.cpu() for r in rows], [t.pooled.cpu() for t in texts if t.pooled is not None])


def _kinds(cases: Sequence[Worded], shows: Tensor) -> dict[str, Tensor]:
    """Which prompts show the concept, by the kind of their wording."""
    kinds = dict.fromkeys(c.kind for c in cases)
    found = {kind: shows & torch.tensor([c.kind == kind for c in cases]) for kind in kinds}
    return {kind: which for kind, which in sorted(found.items()) if bool(which.any())}


def _check_halves(concept: str, shows: Tensor, half: Tensor, recipe: SentinelRecipe) -> None:
    for own in (0, 1):
        for what, count in (("show", shows), ("do not show", ~shows)):
            n = int((count & (half == own)).sum())
            if n < recipe.least:
                raise LocalizationError(
                    f"a sentinel of `{concept}` needs at least {recipe.least} prompts in each half whose pictures"
                    f" {what} it, got {n}; give more prompts"
                )


def _told(concept: str) -> str:
    """The concept's name as judges write it."""
    return concept.replace("-", " ")


def _sides(texts: Sequence[str], seed: int) -> Tensor:
    """0 or 1 for each text, equal for equal texts; as many different ones on each side, in an order of chance."""
    different = sorted(set(texts), key=lambda text: hashlib.sha256(f"{seed}/{text}".encode()).digest())
    side = {text: n % 2 for n, text in enumerate(different)}
    return torch.tensor([side[text] for text in texts])
