"""Whole pictures of contrasts under treatments, and what a witness sees in them: counts, windows and a dose curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from localization.contrasts import Contrast, SiteSet
from localization.measure.cells import Cell, Treatment
from localization.measure.executors import Executor
from localization.measure.questions import Tick

__all__ = ["Gallery", "SeenPictures", "treatment_of", "windows_of"]

_TOGETHER = 6  # pictures in one batch
WINDOWS = ((0.0, 0.25), (0.0, 0.5), (0.0, 0.75), (0.25, 1.0), (0.5, 1.0))


@dataclass(frozen=True, slots=True)
class SeenPictures:
    """The findings of a witness under one treatment, by picture; `own`, `donor` are None without a witness."""

    own: tuple[bool, ...] | None
    donor: tuple[bool, ...] | None
    drift: tuple[float, ...]
    small: tuple[str, ...]

    def counts(self) -> dict[str, Any]:
        """How often the own concept and the donor's were seen, None where it was not asked; and the mean change."""
        drift = round(sum(self.drift) / len(self.drift), 5)
        return {
            "own seen": sum(self.own or ()),
            "donor seen": None if self.donor is None else sum(self.donor),
            "n": len(self.drift),
            "drift": drift,
        }


@dataclass(slots=True)
class Gallery:
    """Whole pictures of some contrasts, each treatment drawn once. `rows`: the cost in row evaluations."""

    executor: Executor
    contrasts: Sequence[Contrast]
    tick: Tick = lambda done, total: None
    witness: str = ""
    rows: int = 0
    _seen: dict[Treatment, SeenPictures] = field(default_factory=dict)

    def look(self, treatment: Treatment, *, keep: int = 0) -> SeenPictures:
        """The findings under a treatment, with `keep` small pictures if it is drawn for the first time."""
        if treatment not in self._seen:
            parts = [tuple(self.contrasts[i : i + _TOGETHER]) for i in range(0, len(self.contrasts), _TOGETHER)]
            cells = [
                Cell("pictures", part, treatment=treatment, keep=keep if n == 0 else 0, witness=self.witness)
                for n, part in enumerate(parts)
            ]
            answers: list[Any] = [None] * len(cells)
            self.tick(0, len(cells))
            for done, (n, answer) in enumerate(self.executor.answers(cells), 1):
                answers[n] = answer
                self.rows += int(answer["rows"])
                self.tick(done, len(cells))
            self._seen[treatment] = SeenPictures(
                _together(answers, "own"),
                _together(answers, "donor"),
                tuple(v for a in answers for v in a["drift"]),
                tuple(v for a in answers for v in a["small"]),
            )
        return self._seen[treatment]

    def erased(self, treatment: Treatment) -> tuple[float, float]:
        """Among pictures that show the own concept plainly: the share in which it is gone, and their mean change."""
        plain, now = self.look(Treatment()), self.look(treatment)
        shown = [i for i, own in enumerate(plain.own or ()) if own]
        if not shown:
            return 0.0, 0.0
        gone = sum(not (now.own or ())[i] for i in shown) / len(shown)
        return gone, sum(now.drift[i] for i in shown) / len(shown)

    def curve(self, treatment: Treatment, strengths: Sequence[float]) -> list[tuple[float, float, float]]:
        """At each strength the erasure and the drift; none when no plain picture shows the concept."""
        if not any(self.look(Treatment()).own or ()):
            return []
        return [(s, *self.erased(replace(treatment, strength=s))) for s in strengths]

    def strips(self, steered: Treatment, everywhere: Treatment) -> tuple[Mapping[str, str], ...]:
        """Small pictures, plain, steered and steered everywhere, of those that were kept."""
        columns = [self._seen[t].small if t in self._seen else () for t in (Treatment(), steered, everywhere)]
        names = ("plain", "steered", "everywhere")
        rows = zip(self.contrasts, *columns, strict=False)
        return tuple({"prompt": c.prompt, **dict(zip(names, pictures, strict=True))} for c, *pictures in rows)


def _together(answers: Sequence[Mapping[str, Any]], what: str) -> tuple[bool, ...] | None:
    return None if answers[0][what] is None else tuple(v for a in answers for v in a[what])


def treatment_of(swapped: SiteSet | Sequence[str], *, sites: Sequence[str], units: Sequence[str]) -> Treatment:
    """The treatment that swaps these units in whole pictures. Pooled text alone goes with the first site, because a
    swap must name one.

    Args:
        sites: those of attention, in execution order; `units`: these and where pooled text enters.
    """
    if not swapped:
        return Treatment()
    chosen = tuple(s for s in sites if s in swapped)
    pooled = len(units) > len(sites) and not set(swapped) <= set(sites)
    return Treatment(chosen or tuple(sites[:1]), "donor" if pooled else "keep")


def windows_of(
    gallery: Gallery, treatment: Treatment, parts: Sequence[tuple[float, float]] = WINDOWS
) -> tuple[dict[str, Any], tuple[float, float]]:
    """Erasure and drift in parts of the trajectory, and the shortest part that loses no picture that the whole repairs.

    The earlier of two equally short ones; the whole, when no part will do. `parts`: none where the text is read from a
    cache after the first step, so that it cannot be swapped for a while.
    """
    table: dict[str, Any] = {}
    whole = gallery.look(treatment)
    best = (0.0, 1.0)
    for window in ((0.0, 1.0), *parts):
        part = replace(treatment, window=window)
        seen = gallery.look(part)
        gone, drift = gallery.erased(part)
        table[f"{window[0]:g} to {window[1]:g}"] = {"erasure": round(gone, 4), "drift": round(drift, 5)} | seen.counts()
        lost = any(now and not before for now, before in zip(seen.own or (), whole.own or (), strict=True))
        fewer = sum(seen.donor or ()) < sum(whole.donor or ())
        if not lost and not fewer and window[1] - window[0] < best[1] - best[0]:
            best = window
    return table, best
