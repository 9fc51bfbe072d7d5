"""Measures a pack again on other prompts, and compares it with another pack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from localization.contrasts import Contrast
from localization.measure.executors import LocalExecutor
from localization.measure.questions import Bench
from localization.measure.worker import Witness, Worker, change_of
from localization.run import Progress
from localization.search.smallest_set import Search
from steering import Host, Pack, Plan

__all__ = ["Verified", "differences", "verify"]

_SLACK = 0.1  # of a share or an erasure: less is chance on a dozen prompts
_TOGETHER = 6
# what two packs are compared in; the rest (host, versions, evidence) is summed up
_PLAIN = ("concept", "pooled", "rows", "source", "mode", "strength", "window", "phrases", "neutral")


@dataclass(frozen=True, slots=True)
class Verified:
    """Results of a pack on prompts that it was not made with.

    `share` of the full swap's effect, with its interval (None for a pack that edits); of the pictures that show the
    concept plainly, in how many it is gone under the pack's own plan, and how far pictures moved. `faults`: results
    that fall short of what the pack says of itself.
    """

    n: int
    share: float | None
    interval: tuple[float, float] | None
    shown: int | None
    gone: int | None
    drift: float
    faults: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """True when there are no faults."""
        return not self.faults

    def to_json(self) -> dict[str, Any]:
        """The findings as plain values."""
        return {
            "n": self.n,
            "joint share": self.share,
            "95 %": None if self.interval is None else list(self.interval),
            "plain pictures show it": self.shown,
            "of these, gone": self.gone,
            "drift": self.drift,
            "falls short": list(self.faults),
        }


def verify(
    host: Host,
    pack: Pack,
    contrasts: Sequence[Contrast],
    *,
    witness: Witness | None = None,
    beside: Pack | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> Verified:
    """Results of a pack on these contrasts, compared with what it says of itself.

    beside: an adapter that all pictures carry, the plain ones included; the share is then not measured.

    Raises: NotDrawn, when the model answers prompts and donors alike.
    """
    shared = not pack.edits and beside is None
    share, interval = _joint(host, pack, contrasts, progress) if shared else (None, None)
    drift, shown, gone = _on_pictures(host, pack, contrasts, witness, beside, progress)
    faults = []
    if share is not None and pack.choice is not None and share < min(pack.choice.target, pack.choice.low) - _SLACK:
        faults.append(f"joint share {share:.3f}, the pack says {pack.choice.share:.3f}")
    dose = 0.0 if pack.strength is None else pack.strength
    promised = max((c.erasure for c in pack.calibration if c.strength <= dose), default=None)
    if promised is not None and shown and gone is not None and gone / shown < promised - _SLACK:
        faults.append(f"erased in {gone} of {shown}, the pack says {promised:.2f}")
    if witness is not None and not shown:
        faults.append("no plain picture shows the concept, so nothing could be seen to go")
    return Verified(len(contrasts), share, interval, shown, gone, round(drift, 5), tuple(faults))


def _joint(
    host: Host, pack: Pack, contrasts: Sequence[Contrast], progress: Progress
) -> tuple[float, tuple[float, float]]:
    how = Search().for_sites(len(host.sites))
    least = max(host.defaults.min_inference_steps, how.steps)
    bench = Bench(
        LocalExecutor(Worker(host)),
        host.units,
        contrasts,
        how.levels or (),
        min(least, host.defaults.num_inference_steps or least),
        twins=int(host.joint),
        tick=lambda done, total: progress("measuring the joint effect", done, total),
    )
    pooled = [u for u in host.units if u not in {s.name for s in host.sites}] if pack.pooled == "donor" else []
    (got,) = bench.ask([frozenset([*pack.sites, *pooled])])
    low, high = got.interval()
    return round(got.share(), 4), (round(low, 4), round(high, 4))


def _on_pictures(
    host: Host,
    pack: Pack,
    contrasts: Sequence[Contrast],
    witness: Witness | None,
    beside: Pack | None,
    progress: Progress,
) -> tuple[float, int | None, int | None]:
    """The mean change of all pictures, and of those that show the concept plainly: how many, in how many it is gone."""
    drift: list[float] = []
    before: list[bool] = []
    after: list[bool] = []
    for first in range(0, len(contrasts), _TOGETHER):
        part = contrasts[first : first + _TOGETHER]
        prompts, seeds = [c.prompt for c in part], [c.seed for c in part]
        plans = [pack.plan() if pack.edits else pack.plan(toward=c.donor) for c in part]
        own = None if beside is None else beside.plan()
        if own is not None:
            plans = [Plan(*p.interventions, *own.interventions, made_for=p.made_for) for p in plans]
        plain = host.generate(prompts, plans=[own] * len(part), seeds=seeds).images
        images = host.generate(prompts, plans=plans, seeds=seeds).images
        drift += [change_of(a, b) for a, b in zip(plain, images, strict=True)]
        if witness is not None:
            before += witness(plain, part)[0]
            after += witness(images, part)[0]
        progress("drawing pictures", min(first + _TOGETHER, len(contrasts)), len(contrasts))
    mean = sum(drift) / len(drift)
    if witness is None:
        return mean, None, None
    return mean, sum(before), sum(b and not a for b, a in zip(before, after, strict=True))


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What differs between the headers of two packs, a row each: what, in the one, in the other."""
    rows = [
        {"what": name, "one": one.get(name), "other": other.get(name)}
        for name in _PLAIN
        if one.get(name) != other.get(name)
    ]
    for name in ("sites", "wider"):
        a, b = one[name], other[name]
        if set(a) != set(b):
            rows.append({"what": name, "one": [s for s in a if s not in b], "other": [s for s in b if s not in a]})
    for name, part in (("host", "denoiser"), ("choice", "share"), ("calibration", None), ("versions", None)):
        a, b = one.get(name), other.get(name)
        if a != b:
            rows.append({"what": name, "one": _short(a, part), "other": _short(b, part)})
    if (a := _edited(one)) != (b := _edited(other)):
        rows.append({"what": "operators", "one": a, "other": b})
    first, second = (_evidence(h) for h in (one, other))
    rows += [
        {"what": f"evidence: {name}", "one": first.get(name), "other": second.get(name)}
        for name in sorted(first.keys() | second.keys())
        if first.get(name) != second.get(name)
    ]
    return rows


def _short(value: Any, part: str | None) -> Any:
    return value.get(part, value) if part is not None and isinstance(value, Mapping) else value


def _edited(header: Mapping[str, Any]) -> list[Any]:
    """Gate, place and sites of each operator."""
    return list(header.get("operators") or ())


def _evidence(header: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of the evidence that say how it was measured, not each figure."""
    evidence = header.get("evidence", {})
    kept = ("kind", "method", "answer", "units", "points", "levels", "steps", "source")
    return {k: evidence[k] for k in kept if k in evidence} | {
        "contrasts": (evidence.get("contrasts") or {}).get("digest", "")[:12]
    }
