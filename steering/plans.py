"""What is to be done to one request: `Window`, `Swap`, `Edit` and `Plan`.

These are plain frozen values. They are validated when they are made, hashable, and have a digest for reports and audit.
They know no model: the host that runs a plan checks whether its sites exist and its widths fit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from steering.errors import BadPlan, NotSupported
from steering.sites import Site
from steering.values import Donor, Operator, digest_of, one_of

__all__ = [
    "WHOLE",
    "Edit",
    "Intervention",
    "Mode",
    "Plan",
    "Pooled",
    "Rows",
    "Source",
    "Swap",
    "Window",
]

Pooled = Literal["keep", "donor", "null"]
Source = Literal["text", "twin", "lockstep", "canonical"]
Mode = Literal["kv", "pinned"]
Rows = Literal["cond", "uncond", "both"]


@dataclass(frozen=True, slots=True)
class Window:
    """A part of the denoising trajectory: step `i` of `n` lies in it when `start <= i / n < end`.

    Fractions, so that a window means the same at any number of steps. `n` counts the different timesteps that the
    scheduler really uses: a second-order scheduler that evaluates a timestep twice keeps both evaluations in one
    window. `start == end` is empty on purpose; any other window in which no step of a run lies is an error of that run
    (`NotFired`), see `with_step`.
    """

    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        if not (0.0 <= self.start <= self.end <= 1.0):  # also refuses nan
            raise BadPlan(f"window must be 0 <= start <= end <= 1, got `{self.start}, {self.end}`")
        object.__setattr__(self, "start", float(self.start))
        object.__setattr__(self, "end", float(self.end))

    def covers(self, step: int, steps: int) -> bool:
        """True when step `step` of `steps` lies in the window."""
        # the small constant keeps 0.3 * 10 on the third step's edge, where float division puts it a hair above
        return self.start * steps - 1e-9 <= step < self.end * steps - 1e-9

    def with_step(self, steps: int) -> Window:
        """This window, widened to the nearest of `steps` steps where none of them lies in it; the earlier one of two.
        An empty one stays empty."""
        if self.start == self.end or any(self.covers(step, steps) for step in range(steps)):
            return self
        apart = [max(self.start - step / steps, step / steps - self.end) for step in range(steps)]
        nearest = apart.index(min(apart))
        return Window(min(self.start, nearest / steps), max(self.end, min(1.0, (nearest + 0.5) / steps)))

    def overlaps(self, other: Window) -> bool:
        """True when some number of steps has a step in both windows."""
        return max(self.start, other.start) < min(self.end, other.end)


WHOLE = Window()


@dataclass(frozen=True, slots=True)
class Swap:
    """Shows `sites` the text of a donor instead of the request's own.

    * `donor`: a prompt, encoded with the pipeline's own `encode_prompt` and the arguments of the call, or a `Donor`.
    * `sites`: of attention; pooled text is a site of its own, and `pooled` says what becomes of it on the pipelines
      whose sites are named: `keep` the request's own, the `donor`'s, or `null`, that of the empty prompt. It has no
      default, because pooled text carries a concept past any set of sites. On hosts without pooled text all three do
      nothing.
    * `source`, what is computed: `text`, the encoded donor, on cross-attention hosts, where it is all there is, and at
      sites whose text depends on the prompt alone (refiners of Z-Image and Lumina 2, all of Qwen-Image 2.1). Elsewhere
      on joint hosts a donor's text evolves with its picture: a `twin` runs the donor as an added row of the batch with
      the request's seed; in `lockstep` the twin shares the request's latents after every step; `canonical` is the
      donor's stream as recorded in a run of its own with seed 0 and the arguments of the call, and adds no row.
    * `mode` on joint hosts: `kv` swaps the text's keys and values at the sites, and the request's own text stream goes
      on beside them; `pinned` takes the whole text stream at the sites from the donor's row and at all other blocks
      from a clean copy of the request, a further row. On cross-attention hosts they coincide.
    * `strength`: `a` in [0, 1]; the site sees `(1 - a) own + a donor`. 0 leaves the row alone, 1 is the donor exactly.
    * `rows`: which half under classifier-free guidance.
    """

    donor: str | Donor
    sites: tuple[str, ...] = field(kw_only=True)
    pooled: Pooled = field(kw_only=True)
    source: Source = field(default="text", kw_only=True)
    mode: Mode = field(default="kv", kw_only=True)
    window: Window = field(default=WHOLE, kw_only=True)
    strength: float = field(default=1.0, kw_only=True)
    rows: Rows = field(default="cond", kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.donor, str | Donor):
            raise BadPlan(f"donor must be a prompt or a `Donor`, got `{type(self.donor).__name__}`")
        object.__setattr__(self, "sites", _site_names(self.sites))
        object.__setattr__(self, "strength", _strength(self.strength))
        one_of("pooled", self.pooled, Pooled)
        one_of("source", self.source, Source)
        one_of("rows", self.rows, Rows)
        if self.mode == "stream":
            raise NotSupported(
                "mode `stream` does not localize: a swap at one block is seen by all later ones; use `kv` or `pinned`"
            )
        one_of("mode", self.mode, Mode)

    def to_json(self) -> dict[str, Any]:
        """The swap as plain values; equal for equal swaps."""
        donor = self.donor if isinstance(self.donor, str) else {"digest": self.donor.digest}
        return {"swap": donor, "pooled": self.pooled, "source": self.source, "mode": self.mode} | _common(self)


@dataclass(frozen=True, slots=True)
class Edit:
    """Changes an activation of `sites` by an operator, scaled by `strength` (>= 0; 1 = the operator as it is).

    With an operator at a projection of the sites, a LoRA, `strength` is the LoRA's scale; a LoRA file changes cond and
    uncond rows alike, so the same picture needs rows `both`.
    """

    sites: tuple[str, ...]
    operator: Operator
    window: Window = field(default=WHOLE, kw_only=True)
    strength: float = field(default=1.0, kw_only=True)
    rows: Rows = field(default="cond", kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sites", _site_names(self.sites))
        if not (math.isfinite(self.strength) and self.strength >= 0.0):
            raise BadPlan(f"strength of an edit must be a finite number >= 0, got `{self.strength}`")
        object.__setattr__(self, "strength", float(self.strength))
        one_of("rows", self.rows, Rows)

    def to_json(self) -> dict[str, Any]:
        """The edit as plain values; equal for equal edits."""
        return {"edit": self.operator.digest} | _common(self)


Intervention = Swap | Edit


@dataclass(frozen=True, slots=True, init=False)
class Plan:
    """The interventions of one request: `Plan(swap, edit, ...)`. A request that is not steered has the plan `None`.

    `digest` names the plan in reports and audit. `made_for` is the digest of the fingerprint of the host that a pack
    was made for; a host with another one refuses the plan. At one site, swaps come before edits of the text.

    Raises: BadPlan, when it is empty, or two interventions of a kind meet at one site, in one window, on the same rows.
    """

    interventions: tuple[Intervention, ...]
    made_for: str | None
    digest: str

    def __init__(self, *interventions: Intervention, made_for: str | None = None) -> None:
        if not interventions:
            raise BadPlan("a plan needs an intervention, got none; a request that is not steered has the plan `None`")
        for got in interventions:
            if not isinstance(got, Swap | Edit):
                raise BadPlan(f"a plan is made of `Swap` and `Edit`, got `{type(got).__name__}`")
        _refuse_conflicts(interventions)
        object.__setattr__(self, "interventions", tuple(interventions))
        object.__setattr__(self, "made_for", made_for)
        object.__setattr__(self, "digest", digest_of([i.to_json() for i in interventions]))

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the sites that the plan touches, each once, in the order of first mention."""
        return tuple(dict.fromkeys(name for i in self.interventions for name in i.sites))


