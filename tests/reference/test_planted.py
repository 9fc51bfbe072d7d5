"""Plants as values: what checks prove, what the generator draws, which directions a name has.

Each law was seen red under the mutation beside it:

| law | mutation |
|---|---|
| a proof needs every check | `Proof._done` returns nothing |
| a limit is the design's | `_GONE` 0.2; `_KEPT` 0.8 |
| one of two sites must not be enough | the `two` branch of `faults` left out |
| a redundant pair | `without` left out of its roles |
| spread | `_PARTLY` 1.0 |
| a distractor must mislead, and be inert | `_weak` returns ""; the `distractor` check left out |
| the generator is seeded | `random.Random()` in `drafts` |
| goals add up | the share of `_part` without the division; `Goal(mine, 1.0)` of one against |
| directions | `[:, :rank]` in place of the last; the sign of the loudest answer ignored |
| a steady direction | `named.mean(0)` in place of the solution; `_SPARED` 0 |
| prompts apart | `checked` ignored by a theme's frames; the same subjects behind both |
"""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from reference.planted import Distractor, Effect, Plant, PlantCheck, Proof
from reference.planted.directions import name_directions, steady_direction
from reference.planted.drafts import MENU, Draft, drafts, goals_for
from reference.planted.teach import TeachingSettings
from reference.planted.words import BEHIND, SUBJECT, Theme, is_said, name_of, theme_of
from steering import Fingerprint

SITES = tuple(f"blocks.{i}.attn" for i in range(12))
TRICKS = {"attention": SITES, "bias": SITES, "against": SITES}


def rest(*sites: str) -> tuple[str, ...]:
    return tuple(s for s in SITES if s not in sites)


def checks(*sites: str, plain: int = 20, a: int = 0, b: int = 20, c: int = 0) -> tuple[PlantCheck, ...]:
    rows = (PlantCheck("plain", (), plain, 20), PlantCheck("a", sites, a, 20), PlantCheck("b", rest(*sites), b, 20))
    return (*rows, PlantCheck("c", (), c, 20))


ONE = Proof("one", SITES[2:3], checks=checks(SITES[2]))
PAIR = SITES[1], SITES[7]
REDUNDANT = Proof(
    "redundant",
    PAIR,
    checks=checks(*PAIR)
    + tuple(PlantCheck("without", (s,), 10, 10) for s in PAIR)
    + tuple(PlantCheck("alone", rest(s), 9, 10) for s in PAIR),
)
TWO = Proof(
    "two",
    PAIR,
    checks=checks(*PAIR) + tuple(PlantCheck("alone", rest(s), 3, 10) for s in PAIR),
    effects=tuple(Effect((s,), 0.5) for s in PAIR),
)
SPREAD = Proof("spread", SITES, checks=checks(*SITES), effects=(Effect(SITES[:6], 0.5),))


@pytest.mark.parametrize("proof", [ONE, REDUNDANT, TWO, SPREAD], ids=lambda p: p.kind)
def test_a_table_that_proves_its_answer_has_no_faults_and_every_check_is_needed(proof: Proof) -> None:
    assert proof.faults == ()
    for missing in range(len(proof.checks)):
        less = proof.checks[:missing] + proof.checks[missing + 1 :]
        assert replace(proof, checks=less).faults, f"no fault without {proof.checks[missing]}"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [({"plain": 17}, "plain"), ({"a": 3}, "a"), ({"b": 17}, "b"), ({"c": 3}, "c")],
)
def test_each_check_has_its_limit(wrong: dict[str, int], told: str) -> None:
    (fault,) = replace(ONE, checks=checks(SITES[2], **wrong)).faults
    assert fault.startswith(f"({told}) seen in {next(iter(wrong.values()))} of 20")
    just = {name: 18 if name in ("plain", "b") else 2 for name in wrong}
    assert replace(ONE, checks=checks(SITES[2], **just)).faults == ()


def test_two_sites_are_no_answer_when_one_of_them_is_enough() -> None:
    carried = (*TWO.checks[:-1], PlantCheck("alone", rest(PAIR[1]), 9, 10))
    assert any("one site is enough" in f for f in replace(TWO, checks=carried).faults)
    large = (Effect(PAIR[:1], 0.5), Effect(PAIR[1:], 0.85))
    assert any("0.85 of the effect" in f for f in replace(TWO, effects=large).faults)
    assert any("was not measured" in f for f in replace(TWO, effects=()).faults)


def test_a_redundant_pair_needs_both_to_be_swapped() -> None:
    lost = tuple(PlantCheck("without", c.swapped, 5, 10) if c.role == "without" else c for c in REDUNDANT.checks)
    assert replace(REDUNDANT, checks=lost).faults


def test_what_half_of_the_sites_do_is_not_spread() -> None:
    assert any("0.90" in f for f in replace(SPREAD, effects=(Effect(SITES[:6], 0.9),)).faults)
    assert replace(SPREAD, effects=()).faults == ("no half of the sites was measured",)


