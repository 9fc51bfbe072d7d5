"""Fits edits: records what sites hold for prompts with and without a concept, and makes an operator for each site.

Prompts come in pairs that differ in the concept only, so that nothing else is taken out with it. Both prompts of a pair
start from the same noise. `fit_methods` has the methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from torch import Tensor

from localization.fit_methods import Fitter, Samples, method_of, with_methods
from steering import BadPlan, Host, NotSupported, Operator, has_place, record
from steering.measure import fitters
from steering.values import Where

__all__ = ["FitRecipe", "fit_edit", "usual_place"]


@dataclass(frozen=True, slots=True)
class FitRecipe:
    """How an edit is fitted.

    * `method`: a name of `fit_methods.METHODS`, or of `methods`, the caller's own beside them.
    * `where` it acts; None: the method's usual place.
    * `clipped`: move only what points to the concept (CASteer, anchored LEACE, means).
    * `pooled`: on hosts with pooled text, also edit that, or the concept gets through by that way.
    * `rank`: of the operators of UCE and SAFREE. `at`: parts of the trajectory that samples are from.

    Raises: BadPlan, for an unknown method, a method of the caller's with a built-in name, or the place `pooled`.
    """

    method: str = "casteer"
    where: Where | None = None
    clipped: bool = True
    pooled: bool = True
    rank: int = 8
    at: tuple[float, ...] = (0.1, 0.35, 0.6)
    call: Mapping[str, Any] = field(default_factory=dict)
    methods: Mapping[str, Fitter] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "methods", MappingProxyType(dict(self.methods)))
        method_of(self.method, with_methods(self.methods))
        if self.where == "pooled":
            raise BadPlan("`pooled` is no place of its own to fit at: it goes along with the sites, see `pooled=True`")
        object.__setattr__(self, "call", MappingProxyType(dict(self.call)))

    @property
    def fitter(self) -> Fitter:
        """The method itself."""
        return method_of(self.method, with_methods(self.methods))

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


def usual_place(fitter: Fitter, host: Host) -> Where:
    """The place where a method acts on this host unless the recipe says otherwise.

    Only joint sites give text on (`context`); on other hosts a method for it takes the text that enters (`text`).
    """
    return "text" if fitter.place == "context" and not host.joint else fitter.place


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
    must stay, for methods that ask for them (UCE). Sites without the place that is asked for are left out.

    Raises: BadPlan, when there is no pair, or the pairs show no difference at a site; NotSupported, when no site has
    the place.
    """
    how = recipe or FitRecipe()
    if not concept_prompts or len(concept_prompts) != len(neutral_prompts) or len(seeds) != len(concept_prompts):
        raise BadPlan(
            "prompts must come in pairs with a seed each, at least one, got"
            f" {len(concept_prompts)}, {len(neutral_prompts)} and {len(seeds)}"
        )
    place = how.where or usual_place(how.fitter, host)
    pairs = _Pairs(host, concept_prompts, neutral_prompts, preserve, seeds, how)
    here = [site for site in sites if has_place(host, site, place)]
    if not here:
        raise NotSupported(
            f"no site of {len(sites)} has a `{place}` to edit on host `{host.name}`; use another place or method"
        )
    operators = _fit_at(pairs, here, place)
    pooled = [site.name for site in host.global_sites if "/" not in site.name]
    return operators | (_fit_at(pairs, pooled, "pooled") if how.pooled and pooled else {})


@dataclass(frozen=True, slots=True)
class _Pairs:
    host: Host
    shown: Sequence[str]
    neutral: Sequence[str]
    preserve: Sequence[str]
    seeds: Sequence[int]
    how: FitRecipe


def _fit_at(pairs: _Pairs, sites: Sequence[str], where: Where) -> dict[str, Operator]:
    count, fitter = len(pairs.shown), pairs.how.fitter
    kept = list(pairs.preserve) if fitter.preserve else []
    held = record(
        pairs.host,
        [*pairs.shown, *pairs.neutral, *kept],
        sites=sites,
        where=where,
        seeds=[*pairs.seeds, *pairs.seeds, *(pairs.seeds[i % count] for i in range(len(kept)))],
        at=pairs.how.at,
        **pairs.how.call,
    )
    matches: list[Tensor] = []  # which token is which does not depend on the site
    if where in ("text", "context"):
        rows = held[sites[0]]
        matches = [fitters.aligned(a[0], b[0]) for a, b in zip(rows[:count], rows[count : 2 * count], strict=True)]
    operators: dict[str, Operator] = {}
    for name in sites:
        rows = held[name]
        parts = rows[:count], rows[count : 2 * count], rows[2 * count :]
        try:
            operators[name] = fitter.fit(Samples(*parts, matches, where, pairs.how.clipped, pairs.how.rank))
        except BadPlan as error:
            raise BadPlan(f"site `{name}`: {error}") from error
    return operators
