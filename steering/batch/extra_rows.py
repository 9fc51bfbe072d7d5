"""The rows that a batch needs beside the requests' own: twins of donors, and clean copies for pinned swaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from steering.batch.row_program import AddedRows
from steering.plans import Plan, Swap
from steering.values import Donor

__all__ = ["ExtendedBatch", "extended_batch", "needs_rows"]


@dataclass(frozen=True, slots=True)
class ExtendedBatch:
    """The prompts of a call, the caller's first; `donors` has the embeddings of those whose text is given, by
    prompt."""

    prompts: tuple[str, ...]
    plans: tuple[Plan | None, ...]
    seeds: tuple[int, ...]
    negatives: tuple[str | None, ...]
    donors: tuple[tuple[int, Donor], ...]
    added: AddedRows

    def pictures(self, count: int) -> AddedRows:
        """The added rows by picture, of `count` a prompt: a prompt's k-th picture goes with its twin's k-th."""
        return AddedRows(
            {(p * count + k, d): t * count + k for (p, d), t in self.added.twins.items() for k in range(count)},
            {p * count + k: c * count + k for p, c in self.added.clean.items() for k in range(count)},
            tuple((a * count + k, b * count + k) for a, b in self.added.lockstep for k in range(count)),
        )


def needs_rows(plan: Plan | None, *, joint: bool) -> bool:
    """True when a plan cannot run in the caller's own call of the pipeline."""
    swaps = [i for i in plan.interventions if isinstance(i, Swap)] if plan and joint else []
    return any(s.strength > 0 and (s.source != "text" or s.mode == "pinned") for s in swaps)


def extended_batch(
    prompts: Sequence[str],
    plans: Sequence[Plan | None],
    seeds: Sequence[int],
    negatives: Sequence[str | None],
    *,
    joint: bool,
    one_call: bool = False,
) -> ExtendedBatch:
    """The batch that carries out `plans`: a twin runs with its recipient's seed and negative prompt.

    Twins of one donor, seed and negative prompt are one row; in lockstep each recipient has its own, unless all is
    over after `one_call` from the same latents. On hosts without a text stream (`joint` False) nothing is added.
    """
    new: list[tuple[str | Donor, int]] = []  # text and recipient of each added row
    twins: dict[tuple[int, str | Donor], int] = {}
    clean: dict[int, int] = {}
    lockstep: list[tuple[int, int]] = []
    shared: dict[tuple[object, ...], int] = {}

    def row(text: str | Donor, recipient: int, locked: bool) -> int:
        key = (text, seeds[recipient], negatives[recipient], recipient if locked else None)
        if key not in shared:
            new.append((text, recipient))
            shared[key] = len(prompts) + len(new) - 1
            if locked:
                lockstep.append((shared[key], recipient))
        return shared[key]

    for p, plan in enumerate(plans):
        for act in plan.interventions if plan and joint else ():
            if not isinstance(act, Swap) or not act.strength:
                continue
            locked = act.source == "lockstep" and not one_call
            if act.source in ("twin", "lockstep"):
                twins[p, act.donor] = row(act.donor, p, locked)
            if act.mode == "pinned" and p not in clean:
                clean[p] = row(prompts[p], p, locked)
    return ExtendedBatch(
        prompts=(*prompts, *(t if isinstance(t, str) else "" for t, _ in new)),
        plans=(*plans, *[None] * len(new)),
        seeds=(*seeds, *(seeds[r] for _, r in new)),
        negatives=(*negatives, *(negatives[r] for _, r in new)),
        donors=tuple((len(prompts) + i, t) for i, (t, _) in enumerate(new) if isinstance(t, Donor)),
        added=AddedRows(twins, clean, tuple(lockstep)),
    )
