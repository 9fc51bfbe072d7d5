"""Reading beside the event loop: each reading within its time, and none in the way of another kind.

| the law that goes red | when this is broken |
|---|---|
| readers of pictures that hang keep no prompt from being read, and nothing from being encoded | one pool for all |
| a reading that takes too long gives no signals and no cover | `TimeoutError` is answered with cover |
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

from PIL import Image

from policies import Request, Signals
from service.metrics.recorder import Recorder
from service.reading.pools import DetectorPools

COVER = frozenset({("picture", "lettering")})


def test_readers_of_pictures_that_hang_keep_nothing_else_waiting() -> None:
    hang = threading.Event()

    def look(image: Any, reads: frozenset[str]) -> Signals:
        hang.wait(30)
        return Signals((), COVER)  # type: ignore[arg-type]

    pools = DetectorPools(lambda request: Signals(), look, Recorder.apart(), threads=2, seconds=1.0)

    async def go() -> tuple[float, list[Signals]]:
        picture = Image.new("RGB", (8, 8))
        looks = [asyncio.create_task(pools.read_picture(picture, frozenset({"lettering"}))) for _ in range(6)]
        await asyncio.sleep(0.1)
        began = time.monotonic()
        await pools.read_prompt(Request("a moon"))
        assert await pools.run(lambda: 7) == 7
        return time.monotonic() - began, list(await asyncio.gather(*looks))

    took, found = asyncio.run(go())
    hang.set()
    pools.close()
    assert took < 0.5
    assert not any(signals.covered for signals in found)
