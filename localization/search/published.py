"""Owns the two founding papers' own procedures, as published, to compare with. Neither says how many sites to take.

* A (arXiv 2502.09935): whole pictures with one site swapped at a time, all steps, one noise; the best site, and as many
  of its neighbours as it takes until pictures look as with all sites swapped. They looked; here a witness counts.
* B (arXiv 2505.18832): what the concept's tokens write at each site, averaged over all steps of one run a prompt; the
  top K. With what their code adds and leaves out (see `steering/measure/contributions.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from localization.contrasts import Contrast
from localization.errors import LocalizationError
from localization.measure.cells import Treatment
from localization.measure.executors import Executor
from localization.measure.gallery import Gallery
from localization.measure.questions import Bench
from steering import Host

__all__ = ["Published", "as_published_a", "as_published_b"]

_AS_ALL = 0.9  # of what swapping all sites does: paper A's figure 3 stops at .94 on SDXL


@dataclass(frozen=True, slots=True)
class Published:
    """What a paper's procedure says.

    `scores`: one a site, in execution order; `chosen`: the sites that it would take, None where K is left open;
    `rows`: denoiser evaluations of one row.
    """

    paper: Literal["A", "B"]
    scores: tuple[float, ...]
    chosen: tuple[str, ...] | None
    rows: int

    def top(self, sites: Sequence[str], k: int) -> tuple[str, ...]:
        """The K best sites, in execution order."""
        best = sorted(range(len(sites)), key=lambda i: -self.scores[i])[:k]
        return tuple(sites[i] for i in sorted(best))


def as_published_a(host: Host, executor: Executor, contrasts: Sequence[Contrast], *, witness: str) -> Published:
    """Paper A's choice: a site's score is the share of pictures in which its swap removes the own concept.

    Pooled text stays the prompt's own, as theirs did. Raises: LocalizationError, without a witness.
    """
    if not witness:
        raise LocalizationError("paper A's procedure looks at pictures, and nobody here can tell this concept in one")
    names = {s.name for s in host.sites}
    sites = tuple(u for u in host.units if u in names)
    gallery = Gallery(executor, contrasts, witness=witness)
    gallery.look(Treatment())
    full, _ = gallery.erased(Treatment(sites))
    scores = tuple(gallery.erased(Treatment((s,)))[0] for s in sites)
    first = last = max(range(len(sites)), key=scores.__getitem__)
    while (last - first + 1) < len(sites):
        got, _ = gallery.erased(Treatment(sites[first : last + 1]))
        if got >= _AS_ALL * full > 0:
            break
        left = scores[first - 1] if first > 0 else -1.0
        right = scores[last + 1] if last + 1 < len(sites) else -1.0
        first, last = (first - 1, last) if left > right else (first, last + 1)
    return Published("A", scores, sites[first : last + 1], gallery.rows)


def as_published_b(host: Host, executor: Executor, contrasts: Sequence[Contrast], *, steps: int) -> Published:
    """Paper B's scores, from all of `steps` steps of one run a contrast; K is open."""
    levels = tuple(i / steps for i in range(steps))
    bench = Bench(executor, host.units, contrasts, levels, steps, twins=int(host.joint))
    scores = bench.writes(published=True).mean((0, 1))
    # they measure inside the run that draws the picture; that run is the cost, both halves under guidance
    (call,) = host.capture(contrasts[0].prompt, seed=contrasts[0].seed, at=(0.0,))
    return Published("B", tuple(scores.tolist()), None, len(contrasts) * steps * call.spent)
