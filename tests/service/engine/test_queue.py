"""The line before the engine: whoever waits, nobody starves. No model is needed to stand in a line.

| the law that goes red | when this is broken |
|---|---|
| a lone request beside a crowd is in the next batch | `take` does not rotate the lines |
| nobody waits for more turns than there are callers | batches are filled from the first line only |
| one caller leaves room for others | `_SHARE` is not looked at |
| a batch waits for those that come together | `_gather` returns at once |
| a lone request does not wait longer than it must | `_gather` waits for a full batch (the test does not end) |
| only jobs of its form fill a batch | `_ready` returns `len(self)` |
| what was begun goes on after closing | `put_first` asks `_closed` |
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.engine.queue import BatchKey, Job, Queue
from service.errors import Busy, Unavailable

KEY, OTHER = BatchKey(64, 64, 4, 3.0), BatchKey(32, 32, 4, 3.0)


class Silent:
    """A recorder that is not asked for anything here."""

    def queue_depth(self, *_: Any) -> None: ...

    def turned_away(self) -> None: ...


def job(caller: str = "", form: BatchKey = KEY) -> Job:
    return Job("x", None, 0, None, form, time.monotonic() + 60, caller=caller)


def queue(size: int = 1000) -> Queue:
    return Queue(size, Silent())  # type: ignore[arg-type]


def test_a_lone_request_beside_a_crowd_is_in_the_next_batch() -> None:
    line = queue()
    for _ in range(100):
        line.put([job("crowd")])
    line.take(8, timeout=0)
    line.put([alone := job("alone")])
    assert alone in line.take(8, timeout=0)


def test_also_where_only_one_picture_runs_at_once_callers_take_turns() -> None:
    line = queue()
    line.put([job("a") for _ in range(5)])
    line.put([job("b") for _ in range(5)])
    assert [line.take(1, timeout=0)[0].caller for _ in range(6)] == ["a", "b", "a", "b", "a", "b"]


def test_a_request_of_another_form_is_not_passed_over_for_ever() -> None:
    line = queue()
    line.put([odd := job("odd", OTHER)])
    for _ in range(3):
        line.put([job("crowd") for _ in range(8)])
    taken = [line.take(8, timeout=0) for _ in range(2)]
    assert any(odd in batch for batch in taken)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from((KEY, OTHER)), st.integers(1, 4)), max_size=30),
    st.integers(1, 8),
)
def test_every_job_is_taken_once_in_batches_of_one_form_and_no_caller_waits_longer_than_a_round(
    requests: list[tuple[str, BatchKey, int]], most: int
) -> None:
    line = queue()
    put = [[job(caller, form) for _ in range(n)] for caller, form, n in requests]
    for jobs in put:
        line.put(jobs)
    waiting = Counter(j.caller for jobs in put for j in jobs)
    taken: list[Job] = []
    since = dict.fromkeys(waiting, 0)
    while batch := line.take(most, timeout=0):
        assert len({j.key for j in batch}) == 1
        assert len(batch) <= most
        taken += batch
        served = {j.caller for j in batch}
        for caller in waiting:
            left = waiting[caller] - sum(j.caller == caller for j in taken)
            since[caller] = 0 if caller in served or not left else since[caller] + 1
            assert since[caller] < max(1, len(waiting)), "everybody has a turn in each round"
    assert sorted(map(id, taken)) == sorted(id(j) for jobs in put for j in jobs)
    for caller in waiting:  # within a caller and a form the order of arrival is kept
        for form in (KEY, OTHER):
            mine = [j for jobs in put for j in jobs if j.caller == caller and j.key == form]
            assert [j for j in taken if j.caller == caller and j.key == form] == mine


def test_one_named_caller_leaves_room_for_others_and_one_without_a_name_may_fill_the_line() -> None:
    line = queue(20)
    for _ in range(16):
        line.put([job("greedy")])
    with pytest.raises(Busy, match="this key's share"):
        line.put([job("greedy")])
    line.put([job("modest"), job("modest")])
    nameless = queue(20)
    for _ in range(20):
        nameless.put([job()])
    with pytest.raises(Busy, match="the queue is full"):
        nameless.put([job()])


def arriving(line: Queue, moments: list[float]) -> threading.Thread:
    """Puts a job into the line at each moment, in seconds from now."""

    def put() -> None:
        began = time.monotonic()
        for moment in moments:
            time.sleep(max(0.0, began + moment - time.monotonic()))
            line.put([job()])

    thread = threading.Thread(target=put)
    thread.start()
    return thread


def test_a_batch_waits_for_those_that_come_together_and_no_longer_once_it_is_full() -> None:
    line = queue()
    coming = arriving(line, [0, 0.05, 0.1, 0.15])
    began = time.monotonic()
    assert len(line.take(4, timeout=5, gather=2)) == 4
    assert time.monotonic() - began < 1.5
    coming.join()


def test_a_batch_that_nobody_joins_waits_once_and_one_that_is_joined_late_twice_as_long_at_most() -> None:
    line = queue()
    line.put([job()])
    began = time.monotonic()
    assert len(line.take(4, timeout=5, gather=0.8)) == 1
    assert 0.8 <= time.monotonic() - began < 1.5
    coming = arriving(line, [0.5 * k for k in range(7)])
    began = time.monotonic()
    assert 2 <= len(line.take(8, timeout=5, gather=0.9)) < 7
    assert time.monotonic() - began < 2.8
    coming.join()


def test_jobs_of_another_form_do_not_count_as_company() -> None:
    line = queue()
    line.put([job(), job(form=OTHER), job(form=OTHER)])
    coming = arriving(line, [0.2])
    assert [j.key for j in line.take(2, timeout=5, gather=3)] == [KEY, KEY]
    coming.join()


def test_jobs_of_another_form_do_not_keep_a_batch_waiting() -> None:
    line = queue()
    line.put([job(), job(form=OTHER), job(form=OTHER)])
    began = time.monotonic()
    assert len(line.take(2, timeout=5, gather=0.5)) == 1
    assert time.monotonic() - began < 1.5
    assert len(line.take(2, timeout=5, gather=5)) == 2


def test_a_line_that_is_closed_keeps_nobody_waiting() -> None:
    line = queue()
    line.put_first(job())
    line.close()
    began = time.monotonic()
    assert len(line.take(4, timeout=5, gather=5)) == 1
    assert time.monotonic() - began < 1


def test_after_closing_only_what_was_begun_goes_on() -> None:
    line = queue()
    line.put([waiting := job()])
    retry = job()
    assert line.close() == [waiting]
    with pytest.raises(Unavailable) as error:
        line.put([job()])
    assert (error.value.code, error.value.headers["Retry-After"]) == ("shutting_down", "1")
    line.put_first(retry)
    assert line.take(8, timeout=0) == [retry]
