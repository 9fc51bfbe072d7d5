"""A service without HTTP, for evaluation: a worker's runtime, called in this process."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from service.errors import ApiError
from service.http.requests import GenerationRequest, RepairRequest
from service.image_files import Upload
from service.metrics.recorder import Recorder
from service.order import Order
from service.settings import Settings
from service.worker.runtime import Runtime

if TYPE_CHECKING:
    from PIL.Image import Image

    from evaluation.answers import Answer
    from steering import Host

__all__ = ["LocalAnswerer", "local_service"]


class LocalAnswerer:
    """An `evaluation.Answerer` that calls a ready runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    @property
    def host(self) -> Host:
        """The host that the runtime serves. It may be called while no request is running."""
        return self._runtime.ready().host

    def answer(self, prompts: Sequence[str], seeds: Sequence[int], *, together: int) -> list[Answer]:
        """One answer per prompt, with `together` requests in flight."""
        limits = self._runtime.ready().limits
        asked = [GenerationRequest(prompt=p, seed=s) for p, s in zip(prompts, seeds, strict=True)]
        return asyncio.run(self._answers([each.within(limits) for each in asked], together))

    def mend(self, images: Sequence[Image], seeds: Sequence[int], *, together: int) -> list[Answer]:
        """One answer per given picture, with `together` requests in flight."""
        limits = self._runtime.ready().limits
        pairs = zip(images, seeds, strict=True)
        orders = [RepairRequest(seed=seed).over(limits, Upload(image)) for image, seed in pairs]
        return asyncio.run(self._answers(orders, together))

    async def _answers(self, orders: Sequence[Order], together: int) -> list[Answer]:
        gate = asyncio.Semaphore(together)

        async def one(order: Order) -> Answer:
            async with gate:
                return await self._answered(order)

        return list(await asyncio.gather(*map(one, orders)))

    async def _answered(self, order: Order) -> Answer:
        from evaluation.answers import parse_answer

        try:
            return parse_answer(200, await self._runtime.generate(order, (), uuid.uuid4().hex))
        except ApiError as error:
            return parse_answer(error.status, error.body())


@contextmanager
def local_service(settings: Settings) -> Iterator[LocalAnswerer]:
    """A ready service in this process, without an audit log. Raises the error if it cannot start."""
    runtime = Runtime(
        settings.model_copy(update={"audit": "off", "deadline_seconds": 600.0}), Recorder.apart(), alone=True
    )
    runtime.start()
    try:
        runtime.wait()
        yield LocalAnswerer(runtime)
    finally:
        runtime.stop()
