"""What is held for review: the pictures as they are drawn without the holding rule, and their repair.

| break | red |
|---|---|
| keep the holding rule's steers | the picture is drawn as if the rule were not there |
| no second run | a rule that would repair |
| first picture, whatever blocked it | what another rule blocks stays blocked |
| forget what holds the upload | an edit of an upload that a rule holds |
| hold before the other pictures are judged | one held picture holds them all |
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from service.order import Given
from tests.service.engine.scripted import BENIGN, PROMPT, Script, pixels
from tests.service.hostile import picture

STEER = "      - {do: steer, concept: lettering, toward: benign-word, strength: auto}\n"
HOLD = ((STEER, STEER + "      - {do: review-hold, queue: signs}\n"),)
LAST = (("otherwise: block", "otherwise: review-hold"),)
ZEBRAS = """\
  - id: zebras
    why: No zebras on signs.
    category: animals
    when: {lettering: {any_of: [zebra], views: all}}
    then: [{do: verify, read: lettering, none_of: [zebra], ladder: [blur], otherwise: review-hold}]
"""
SEEN = """\
  - id: zebras-seen
    why: Zebras on signs are looked at.
    category: animals
    when: {picture: {lettering: {any_of: [zebra]}}}
    then: [{do: review-hold, queue: animals}]
"""
WORD_HELD = (("then: [{do: block}]", "then: [{do: review-hold, queue: words}]"),)


def test_a_rule_that_would_repair_keeps_both_pictures(run: Any, made: Any) -> None:
    got = run(Script(None), edits=HOLD)
    assert (got.verdict, got.refused, got.held.queue) == ("review-hold", "prompt", "signs")
    (drawn,), (repaired,) = got.held.pictures, got.held.repaired
    assert np.array_equal(pixels(drawn.image), made(PROMPT)), "as if the rule were not there"
    assert ((drawn.how, drawn.sites), (repaired.how, repaired.sites)) == (("untouched", 0), ("steered", 2))
    assert not np.array_equal(pixels(drawn.image), pixels(repaired.image))


def test_the_repair_climbs_the_rule_s_own_ladder_and_may_be_blocked_at_its_end(run: Any) -> None:
    # the first reading is of the picture as drawn; the rule that holds does not judge it
    got = run(Script("idiot", "idiot", None), edits=HOLD)
    assert (got.held.pictures[0].rungs, got.held.repaired[0].rungs) == ((), ("wider",))
    got = run(Script("idiot"))
    assert (got.held.queue, got.held.repaired) == ("signs", ()), "the ladder ends with `block`"


def test_at_the_end_of_the_ladder_the_first_picture_and_the_last_are_held(run: Any) -> None:
    look = Script("idiot")
    got = run(look, edits=LAST)
    assert (got.verdict, got.refused, got.held.queue) == ("review-hold", "picture", "default")
    (drawn,), (repaired,) = got.held.pictures, got.held.repaired
    assert (drawn.rungs, drawn.how) == ((), "steered")
    assert repaired.rungs == ("wider", "swap-prompt", "blur")
    assert np.array_equal(pixels(drawn.image), look.seen[0])
    passed = run(Script("idiot", None))
    assert (passed.refused, passed.held) == (None, None), "what the ladder repairs is not held"


def test_what_another_rule_blocks_stays_blocked(run: Any) -> None:
    got = run(Script("idiot"), f"{PROMPT} forbidden", edits=WORD_HELD)
    assert (got.verdict, got.refused, got.held) == ("block", "picture", None)
    got = run(Script("idiot", None), f"{PROMPT} forbidden")
    assert got.held.pictures[0].rungs == ("wider",), "the other rule repairs it first"
    assert (got.held.queue, got.held.repaired) == ("words", ())


def test_a_first_picture_that_another_rule_blocks_is_not_what_is_held(run: Any) -> None:
    look = Script("idiot", "zebra")
    got = run(look, edits=(("  - id: never", ZEBRAS + "  - id: never"),))
    assert (got.refused, got.held.queue, got.held.repaired) == ("picture", "default", ())
    (drawn,) = got.held.pictures
    assert drawn.rungs[0] == "wider"
    assert not np.array_equal(pixels(drawn.image), look.seen[0])


def test_one_held_picture_holds_all_of_a_request(run: Any) -> None:
    class Second(Script):
        """Sees the word in one of the two pictures, however often it is drawn."""

        def __call__(self, image: Any, reads: frozenset[str]) -> Any:
            first = self.seen[0] if self.seen else pixels(image)
            self.texts = (None,) if np.array_equal(pixels(image), first) else ("idiot",)
            return super().__call__(image, reads)

    got = run(Second(None), n=2, edits=LAST)
    assert (got.refused, len(got.held.pictures), len(got.held.repaired)) == ("picture", 2, 2)
    assert sorted(len(p.rungs) for p in got.held.repaired) == [0, 3]
    assert [p.rungs for p in got.held.pictures] == [(), ()]


@pytest.mark.parametrize("kind", ["edit", "repair"])
def test_of_a_given_picture_what_would_be_returned_is_held(run: Any, kind: Any) -> None:
    given = Given(kind, picture(90, 70), None)
    got = run(Script(None), f"{BENIGN} forbidden", given=given, edits=WORD_HELD)
    (drawn,) = got.held.pictures
    assert (got.refused, got.held.queue, drawn.image.size) == ("prompt", "words", (90, 70))
    same = np.array_equal(pixels(drawn.image), pixels(given.image))
    assert same == (kind == "repair"), "nothing is drawn over a picture in which no rule sees anything"


def test_an_edit_of_an_upload_that_a_rule_holds_is_held_whatever_is_drawn(run: Any) -> None:
    given = Given("edit", picture(90, 70), None)
    got = run(Script("zebra", None), BENIGN, given=given, edits=(("  - id: never", SEEN + "  - id: never"),))
    assert (got.verdict, got.refused, got.held.queue) == ("review-hold", "picture", "animals")
    assert "zebras-seen" in got.decision.rules
    assert run(Script(None), BENIGN, given=given).held is None


def test_a_given_picture_that_cannot_be_repaired_is_held(run: Any) -> None:
    given = Given("repair", picture(90, 70), None)
    got = run(Script("idiot"), "", given=given, edits=LAST)
    assert (got.refused, got.held.queue) == ("picture", "default")
    assert np.array_equal(pixels(got.held.pictures[0].image), pixels(given.image))
    assert got.held.repaired[0].rungs[-1] == "blur"
