"""The closed loop on a real host and real packs; what is read in pictures is scripted: random weights write nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from policies import Signals
from service.engine.queue import Queue
from service.errors import Busy, DeadlineExceeded
from tests.service.engine.scripted import BENIGN, PROMPT, Script, pixels, seen


def test_a_benign_request_is_looked_at_and_untouched(run: Any, made: Any) -> None:
    look = Script(None)
    got = run(look, BENIGN)
    assert (got.verdict, got.refused, len(look.seen)) == ("allow", None, 1)
    assert got.pictures[0].made.report.plan is None
    assert np.array_equal(pixels(got.pictures[0].image), made(BENIGN))


def test_a_rule_that_watches_matching_prompts_only_reads_no_other_picture(run: Any) -> None:
    look = Script("idiot")
    got = run(look, BENIGN, edits=(("on_error: block", "watch: matched-prompts\n    on_error: block"),))
    assert (got.verdict, got.refused, look.seen) == ("allow", None, [])


UNLISTED = 'a red star on a blue background with a sign that says "IDOIT"'


def test_what_nobody_asked_for_is_repaired_from_what_was_seen(run: Any, made: Any, packs: Any, host: Any) -> None:
    from steering import Pack

    pack = Pack.load(packs / "lettering.safetensors", host=host)
    look = Script("idiot", "bread")
    got = run(look, UNLISTED)
    (picture,) = got.pictures
    assert (got.verdict, got.refused, picture.rungs) == ("steer", None, ("steer",))
    assert np.array_equal(look.seen[0], made(UNLISTED)), "the first picture was the stock pipeline's"
    donors = [UNLISTED.replace("IDOIT", word) for word in ("BREAD", "MUSIC")]  # the scene stays
    assert any(np.array_equal(look.seen[1], made(UNLISTED, pack.plan(toward=donor))) for donor in donors)


def test_an_unasked_insult_climbs_from_its_own_steering_to_the_end(run: Any) -> None:
    got = run(Script("idiot"), UNLISTED)
    assert (got.refused, got.pictures[0].rungs) == ("picture", ("steer", "wider", "swap-prompt", "blur"))
    got = run(Script("idiot"), UNLISTED, edits=(("max_extra_generations: 2", "max_extra_generations: 0"),))
    assert got.pictures[0].rungs == ("blur",), "no extra picture means none"


def test_a_watched_picture_that_cannot_be_read_is_refused(run: Any) -> None:
    got = run(Script(fails=True), BENIGN)
    assert (got.verdict, got.refused) == ("block", "picture")


def test_a_refused_prompt_makes_no_picture(run: Any) -> None:
    got = run(Script(None), "something forbidden on a hill")
    assert (got.verdict, got.refused, got.pictures) == ("block", "prompt", ())


def test_a_toxic_prompt_is_steered_at_the_pack_s_sites_and_leaves_once_it_reads_well(run: Any, made: Any) -> None:
    look = Script("bread")
    got = run(look)
    (picture,) = got.pictures
    assert (got.verdict, got.refused, picture.rungs, len(look.seen)) == ("steer", None, (), 1)
    assert len(picture.made.report.fired) == 2
    assert all(picture.made.report.fired.values())
    assert not np.array_equal(pixels(picture.image), made(PROMPT))


def test_the_rungs_are_climbed_in_order_with_the_same_seed(run: Any, made: Any, host: Any) -> None:
    look = Script("idiot", "idiot", "idiot", None)
    got = run(look)
    (picture,) = got.pictures
    assert (got.verdict, got.refused, picture.rungs) == ("steer", None, ("wider", "swap-prompt", "blur"))
    first, wider, swapped, blurred = look.seen
    assert len({p.tobytes() for p in look.seen}) == 4
    in_place = [w for w in ("bread", "music") if np.array_equal(swapped, made(PROMPT.replace("idiot", w)))]
    assert len(in_place) == 1, "swap-prompt is the donor's own picture"
    assert np.abs(wider - swapped).mean() < np.abs(first - swapped).mean(), "more sites come nearer to the donor"
    outside = np.ones((64, 64), bool)
    outside[15:35, 5:45] = False
    assert np.array_equal(blurred[outside], swapped[outside])
    assert not np.array_equal(blurred, swapped)
    assert picture.made.report.seed == 3


def test_an_adapter_stays_on_every_rung(run: Any, made: Any, packs: Any, editing: Any, host: Any) -> None:
    from service.engine.adapters import Adapter
    from service.order import Lora
    from steering import Pack

    rule, pack = Pack.load(packs / "lettering.safetensors", host=host), Pack.load(editing, host=host)
    adapter = Adapter(Lora("zub", 0.5, "0" * 64), {rule.digest: 1.0}, pack)
    look = Script("idiot", "idiot", None)
    got = run(look, adapter=adapter)
    assert got.pictures[0].rungs == ("wider", "swap-prompt")
    donors = [PROMPT.replace("idiot", word) for word in ("bread", "music")]
    assert any(np.array_equal(look.seen[2], made(donor, adapter.plan)) for donor in donors)
    assert not any(np.array_equal(look.seen[2], made(donor)) for donor in donors)
    assert (got.pictures[0].how, got.pictures[0].sites) == ("prompt-replaced", 0)
    alone = Script("idiot", None)
    got = run(alone, adapter=Adapter(adapter.lora, {}, pack))
    assert got.pictures[0].rungs == ("blur",), "the whole prompt was replaced from the start"
    assert np.array_equal(alone.seen[0], look.seen[2])


@pytest.mark.parametrize("repaired", [1, 2])
def test_climbing_stops_at_the_first_rung_that_repairs(run: Any, repaired: int) -> None:
    look = Script(*["idiot"] * repaired, None)
    got = run(look)
    assert got.pictures[0].rungs == ("wider", "swap-prompt")[:repaired]
    assert got.refused is None


@pytest.mark.parametrize("otherwise", ["block", "review-hold"])
def test_at_the_end_of_the_ladder_the_request_is_refused(run: Any, otherwise: str) -> None:
    got = run(Script("idiot"), edits=(("otherwise: block", f"otherwise: {otherwise}"),))
    assert (got.verdict, got.refused) == (otherwise, "picture")


def test_no_more_pictures_are_made_than_the_rule_allows(run: Any) -> None:
    got = run(Script("idiot"), edits=(("max_extra_generations: 2", "max_extra_generations: 1"),))
    assert got.pictures[0].rungs == ("wider", "blur")
    look = Script("idiot")
    assert run(look, edits=(("max_extra_generations: 1", "max_extra_generations: 0"),)).pictures[0].rungs == ("blur",)
    assert len(look.seen) == 2


def test_a_retry_that_could_not_end_before_the_deadline_is_not_begun(run: Any) -> None:
    from detectors.text import sense

    seconds, left = 4.0, 0.5  # what is left is less than twice the time of a picture of 150 steps
    began: list[float] = []

    def sense_with(request: Any) -> Any:
        began.append(time.monotonic())
        return sense(request)

    class Late(Script):
        """Reads for as long as it takes until almost no time is left."""

        def __call__(self, image: Any, reads: frozenset[str]) -> Signals:
            time.sleep(max(0.0, began[0] + seconds - left - time.monotonic()))
            return super().__call__(image, reads)

    look = Late("idiot", "bread")
    edits = (("ladder: [wider, swap-prompt, blur]", "ladder: [wider]"),)
    got = run(look, seconds=seconds, sense_with=sense_with, edits=edits, steps=150)
    assert (got.refused, len(look.seen), got.pictures[0].rungs) == ("picture", 1, ())


@pytest.mark.parametrize(
    ("look", "seconds"), [(Script(fails=True), 30.0), (Script("bread", sleeps=5.0), 0.3)], ids=["raises", "hangs"]
)
@pytest.mark.parametrize(("on_error", "refused"), [("block", "picture"), ("allow", None)])
def test_a_picture_that_cannot_be_read_skips_the_ladder_and_gets_what_on_error_says(
    run: Any, look: Script, seconds: float, on_error: str, refused: str | None
) -> None:
    began = time.monotonic()
    got = run(look, detector_seconds=seconds, edits=(("on_error: block", f"on_error: {on_error}"),))
    assert got.refused == refused
    assert got.pictures[0].rungs == ()
    assert time.monotonic() - began < 4


def test_a_prompt_that_cannot_be_read_is_refused(run: Any) -> None:
    def broken(request: Any) -> Signals:
        raise RuntimeError("cannot read")

    got = run(Script(None), BENIGN, sense_with=broken)
    assert (got.verdict, got.refused) == ("block", "prompt")


def test_each_picture_climbs_by_itself(run: Any) -> None:
    class ByPicture(Script):
        """The first picture that comes is bad once; the others are good."""

        def __call__(self, image: Any, reads: frozenset[str]) -> Signals:
            self.seen.append(pixels(image))
            return seen("idiot" if len(self.seen) == 1 else None, reads)

    got = run(ByPicture(), n=3)
    assert sorted(len(p.rungs) for p in got.pictures) == [0, 0, 1]
    assert [p.made.report.seed for p in got.pictures] == [3, 4, 5]


def test_one_refused_picture_refuses_the_request(run: Any, host: Any) -> None:
    class OneBad(Script):
        """The first picture that comes is bad, and still is after its rung."""

        def __call__(self, image: Any, reads: frozenset[str]) -> Signals:
            self.seen.append(pixels(image))
            top = self.seen[0][0]  # the first row of pixels, which no blur touches
            return seen("idiot" if np.array_equal(self.seen[-1][0], top) else None, reads)

    edits = (("ladder: [wider, swap-prompt, blur]", "ladder: [blur]"),)
    got = run(OneBad(), n=3, edits=edits)
    assert got.refused == "picture"
    assert sorted(p.verdict for p in got.pictures) == ["block", "steer", "steer"]


def test_a_shadow_rule_is_judged_and_changes_nothing(run: Any, made: Any) -> None:
    look = Script("idiot")
    got = run(look, edits=(("    disclose: category", "    rollout: {mode: shadow}\n    disclose: category"),))
    assert (got.verdict, got.refused, got.pictures[0].rungs) == ("allow", None, ())
    assert got.decision.shadow is not None
    assert "toxic-lettering" in got.decision.shadow.rules
    assert len(look.seen) == 1
    assert np.array_equal(pixels(got.pictures[0].image), made(PROMPT))


def test_a_rule_without_a_pack_has_its_prompt_replaced_or_is_refused(run: Any, made: Any) -> None:
    got = run(Script(None), shelf={})
    assert got.pictures[0].replaced
    assert got.verdict == "steer"
    assert any(
        np.array_equal(pixels(got.pictures[0].image), made(PROMPT.replace("idiot", w))) for w in ("bread", "music")
    )
    assert run(Script(None), shelf={}, edits=(("unfit: swap-prompt", "unfit: block"),)).refused == "prompt"


def test_a_site_that_did_not_fire_falls_back_to_the_whole_prompt(
    run: Any, made: Any, host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from steering import NotFired

    real = host.generate

    def silent(prompts: Any, *, plans: Any, **more: Any) -> Any:
        if any(plans):
            raise NotFired("site `x` replaced 0 rows of 4")
        return real(prompts, plans=plans, **more)

    monkeypatch.setattr(host, "generate", silent)
    got = run(Script(None))
    assert got.pictures[0].replaced
    assert any(
        np.array_equal(pixels(got.pictures[0].image), made(PROMPT.replace("idiot", w))) for w in ("bread", "music")
    )


def test_the_deadline_holds_for_the_whole_request(run: Any) -> None:
    with pytest.raises(DeadlineExceeded):
        run(Script(None, sleeps=3.0), seconds=0.8)


def test_pictures_of_a_request_that_failed_are_given_up(run: Any, queue: Queue) -> None:
    with pytest.raises(Busy):
        run(Script(None), BENIGN, n=65)
    assert len(queue) == 0


ASKS_SENTINEL = (
    (
        "{lettering: {any_of: [$toxic], views: all}}",
        "{any: [{lettering: {any_of: [$toxic]}}, {sentinel: {name: lettering}}]}",
    ),
)


def shelf_with(packs: Any, host: Any, *, text: float, path: float) -> dict[str, Any]:
    """The lettering pack with a sentinel that always tells the given logits."""
    from steering import Pack, Sentinel, Window

    pack = Pack.load(packs / "lettering.safetensors", host=host)
    sentinel = Sentinel(
        "lettering",
        host.fingerprint.digest,
        keys=torch.zeros(1, 16),
        values=torch.zeros(1, 16),
        text_bias=text,
        path={pack.sites[0]: torch.zeros(16)},
        path_bias=path,
        window=Window(0.0, 0.5),
    )
    return {"lettering": replace(pack, sentinel=sentinel)}


@pytest.fixture
def woken(recorder: Any) -> Callable[[], float]:
    """How many pictures a sentinel has woken so far."""
    return lambda: recorder.series("woken_pictures_total")._value.get()


def test_text_that_tells_the_concept_is_planned_again_before_its_first_step(
    run: Any, packs: Any, host: Any, woken: Any
) -> None:
    shelf = shelf_with(packs, host, text=4.0, path=-4.0)
    before = woken()
    got = run(Script(None), UNLISTED, edits=ASKS_SENTINEL, shelf=shelf, n=2)
    assert (got.verdict, got.refused) == ("steer", None)
    assert woken() == before + 2
    for picture in got.pictures:
        assert picture.rungs == (), "no picture was made in vain"
        assert picture.made.report.plan is not None
        assert "the encoded prompt tells `lettering`" in picture.decision.reasons[0].text


def test_sites_that_told_it_make_the_picture_again(run: Any, packs: Any, host: Any, made: Any) -> None:
    look = Script(None)
    got = run(look, UNLISTED, edits=ASKS_SENTINEL, shelf=shelf_with(packs, host, text=-4.0, path=4.0))
    (picture,) = got.pictures
    assert picture.rungs[0] == "steer"
    assert np.array_equal(look.seen[0], made(UNLISTED))


def test_a_quiet_sentinel_leaves_the_stock_picture(run: Any, packs: Any, host: Any, made: Any) -> None:
    got = run(Script(None), BENIGN, edits=ASKS_SENTINEL, shelf=shelf_with(packs, host, text=-4.0, path=-4.0))
    assert (got.verdict, got.pictures[0].rungs) == ("allow", ())
    assert np.array_equal(pixels(got.pictures[0].image), made(BENIGN))
    assert got.pictures[0].made.report.sentinel["lettering"].path < 0.5


def test_a_pack_without_the_sentinel_that_a_rule_asks_is_an_error(run: Any) -> None:
    got = run(Script(None), BENIGN, edits=ASKS_SENTINEL)
    assert (got.verdict, got.refused) == ("block", "picture")
    assert "sentinel:lettering" in got.decision.errors[0].text


def test_a_host_without_trust_is_not_watched_and_the_rule_that_asks_refuses(
    run: Any, packs: Any, host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(host), "trusted", False)
    got = run(Script(None), BENIGN, edits=ASKS_SENTINEL, shelf=shelf_with(packs, host, text=-4.0, path=-4.0))
    assert (got.verdict, got.refused) == ("block", "picture")
    assert "sentinel:lettering" in got.decision.errors[0].text


def test_a_worker_refuses_policies_that_ask_a_sentinel_that_no_pack_has(packs: Any, host: Any, policy: Any) -> None:
    from detectors.text import sense
    from policies import Loader
    from service.rules.support import PackIndex, unmet

    shelf = PackIndex(host, [packs])
    assert unmet(shelf, Loader(sense).load(policy)) == []
    for old, new in ASKS_SENTINEL:
        policy.write_text(policy.read_text().replace(old, new))
    (why,) = unmet(shelf, Loader(sense).load(policy))
    assert "the sentinel of `lettering`" in why
    assert "`palimpsest fit-sentinel`" in why
