"""Which models are in memory: who waits for whom, on models whose loads the test decides.

| the law that goes red | when this is broken |
|---|---|
| a model in use is not put away | `_room_for` does not wait |
| the longest idle one goes | `_victims` sorts otherwise |
| no model keeps another one out for ever | `_leaving` is not asked in `_ask` |
| who waited too long is told when to come back, and holds nothing | `_waited` does not give back |
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from service.errors import Unavailable
from service.metrics.recorder import Recorder
from service.settings import SettingsError
from service.worker.residents import Residents

RECORDER = Recorder.apart()


class Told:
    """A model that loads when it may, and notes what is done with it."""

    def __init__(self, name: str, size: int, log: list[str]) -> None:
        self.name = self.shown = name
        self.bytes, self.seconds, self.recorder = size, 7.0, RECORDER.of(name)
        self.may, self.fails = threading.Event(), False
        self.may.set()
        self._log = log

    def begin(self) -> None:
        self._log.append(f"+{self.name}")

    def settle(self) -> None:
        assert self.may.wait(30)
        if self.fails:
            raise SettingsError("gone")

    def release(self) -> None:
        self._log.append(f"-{self.name}")


class Shelf:
    """Models of one byte each, of which so many fit; `log` is what was done since the start."""

    def __init__(self, names: str, most: int) -> None:
        self.log: list[str] = []
        self.models: dict[str, Any] = {name: Told(name, 1, self.log) for name in names}
        self.residents = Residents(list(self.models.values()), most, lambda: None)
        self.residents.settle(lambda model: None)
        self.log.clear()

    async def use(self, name: str, until: Callable[[], Awaitable[None]] | None = None, seconds: float = 30.0) -> None:
        end = asyncio.get_running_loop().time() + seconds
        async with self.residents.using(self.models[name], end):
            self.log.append(name)
            if until is not None:
                await until()


@pytest.fixture
def shelf() -> Iterator[Callable[[str, int], Shelf]]:
    made: list[Shelf] = []

    def make(names: str, most: int) -> Shelf:
        made.append(Shelf(names, most))
        return made[-1]

    yield make
    for each in made:
        each.residents.close()


async def soon(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.01)


def test_the_first_models_are_in_memory_and_the_longest_idle_one_goes(shelf: Callable[[str, int], Shelf]) -> None:
    it = shelf("abc", 2)

    async def go() -> None:
        for name in "abacb":
            await it.use(name)

    asyncio.run(go())
    assert it.log == ["a", "b", "a", "-b", "+c", "c", "-a", "+b", "b"]


def test_a_model_in_use_stays_and_its_next_requests_wait_behind(shelf: Callable[[str, int], Shelf]) -> None:
    it = shelf("ab", 1)

    async def go() -> None:
        done = asyncio.Event()
        first = asyncio.create_task(it.use("a", done.wait))
        await soon(lambda: it.log == ["a"])
        other = asyncio.create_task(it.use("b"))
        await soon(lambda: bool(it.residents._leaving))
        again = asyncio.create_task(it.use("a"))
        await asyncio.sleep(0.3)
        assert it.log == ["a"], "nothing is put away while it draws, and nobody overtakes"
        done.set()
        await asyncio.gather(first, other, again)

    asyncio.run(go())
    assert it.log == ["a", "-a", "+b", "b", "-b", "+a", "a"]


def test_who_waits_too_long_is_told_when_to_come_back_and_holds_nothing(shelf: Callable[[str, int], Shelf]) -> None:
    it = shelf("ab", 1)
    it.models["b"].may.clear()

    async def go() -> None:
        with pytest.raises(Unavailable) as late:
            await it.use("b", seconds=0.2)
        assert (late.value.code, late.value.headers["Retry-After"]) == ("model_loading", "7")
        gone = asyncio.create_task(it.use("b"))
        await asyncio.sleep(0.1)
        gone.cancel()
        it.models["b"].may.set()
        await it.use("a")

    asyncio.run(go())
    assert it.log == ["-a", "+b", "-b", "+a", "a"], "neither of the two keeps `b` in memory"


def test_who_leaves_just_when_the_model_is_there_holds_nothing(shelf: Callable[[str, int], Shelf]) -> None:
    it = shelf("ab", 1)

    async def go() -> None:
        it.models["b"].may.clear()
        gone = asyncio.create_task(it.use("b"))
        await soon(lambda: "+b" in it.log)
        (wish,) = it.residents._line
        it.models["b"].may.set()
        while not wish.granted.done():  # the event loop stands still
            time.sleep(0.001)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        await it.use("a", seconds=5)

    asyncio.run(go())
    assert it.log == ["-a", "+b", "-b", "+a", "a"]


def test_a_model_that_cannot_be_loaded_fails_its_own_requests_only(shelf: Callable[[str, int], Shelf]) -> None:
    it = shelf("abc", 1)
    it.models["b"].fails = True

    async def go() -> None:
        results = await asyncio.gather(*(it.use(name) for name in "bbc"), return_exceptions=True)
        assert [getattr(result, "code", None) for result in results] == ["model_unavailable"] * 2 + [None]
        it.models["b"].fails = False
        await it.use("b")

    asyncio.run(go())
    assert it.log == ["-a", "+b", "+c", "c", "-c", "+b", "b"]


def test_a_worker_that_stops_lets_nobody_wait(shelf: Callable[[str, int], Shelf]) -> None:
    it = shelf("ab", 1)
    it.models["b"].may.clear()

    async def go() -> None:
        waiting = asyncio.create_task(it.use("b"))
        await soon(lambda: "+b" in it.log)
        it.residents.close()
        it.models["b"].may.set()
        for asked in (waiting, it.use("a")):
            with pytest.raises(Unavailable) as error:
                await asked
            assert error.value.code == "shutting_down"

    asyncio.run(go())
