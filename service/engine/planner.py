"""Turns a decision into what the engine runs: donor prompts, packs and plans.

A request has one donor prompt, in which everything that its rules steer away from is replaced. Each pack applies the
donor at its own sites. So several rules can act on one request: where their packs share a site, both use the same
donor.

A published pack repeats a result that a paper found with its authors' weights. Only the picture shows whether it works
with the loaded weights. So a rule uses such a pack only if it also checks the picture. A request with an adapter is
another model to a pack: one that the adapter's evidence does not name counts as missing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from palimpsest_base.likeness import pieces_like
from policies import Decision, Request, Steer, Verify, list_of
from service.reading.types import WithoutLettering

if TYPE_CHECKING:
    from service.engine.adapters import Adapter
    from steering import Pack, Plan, Swap

__all__ = ["Repair", "choose_repair", "merge", "why_unverified"]


@dataclass(frozen=True, slots=True)
class Repair:
    """The repair steps that are available for one request.

    `plan` is for the first picture; `None` with an unchanged `prompt` means that nothing is changed. `wider` is the
    plan of the `wider` rung, or None if no pack has one. `donor` is the prompt of the `swap-prompt` rung. `unfit` names
    rules without a usable pack, whose prompt was therefore replaced. `refused` names rules without a usable pack that
    refuse instead. `failed` is true if packs exist but no plan could be made of them; the prompt is then replaced, too.
    `alone` is the part of every plan that belongs to the request's adapter: the plan of a replaced prompt. `sites` and
    `wider_sites` are the sites at which `plan` and `wider` are to steer; an adapter's own are not among them.
    """

    prompt: str
    plan: Plan | None = None
    wider: Plan | None = None
    donor: str | None = None
    unfit: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    failed: bool = False
    alone: Plan | None = None
    sites: frozenset[str] = frozenset()
    wider_sites: frozenset[str] = frozenset()

    @property
    def steers(self) -> bool:
        """Whether the first picture is steered, and not only drawn with the request's adapter."""
        return self.plan is not self.alone


def choose_repair(
    request: Request,
    decision: Decision,
    packs: Mapping[str, Pack],
    *,
    without_lettering: WithoutLettering,
    adapter: Adapter | None = None,
    steps: int | None = None,
) -> Repair:
    """The repair of `request` under `decision`. `packs` maps a concept to its pack for the loaded model.

    `adapter` is the request's. It stays in every repair: the rules judge what the request asks for. A pack that was not
    verified with it is not used. `steps`: of the run, if they are known; a window between two of them is widened to the
    nearest.
    """
    steers = decision.steers
    alone = adapter.plan if adapter is not None else None
    if not steers:
        return Repair(request.prompt, plan=alone, alone=alone)
    found = {s.concept: packs.get(s.concept) for s in steers}
    here = {concept: pack for concept, pack in found.items() if pack is not None}
    donor = _donor(request, steers, here, without_lettering)
    missing = [
        s for s in steers if s.concept not in here or why_unverified(here[s.concept], _reads(decision, s.rule), adapter)
    ]
    refused = tuple(dict.fromkeys(s.rule for s in missing if s.unfit != "swap-prompt"))
    unfit = tuple(dict.fromkeys(s.rule for s in missing))
    shown = donor != request.prompt  # whether there is another text to show; edits need none
    acting = [s for s in steers if s.concept in here and (shown or here[s.concept].edits)]
    if missing or not acting:
        # the whole prompt is replaced, or there is nothing to show in its place: then only the picture can be judged
        return Repair(donor, plan=alone, donor=donor, unfit=unfit, refused=refused, alone=alone)
    from steering import SteeringError

    own = [alone] if alone is not None else []
    try:
        first = [here[s.concept].plan(toward=_shown(here[s.concept], donor), strength=_strength(s)) for s in acting]
        more = [here[s.concept].plan(toward=_shown(here[s.concept], donor), wider=True) for s in acting]
        first, more = ([_reaching(plan, steps) for plan in plans] for plans in (first, more))
        plan, wider = merge(first + own), merge(more + own)
    except SteeringError:
        return Repair(donor, plan=alone, donor=donor, failed=True, alone=alone)
    if adapter is not None and adapter.switched:  # INVARIANT: its evidence names each of these packs
        plan, wider = _unbound(plan), _unbound(wider)
    sites, wider_sites = _sites(first), _sites(more)
    return Repair(
        request.prompt, plan=plan, wider=wider, donor=donor, alone=alone, sites=sites, wider_sites=wider_sites
    )


def _sites(plans: Sequence[Plan]) -> frozenset[str]:
    return frozenset(site for plan in plans for site in plan.sites)