def _common(i: Swap | Edit) -> dict[str, Any]:
    return {"sites": list(i.sites), "window": [i.window.start, i.window.end], "strength": i.strength, "rows": i.rows}


def _site_names(sites: Iterable[str | Site]) -> tuple[str, ...]:
    if isinstance(sites, str):
        raise BadPlan(f'sites must be a sequence of names, got the string `{sites}`; write `("{sites}",)`')
    names = tuple(s.name if isinstance(s, Site) else s for s in sites)
    if not names or not all(isinstance(n, str) for n in names):
        raise BadPlan(f"sites must be a sequence of at least one name, got `{names}`")
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise BadPlan(f"sites must differ, got `{twice[0]}` twice")
    return names


def _strength(value: float) -> float:
    if not (isinstance(value, int | float) and 0.0 <= value <= 1.0):
        raise BadPlan(f"strength of a swap must be a number in [0, 1], got `{value}`")
    return float(value)


def _refuse_conflicts(interventions: tuple[Intervention, ...]) -> None:
    for n, a in enumerate(interventions):
        for b in interventions[n + 1 :]:
            shared = sorted(set(a.sites) & set(b.sites))
            same_rows = a.rows == b.rows or "both" in (a.rows, b.rows)
            if type(a) is type(b) and shared and same_rows and a.window.overlaps(b.window) and _place(a) == _place(b):
                kind = type(a).__name__.lower()
                raise BadPlan(
                    f"two {kind}s meet at site `{shared[0]}` in one window; give them windows that do not overlap"
                    + ("" if isinstance(a, Swap) else ", or make one of them with `merge_edits`")
                )
            if isinstance(a, Swap) and isinstance(b, Swap) and same_rows and a.window.overlaps(b.window):
                _refuse_two_ways(a, b)


def _refuse_two_ways(a: Swap, b: Swap) -> None:
    """Swaps in one window share the one pooled text, and the one way of swapping."""
    if "keep" not in (a.pooled, b.pooled) and (a.pooled, a.strength) != (b.pooled, b.strength):
        raise BadPlan(
            f"two swaps want pooled `{a.pooled}` at {a.strength:g} and pooled `{b.pooled}` at {b.strength:g} in one"
            " window; let one of them keep it"
        )
    if a.pooled == b.pooled == "donor" and a.donor != b.donor:
        raise BadPlan("two swaps want the pooled text of different donors in one window; let one of them keep it")
    if a.mode != b.mode:
        raise BadPlan("two swaps in one window have modes `kv` and `pinned`; give them one mode")


def _place(i: Intervention) -> str:
    return i.operator.where if isinstance(i, Edit) else "text"
