"""The closed loop on given pictures: judged first, mended on the ladder, edited within their mask."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from policies import Box, Signal, Signals
from service.engine.given import GivenPicture, shown
from service.errors import BadRequest
from service.order import Given, Order
from steering import mask_of
from tests.service.engine.scripted import BENIGN, BOX, Script, pixels, seen
from tests.service.hostile import picture

LARGE = picture(90, 70)
AROUND = mask_of([(BOX.left, BOX.top, BOX.right, BOX.bottom)], (90, 70)) > 0


def repair(image: Image.Image = LARGE) -> Given:
    return Given("repair", image)


def edit(image: Image.Image = LARGE, mask: np.ndarray | None = None) -> Given:
    return Given("edit", image, mask)


def marked(height: int = 70, width: int = 90) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask[30:60, 40:80] = True
    return mask


def test_a_given_picture_in_which_nothing_is_found_comes_back_as_it_was(run: Any) -> None:
    look = Script(None)
    got = run(look, "", given=repair())
    (back,) = got.pictures
    assert (got.verdict, got.refused, back.rungs, back.made) == ("allow", None, (), None)
    assert np.array_equal(pixels(back.image), pixels(LARGE))
    assert len(look.seen) == 1, "it was read once"
    assert np.array_equal(look.seen[0], pixels(LARGE)), "at its own size"


def test_what_is_found_is_rewritten_where_it_was_found_and_read_again(run: Any) -> None:
    look = Script("idiot", None)
    got = run(look, "", given=repair())
    (back,) = got.pictures
    assert (got.verdict, got.refused, back.rungs) == ("steer", None, ("steer",))
    assert back.made.report.plan is not None
    assert all(back.made.report.fired.values())
    own, now = pixels(LARGE), pixels(back.image)
    assert np.array_equal(now[~AROUND], own[~AROUND]), "all other pixels are the given ones"
    assert np.abs(now[AROUND] - own[AROUND]).mean() > 5
    assert np.array_equal(look.seen[1], now), "what leaves is what was read"


def test_the_ladder_of_a_given_picture_begins_with_steering_and_ends_with_blur(run: Any) -> None:
    look = Script("idiot", "idiot", "idiot", "idiot", None)
    got = run(look, "", given=repair(), edits=(("max_extra_generations: 2", "max_extra_generations: 3"),))
    (back,) = got.pictures
    assert (got.refused, back.rungs) == (None, ("steer", "wider", "swap-prompt", "blur"))
    assert len({p.tobytes() for p in look.seen}) == 5, "each rung changes the picture"
    outside = np.ones((70, 90), bool)
    outside[13:37, 3:47] = False  # what is mended, and what is blurred
    for each in look.seen:
        assert np.array_equal(each[outside], pixels(LARGE)[outside])


def test_what_no_rung_mends_is_refused(run: Any) -> None:
    got = run(Script("idiot"), "", given=repair())
    assert (got.verdict, got.refused) == ("block", "picture")


def test_a_picture_that_cannot_be_read_is_refused_before_anything_is_drawn(run: Any) -> None:
    got = run(Script(fails=True), "", given=repair())
    assert (got.verdict, got.refused, got.pictures) == ("block", "upload", ())
    got = run(Script(fails=True), BENIGN, given=edit(mask=marked()))
    assert (got.verdict, got.refused, got.pictures) == ("block", "upload", ())


def test_a_rule_that_trusts_prompts_reads_given_pictures_all_the_same(run: Any) -> None:
    look = Script("idiot", None)
    only = (("on_error: block", "watch: matched-prompts\n    on_error: block"),)
    got = run(look, "", given=repair(), edits=only)
    assert (got.verdict, got.pictures[0].rungs, len(look.seen)) == ("steer", ("steer",), 2)


def test_a_prompt_that_is_refused_refuses_the_picture_too(run: Any) -> None:
    look = Script(None)
    got = run(look, "something forbidden", given=repair())
    assert (got.refused, look.seen) == ("prompt", [])


def test_without_a_pack_the_found_is_drawn_anew_with_the_donor(run: Any) -> None:
    got = run(Script("idiot", None), "", given=repair(), shelf={})
    (back,) = got.pictures
    assert (got.verdict, back.rungs, back.made.report.plan) == ("steer", ("steer",), None)
    assert np.array_equal(pixels(back.image)[~AROUND], pixels(LARGE)[~AROUND])


def test_what_has_no_place_in_the_picture_is_drawn_anew_with_all_of_it(run: Any) -> None:
    def nowhere(image: Any, reads: frozenset[str]) -> Signals:
        found = look(image, reads)
        return Signals(tuple(replace(s, box=None) for s in found.items), found.covered)

    look = Script("idiot", None)
    (back,) = run(nowhere, "", given=repair()).pictures
    assert back.rungs == ("steer",)
    assert back.image.size == LARGE.size
    assert np.abs(pixels(back.image) - pixels(LARGE))[~AROUND].mean() > 5


def test_a_rule_that_may_not_draw_blurs_a_given_picture(run: Any) -> None:
    no_extra = (("max_extra_generations: 2", "max_extra_generations: 0"),)
    look = Script("idiot", None)
    got = run(look, "", given=repair(), edits=no_extra)
    (back,) = got.pictures
    assert (got.verdict, back.rungs, back.made) == ("steer", ("blur",), None)
    assert np.array_equal(look.seen[1], pixels(back.image))


def test_an_edit_changes_what_is_marked_and_nothing_else(run: Any) -> None:
    look = Script(None)
    got = run(look, BENIGN, given=edit(mask=marked()), n=2)
    first, second = (pixels(p.image) for p in got.pictures)
    assert (got.verdict, got.refused, len(look.seen)) == ("allow", None, 3)
    assert np.array_equal(look.seen[0], pixels(LARGE)), "the given picture is judged first"
    for each in (first, second):
        assert np.array_equal(each[~marked()], pixels(LARGE)[~marked()])
        assert np.abs(each[marked()] - pixels(LARGE)[marked()]).mean() > 5
    assert not np.array_equal(first, second), "another seed draws another picture"


def test_the_same_edit_with_the_same_seed_is_the_same_picture(run: Any) -> None:
    first, second = (run(Script(None), BENIGN, given=edit(mask=marked())).pictures[0].image for _ in range(2))
    assert np.array_equal(pixels(first), pixels(second))


def test_an_edit_without_a_mask_changes_the_lettering_that_is_read(run: Any) -> None:
    got = run(Script("bread"), BENIGN, given=edit())
    now = pixels(got.pictures[0].image)
    assert np.array_equal(now[~AROUND], pixels(LARGE)[~AROUND])
    assert np.abs(now[AROUND] - pixels(LARGE)[AROUND]).mean() > 5


def test_an_edit_without_mask_and_lettering_draws_the_whole_picture_anew(run: Any) -> None:
    got = run(Script(None), BENIGN, given=edit())
    assert got.pictures[0].image.size == LARGE.size
    assert np.abs(pixels(got.pictures[0].image) - pixels(LARGE)).mean() > 5


def test_an_edit_toward_an_insult_is_steered_and_what_it_shows_is_read(run: Any) -> None:
    look = Script(None, "idiot", None)
    got = run(look, 'a red star with a sign that says "idiot"', given=edit(mask=marked()))
    (back,) = got.pictures
    assert (got.verdict, got.refused, back.rungs) == ("steer", None, ("wider",))
    assert back.made.report.plan is not None
    kept = ~(marked() | AROUND)
    assert np.array_equal(pixels(back.image)[kept], pixels(LARGE)[kept])


def test_an_insult_that_an_edit_leaves_standing_is_mended_with_it(run: Any) -> None:
    got = run(Script("idiot", "idiot", None), BENIGN, given=edit(mask=marked()))
    (back,) = got.pictures
    assert (got.verdict, got.refused) == ("steer", None)
    assert back.rungs == ("blur",), "the prompt asks for no lettering that could be another"
    kept = ~marked()
    kept[13:37, 3:47] = False
    assert np.array_equal(pixels(back.image)[kept], pixels(LARGE)[kept])
    assert not np.array_equal(pixels(back.image)[AROUND], pixels(LARGE)[AROUND])


def test_a_way_that_cannot_be_found_is_a_clear_error_of_an_edit_and_a_blur_of_a_repair(
    run: Any, host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from steering import NotSupported

    def refuse(*_: Any, **__: Any) -> Any:
        raise NotSupported("scheduler `X` goes back nowhere")

    monkeypatch.setattr(host, "invert", refuse)
    with pytest.raises(BadRequest, match="cannot draw over this picture: scheduler `X`"):
        run(Script(None), BENIGN, given=edit(mask=marked()))
    got = run(Script("idiot", None), "", given=repair())
    assert (got.verdict, got.pictures[0].rungs) == ("steer", ("blur",))


def order(given: Given, **more: Any) -> Order:
    fields = {"n": 1, "width": 64, "height": 64, "steps": 10, "guidance": 3.0, "seed": 3}
    return Order("", "", "tiny", **{**fields, **more}, given=given)


def test_a_mask_for_the_model_holds_each_pixel_that_is_marked() -> None:
    for height, width in ((2000, 1500), (40, 50), (64, 64)):
        mask = np.zeros((height, width), bool)
        y, x = int(0.38 * height), int(0.71 * width)
        mask[y, x] = True
        _, small = GivenPicture(order(edit(picture(width, height), mask))).over(mask, 0)
        assert small is not None
        assert small.shape == (64, 64)
        assert small[int((y + 0.5) * 64 / height), int((x + 0.5) * 64 / width)]
        assert 1 <= small.sum() <= 9


def test_one_way_serves_all_rungs_of_a_repair_and_each_seed_of_an_edit_has_its_own() -> None:
    mended, edited = GivenPicture(order(repair())), GivenPicture(order(edit()))
    assert mended.over(marked(), 3)[0] is mended.over(AROUND, 3)[0]
    assert edited.over(marked(), 3)[0] is not edited.over(marked(), 4)[0]
    assert mended.over(None, 3)[0].start == 3
    assert mended.over(marked(), 3)[0].start == 1


def test_what_a_picture_shows_is_said_once() -> None:
    other = Box(50, 50, 60, 60)
    text = seen("IDIOT", frozenset()) + Signals((Signal("lettering", "x", "1", "picture", text="BAKER", box=other),))
    assert shown("", text, [BOX], (), {}) == 'a sign that says "IDIOT"'
    assert shown("", text, [BOX, other], (), {}) == 'a sign that says "IDIOT BAKER"'
    assert shown("a shop", text, [BOX], (), {}) == 'a shop with a sign that says "IDIOT"'
    assert shown("a shop called idiot", text, [BOX], (), {}) == "a shop called idiot"
    assert shown("", text, [], (), {}) == ""
