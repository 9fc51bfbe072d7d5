"""A detector that fails again and again is left alone for a while; one that hangs costs two threads at the most.

| mutation | law that turned red |
|---|---|
| `_refused` ignores the state | after_three_failures... |
| a success does not reset the count | failures_count_only_in_a_row |
| half-open lets every call through and never closes | one_try_after_the_pause... |
| a hung worker is kept in use | a_reading_that_hangs_does_not_hold_up_the_next |
| the limit of stuck threads is dropped | readings_that_hang_never_hold_more_than_two_threads |
"""

from __future__ import annotations

import gc
import threading
import time
import weakref

import pytest
from PIL import Image

from detectors.images import LetteringLooker, Watched, look
from detectors.running import DetectorFailed, Failure, Health, Limit, Watch, WatchedScorer
from detectors.text import TextDetectors, default_detectors
from policies import Request


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def fail():
    raise OSError("secret")


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def changes():
    return []


@pytest.fixture
def watch(clock, changes):
    return Watch("reader", 5.0, failures=3, pause=30.0, clock=clock, changed=changes.append)


def test_an_answer_comes_back_and_every_piece_of_work_runs_on_the_same_thread(watch):
    names = [watch.call(lambda: threading.current_thread().ident) for _ in range(5)]
    assert len(set(names)) == 1
    assert names[0] != threading.current_thread().ident
    assert watch.health == Health("reader", "closed", 0, 0, 0)


def test_after_three_failures_in_a_row_the_detector_is_not_asked_for_a_while(watch, clock, changes):
    asked = []
    for _ in range(3):
        assert watch.call(fail) == Failure("error", "OSError")
    assert watch.call(lambda: asked.append(1)) == Failure("open", "failed 3 times in a row, last `error: OSError`")
    clock.now = 29.9
    assert watch.call(lambda: asked.append(1)).kind == "open"
    assert asked == []
    assert [h.state for h in changes] == ["open"]
    assert not watch.health.ok


def test_a_detector_that_stops_by_itself_is_well(watch):
    def read():
        Limit(1.0).check()
        Limit(-1.0).check()

    for _ in range(5):
        failure = watch.call(read)
    assert (failure.kind, failure.text, failure.well) == ("timeout", "not read within -1 s", True)
    assert watch.health == Health("reader", "closed", 0, 0, 0)


def test_failures_count_only_in_a_row(watch):
    for _ in range(5):
        watch.call(fail)
        watch.call(fail)
        assert watch.call(lambda: 1) == 1
    assert watch.health.opened == 0


def test_one_try_after_the_pause_closes_the_circuit_or_opens_it_again(watch, clock, changes):
    for _ in range(3):
        watch.call(fail)
    clock.now = 31.0
    assert watch.call(fail).kind == "error"
    assert watch.call(lambda: 1).kind == "open"
    clock.now = 62.0
    assert watch.call(lambda: 1) == 1
    assert watch.call(fail).kind == "error"
    assert watch.health.state == "closed"
    assert [h.state for h in changes] == ["open", "half-open", "open", "half-open", "closed"]
    assert watch.health.opened == 2


def test_a_reading_that_hangs_does_not_hold_up_the_next():
    watch = Watch("reader", 0.05)
    hang = threading.Event()
    assert watch.call(hang.wait) == Failure("timeout", "no answer within 0.05 s")
    assert watch.call(lambda: "read") == "read"
    assert watch.health.stuck == 1
    hang.set()


def test_readings_that_hang_never_hold_more_than_two_threads():
    watch = Watch("reader", 0.02, failures=100, pause=0.0)
    hang = threading.Event()
    before = set(threading.enumerate())  # among them may be threads of other watches, which end at any time
    kinds = [watch.call(hang.wait).kind for _ in range(20)]
    assert kinds == ["timeout"] * 2 + ["open"] * 18
    hung = set(threading.enumerate()) - before
    assert len(hung) <= 2
    assert watch.health.stuck == 2
    hang.set()
    for thread in hung:
        thread.join(1)
    assert watch.call(lambda: "back") == "back"
    assert watch.health == Health("reader", "closed", 0, 0, 1, "timeout: no answer within 0.02 s")


def test_callers_wait_for_their_turn_and_not_for_ever():
    watch = Watch("reader", 0.2)
    go = threading.Event()
    results = []
    slow = threading.Thread(target=lambda: results.append(watch.call(lambda: go.wait(0.15))))
    slow.start()
    time.sleep(0.02)
    assert watch.call(lambda: "second") == "second"
    slow.join()
    assert results == [False]


def test_the_first_answer_may_take_longer_because_weights_are_loaded_then():
    watch = Watch("reader", 0.05, first=5.0)
    assert watch.call(lambda: time.sleep(0.15) or "loaded") == "loaded"
    assert watch.call(lambda: time.sleep(0.15) or "late").kind == "timeout"


@pytest.mark.parametrize(("budget", "failures", "pause"), [(0.0, 3, 1.0), (1.0, 0, 1.0), (1.0, 3, -1.0)])
def test_senseless_limits_are_refused(budget, failures, pause):
    with pytest.raises(ValueError, match="must be positive"):
        Watch("reader", budget, failures=failures, pause=pause)


class Engine:
    name, version = "engine", "1"

    def __init__(self):
        self.asked = 0

    def read(self, image):
        self.asked += 1
        raise RuntimeError


def test_while_the_circuit_is_open_pictures_are_not_covered():
    engine = Engine()
    detector = Watched(LetteringLooker(engine), Watch("engine", 5.0, failures=2))
    reads = frozenset({"lettering"})
    errors = [look(Image.new("RGB", (8, 8)), [detector], reads=reads).error("picture", "lettering") for _ in range(4)]
    assert errors[:2] == ["engine: error: RuntimeError"] * 2
    assert all(e.startswith("engine: open: failed 2 times in a row") for e in errors[2:])
    assert engine.asked == 2


class Scorer:
    name, version = "scorer", "1"

    def scores(self, texts):
        raise MemoryError


def test_a_watched_scorer_of_texts_fails_as_an_error_and_is_left_alone_too():
    scorer = WatchedScorer(Scorer(), Watch("scorer", 1.0, failures=1))
    default = default_detectors()
    detectors = TextDetectors(default.concepts, default.lexicon, (scorer,))
    assert detectors(Request("a lake")).error("prompt", "toxicity") == "scorer: error: MemoryError"
    assert "scorer: open:" in detectors(Request("a lake")).error("prompt", "toxicity")
    with pytest.raises(DetectorFailed, match="open"):
        scorer.scores(["x"])


def test_an_idle_watch_holds_nothing_that_was_read_and_its_thread_ends_with_it():
    class Picture:
        """Stands for what a reading holds; a plain object has no weak references."""

    watch, picture = Watch("reader", 5.0), Picture()
    seen = weakref.ref(picture)
    watch.call(lambda kept=picture: kept is not None)
    worker = watch._worker
    assert worker is not None
    thread = worker._thread
    del picture
    for _ in range(100):
        if seen() is None:
            break
        time.sleep(0.01)
    assert seen() is None, "an idle thread holds the last reading"
    assert thread.is_alive()
    del watch, worker
    gc.collect()
    thread.join(5)
    assert not thread.is_alive()
