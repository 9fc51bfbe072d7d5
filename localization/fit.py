"""Fits edits: takes down what sites hold for prompts with and without a concept, and makes an operator for each site.

The formulas are `steering.measure.fitters`; here is decided which samples each of them is given. Prompts come in
pairs that differ in the concept only, so that nothing else is taken out with it; both of a pair start
from the same noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor

from steering import BadPlan, Host, NotSupported, Operator, has_place, record
from steering.measure import fitters
from steering.values import Where

__all__ = ["METHODS", "FitRecipe", "Method", "fit_edit", "usual_place"]

Method = Literal["casteer", "leace", "leace-anchored", "uce", "safree", "means"]
METHODS: tuple[Method, ...] = ("casteer", "leace", "leace-anchored", "uce", "safree", "means")
_USUAL: Mapping[Method, Where] = MappingProxyType(
    {
        "casteer": "output",
        "leace": "output",
        "leace-anchored": "output",
        "uce": "text",
        "safree": "text",
        "means": "context",
    }
)


@dataclass(frozen=True, slots=True)
class FitRecipe:
    """How an edit is fitted.

    * `method`; `where` it acts, None for its usual place: what attention gives the picture (`output`) for CASteer and
      LEACE, the text that enters for UCE and SAFREE, the text's part of a joint site's output for means.
    * `clipped`: move only what points to the concept, for the methods that may (CASteer, anchored LEACE, means).
    * `pooled`: on hosts with pooled text, also edit that, or the concept comes by that way.
    * `rank`: of the operators of UCE and SAFREE. `at`: parts of the trajectory that samples are from.
    """

    method: Method = "casteer"
    where: Where | None = None
    clipped: bool = True
    pooled: bool = True
    rank: int = 8
    at: tuple[float, ...] = (0.1, 0.35, 0.6)
    call: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise BadPlan(f"method must be one of {', '.join(f'`{m}`' for m in METHODS)}, got `{self.method}`")
        if self.where == "pooled":
            raise BadPlan("`pooled` is no place of its own to fit at: it goes along with the sites, see `pooled=True`")
        object.__setattr__(self, "call", MappingProxyType(dict(self.call)))

    def to_json(self) -> dict[str, Any]:
        """The recipe as plain values, without the arguments of the call."""
        return {
            "method": self.method,
            "where": self.where,
            "clipped": self.clipped,
            "pooled": self.pooled,
            "rank": self.rank,
            "at": list(self.at),
        }


def usual_place(method: Method, host: Host) -> Where:
    """Where a method acts on this host unless it is told otherwise; means of text, where only joint sites give text
    on, takes the text that enters the others."""
    where = _USUAL[method]
    return "text" if where == "context" and not host.joint else where


def fit_edit(
    host: Host,
    concept_prompts: Sequence[str],
    neutral_prompts: Sequence[str],
    sites: Sequence[str],
    *,
    seeds: Sequence[int],
    recipe: FitRecipe | None = None,
    preserve: Sequence[str] = (),
) -> dict[str, Operator]:
    """An operator for each of `sites`, and for the global ones where the host has pooled text.

    concept_prompts, neutral_prompts: pairs that differ in the concept only, of one seed each; preserve: prompts of what
    must stay (UCE alone keeps them in mind). Sites without the place that is asked for are left out.

    Raises: BadPlan, when there is no pair, or the pairs show no difference at a site; NotSupported, when no site has
    the place.
    """
    how = recipe or FitRecipe()
    if not concept_prompts or len(concept_prompts) != len(neutral_prompts) or len(seeds) != len(concept_prompts):
        raise BadPlan(
            "prompts must come in pairs with a seed each, at least one, got"
            f" {len(concept_prompts)}, {len(neutral_prompts)} and {len(seeds)}"
        )
    place = how.where or usual_place(how.method, host)
    every = _Pairs(host, concept_prompts, neutral_prompts, preserve, seeds, how)
    here = [site for site in sites if has_place(host, site, place)]
    if not here:
        raise NotSupported(
            f"no site of {len(sites)} has a `{place}` to edit on host `{host.name}`; use another place or method"
        )
    operators = _fit_at(every, here, place)
    pooled = [site.name for site in host.global_sites if "/" not in site.name]
    return operators | (_fit_at(every, pooled, "pooled") if how.pooled and pooled else {})


@dataclass(frozen=True, slots=True)
class _Pairs:
    host: Host
    shown: Sequence[str]
    neutral: Sequence[str]
    preserve: Sequence[str]
    seeds: Sequence[int]
    how: FitRecipe


@dataclass(frozen=True, slots=True)
class _Samples:
    """What one site held: for each prompt [levels, tokens, width]."""

    shown: Sequence[Tensor]
    neutral: Sequence[Tensor]
    preserve: Sequence[Tensor]


def _fit_at(pairs: _Pairs, sites: Sequence[str], where: Where) -> dict[str, Operator]:
    count = len(pairs.shown)
    kept = list(pairs.preserve) if pairs.how.method == "uce" else []
    held = record(
        pairs.host,
        [*pairs.shown, *pairs.neutral, *kept],
        sites=sites,
        where=where,
        seeds=[*pairs.seeds, *pairs.seeds, *(pairs.seeds[i % count] for i in range(len(kept)))],
        at=pairs.how.at,
        **pairs.how.call,
    )
    matches: list[Tensor] | None = None  # which token is which does not depend on the site
    operators: dict[str, Operator] = {}
    for name in sites:
        rows = held[name]
        samples = _Samples(rows[:count], rows[count : 2 * count], rows[2 * count :])
        if matches is None and where in ("text", "context"):
            matches = [fitters.aligned(a[0], b[0]) for a, b in zip(samples.shown, samples.neutral, strict=True)]
        try:
            operators[name] = _operator(samples, matches or [], where, pairs.how)
        except BadPlan as error:
            raise BadPlan(f"site `{name}`: {error}") from error
    return operators


def _operator(samples: _Samples, matches: Sequence[Tensor], where: Where, how: FitRecipe) -> Operator:
    if how.method == "uce":
        return _uce(samples, matches, where, how.rank)
    if how.method == "safree":
        return _safree(samples, matches, where, how.rank)
    averaged = how.method in ("casteer", "means")
    of = _averages if averaged else _tokens
    shown, neutral = _phrases(samples, matches) if matches else (of(samples.shown), of(samples.neutral))
    if averaged:
        # pooled text lies far from the origin, and so does text: taken from there, a direction says little
        fit = fitters.casteer if how.method == "casteer" and where == "output" else fitters.means
        return fit(shown, neutral, clipped=how.clipped, where=where)
    if how.method == "leace-anchored":
        return fitters.leace_anchored(shown, neutral, clipped=how.clipped, where=where)
    labels = torch.cat([torch.ones(len(shown)), torch.zeros(len(neutral))])
    return fitters.leace(torch.cat([shown, neutral]), labels, where=where)


def _averages(rows: Sequence[Tensor]) -> Tensor:
    """Each prompt's mean over tokens at each level [prompts * levels, width]."""
    return torch.cat([row.mean(1) for row in rows])


