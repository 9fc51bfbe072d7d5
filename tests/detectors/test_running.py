"""A detector that raises or hangs gives errors for everything it covers, never silence."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from detectors.images import ConceptLooker, LetteringLooker, Reading, look
from policies import Box, Signal, Signals

GRAY = Image.new("RGB", (64, 64), "gray")


@dataclass
class Engine:
    readings: tuple[Reading, ...] = ()
    wait: threading.Event | None = None
    name: str = "engine"
    version: str = "1"

    def read(self, image):
        if self.wait is not None:
            self.wait.wait(5)
        if not isinstance(self.readings, tuple):
            raise OSError("the weights are gone: secret prompt")
        return list(self.readings)


class Judge:
    def __init__(self, scores):
        self.told = scores

    def scores(self, images):
        return [self.told for _ in images]


def test_findings_are_signals_and_silence_is_covered():
    seen = look(
        GRAY, [LetteringLooker(Engine((Reading("ID10T", Box(1, 2, 3, 4), 0.9),)))], reads=frozenset({"lettering"})
    )
    (signal,) = seen.of("picture", "lettering")
    assert (signal.text, signal.box, signal.score) == ("ID10T", Box(1, 2, 3, 4), 0.9)
    assert any(v.text == "idiot" for v in signal.views if v.form == "leet")
    silent = look(GRAY, [LetteringLooker(Engine())], reads=frozenset({"lettering"}))
    assert silent == Signals(covered=frozenset({("picture", "lettering")}))


def test_an_exception_is_an_error_that_quotes_nothing():
    seen = look(GRAY, [LetteringLooker(Engine(readings=None))], reads=frozenset({"lettering"}))
    assert seen.error("picture", "lettering") == "engine: error: OSError"
    assert seen.covered == frozenset()


def test_a_detector_that_takes_too_long_is_an_error():
    wait = threading.Event()
    seen = look(GRAY, [LetteringLooker(Engine(wait=wait), budget=0.05)], reads=frozenset({"lettering"}))
    wait.set()
    assert "timeout: no answer within 0.05 s" in seen.error("picture", "lettering")


def test_only_what_is_to_be_read_is_read():
    seen = look(GRAY, [LetteringLooker(Engine(readings=None))], reads=frozenset({"character/pip"}))
    assert seen == Signals()
    assert "no detector read `character/pip`" in seen.error("picture", "character/pip")


def test_pieces_are_read_in_order_and_also_as_one_and_faint_ones_are_left_out():
    readings = (
        Reading("IOT", Box(0, 30, 20, 40), 0.8),
        Reading("ID", Box(5, 10, 20, 20), 0.9),
        Reading("zz", Box(0, 0, 1, 1), 0.1),
    )
    seen = look(GRAY, [LetteringLooker(Engine(readings))], reads=frozenset({"lettering"})).of("picture", "lettering")
    assert [s.text for s in seen] == ["ID", "IOT", "ID IOT"]
    assert seen[2].box == Box(0, 10, 20, 40)
    assert any(v.whole and v.text == "idiot" for v in seen[2].views)


def test_pieces_in_columns_are_also_read_down_the_columns():
    places = [(40 * x, 30 * y) for y in range(3) for x in range(2)]
    letters = tuple(Reading(t, Box(x, y, x + 20, y + 20), 0.9) for t, (x, y) in zip("BFAADT", places, strict=True))
    seen = look(GRAY, [LetteringLooker(Engine(letters))], reads=frozenset({"lettering"})).of("picture", "lettering")
    assert [s.text for s in seen][6:] == ["B F A A D T", "B A D F A T"]


def test_a_judge_of_concepts_scores_what_it_promised_or_fails():
    good = ConceptLooker(Judge({"character/pip": 0.9, "shape/star": 0.1}), frozenset({"character/pip"}), "judge", "1")
    seen = look(GRAY, [good], reads=frozenset({"character/pip"}))
    assert seen.items == (Signal("character/pip", "judge", "1", "picture", 0.9),)
    bad = ConceptLooker(Judge({"shape/star": 0.1}), frozenset({"character/pip"}), "judge", "1")
    assert "ValueError" in look(GRAY, [bad], reads=frozenset({"character/pip"})).error("picture", "character/pip")


NOT_FINITE = (float("nan"), float("inf"), float("-inf"), np.float32("nan"))


@pytest.mark.parametrize("score", NOT_FINITE)
def test_a_reading_or_a_judgement_that_is_no_number_is_an_error_and_never_nothing_there(score):
    sure = Reading("HELLO", Box(1, 2, 3, 4), 0.9)
    for readings in ((Reading("IDIOT", Box(1, 2, 3, 4), score),), (sure, Reading("", Box(1, 2, 3, 4), score))):
        seen = look(GRAY, [LetteringLooker(Engine(readings))], reads=frozenset({"lettering"}))
        assert seen.error("picture", "lettering") == "engine: error: NotFinite"
        assert seen.covered == frozenset()
    judge = ConceptLooker(Judge({"a/b": 0.1, "c/d": score}), frozenset({"a/b", "c/d"}), "judge", "1")
    seen = look(GRAY, [judge], reads=frozenset({"a/b", "c/d"}))
    assert {n: seen.error("picture", n) for n in ("a/b", "c/d")} == dict.fromkeys(
        ("a/b", "c/d"), "judge: error: NotFinite"
    )


@pytest.mark.parametrize(("score", "kept"), [(1.0 + 1e-7, 1.0), (-1e-7, 0.0), (0.25, 0.25)])
def test_rounding_beside_an_end_is_no_error(score, kept):
    seen = look(
        GRAY, [ConceptLooker(Judge({"a/b": score}), frozenset({"a/b"}), "judge", "1")], reads=frozenset({"a/b"})
    )
    assert [s.score for s in seen.items] == [kept]


@dataclass
class PluggedIn:
    """A picture detector of another package, which makes its signals itself."""

    make: Callable[[], Signal]
    name: str = "plugged"
    version: str = "1"
    budget: float = 5.0
    covers: frozenset[str] = frozenset({"code/qr"})

    def look(self, image):
        yield self.make()


@pytest.mark.parametrize("wrong", NOT_FINITE)
@pytest.mark.parametrize("where", ["score", "box"])
def test_a_plug_in_that_says_no_number_is_an_error(where, wrong):
    def make():
        box = Box(0, 0, wrong, 8) if where == "box" else Box(0, 0, 8, 8)
        return Signal("code/qr", "plugged", "1", "picture", wrong if where == "score" else 0.9, box=box)

    seen = look(GRAY, [PluggedIn(make)], reads=frozenset({"code/qr"}))
    assert seen.error("picture", "code/qr") == "plugged: error: ValueError"


def test_a_box_says_what_its_edges_must_be():
    with pytest.raises(ValueError, match=r"a box must have finite edges, .* got 4\.\.2 and 0\.\.1"):
        Box(4, 0, 2, 1)
    assert Box(3, 3, 3, 3).left == 3
