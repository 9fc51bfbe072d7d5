"""The procedures of the two founding papers, as published, for comparison. Neither says how many sites to take.

* A: Staniszewski et al., "Precise Parameter Localization for Textual Generation in Diffusion Models", ICLR 2025 (arXiv
  2502.09935). Whole pictures with one site swapped at a time, all steps, one noise; the best site, and as many of its
  neighbours as it takes until pictures look as with all sites swapped. The authors looked; here a witness counts.
* B: Zarei et al., "Localizing Knowledge in Diffusion Transformers", 2025 (arXiv 2505.18832). What the concept's tokens
  write at each site, averaged over all steps of one run a prompt; the top K. With what their code adds and leaves out
  (see `steering/measure/contributions.py`).
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

_AS_ALL = 0.9  # of what swapping all sites does: figure 3 of paper A (arXiv 2502.09935) stops at .94 on SDXL


@dataclass(frozen=True, slots=True)
class Published:
    """The result of a paper's procedure.

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
    """The choice of arXiv 2502.09935: a site's score is the share of pictures from which its swap removes the concept.

    Pooled text stays the prompt's own, as in the paper. Raises: LocalizationError, without a witness.
    """
    if not witness:
        raise LocalizationError(
            "the procedure of arXiv 2502.09935 judges pictures, and there is no witness for this concept"
        )
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
    """The scores of arXiv 2505.18832, from all of `steps` steps of one run a contrast; K is open."""
    levels = tuple(i / steps for i in range(steps))
    bench = Bench(executor, host.units, contrasts, levels, steps, twins=int(host.joint))
    scores = bench.writes(published=True).mean((0, 1))
    # they measure inside the run that draws the picture; that run is the cost, both halves under guidance
    (call,) = host.capture(contrasts[0].prompt, seed=contrasts[0].seed, at=(0.0,))
    return Published("B", tuple(scores.tolist()), None, len(contrasts) * steps * call.spent)
