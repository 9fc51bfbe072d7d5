"""Every picture says what the rules did to it, true to what was drawn.

| break | red |
|---|---|
| leave windows as they are at any number of steps | few steps are steered, too |
| count the sites of the plan, not those that fired | only what fired is told |
| count the adapter's sites | the sites of an adapter are not the rules' |
| keep the sites of the first picture on a rung | a wider rung, a prompt replaced on the ladder |
| keep `replaced` on a rung that steers | what is steered after a fallback |
| say `replaced` wherever a rule is unfit | an unfit rule without other words |
| ask for the least, not the most, of several pictures | of several pictures the most is told |
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.engine.outcome import Outcome, Picture
from service.order import Given
from tests.service.engine.scripted import BENIGN, PROMPT, Script
from tests.service.hostile import picture

NO_EXTRA = (("max_extra_generations: 2", "max_extra_generations: 0"),)
ONE_RUNG = (("ladder: [wider, swap-prompt, blur]", "ladder: [wider]"),)
SWAP_ONLY = (("ladder: [wider, swap-prompt, blur]", "ladder: [swap-prompt]"),)


def told(got: Outcome) -> list[tuple[str, int]]:
    assert got.refused is None
    return [(p.how, p.sites) for p in got.pictures]


@pytest.mark.parametrize(
    ("reads", "edits", "how"),
    [
        ((None,), (), ("steered", 2)),
        (("idiot", None), ONE_RUNG, ("steered", 3)),
        (("idiot", None), SWAP_ONLY, ("prompt-replaced", 0)),
        (("idiot", None), NO_EXTRA, ("blurred", 2)),
        (("idiot", "idiot", "idiot", None), (), ("blurred", 0)),
    ],
    ids=["steered", "a wider rung", "replaced on the ladder", "blurred after it was steered", "blurred at the end"],
)
def test_a_picture_of_a_steered_prompt_says_how_it_came(run: Any, reads: Any, edits: Any, how: Any) -> None:
    assert told(run(Script(*reads), edits=edits)) == [how]


def test_few_steps_do_not_pass_between_windows(run: Any, host: Any, packs: Any) -> None:
    """Two steps, and a pack that steers from 0.1 to 0.3 of the trajectory. A rule with strength 0 changes nothing."""
    from steering import Pack, Window

    pack = replace(Pack.load(packs / "lettering.safetensors", host=host), window=Window(0.1, 0.3))
    plain = host.generate([PROMPT], plans=[None], seeds=[3], num_inference_steps=2).images[0]
    got = run(Script(None), shelf={"lettering": pack}, steps=2)
    assert told(got) == [("steered", 2)]
    assert not np.array_equal(np.asarray(got.pictures[0].image), np.asarray(plain))
    off = (("strength: auto", "strength: 0"),)
    assert told(run(Script(None), shelf={"lettering": pack}, steps=2, edits=off)) == [("untouched", 0)]


def test_a_benign_picture_is_untouched(run: Any) -> None:
    assert told(run(Script(None), BENIGN)) == [("untouched", 0)]


def test_without_a_pack_the_prompt_is_replaced(run: Any) -> None:
    assert told(run(Script(None), shelf={})) == [("prompt-replaced", 0)]


def test_an_unfit_rule_without_other_words_changes_nothing(
    run: Any, made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.engine.planner._donor", lambda request, *_: request.prompt)
    got = run(Script(None), shelf={})
    assert (got.verdict, told(got)) == ("steer", [("untouched", 0)])
    assert np.array_equal(np.asarray(got.pictures[0].image), made(PROMPT))


def test_what_is_steered_after_a_fallback_is_steered(run: Any, host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from steering import NotFired

    real, failed = host.generate, []

    def once_silent(prompts: Any, *, plans: Any, **more: Any) -> Any:
        if any(plans) and not failed:
            failed.append(1)
            raise NotFired("site `x` replaced 0 rows of 4")
        return real(prompts, plans=plans, **more)

    monkeypatch.setattr(host, "generate", once_silent)
    assert told(run(Script("idiot", None), edits=ONE_RUNG)) == [("steered", 3)]
    failed.clear()
    assert told(run(Script(None))) == [("prompt-replaced", 0)]


def test_the_sites_of_an_adapter_are_not_the_rules(run: Any, packs: Any, editing: Any, host: Any) -> None:
    from service.engine.adapters import Adapter
    from service.order import Lora
    from steering import Pack

    rule, pack = Pack.load(packs / "lettering.safetensors", host=host), Pack.load(editing, host=host)
    last = host.sites[-1].name
    operators = {last: next(iter(pack.operators.values()))}
    pack = replace(pack, sites=(last,), wider=(last,), choice=replace(pack.choice, k=1), operators=operators)
    adapter = Adapter(Lora("zub", 0.5, "0" * 64), {rule.digest: 1.0}, pack)
    (plain,) = run(Script(None), BENIGN, adapter=adapter).pictures
    assert (plain.how, plain.sites, len(plain.made.report.fired)) == ("untouched", 0, 1)
    (steered,) = run(Script(None), adapter=adapter).pictures
    assert (steered.how, steered.sites, len(steered.made.report.fired)) == ("steered", 2, 3)


@pytest.mark.parametrize(
    ("reads", "edits", "shelf", "how"),
    [
        ((None,), (), None, ("untouched", 0)),
        (("idiot", None), (), None, ("steered", 2)),
        (("idiot", None), (), {}, ("prompt-replaced", 0)),
        (("idiot", None), NO_EXTRA, None, ("blurred", 0)),
    ],
    ids=["nothing found", "steered", "no pack", "nothing may be drawn"],
)
def test_a_repaired_picture_says_how(run: Any, reads: Any, edits: Any, shelf: Any, how: Any) -> None:
    given = Given("repair", picture(90, 70), None)
    assert told(run(Script(*reads), "", given=given, edits=edits, shelf=shelf)) == [how]


def test_an_edit_is_the_caller_s_and_no_rule_s(run: Any) -> None:
    given = Given("edit", picture(90, 70), None)
    assert told(run(Script(None), BENIGN, given=given)) == [("untouched", 0)]
    assert told(run(Script(None), PROMPT, given=given)) == [("steered", 2)]


def test_of_several_pictures_the_most_is_told() -> None:
    made = [("allow", 0, False, ()), ("steer", 2, False, ()), ("steer", 3, False, ("wider",)), ("steer", 1, False, ())]
    made += [("steer", 0, True, ()), ("steer", 2, False, ("blur",))]
    hows = [Picture(Image.new("RGB", (1, 1)), None, None, r, s, w) for _, s, w, r in made]  # type: ignore[arg-type]
    for upto, most in ((1, 0), (2, 1), (4, 2), (5, 4), (6, 5)):
        assert Outcome(None, None, tuple(hows[:upto])).most_changed is hows[most]  # type: ignore[arg-type]
