"""The rows on sentinels: what they tell of wordings that nobody fitted on, beside the text rules and a picture judge.

A picture's truth is what both judges see; where they differ nobody knows, and the picture counts in neither column. The
figures by the first judge alone, on all pictures, stand beside: it is the judge whose answers sentinels learned from.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from detectors.text.sense import sense
from evaluation.metrics import Rate, mean_interval
from evaluation.prompts.erasure_cases import name_of
from localization.probes import area_under_curve
from localization.sentinels import SentinelSamples, Worded
from policies.types import Request
from steering import Host, Plan, Sentinel, Swap

__all__ = ["cost_row", "sentinel_row", "sentinel_rows"]

Scores = Sequence[Mapping[str, float]]


def sentinel_rows(sentinels: Sequence[Sentinel], samples: SentinelSamples, second: Scores) -> dict[str, dict[str, Any]]:
    """A row for each sentinel. samples: cases kept for evaluation, with the first judge's scores; `second`: the other
    judge's."""
    signals = [{s.name for s in sense(Request(c.prompt)).items if s.error is None} for c in samples.cases]
    return {s.concept: sentinel_row(s, samples, second, signals) for s in sentinels}


def sentinel_row(
    sentinel: Sentinel, samples: SentinelSamples, second: Scores, signals: Sequence[set[str]]
) -> dict[str, Any]:
    """One sentinel's AUROC, recall by kind of wording, and false alarms. signals: what text rules found in prompts."""
    name = name_of(sentinel.concept)
    judges = [torch.tensor([s[name] >= 0.5 for s in scores]) for scores in (samples.scores, second)]
    shows, absent = judges[0] & judges[1], ~judges[0] & ~judges[1]
    text = torch.tensor([sentinel.text_score(each) for each in samples.texts], dtype=torch.float64)
    path = torch.tensor(_paths(sentinel, samples), dtype=torch.float64)
    either = torch.maximum(text, path)
    named = torch.tensor([bool({sentinel.concept, name} & found) for found in signals])
    agreed = shows | absent
    ways = {"text": text >= 0.5, "path": path >= 0.5, "either": either >= 0.5, "text rules": named}
    return {
        "pictures": len(shows),
        "judges differ": int((~agreed).sum()),
        "AUROC": {n: _area(v[agreed], shows[agreed]) for n, v in (("text", text), ("path", path), ("either", either))},
        "AUROC by the first judge, all pictures": {n: _area(v, judges[0]) for n, v in (("text", text), ("path", path))},
        "recall": {
            kind: _recall(ways, which)
            for kind, which in _kinds(samples.cases, sentinel.concept, shows).items()
            if bool(which.any())
        },
        "recall of the first judge, of what the second sees": _rate(judges[0][judges[1]]).to_json(),
        **{f"false alarms by {way}": _rate(told[absent]).to_json() for way, told in ways.items()},
    }


def cost_row(host: Host, sentinels: Sequence[Sentinel], *, rounds: int = 20, rows: int = 8) -> dict[str, Any]:
    """What watching with all of `sentinels` adds: forwards, rows, graphs on changed plans, and time, interleaved with
    calls that nobody watches. A ratio of each pair of calls, in turn first and second."""
    steps = max(4, host.fewest_steps)
    prompts, seeds = ["a red star on a blue background"] * rows, list(range(rows))

    def once(watching: Sequence[Sentinel], plans: Sequence[Plan | None] = (None,) * rows) -> float:
        start = time.perf_counter()
        host.generate(prompts, plans=plans, seeds=seeds, sentinels=watching, num_inference_steps=steps)
        return time.perf_counter() - start

    with _counted(host) as plain:
        once(())
    with _counted(host) as watched:
        once(sentinels)
    ratios = []
    for turn in range(rounds):
        order: list[Sequence[Sentinel]] = [(), sentinels] if turn % 2 else [sentinels, ()]
        took = {bool(watching): once(watching) for watching in order}
        ratios.append(took[True] / took[False])
    return {
        "sentinels": len(sentinels),
        "forwards more": watched[0] - plain[0],
        "rows more": watched[1] - plain[1],
        "graphs more on changed plans": _graphs(host, lambda plans: once(sentinels, plans), rows),
        "time, ratio": mean_interval(ratios),
        "time, median ratio": round(float(np.median(ratios)), 4),
    }


def _graphs(host: Host, once: Callable[[Sequence[Plan | None]], float], rows: int) -> int:
    """How many graphs of a compiled denoiser other plans add, once it has seen a call without and a call with one."""
    from torch._dynamo.testing import CompileCounter

    names = [site.name for site in host.sites]

    def swap(donor: str, sites: Sequence[str]) -> list[Plan | None]:
        act = Swap(donor, sites=tuple(sites), pooled="keep", source="canonical" if host.joint else "text")
        return [Plan(act), *[None] * (rows - 1)]

    counter = CompileCounter()
    host.denoiser.compile(backend=counter)
    try:
        once([None] * rows)
        once(swap("a cat", names))
        before = counter.frame_count
        for plans in (swap("an owl", names[:1]), [None] * rows, swap("a cat in space", names[1:])[::-1]):
            once(plans)
        return int(counter.frame_count - before)
    finally:
        host.denoiser._compiled_call_impl = None
        host.close()
        torch._dynamo.reset()


@contextmanager
def _counted(host: Host) -> Iterator[list[int]]:
    """Forwards of the denoiser, and rows in them."""
    found = [0, 0]

    def count(module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        sample = kwargs.get("hidden_states", kwargs.get("sample", args[0] if args else None))
        found[0] += 1
        found[1] += len(sample)

    handle = host.denoiser.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield found
    finally:
        handle.remove()


def _paths(sentinel: Sentinel, samples: SentinelSamples) -> list[float]:
    steps = next(iter(samples.means.values())).shape[1]
    inside = [s for s in range(steps) if sentinel.window.covers(s, steps)]
    said = torch.stack([samples.means[n][:, inside].mean(1) @ e.float() for n, e in sentinel.path.items()]).sum(0)
    return [sentinel.path_score(float(v)) for v in said]


def _kinds(cases: Sequence[Worded], concept: str, shows: torch.Tensor) -> dict[str, torch.Tensor]:
    """Which prompts show the concept: all, those made for it by kind, and the others."""
    found = {"all": shows}
    for kind in ("plain", "misspelt", "described", "near"):
        found[kind] = shows & torch.tensor([c.about == concept and c.kind == kind for c in cases])
    found["other prompts"] = shows & torch.tensor([c.about != concept for c in cases])
    return found


def _recall(ways: Mapping[str, torch.Tensor], which: torch.Tensor) -> dict[str, Any]:
    """How many of those at `which` each way tells, and the interval of either score together."""
    interval = _rate(ways["either"][which]).to_json()["interval"]
    hits = {way: int(told[which].sum()) for way, told in ways.items()}
    return {"n": int(which.sum()), **hits, "interval of either": interval}


def _area(scores: torch.Tensor, shows: torch.Tensor) -> float:
    return round(area_under_curve(scores, shows), 4)


def _rate(told: torch.Tensor) -> Rate:
    return Rate.of(told.tolist())