def _tokens(rows: Sequence[Tensor]) -> Tensor:
    """All tokens [n, width]."""
    return torch.cat([row.flatten(0, 1) for row in rows])


def _uce(samples: _Samples, matches: Sequence[Tensor], where: Where, rank: int) -> Operator:
    """Each token of a prompt is to be read as its neutral form's; the neutral prompts' own tokens stay as they are."""
    guides = list(samples.neutral)
    if matches:
        guides = [b[:, at] for b, at in zip(samples.neutral, matches, strict=True)]
    kept = _tokens([*samples.neutral, *samples.preserve])
    return fitters.uce(_tokens(samples.shown), _tokens(guides), preserve=kept, rank=rank, where=where)


def _phrases(samples: _Samples, matches: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Of each prompt the tokens that differ most from those of its neutral form, and the latter [n, width] each.

    A concept is a few words of many: an average over the whole text would drown it in what both prompts say.
    """
    shown, neutral = [], []
    for own, other, at in zip(samples.shown, samples.neutral, matches, strict=True):
        guide = other[:, at]
        size = (own - guide).norm(dim=-1)
        tokens = size >= 0.5 * size.amax(1, keepdim=True)
        shown.append(own[tokens])
        neutral.append(guide[tokens])
    return torch.cat(shown), torch.cat(neutral)


def _safree(samples: _Samples, matches: Sequence[Tensor], where: Where, rank: int) -> Operator:
    """The concept's space is what its phrase says in each prompt beyond the neutral form's."""
    if matches:
        each = [
            _phrases(_Samples([a], [b], ()), [at])
            for a, b, at in zip(samples.shown, samples.neutral, matches, strict=True)
        ]
    else:  # pooled text, a token a prompt
        each = [(a.flatten(0, 1), b.flatten(0, 1)) for a, b in zip(samples.shown, samples.neutral, strict=True)]
    apart = torch.stack([(own - guide).mean(0) for own, guide in each])
    origin = _tokens(samples.neutral).mean(0)
    return fitters.safree(apart + origin, origin=origin, rank=min(rank, len(apart)), where=where)
