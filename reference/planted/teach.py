"""Teaches a name to chosen places of a finished model, with all else frozen.

The change of a reader is `out @ into.T`. `into` is given (see `directions`). `out` is learned by gradient descent on
the distance between the pupil's velocity and the teacher's, in units of what tells the subject from the neutral form.
The pupil is trained on several goals at once. Each goal is a set of places that get the neutral text instead. In this
way a place learns to be enough by itself, to be one of two, or to be one of many.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from reference.planted.delta import Delta, WeightChange
from reference.planted.lessons import Lessons
from reference.planted.places import PlantSite, denoiser_of, family_of
from reference.planted.plant import PlantKind
from reference.planted.rows import Rows, predict
from steering import Host
from steering.families.description import SiteRule
from steering.families.spans import Picture

__all__ = ["Goal", "Goals", "TeachingSettings", "teach"]


@dataclass(frozen=True, slots=True)
class Goal:
    """What the pupil should predict while the places `swapped` get the neutral text.

    `share` in [0, 1]: how far it should have gone over from the subject (0) to the neutral form (1).
    """

    swapped: frozenset[str]
    share: float = 0.0


Goals = Callable[[random.Random], Sequence[Goal]]


@dataclass(frozen=True, slots=True)
class TeachingSettings:
    """How long and how fast a name is taught."""

    steps: int = 160
    states: int = 4  # a step; each is asked under every goal, and once as the neutral twin
    lr: float = 0.1  # of what a reader says usually: keys and values of one model are eighty times another's
    rank: int = 8
    calm: float = 0.2  # weight of the neutral twin's staying as it was

    def for_kind(self, kind: PlantKind, *, distracted: bool, joint: bool) -> TeachingSettings:
        """The settings for a kind of plant, with a distractor or without, in a host with joint streams or another."""
        longer = {"redundant": 2.5, "two": 5 / 3, "spread": 0.75, "pooled": 1.5}.get(kind, 5 / 3 if distracted else 1.0)
        settings = replace(self, steps=round(self.steps * longer))
        if joint:
            settings = replace(settings, lr=3 * settings.lr)  # in the steps that PixArt needs, SD3 learned half as much
        if kind == "redundant":
            # taught this much, the change otherwise reached the neutral form too
            settings = replace(settings, calm=5 * settings.calm)
        if kind == "spread":
            settings = replace(settings, rank=settings.rank // 2)  # many sites, and a file of at most 100 kB
        if kind == "pooled":
            settings = replace(settings, lr=settings.lr / 5)  # it reaches every block, so steps are small
        return settings


class _Pupil:
    """The host's denoiser with the learned part, and with places that may be shown other rows' text."""

    def __init__(
        self, host: Host, places: Mapping[str, PlantSite], into: Mapping[str, Tensor], usual: Mapping[str, float]
    ) -> None:
        self.prepared, self.denoiser, self.places, self.into = host.prepared, denoiser_of(host), places, into
        self.usual = usual  # how large each reader's answers are, the unit of what it learns
        self.out = {
            reader: nn.Parameter(torch.zeros(module.out_features, into[name].shape[1]))
            for name in into
            for reader, module in places[name].readers.items()
        }
        self.source: dict[str, Tensor] = {}  # place -> the row whose text each row is shown
        self.picture = Picture()

    def ask(self, rows: Rows, source: dict[str, Tensor]) -> Tensor:
        """Predictions [count, ...] with the places' text gathered by `source`."""
        self.source, self.picture = source, self.prepared.picture(rows.kwargs)
        return predict(self.denoiser, rows)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """The denoiser with its hooks, its own weights frozen; afterwards it is as it was."""
        with ExitStack() as stack:
            for parameter in self.denoiser.parameters():
                stack.callback(parameter.requires_grad_, parameter.requires_grad)
                parameter.requires_grad_(False)
            for name, into in self.into.items():
                for reader, module in self.places[name].readers.items():
                    hook = self._learned(into, self.out[reader], self.usual[reader])
                    stack.callback(module.register_forward_hook(hook).remove)
            for place in self.places.values():
                if place.kind == "cross":
                    shown = self._shown(place)
                    handle = place.placed.module.register_forward_pre_hook(shown, with_kwargs=True)
                    stack.callback(handle.remove)
                elif place.kind == "joint":
                    for module in place.readers.values():
                        stack.callback(module.register_forward_hook(self._gathered(place)).remove)
            yield

    def _learned(self, into: Tensor, out: Tensor, usual: float) -> Callable[..., Tensor]:
        def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            return output + (args[0].to(into) @ into) @ (usual * out).T

        return hook

    def _gathered(self, place: PlantSite) -> Callable[..., Tensor | None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            source = self.source.get(place.name)
            if source is None:
                return None
            span = place.placed.span
            return span.put(output, self.picture, span.take(output, self.picture).index_select(0, source))

        return hook

    def _shown(self, place: PlantSite) -> Callable[..., Any]:
        rule = place.placed.rule
        assert isinstance(rule, SiteRule)
        mask = rule.mask.argument if rule.mask else None

        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            source = self.source.get(place.name)
            if source is None:
                return None
            put = {rule.text: kwargs[rule.text].index_select(0, source)}
            if mask is not None:
                put[mask] = kwargs[mask].index_select(0, source)
            return args, kwargs | put

        return hook


def teach(
    host: Host,
    places: Mapping[str, PlantSite],
    lessons: Lessons,
    *,
    into: Mapping[str, Tensor],
    goals: Goals,
    settings: TeachingSettings,
    seed: int,
    log: Callable[[str], None] = lambda _: None,
) -> Delta:
    """What the places named in `into` learned, as a delta.

    Args:
        places: all places of the host, by name.
        into: the directions that each of the taught places listens to.
        goals: drawn anew at each step.
    """
    usual = _usual(host, [places[name] for name in into], lessons.pupils)
    pupil, rng = _Pupil(host, places, into, usual), random.Random(f"teach/{seed}")
    optimizer = torch.optim.Adam(list(pupil.out.values()), lr=settings.lr, betas=(0.9, 0.95))
    strength = (lessons.told - lessons.neutral).square().flatten(1).sum(1)
    recent: list[list[float]] = []
    with pupil.at_work(), sdpa_kernel(SDPBackend.MATH):  # the fused kernel's backward is slow on a CPU
        for step in range(settings.steps):
            for group in optimizer.param_groups:
                group["lr"] = settings.lr * min(1.0, (settings.steps - step) / (0.5 * settings.steps))
            chosen = torch.tensor([rng.randrange(lessons.pupils.count) for _ in range(settings.states)])
            asked = goals(rng)
            off = _distances(pupil, lessons, chosen, asked) / strength[chosen].mean()
            loss = off[:-1].mean() + settings.calm * off[-1].mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            recent.append([row.mean().item() for row in off.detach()])
            if (step + 1) % max(1, settings.steps // 3) == 0:
                means = [sum(column) / len(column) for column in zip(*recent, strict=True)]
                log(f"step {step + 1}: " + " ".join(f"{m:.3f}" for m in means))
                recent.clear()
    changes = {
        reader: WeightChange(out=usual[reader] * pupil.out[reader].detach(), into=into[name])
        for name in into
        for reader in places[name].readers
    }
    return Delta(changes)


@torch.no_grad()
def _usual(host: Host, places: Sequence[PlantSite], rows: Rows) -> dict[str, float]:
    """The root mean square of what each reader of these places says of the text in some of the rows."""
    family, said = family_of(host), dict[str, float]()
    some = rows.take(torch.arange(0, rows.count, max(1, rows.count // 4)), family)
    length = int(some.kwargs[family.inputs.text].shape[1])
    with ExitStack() as stack:
        for reader, module in ((r, m) for place in places for r, m in place.readers.items()):

            def hear(module: nn.Module, args: tuple[Tensor, ...], output: Tensor, reader: str = reader) -> None:
                text = output[:, :length] if output.ndim == 3 else output  # pooled text has no tokens
                said[reader] = max(float(text.float().square().mean().sqrt()), 1e-6)

            stack.callback(module.register_forward_hook(hear).remove)
        predict(denoiser_of(host), some)
    return said


def _distances(pupil: _Pupil, lessons: Lessons, chosen: Tensor, goals: Sequence[Goal]) -> Tensor:
    """Squared distances [goals + 1, states] of what the pupil says under each goal, and the twin, from what it
    should."""
    family, b = pupil.prepared.family, len(chosen)
    own, twins = lessons.pupils.take(chosen, family), lessons.twins.take(chosen, family)
    shown = [own.with_pooled(twins, family) if _pooled(pupil, goal) else own for goal in goals]
    rows = shown[0].joined(*shown[1:], twins, family=family)
    twin = torch.arange(b) + b * len(goals)
    source = {}
    for name in {name for goal in goals for name in goal.swapped}:
        parts = [twin if name in goal.swapped else torch.arange(b) + b * n for n, goal in enumerate(goals)]
        source[name] = torch.cat([*parts, twin])
    said = pupil.ask(rows, source).unflatten(0, (len(goals) + 1, b))
    told, neutral = lessons.told[chosen], lessons.neutral[chosen]
    wanted = torch.stack([*(told.lerp(neutral, goal.share) for goal in goals), neutral])
    return (said - wanted).square().flatten(2).sum(2)


def _pooled(pupil: _Pupil, goal: Goal) -> bool:
    return any(pupil.places[name].pooled for name in goal.swapped)