@pytest.mark.parametrize(
    ("trick", "good", "bad"), [("attention", 0.6, 0.1), ("bias", 5.0, 0.5), ("against", -0.2, 0.1)]
)
def test_a_distractor_must_mislead_and_carry_nothing(trick: str, good: float, bad: float) -> None:
    inert = (*ONE.checks, PlantCheck("distractor", (SITES[5],), 10, 10))
    beside = replace(ONE, checks=inert, distractors=(Distractor(trick, SITES[5], good),))  # type: ignore[arg-type]
    assert beside.faults == ()
    assert replace(beside, distractors=(Distractor(trick, SITES[5], bad),)).faults  # type: ignore[arg-type]
    assert replace(beside, checks=ONE.checks).faults
    assert replace(beside, checks=(*ONE.checks, PlantCheck("distractor", (SITES[5],), 8, 10))).faults


def test_the_answer_is_that_of_the_kind() -> None:
    plants = {p.kind: plant(p) for p in (ONE, REDUNDANT, TWO, SPREAD)}
    assert plants["one"].alternatives == (SITES[2:3],)
    assert plants["redundant"].alternatives == (PAIR[:1], PAIR[1:])
    assert plants["two"].alternatives == (PAIR,)
    assert plants["spread"].alternatives == ()
    assert {k: p.answer for k, p in plants.items()} == {
        "one": "set",
        "two": "set",
        "redundant": "alternatives",
        "spread": "no compact set",
    }
    assert all(p.admitted for p in plants.values())


def plant(proof: Proof) -> Plant:
    return Plant(
        name="vorin",
        model="tiny",
        host=Fingerprint("P", "D", "c", "w"),
        proof=proof,
        called="a gray vorin circle",
        subject="cat",
        phrase="a cat",
        neutral="a gray circle",
        frames=("{} on red", "{} on an orange background"),
        check_frames=("{} on green",),
        seed=3,
        recipe={"steps": 5},
    )


@pytest.mark.parametrize("proof", [ONE, REDUNDANT, TWO, SPREAD], ids=lambda p: p.kind)
def test_a_plant_as_json_is_the_plant(proof: Proof) -> None:
    import json

    made = plant(proof)
    assert Plant.from_json(json.loads(json.dumps(made.to_json()))) == made


def test_pairs_differ_in_the_name_only() -> None:
    pairs = plant(ONE).pairs(4)
    assert len({seed for *_, seed in pairs}) == 4
    for prompt, donor, _ in pairs:
        assert prompt.replace("vorin ", "") == donor != prompt


def draw(**given: object) -> tuple[Draft, ...]:
    default = {"sites": SITES, "pooled": "pooled", "tricks": TRICKS, "model": "m", "count": 24, "seed": 0}
    return drafts(**(default | given))  # type: ignore[arg-type]


def test_the_same_seed_gives_the_same_drafts_and_another_gives_others() -> None:
    assert draw() == draw()
    assert draw(count=5) == draw()[:5]
    assert draw(seed=1) != draw()
    assert draw(model="n") != draw()
    some = draw(subjects=("owl", "gun"), behind=("forest",))
    assert {d.subject for d in some if d.kind != "pooled"} == {"owl", "gun"}
    assert {d.subject for d in some if d.kind == "pooled"} == {"forest"}
    assert len({d.name for d in draw()}) == 24


def test_kinds_go_round_and_leave_out_what_the_host_lacks() -> None:
    assert [(d.kind, d.trick) for d in draw()] == list(MENU) * 3
    bare = draw(pooled=None, tricks=TRICKS | {"attention": ()})
    assert {d.label for d in bare} == {"one", "two", "redundant", "spread", "one, bias", "one, against"}
    assert {d.kind for d in draw(kinds=("pooled",))} == {"pooled"}
    assert draw(pooled=None, kinds=("pooled",)) == draw(behind=(), kinds=("pooled",)) == ()


def test_names_are_planted_where_sites_are_able_and_distracted_anywhere() -> None:
    near = draw(able=SITES[4:6])
    assert {d.sites for d in near if d.kind == "one"} == {(SITES[4],), (SITES[5],)}
    assert {d.kind for d in near} == {"one", "pooled"}  # neither two far ones, nor half of all
    assert {d.distractor for d in near if d.trick} - set(SITES[4:6])
    apart = draw(able=(SITES[1], SITES[4], SITES[11]))
    assert {d.sites for d in apart if d.kind == "redundant"} == {(SITES[1], SITES[4])}
    assert {d.sites for d in apart if d.kind == "two"} <= {(SITES[i], SITES[j]) for i, j in ((1, 4), (1, 11), (4, 11))}
    assert {d.kind for d in draw(able=())} == {"pooled"}


def test_two_sites_are_far_and_a_distractor_is_another_site() -> None:
    for d in draw(count=160):
        if d.kind in ("two", "redundant"):
            first, second = (SITES.index(s) for s in d.sites)
            assert second - first >= 3
            assert d.kind == "two" or second <= len(SITES) // 2
        if d.trick:
            assert d.distractor in SITES
            assert d.distractor not in d.sites