def _reaching(plan: Plan, steps: int | None) -> Plan:
    """A plan whose windows each hold a step of a run: who asks for few steps must not pass between them."""
    from steering import Plan

    if steps is None:
        return plan
    acts = [replace(act, window=act.window.with_step(steps)) for act in plan.interventions]
    return Plan(*acts, made_for=plan.made_for)


def _unbound(plan: Plan) -> Plan:
    """A plan that is not bound to the model as it is without its LoRA."""
    from steering import Plan

    return Plan(*plan.interventions)


def _shown(pack: Pack, donor: str) -> str | None:
    """The donor prompt for a pack that swaps text. None for a pack that edits."""
    return None if pack.edits else donor


def why_unverified(pack: Pack, reads: Collection[str], adapter: Adapter | None = None) -> str | None:
    """Why a rule that checks its pictures for `reads` may not steer a request with a pack, or None if it may."""
    if adapter is not None and not adapter.vouches_for(pack):
        return (
            f"its pack of `{pack.concept}` was not verified with the adapter `{adapter.lora.name}` at scale"
            f" {adapter.lora.scale:g}"
        )
    if not pack.published or pack.concept in reads:
        return None
    return (
        f"its pack of `{pack.concept}` is published, not measured on this model, and the rule does not verify it in the"
        f" picture; add `{{do: verify, read: {pack.concept}, ...}}`, or measure a pack with `palimpsest localize`"
    )


def _reads(decision: Decision, rule: str) -> frozenset[str]:
    """The names for which a rule checks its pictures."""
    return frozenset(a.read for a in decision.actions if isinstance(a, Verify) and a.rule == rule)


def merge(plans: Sequence[Plan]) -> Plan:
    """One plan with the effect of all `plans`.

    Swaps of one donor that share a site become one swap, with the hull of their windows and the greater strength. Edits
    that share a site become one edit that does both (see `steering.merge_edits`).
    """
    from steering import Edit, Plan, Swap, merge_edits

    if len(plans) == 1:
        return plans[0]
    swaps = [i for plan in plans for i in plan.interventions if isinstance(i, Swap)]
    edits = merge_edits([i for plan in plans for i in plan.interventions if isinstance(i, Edit)])
    by_site: dict[tuple[object, ...], Swap] = {}
    for swap in swaps:
        for site in swap.sites:
            one = replace(swap, sites=(site,))
            key = (site, swap.donor, swap.pooled, swap.source, swap.mode, swap.rows)
            by_site[key] = _hull(by_site[key], one) if key in by_site else one
    bound = next((plan.made_for for plan in plans if plan.made_for is not None), None)  # published packs bind to none
    return Plan(*_gathered(list(by_site.values())), *edits, made_for=bound)


def _hull(a: Swap, b: Swap) -> Swap:
    from steering import Window

    window = Window(min(a.window.start, b.window.start), max(a.window.end, b.window.end))
    return replace(a, window=window, strength=max(a.strength, b.strength))


def _gathered(swaps: Sequence[Swap]) -> list[Swap]:
    """Swaps that differ in their sites only, as one swap."""
    groups: dict[Swap, list[str]] = {}
    for swap in swaps:
        groups.setdefault(replace(swap, sites=("",)), []).extend(swap.sites)
    return [replace(like, sites=tuple(sites)) for like, sites in groups.items()]


def _donor(
    request: Request, steers: Sequence[Steer], packs: Mapping[str, Pack], without_lettering: WithoutLettering
) -> str:
    """The prompt with every steered part replaced: by the rules' wording, else by the pack's, else with lettering
    removed.

    A prompt that does not spell the concept, though its picture shows it, has the words replaced that are like it.
    """
    found = [r for s in steers for r in s.replacements]
    text = replace(steers[0], replacements=tuple(found)).donor(request) or request.prompt
    for steer in steers:
        if steer.donor(request) is None:
            pack = packs.get(steer.concept)
            text = (
                (_like_donor(text, pack, steer) or pack.donor_for(text) if pack else None)
                or (without_lettering(text) if steer.concept == "lettering" else None)
                or text
            )
    return text


def _like_donor(text: str, pack: Pack, steer: Steer) -> str | None:
    """`text` with the pieces that are like a phrase of the pack replaced by what the rule steers toward, else by the
    pack's neutral phrase; None when there are none, or nothing is left.
    """
    neutral = pack.neutral if steer.toward is None or list_of(steer.toward) is not None else steer.toward
    pieces = pieces_like(text, pack.phrases)
    if neutral is None or not pieces:
        return None
    for piece in reversed(pieces):
        text = f"{text[: piece.start]}{neutral}{text[piece.end :]}"
    return " ".join(text.split()) or None


def _strength(steer: Steer) -> float | Literal["auto"]:
    return "auto" if steer.strength is None else steer.strength
