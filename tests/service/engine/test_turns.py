"""Turns: one at a time, first come first served, and nobody waits who has given up."""

from __future__ import annotations

import threading
import time

from service.engine.turns import Turns


def test_who_comes_first_is_first_and_one_at_a_time() -> None:
    turns, began, inside, most = Turns(), list[int](), 0, 0

    def take(k: int) -> None:
        nonlocal inside, most
        with turns.taken(lambda: True) as mine:
            assert mine
            began.append(k)
            inside += 1
            most = max(most, inside)
            time.sleep(0.01)
            inside -= 1

    with turns.taken(lambda: True):
        threads = []
        for k in range(5):
            threads.append(threading.Thread(target=take, args=(k,)))
            threads[-1].start()
            while len(turns._line) < k + 2:
                time.sleep(0.001)
    for thread in threads:
        thread.join(10)
    assert (began, most) == ([0, 1, 2, 3, 4], 1)


def test_who_gives_up_leaves_the_line() -> None:
    turns = Turns()
    with turns.taken(lambda: True), turns.taken(lambda: False) as mine:
        assert not mine
    with turns.taken(lambda: False) as mine:
        assert mine
