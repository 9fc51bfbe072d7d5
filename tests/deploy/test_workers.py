"""Two workers are one service to whoever asks: one rate for a key, whichever of them answers.

| the law that goes red | when this is broken |
|---|---|
| a rate is kept over all workers, under load | `limits_folder` gives each worker its own folder |
"""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.running import serving
from tests.tiny import save_pixart

pytestmark = pytest.mark.system

PER_SECOND, BURST, SECONDS = 4.0, 6, 8.0


def test_a_rate_is_kept_over_two_workers_under_load(tmp_path: Path) -> None:
    settings = {"workers": 2, "rate_per_minute": 60 * PER_SECOND, "rate_burst": BURST}
    codes: list[tuple[float, int]] = []
    with serving(tmp_path / "s", model=str(save_pixart(tmp_path / "model")), policy="none", **settings) as server:
        began = time.monotonic()

        def client() -> None:
            while time.monotonic() - began < SECONDS:
                sent = httpx.post(f"{server.url}/v1/policies/evaluate", json={"prompt": "a moon"}, timeout=60)
                codes.append((time.monotonic() - began, sent.status_code))

        threads = [threading.Thread(target=client) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        log = server.log
    answered, took = sum(code == 200 for _, code in codes), max(at for at, _ in codes)
    assert {code for _, code in codes} == {200, 429}
    assert set(re.findall(r"palimpsest:(\d)\] evaluate 200", log)) == {"1", "2"}, "both answer"
    assert answered <= BURST + PER_SECOND * took + 1
    assert answered >= BURST + PER_SECOND * (SECONDS - 1) * 0.8, "nobody gets less for asking two workers"
