"""The table on localization: what each method finds of planted names, whose sites are known.

The truth is what a plant's checks prove. A method gets contrasts of the plant's own frames, in the words that anybody
would have, and must return a set, its size and the class of the answer. Its result is compared with the exact effects
on contrasts that no method saw. The procedures of two papers run beside ours: paper A is Staniszewski et al. (arXiv
2502.09935), paper B is Zarei et al. (arXiv 2505.18832). A leaves K to the eye and B leaves it open, so both are also
told the true K.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from evaluation.metrics import Rate, mean_interval
from localization import Aim, Bench, Contrast, LocalExecutor, Search, Worker, find_sites
from localization.contrasts import SiteSet
from localization.measure.gallery import Gallery
from localization.measure.worker import Witness
from localization.search.choose import best_of_size
from localization.search.finish import finish, finish_contrasts
from localization.search.published import Published, as_published_a, as_published_b
from reference.planted import Plant, planted
from steering import Host

__all__ = ["OURS", "Trial", "oracle", "plant_trials", "rank_correlation", "trial_rows"]

# ours, as method and places on the way; and the papers' own
OURS: Mapping[str, tuple[str, int]] = {
    "gradient": ("gradient", 1),
    "gradient, integrated": ("gradient", 2),
    "contribution": ("contribution", 1),
    "patching": ("patching", 1),
}
_LEVELS = (0.17, 0.5, 0.67)
_STEPS = 6
_EXHAUSTIVE = 500  # sets that the oracle asks about one by one; more are searched greedily with exchanges


@dataclass(frozen=True, slots=True)
class Trial:
    """One method on one plant. `found`: its set; `before`: what that was before pictures; `at_true`: its set of
    the true size; `of_oracle`: the joint effect of `before` beside that of the best set of its size; `cost`: row
    evaluations of screening and choice, and as a share of the baseline; `finalists`: those of asking pictures."""

    plant: str
    kind: str
    method: str
    truth: tuple[str, ...]
    found: tuple[str, ...]
    before: tuple[str, ...]
    at_true: tuple[str, ...]
    answer: str | None
    answer_right: bool | None
    rank: float
    of_oracle: float | None
    cost: int
    of_baseline: float
    finalists: int = 0

    @property
    def recall(self) -> float:
        """The share of the planted places among those found at the true K."""
        return len(set(self.at_true) & set(self.truth)) / len(self.truth)

    @property
    def precision(self) -> float:
        """The share of what was found, at the K that the method chose, that was planted."""
        return len(set(self.found) & set(self.truth)) / max(1, len(self.found))

    @property
    def k_right(self) -> bool:
        """True when the method found as many places as were planted."""
        return len(self.found) == len(self.truth)

    def to_json(self) -> dict[str, Any]:
        """The trial as plain values."""
        return {
            "plant": self.plant,
            "kind": self.kind,
            "method": self.method,
            "truth": list(self.truth),
            "found": list(self.found),
            "found before pictures": list(self.before),
            "found at the true K": list(self.at_true),
            "answer": self.answer,
            "answer right": self.answer_right,
            "K right": self.k_right,
            "rank correlation": round(self.rank, 4),
            "of the oracle": None if self.of_oracle is None else round(self.of_oracle, 4),
            "row evaluations": self.cost,
            "of the baseline": round(self.of_baseline, 5),
            "row evaluations of finalists": self.finalists,
        }


def plant_trials(
    host: Host,
    plants: Sequence[Plant],
    *,
    methods: Sequence[str] = tuple(OURS),
    papers: Sequence[str] = (),
    judge: Callable[[Plant], Witness] | None = None,
    count: int = 4,
    held: int = 4,
    seed: int = 0,
    pictures: int = 4,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Trial]:
    """Each method on each plant.

    Args:
        judge: looks at pictures of a plant; without one ours go by numbers alone.
        papers: `A`, `B`: their procedures as well; A looks at `pictures` pictures a site through `judge`.
        count: contrasts to search with; `held`: others, for exact effects and the oracle.
    """
    trials = []
    for number, plant in enumerate(plants, 1):
        progress(f"{number} of {len(plants)}: {plant.name}, {plant.kind} at {', '.join(plant.sites)}")
        with planted(host, plant):
            trials += _trials_of(host, plant, methods, papers, judge, count, held, seed, pictures)
    return trials


def _trials_of(
    host: Host,
    plant: Plant,
    methods: Sequence[str],
    papers: Sequence[str],
    judge: Callable[[Plant], Witness] | None,
    count: int,
    held: int,
    seed: int,
    pictures: int,
) -> list[Trial]:
    witness = judge(plant) if judge is not None else None
    executor = LocalExecutor(Worker(host, witness))
    names = {s.name for s in host.sites}
    sites = tuple(u for u in host.units if u in names)
    search, other = (_contrasts(plant, n, seed=seed + k) for k, n in ((0, count), (7, held)))
    exact = Bench(executor, host.units, other, _LEVELS, _STEPS, twins=int(host.joint))
    alone = {u: s.share() for u, s in zip(host.units, exact.ask([frozenset({u}) for u in host.units]), strict=True)}
    baseline = len(sites) * 400
    trials = []
    for name in methods:
        method, points = OURS[name]
        how = Search(method=method, points=points, steps=_STEPS).for_sites(len(sites))  # type: ignore[arg-type]
        bench = Bench(executor, host.units, search, how.levels or (), _STEPS, twins=int(host.joint))
        found = find_sites(bench, Aim("planted"), how, sites=sites)
        numbers, finalists = found, 0
        if witness is not None:
            ended = finish(found, bench, Gallery(executor, finish_contrasts(search), witness="judge"), sites=sites)
            found, finalists = ended.found, ended.rows
        k = len(plant.sites)
        path = [found.chosen, *(s for _, _, s in found.grown.path)]
        at_true = next((s for s in path if len(s) == k), found.screen.ranked(host.units)[:k])
        rank = rank_correlation(found.screen.scores.sum(1).tolist(), [alone[u] for u in host.units])
        cost = sum(found.rows.values())
        trials.append(
            Trial(
                plant=plant.name,
                kind=plant.kind,
                method=name,
                truth=plant.sites,
                found=found.chosen,
                before=numbers.chosen,
                at_true=tuple(at_true),
                answer=found.answer,
                answer_right=found.answer == plant.answer,
                rank=rank,
                of_oracle=_beside_oracle(exact, numbers.chosen),
                cost=cost,
                of_baseline=cost / baseline,
                finalists=finalists,
            )
        )
    for paper in papers:
        steps = host.defaults.num_inference_steps or 20
        told = (
            as_published_b(host, executor, search, steps=steps)
            if paper == "B"
            else as_published_a(host, executor, search[:pictures], witness="judge")
        )
        trials.append(_of_paper(told, plant, sites, [alone[u] for u in sites], baseline))
    return trials


def _of_paper(told: Published, plant: Plant, sites: Sequence[str], exact: Sequence[float], baseline: int) -> Trial:
    at_true = told.top(sites, len(plant.sites))
    return Trial(
        plant=plant.name,
        kind=plant.kind,
        method=f"paper {told.paper}, as published",
        truth=plant.sites,
        found=told.chosen if told.chosen is not None else at_true,
        before=told.chosen if told.chosen is not None else at_true,
        at_true=at_true,
        answer=None,
        answer_right=None,
        rank=rank_correlation(told.scores, exact),
        of_oracle=None,
        cost=told.rows,
        of_baseline=told.rows / baseline,
    )


def _contrasts(plant: Plant, count: int, *, seed: int) -> list[Contrast]:
    pairs = plant.pairs(count + 2 * seed, seed=seed)
    frames = pairs[2 * seed :]  # other frames come first for another seed
    return [Contrast(*pair) for pair in random.Random(seed).sample(frames, count)]


def _beside_oracle(exact: Bench, chosen: Sequence[str]) -> float:
    """The joint effect of a set beside that of the best of its size, both exact, on contrasts that were held out."""
    own, best = exact.ask([frozenset(chosen), oracle(exact, len(chosen))])
    return own.share() / max(best.share(), 1e-9)


def oracle(exact: Bench, k: int) -> SiteSet:
    """The best set of `k` units on a bench: of all of them if they are few, else greedily with exchanges."""
    units = exact.units
    sets = list(itertools.islice(itertools.combinations(units, k), _EXHAUSTIVE + 1))
    if len(sets) <= _EXHAUSTIVE:
        shares = exact.ask([frozenset(s) for s in sets])
        return frozenset(max(zip((s.share() for s in shares), sets, strict=True))[1])
    return frozenset(best_of_size(units, lambda asked: [s.share() for s in exact.ask(asked)], k))


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's rank correlation; ties share their mean rank."""
    x, y = (_ranks(torch.tensor(v, dtype=torch.float64)) for v in (list(a), list(b)))
    x, y = x - x.mean(), y - y.mean()
    size = float(x.norm() * y.norm())
    return float(x @ y) / size if size > 0 else 0.0


