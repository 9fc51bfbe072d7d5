"""A start that cannot work, or is broken off, ends quickly and leaves nothing behind."""

from __future__ import annotations

import gc
import tempfile
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.settings import SettingsError


@pytest.mark.parametrize("when", ["while the model loads", "while the log is opened"])
def test_a_worker_that_is_stopped_while_it_starts_ends_at_once_and_closes_its_log(
    settings: Callable[..., Any], host: Any, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    from prometheus_client import CollectorRegistry

    from service.audit import AuditLog, verify
    from service.metrics.recorder import Recorder
    from service.worker import runtime as module

    begun, goes_on = threading.Event(), threading.Event()

    def held(value: Any) -> Any:
        begun.set()
        goes_on.wait(30)
        return value

    loads = when == "while the model loads"
    if not loads:
        monkeypatch.setattr(module, "AuditLog", lambda *given: held(AuditLog(*given)))
    chosen = settings()
    worker = module.Runtime(chosen, Recorder(CollectorRegistry()), load=lambda _: held(host) if loads else host)
    worker.start()
    assert begun.wait(30)
    began = time.monotonic()
    worker.stop()
    assert time.monotonic() - began < 5, "the settings allow 30 s for running requests, and there are none"
    goes_on.set()
    worker._starter.join(30)
    assert not worker._starter.is_alive()
    assert not worker._ready
    assert worker.state == "stopping"
    folder = chosen.state_folder / "audit"
    assert not folder.exists() or verify(folder, keys=worker.keys)[1] == []


@pytest.mark.parametrize("state", ["a file", "read-only"])
def test_a_state_folder_that_cannot_be_written_is_one_line(
    settings: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    from service.worker.launch import check

    place = tmp_path / "somewhere"
    if state == "a file":
        place.write_text("")
    else:

        def refuse(**given: Any) -> Any:
            raise PermissionError(13, "Permission denied", str(given["dir"]))

        monkeypatch.setattr(tempfile, "TemporaryFile", refuse)  # root may write anywhere
    with pytest.raises(SettingsError, match="`state` must be a folder that can be written") as error:
        check(settings(state=place))
    assert "\n" not in str(error.value)


def test_a_worker_that_was_stopped_is_let_go(settings: Callable[..., Any], host: Any) -> None:
    """Each holds a model and its detectors: a process that starts workers one after the other grew with each."""
    from service.metrics.recorder import Recorder
    from service.worker.runtime import Runtime

    worker = Runtime(settings(), Recorder.apart(), load=lambda _: host)
    worker.start()
    worker.wait()
    assert worker.ready().watches
    seen = weakref.ref(worker)
    worker.stop()
    del worker
    gc.collect()
    assert seen() is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"packs": Path("nope")}, "`packs` must be a folder, got `nope`, which does not exist or is a file"),
        (
            {"model": "signpost-pixart", "models": {"signpost-pixart": {"packs": "nope"}}},
            "`models.signpost-pixart`: `packs` must be a folder, got `nope`",
        ),
        ({"policy": "shiped"}, "`policy`: no such file or folder `shiped`; did you mean `shipped`?"),
        ({"device": "cuda:99"}, "`device` is `cuda:99`, but torch finds "),
        ({"signing_key": Path("k.pem")}, "`signing_key` is set and `marking` is `off`, so no picture would be signed"),
        (
            {"marking": "watermark", "signing_certificate": Path("c.pem")},
            "`signing_certificate` is set and `marking` is `watermark`",
        ),
    ],
)
def test_what_would_do_nothing_or_is_not_there_is_one_line(
    settings: Callable[..., Any], options: dict[str, Any], said: str
) -> None:
    from service.worker.launch import check

    with pytest.raises(SettingsError) as error:
        check(settings(**options))
    assert said in str(error.value)
    assert "\n" not in str(error.value)
