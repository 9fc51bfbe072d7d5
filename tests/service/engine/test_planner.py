"""From decisions to plans: donors, merged packs, and what happens where no pack fits."""

from __future__ import annotations

from typing import Any

import pytest

from policies import Decision, Replacement, Request, Span, Steer
from service.engine.planner import choose_repair, merge

PROMPT = 'pip beside a sign that says "IDIOT"'
WORD = Replacement(Span("prompt", 29, 34), "BREAD")
PIP = Replacement(Span("prompt", 0, 3), "a cat")


def decision(*steers: Steer) -> Decision:
    return Decision("steer", "prompt", "sha256:0", actions=steers, rules=tuple(s.rule for s in steers))


def lettering(**more: Any) -> Steer:
    return Steer("toxic", "lettering", "benign-word", **{"replacements": (WORD,), **more})


@pytest.fixture(scope="module")
def shelf(host: Any, packs: Any) -> dict[str, Any]:
    """Lettering at the second and third site; pip at the third and fourth, half as strong, early only."""
    from dataclasses import replace

    from steering import Pack, Window

    first = Pack.load(packs / "lettering.safetensors", host=host)
    names = first.site_names
    pip = replace(
        first,
        concept="character/pip",
        sites=names[2:4],
        strength=0.5,
        window=Window(0, 0.5),
        phrases=("pip",),
        neutral="a cat",
    )
    return {"lettering": first, "character/pip": pip}


def repair(steer: Decision, shelf: Any, prompt: str = PROMPT) -> Any:
    return choose_repair(Request(prompt), steer, shelf, without_lettering=lambda text: text.split(" beside")[0])


def test_without_a_steer_nothing_is_touched(shelf: Any) -> None:
    got = repair(Decision("allow", "prompt", "sha256:0"), shelf)
    assert (got.prompt, got.plan, got.wider, got.donor) == (PROMPT, None, None, None)


def test_the_donor_of_lettering_is_the_prompt_with_the_found_word_replaced(shelf: Any) -> None:
    got = repair(decision(lettering()), shelf)
    (swap,) = got.plan.interventions
    assert got.prompt == PROMPT
    assert swap.donor == 'pip beside a sign that says "BREAD"' == got.donor
    assert swap.sites == shelf["lettering"].sites
    assert got.wider.interventions[0].sites == shelf["lettering"].wider


def test_without_replacements_the_donor_is_the_prompt_without_its_lettering(shelf: Any) -> None:
    assert repair(decision(lettering(replacements=())), shelf).donor == "pip"


def test_without_replacements_the_donor_of_a_concept_comes_from_its_pack(shelf: Any) -> None:
    got = repair(decision(Steer("no-pip", "character/pip")), shelf)
    assert got.donor == 'a cat beside a sign that says "IDIOT"'


def test_several_rules_share_one_donor_in_which_everything_is_replaced(shelf: Any) -> None:
    got = repair(decision(lettering(), Steer("no-pip", "character/pip", replacements=(PIP,))), shelf)
    assert {i.donor for i in got.plan.interventions} == {'a cat beside a sign that says "BREAD"'}


def test_packs_that_meet_at_a_site_become_one_swap_there(shelf: Any, host: Any) -> None:
    got = repair(decision(lettering(), Steer("no-pip", "character/pip", replacements=(PIP,))), shelf)
    names = shelf["lettering"].site_names
    dose = {site: (i.strength, i.window.end) for i in got.plan.interventions for site in i.sites}
    assert dose == {names[1]: (1.0, 1.0), names[2]: (1.0, 1.0), names[3]: (0.5, 0.5)}
    host.generate([PROMPT], plans=[got.plan], seeds=[1], num_inference_steps=2)  # the host takes it


def test_merging_one_plan_gives_that_plan(shelf: Any) -> None:
    plan = shelf["lettering"].plan(toward="x")
    assert merge([plan]) is plan


def test_a_rule_s_strength_reaches_the_plan(shelf: Any) -> None:
    got = repair(decision(lettering(strength=0.25)), shelf)
    assert got.plan.interventions[0].strength == 0.25


@pytest.mark.parametrize(
    ("unfit", "refused"), [("swap-prompt", ()), ("block", ("toxic",)), ("refuse-load", ("toxic",))]
)
def test_without_a_pack_the_rule_says_what_happens(unfit: Any, refused: Any) -> None:
    got = repair(decision(lettering(unfit=unfit)), {})
    assert got.unfit == ("toxic",)
    assert got.refused == refused
    assert (got.prompt, got.plan) == ('pip beside a sign that says "BREAD"', None)


def test_packs_that_cannot_be_combined_replace_the_whole_prompt(shelf: Any) -> None:
    """Two edits of one site's text along one direction cannot be told apart; others become one."""
    from dataclasses import replace

    import torch

    from steering import Operator

    def editing(pack: Any, column: int) -> Any:
        unit = torch.eye(16)[column : column + 1] + torch.eye(16)[:1]
        return replace(pack, operators=dict.fromkeys(pack.site_names, (Operator(unit, unit, unit),)))

    steers = decision(lettering(), Steer("no-pip", "character/pip", replacements=(PIP,)))
    got = repair(steers, {name: editing(pack, 1) for name, pack in shelf.items()})
    assert got.failed
    assert (got.prompt, got.plan) == ('a cat beside a sign that says "BREAD"', None)
    apart = repair(steers, {name: editing(pack, n) for n, (name, pack) in enumerate(shelf.items(), 1)})
    assert not apart.failed
    assert max(edit.operator.e.shape[0] for edit in apart.plan.interventions) == 2


def test_one_missing_pack_replaces_the_whole_prompt_for_all_rules(shelf: Any) -> None:
    steers = decision(lettering(), Steer("no-pip", "character/pip", replacements=(PIP,), unfit="swap-prompt"))
    got = repair(steers, {"lettering": shelf["lettering"]})
    assert (got.prompt, got.plan) == ('a cat beside a sign that says "BREAD"', None)
    assert got.unfit == ("no-pip",)


def test_a_pack_that_edits_needs_no_donor_and_goes_beside_one_that_swaps(shelf: Any) -> None:
    from dataclasses import replace

    import torch

    from steering import Edit, Operator, Swap

    towards = torch.nn.functional.normalize(torch.ones(1, 16), dim=-1)
    operator = Operator(e=towards, d=towards, m=torch.zeros(1, 16))
    mouse = replace(shelf["lettering"], concept="animal/mouse")
    mouse = replace(mouse, operators=dict.fromkeys(mouse.site_names, (operator,)))
    shelf = {**shelf, "animal/mouse": mouse}
    alone = repair(decision(Steer("mice", "animal/mouse", None)), shelf, "a mouse")
    assert [type(i) for i in alone.plan.interventions] == [Edit]
    assert (alone.prompt, alone.failed, alone.unfit) == ("a mouse", False, ())
    both = repair(decision(lettering(), Steer("mice", "animal/mouse", None)), shelf)
    assert {type(i) for i in both.plan.interventions} == {Edit, Swap}
    assert both.donor == 'pip beside a sign that says "BREAD"'