def _ranks(values: torch.Tensor) -> torch.Tensor:
    below = (values[None] < values[:, None]).sum(1).double()
    equal = (values[None] == values[:, None]).sum(1).double()
    return below + (equal - 1) / 2


def trial_rows(trials: Sequence[Trial]) -> dict[str, dict[str, Any]]:
    """One row per method: means over plants with intervals, and the cost."""
    rows: dict[str, dict[str, Any]] = {}
    for method in dict.fromkeys(t.method for t in trials):
        own = [t for t in trials if t.method == method]
        sets = [t for t in own if t.kind != "spread"]  # no compact set: there is no set to recall
        answers = [t.answer_right for t in own if t.answer_right is not None]
        ratios = [t.of_oracle for t in own if t.of_oracle is not None]
        rows[method] = {
            "plants": len(own),
            "recall at the true K": mean_interval([t.recall for t in sets]) if sets else None,
            "precision at its own K": mean_interval([t.precision for t in sets]) if sets else None,
            "K right": Rate.of(t.k_right for t in sets).to_json(),
            "K right before pictures": Rate.of(len(t.before) == len(t.truth) for t in sets).to_json(),
            "answer right": Rate.of(answers).to_json() if answers else "gives none",
            "rank correlation with exact effects": mean_interval([t.rank for t in own]),
            "joint effect, of the oracle's": mean_interval(ratios) if ratios else "-",
            "row evaluations": round(sum(t.cost for t in own) / len(own)),
            "of finalists' pictures": round(sum(t.finalists for t in own) / len(own)),
            "of the baseline": f"1/{round(len(own) / max(1e-9, sum(t.of_baseline for t in own)))}",
        }
    return rows