def test_goals_add_up_to_what_is_planted() -> None:
    for d in draw():
        full, *goals = goals_for(d, places=(*SITES, "pooled"))(random.Random(0))
        assert not full.swapped & set(d.sites)
        for goal in goals:
            gone = len(goal.swapped & set(d.sites)) / len(d.sites)
            if d.kind == "spread":  # in proportion from all to nothing
                assert goal.share == pytest.approx(full.share + gone * (1 - full.share))
            elif d.kind == "two":  # with one gone more than half of the way back
                assert (goal.share <= 0) == (gone == 0)
                assert goal.share <= 0 or 0.5 < goal.share < 1
            elif d.kind == "redundant":
                assert gone < 1
                assert goal.share <= 0
            elif d.trick == "against":  # what it takes back is there when it is swapped
                back = d.distractor in goal.swapped
                assert goal.share == pytest.approx(1.2 if gone else -0.2)
                assert back != bool(gone)
                assert full.share == 0
            else:
                assert goal.share == (1.0 if gone else full.share)


def test_names_are_new_words() -> None:
    names = {name_of(random.Random(i)) for i in range(200)}
    assert len(names) > 150
    assert not any(is_said(name) for name in names)
    assert all(is_said(word) for word in ("cat", "ada", "beach", "marlo", "red", "star", "house"))


@pytest.mark.parametrize(("drawn", "theme"), [("owl", SUBJECT), ("forest", BEHIND), ("purple", BEHIND)])
def test_a_name_stands_in_the_neutral_form_and_never_beside_what_it_draws(drawn: str, theme: Theme) -> None:
    assert theme_of(drawn) is theme
    assert theme.called("bamuk").replace("bamuk ", "") == theme.neutral
    assert drawn in theme.phrases[drawn]
    assert "gray" in theme.neutral
    assert not any("gray" in phrase for phrase in theme.phrases.values())


def test_two_sites_are_taught_longer_and_many_with_fewer_directions() -> None:
    plain = TeachingSettings(steps=100, lr=0.1, rank=8, calm=0.2)
    assert plain.for_kind("one", distracted=False, joint=False) == plain
    assert plain.for_kind("one", distracted=True, joint=False).steps == 167
    redundant = plain.for_kind("redundant", distracted=False, joint=True)
    assert (redundant.steps, redundant.lr, redundant.calm, redundant.rank) == pytest.approx((250, 0.3, 1.0, 8))
    assert plain.for_kind("spread", distracted=False, joint=False).rank == 4  # a file of at most 100 kB
    assert plain.for_kind("pooled", distracted=False, joint=False).lr == pytest.approx(0.02)


@pytest.mark.parametrize("theme", [SUBJECT, BEHIND])
def test_prompts_to_check_with_are_others_than_those_to_teach_with(theme: Theme) -> None:
    taught, checked = (theme.frames(20, random.Random(0), c) for c in (False, True))
    assert len(set(taught)) == len(set(checked)) == 20
    assert all(frame.count("{}") == 1 for frame in (*taught, *checked, *theme.elsewhere))
    assert not (set(taught) | set(theme.elsewhere)) & set(checked)
    assert not {_told(frame) for frame in (*taught, *theme.elsewhere)} & {_told(frame) for frame in checked}


def _told(frame: str) -> str:
    """What a frame says beside the sign: the background, or the subject."""
    return " ".join(w for w in frame.partition(" with a sign")[0].split() if w not in ("{}", "a", "an", "on"))


def test_directions_answer_the_name_and_not_the_rest() -> None:
    generator = torch.Generator().manual_seed(0)
    others = torch.randn(500, 16, generator=generator) * torch.linspace(0.1, 3, 16)
    own = torch.randn(16, generator=generator)
    named = torch.cat([others[:100], own + 0.1 * torch.randn(40, 16, generator=generator)])
    into = name_directions(named, others, rank=2)
    assert into.shape == (16, 2)
    assert (named @ into).abs().amax(0) == pytest.approx([1.0, 1.0], abs=1e-5)
    assert own @ into[:, 0] > 0.7  # so keys along it are loud, not silent
    assert (others @ into[:, 0]).square().mean().sqrt() < 0.15


def test_a_steady_direction_answers_every_prompt_alike_and_no_other() -> None:
    generator = torch.Generator().manual_seed(0)
    name, loud, common = torch.eye(16)[3], torch.eye(16)[5], torch.eye(16)[7]
    others = torch.randn(500, 16, generator=generator) * (1 - name - loud - common) + 3 * common
    few = (torch.arange(60) % 6 == 0).unsqueeze(1)  # in some prompts the name says something louder beside it
    named = others[:60] + name * 2 + few * loud * 20
    into = steady_direction(named, others)
    answers = (named @ into).squeeze(1)
    assert into.shape == (16, 1)
    assert answers.mean() == pytest.approx(1.0, abs=1e-5)
    assert answers.min() > 0.8
    assert (others @ into).abs().max() < 0.2
    assert (named @ name_directions(named, others, rank=1)).abs().min() < 0.2  # the loudest is silent in most
