"""Which models of a worker are in memory, when they do not all fit.

`model_memory` limits what the weights of loaded models take together. A request for a model that is not in memory
waits in a line. The first of the line is loaded, in place of models that nobody uses now, those that were not used for
longest first. If these are not enough, models in use get no new requests until they are idle: their next requests wait
in the same line, so that no model keeps another one out for ever. While a model is loaded, none draws.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from service.engine.queue import shutting_down
from service.errors import Unavailable, without_message
from service.settings import SettingsError
from service.worker.model import Model

__all__ = ["Residents"]

log = logging.getLogger("bentoml.palimpsest.residents")

_LOOK_SECONDS = 0.1


@dataclass(slots=True, eq=False)
class _Wish:
    """A request that waits for its model."""

    model: Model
    granted: Future[None] = field(default_factory=Future)


class Residents:
    """The models of a worker that are in memory, within `most` bytes (None: all of them). `changed` is called after a
    model came or went.
    """

    def __init__(self, models: Sequence[Model], most: int | None, changed: Callable[[], None]) -> None:
        self._models = tuple(models)
        self._most = most
        self._changed = changed
        self._loaded: set[Model] = set()
        self._leaving: set[Model] = set()
        self._users = dict.fromkeys(self._models, 0)
        self._used = dict.fromkeys(self._models, 0.0)  # when last
        self._line: deque[_Wish] = deque()
        self._news = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="palimpsest-loader", daemon=True)

    def begin(self) -> None:
        """Begins to load the models, if all of them stay."""
        if self._most is None:
            for model in self._models:
                model.begin()

    def settle(self, found: Callable[[Model], None]) -> None:
        """Loads every model once, and calls `found` for each; then the first ones that fit are in memory. Raises the
        error of one that cannot be loaded. What a model takes is known once it was loaded, so until then each one is
        loaded alone.
        """
        if self._most is None:
            for model in self._models:
                model.settle()
                self._loaded.add(model)
                found(model)
            return
        for model in reversed(self._models):  # so that the first one stays
            self._make_room(self._most)
            self._bring(model)
            if model.bytes > self._most:
                raise SettingsError(
                    f"`models.{model.name}`: its weights take {model.bytes} bytes, and `model_memory` is {self._most}"
                )
            found(model)
        for model in self._models:
            if model not in self._loaded and self._taken() + model.bytes <= self._most:
                self._bring(model)
        for age, model in enumerate(reversed(self._models)):
            self._used[model] = float(age)
        self._thread.start()

    def close(self) -> None:
        """Loads nothing any more. Requests that wait for a model are rejected, and so are new ones."""
        with self._news:
            self._closed = True
            for wish in self._line:
                _fail(wish, shutting_down())
            self._line.clear()
            self._news.notify_all()

    @asynccontextmanager
    async def using(self, model: Model, until: float) -> AsyncIterator[None]:
        """The model stays in memory during the block. Waits until it is there, at most until `until`, in the event
        loop's time. Raises `Unavailable`.
        """
        wish = self._ask(model)
        if wish is not None:
            await self._waited(wish, until)
        try:
            yield
        finally:
            with self._news:
                self._users[model] -= 1
                self._used[model] = time.monotonic()
                self._news.notify_all()

    def _ask(self, model: Model) -> _Wish | None:
        """None if the model is there, and in use from now on; else what to wait for."""
        with self._news:
            if self._closed:
                raise shutting_down()
            if model in self._loaded and model not in self._leaving:
                self._users[model] += 1
                return None
            wish = _Wish(model)
            self._line.append(wish)
            self._news.notify_all()
            return wish

    async def _waited(self, wish: _Wish, until: float) -> None:
        try:
            async with asyncio.timeout_at(until):
                await asyncio.wrap_future(wish.granted)
        except BaseException as error:
            with self._news:
                granted = not wish.granted.cancel() and wish.granted.exception() is None
                if granted:  # just now
                    self._users[wish.model] -= 1
                    self._news.notify_all()
            if isinstance(error, TimeoutError):
                raise _loading(wish.model) from None
            raise

    def _run(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._closed or bool(self._line))
                if self._closed:
                    return
                model = self._line[0].model
            try:
                if self._room_for(model):
                    self._bring(model)
            except Exception as error:
                where = "" if isinstance(error, SettingsError) else f"\n{without_message(error)}"
                log.error("the model `%s` cannot be loaded: %s%s", model.shown, error, where)
                with self._news:
                    for wish in [w for w in self._line if w.model is model]:
                        self._line.remove(wish)
                        _fail(wish, _failed(model))
            with self._news:
                self._leaving.clear()
                self._grant()
            self._changed()

    def _room_for(self, model: Model) -> bool:
        """Makes room for a model, as soon as those that must go are idle. False if nobody waits for it any more, or it
        is there.
        """
        while True:
            with self._news:
                for wish in [w for w in self._line if w.granted.cancelled()]:
                    self._line.remove(wish)
                wanted = any(w.model is model for w in self._line)
                if self._closed or not wanted or model in self._loaded:
                    return False
                going = self._victims(model.bytes)
                self._leaving = set(going)
                self._grant()
                if any(self._users[each] for each in going):
                    self._news.wait(_LOOK_SECONDS)
                    continue
                self._loaded -= self._leaving
            self._evict(going)
            return True

    def _make_room(self, needed: int) -> None:
        """As `_room_for`, while no requests are answered yet."""
        going = self._victims(needed)
        self._loaded -= set(going)
        self._evict(going)

    def _evict(self, models: Sequence[Model]) -> None:
        for each in models:
            log.info("the model `%s` is put out of memory", each.shown)
            each.release()
            each.recorder.evicted()

    def _bring(self, model: Model) -> None:
        model.begin()
        model.settle()
        with self._news:
            self._loaded.add(model)
            self._used[model] = time.monotonic()
        log.info("the model `%s` was loaded in %.1f s, %d bytes of weights", model.shown, model.seconds, model.bytes)

    def _victims(self, needed: int) -> list[Model]:
        """The models that must go for so many bytes: idle ones first, and of these and the others those that were not
        used for longest.
        """
        assert self._most is not None  # INVARIANT: without a limit nobody asks
        going: list[Model] = []
        order = sorted(self._loaded, key=lambda m: (self._users[m] > 0, self._used[m]))
        while order and self._taken() - sum(m.bytes for m in going) + needed > self._most:
            going.append(order.pop(0))
        return going

    def _taken(self) -> int:
        return sum(model.bytes for model in self._loaded)

    def _grant(self) -> None:
        """Grants the wishes for models that are there and stay. Called with the lock held."""
        for wish in list(self._line):
            if wish.model in self._loaded and wish.model not in self._leaving:
                self._line.remove(wish)
                if wish.granted.set_running_or_notify_cancel():
                    self._users[wish.model] += 1
                    wish.granted.set_result(None)


def _fail(wish: _Wish, error: Exception) -> None:
    if wish.granted.set_running_or_notify_cancel():
        wish.granted.set_exception(error)


def _loading(model: Model) -> Unavailable:
    said = f"the model `{model.shown}` is not in memory yet; ask again"
    return Unavailable(said, code="model_loading", retry_after=max(1.0, model.seconds))


def _failed(model: Model) -> Unavailable:
    said = f"the model `{model.shown}` cannot be loaded now"
    return Unavailable(said, code="model_unavailable", retry_after=max(1.0, model.seconds))
