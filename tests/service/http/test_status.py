"""`GET /v1/status`: how the detectors do, over HTTP, on a service whose reader of pictures fails and comes back.

| the law that goes red | when this is broken |
|---|---|
| a failing detector is shown, and shown as well again | `_detector_did` publishes no note |
| whoever may not read metrics may not read this | the endpoint has no scope |
| nothing of a prompt, no path and no process id is told | a note is answered as it is |
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from starlette.testclient import TestClient

URL = "/v1/status"
SIGN = 'a red star with a sign that says "IDIOT"'


def reader_of(answer: Any) -> dict[str, Any]:
    (worker,) = answer.json()["workers"]
    (reader,) = (d for d in worker["detectors"] if "rapidocr" in d["name"])
    return dict(reader)


def test_a_service_that_does_well_says_so(serve: Callable[..., TestClient]) -> None:
    answer = serve().get(URL)
    assert answer.json()["object"] == "status"
    assert not answer.json()["degraded"]
    assert answer.json()["workers"][0]["state"] == "ready"
    assert reader_of(answer) == {
        "name": reader_of(answer)["name"], "circuit": "closed", "failures": 0, "stuck": 0, "opened": 0,
        "last_error": None,
    }  # fmt: skip


def test_a_reader_that_fails_again_and_again_is_shown_with_an_open_circuit_until_it_is_well(
    serve: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from detectors.images import RapidOcr

    client = serve()
    well = RapidOcr.read

    def broken(self: RapidOcr, image: Any) -> Any:
        raise RuntimeError(f"no reading of {SIGN} in {tmp_path}")

    monkeypatch.setattr(RapidOcr, "read", broken)
    codes = [client.post("/v1/images/generations", json={"prompt": SIGN, "seed": k}).status_code for k in range(4)]
    assert codes == [400] * 4, "unread pictures are blocked"
    answer = client.get(URL)
    assert answer.json()["degraded"]
    found = reader_of(answer)
    assert (found["circuit"], found["failures"], found["opened"]) == ("open", 3, 1)
    assert found["last_error"] == "error: RuntimeError"
    for secret in ("IDIOT", str(tmp_path), str(os.getpid())):
        assert secret not in answer.text

    monkeypatch.setattr(RapidOcr, "read", well)
    runtime: Any = client.runtime  # type: ignore[attr-defined]
    for watch in runtime.ready().watches:
        watch._pause = 0.0  # 30 s of waiting
    client.post("/v1/images/generations", json={"prompt": SIGN, "seed": 9})
    assert not client.get(URL).json()["degraded"]
    assert reader_of(client.get(URL))["opened"] == 1


def test_it_asks_for_the_scope_of_metrics(serve: Callable[..., TestClient], tmp_path: Path) -> None:
    from service.http.keys import new_key, save_keys_file

    made = {name: new_key(name, [name], now=datetime.now(UTC)) for name in ("metrics", "generate")}
    save_keys_file(tmp_path / "keys.json", [record for _, record in made.values()])
    client = serve(keys_file=tmp_path / "keys.json")
    codes = {
        name: client.get(URL, headers={"Authorization": f"Bearer {key}"}).status_code for name, (key, _) in made.items()
    }
    assert codes == {"metrics": 200, "generate": 403}
    assert client.get(URL).status_code == 401
