"""The methods that fit an edit, as one table: what each is given and the function that makes an operator of it.

The formulas are those of `steering.measure.fitters`. The functions here choose which samples a formula is given. A
method of another package is a `Fitter` as well: it comes with the recipe (`FitRecipe.methods`), and the command line
loads it from the entry points `palimpsest.fitters`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from palimpsest_base.suggest import did_you_mean
from steering import BadPlan, Operator
from steering.measure import fitters
from steering.values import Where

__all__ = ["METHODS", "Fitter", "Samples", "method_of", "with_methods"]


@dataclass(frozen=True, slots=True)
class Samples:
    """The activations that one site had, and the options of the recipe.

    * `shown`, `neutral`: for each prompt with the concept, and for the one without it, [levels, tokens, width]; on text
      both of a pair have their own number of tokens.
    * `preserve`: the same of prompts that must stay; empty unless the method asks for them.
    * `matches`: for each pair, the token of the neutral prompt that stands for each token of the other [tokens]; empty
      where the tokens are not text (`output`, `pooled`).
    * `where`: the place; `clipped`, `rank`: see `FitRecipe`.
    """

    shown: Sequence[Tensor]
    neutral: Sequence[Tensor]
    preserve: Sequence[Tensor]
    matches: Sequence[Tensor]
    where: Where
    clipped: bool
    rank: int


@dataclass(frozen=True, slots=True)
class Fitter:
    """One method.

    * `fit`: makes the operator of a site. What it raises as `BadPlan` is reported with the site's name.
    * `place`: where the method acts unless the recipe says otherwise.
    * `preserve`: whether it is given samples of prompts that must stay, which costs their runs.
    * `help`: one line for the command line.
    """

    fit: Callable[[Samples], Operator]
    place: Where
    help: str
    preserve: bool = False

    def __post_init__(self) -> None:
        if self.place not in ("text", "output", "context"):
            raise BadPlan(f"place of a method must be `text`, `output` or `context`, got `{self.place}`")


def with_methods(more: Mapping[str, Fitter]) -> Mapping[str, Fitter]:
    """The table with further methods. Raises: BadPlan, for one that is no `Fitter` or takes a name of the table."""
    for name, fitter in more.items():
        if not isinstance(fitter, Fitter):
            raise BadPlan(f"method `{name}` must be a `Fitter`, got `{type(fitter).__name__}`")
        if name in METHODS:
            raise BadPlan(f"method `{name}` is built in; give the other one another name")
    return MappingProxyType({**METHODS, **more})


def method_of(name: str, methods: Mapping[str, Fitter]) -> Fitter:
    """The method of a name. Raises: BadPlan, with the nearest name."""
    if name not in methods:
        raise BadPlan(f"unknown method `{name}`{did_you_mean(name, methods)}")
    return methods[name]


def _casteer(samples: Samples) -> Operator:
    shown, neutral = _pairs(samples, _averages)
    # text and pooled text lie far from the origin, and a direction taken from there says little
    fit = fitters.casteer if samples.where == "output" else fitters.means
    return fit(shown, neutral, clipped=samples.clipped, where=samples.where)


def _means(samples: Samples) -> Operator:
    shown, neutral = _pairs(samples, _averages)
    return fitters.means(shown, neutral, clipped=samples.clipped, where=samples.where)


def _leace(samples: Samples) -> Operator:
    shown, neutral = _pairs(samples, _tokens)
    labels = torch.cat([torch.ones(len(shown)), torch.zeros(len(neutral))])
    return fitters.leace(torch.cat([shown, neutral]), labels, where=samples.where)


def _leace_anchored(samples: Samples) -> Operator:
    shown, neutral = _pairs(samples, _tokens)
    return fitters.leace_anchored(shown, neutral, clipped=samples.clipped, where=samples.where)


def _uce(samples: Samples) -> Operator:
    """Each token of a prompt is to be read as its neutral form's; the neutral prompts' own tokens stay as they are."""
    guides = list(samples.neutral)
    if samples.matches:
        guides = [b[:, at] for b, at in zip(samples.neutral, samples.matches, strict=True)]
    kept = _tokens([*samples.neutral, *samples.preserve])
    concepts, replacements = _tokens(samples.shown), _tokens(guides)
    return fitters.uce(concepts, replacements, preserve=kept, rank=samples.rank, where=samples.where)


def _safree(samples: Samples) -> Operator:
    """The concept's space is spanned by the differences between each prompt's phrase and its neutral form."""
    if samples.matches:
        each = [_phrase(*pair) for pair in zip(samples.shown, samples.neutral, samples.matches, strict=True)]
    else:  # pooled text, a token a prompt
        each = [(a.flatten(0, 1), b.flatten(0, 1)) for a, b in zip(samples.shown, samples.neutral, strict=True)]
    apart = torch.stack([(own - guide).mean(0) for own, guide in each])
    origin = _tokens(samples.neutral).mean(0)
    rank = min(samples.rank, len(apart))
    return fitters.safree(apart + origin, origin=origin, rank=rank, where=samples.where)


METHODS: Mapping[str, Fitter] = MappingProxyType(
    {
        "casteer": Fitter(_casteer, "output", "subtracts the direction between the means with and without the concept"),
        "leace": Fitter(_leace, "output", "the least change after which no linear probe finds the concept"),
        "leace-anchored": Fitter(_leace_anchored, "output", "LEACE about the mean of the prompts without the concept"),
        "uce": Fitter(_uce, "text", "maps the concept's tokens to neutral ones in closed form", preserve=True),
        "safree": Fitter(_safree, "text", "projects text off the space that the concept's phrases span"),
        "means": Fitter(_means, "context", "moves the mean with the concept to the mean without it"),
    }
)


def _pairs(samples: Samples, of: Callable[[Sequence[Tensor]], Tensor]) -> tuple[Tensor, Tensor]:
    """Samples with and without the concept [n, width] each: of text the phrases that differ, else as `of` takes them.

    A concept is a few words of many: an average over the whole text would mostly hold what both prompts say.
    """
    if not samples.matches:
        return of(samples.shown), of(samples.neutral)
    each = [_phrase(*pair) for pair in zip(samples.shown, samples.neutral, samples.matches, strict=True)]
    return torch.cat([own for own, _ in each]), torch.cat([guide for _, guide in each])


def _phrase(own: Tensor, other: Tensor, match: Tensor) -> tuple[Tensor, Tensor]:
    """The tokens of one prompt that differ most from those of its neutral form, and the latter [n, width] each."""
    guide = other[:, match]
    size = (own - guide).norm(dim=-1)
    tokens = size >= 0.5 * size.amax(1, keepdim=True)
    return own[tokens], guide[tokens]


def _averages(rows: Sequence[Tensor]) -> Tensor:
    """Each prompt's mean over tokens at each level [prompts * levels, width]."""
    return torch.cat([row.mean(1) for row in rows])


def _tokens(rows: Sequence[Tensor]) -> Tensor:
    """All tokens [n, width]."""
    return torch.cat([row.flatten(0, 1) for row in rows])
