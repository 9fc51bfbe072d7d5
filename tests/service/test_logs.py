"""No prompt reaches a log, not even through a library's warning; and a line of JSON is one record.

Breaks that it is made to show: the ids left out of `process_log_record`, `_OF_TEXT` empty, `REQUEST_ID` not set by the
guard, `setLoggerClass` left out.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from contextvars import Context
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext

from service.engine.host import load_host
from service.logs import REQUEST_ID, JsonFormatter, log_as_json
from service.settings import load_settings
from tests.tiny import save_pixart


def test_a_prompt_that_is_too_long_is_not_quoted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = save_pixart(tmp_path / "model")
    host = load_host(load_settings({"model": str(folder), "state": str(tmp_path / "state"), "threads": 1}).settings)
    host.generate(["a red star " + "secretword " * 60], plans=[None], seeds=[1], num_inference_steps=2)
    host.close()
    seen = capfd.readouterr()
    assert "secretword" not in seen.err + seen.out


def line(record: logging.LogRecord) -> dict[str, Any]:
    text = JsonFormatter().format(record)
    assert "\n" not in text
    told: dict[str, Any] = json.loads(text)
    return told


def test_a_record_is_one_line_with_the_ids_of_its_request_and_its_trace() -> None:
    record = logging.makeLogRecord({"name": "a.b", "levelname": "INFO", "msg": "drew %d", "args": (3,), "status": 200})
    record.levelname_bracketed, record.trace_msg, record.request_id = "[INFO]", " (trace=1)", None  # BentoML's filter
    token = REQUEST_ID.set("r1")
    span = NonRecordingSpan(SpanContext(0xA, 0xB, is_remote=False))
    try:
        with trace.use_span(span):
            told = line(record)
    finally:
        REQUEST_ID.reset(token)
    assert told.pop("time").endswith("+00:00")
    assert told == {
        "level": "INFO",
        "logger": "a.b",
        "message": "drew 3",
        "status": 200,
        "request_id": "r1",
        "trace_id": f"{0xA:032x}",
        "span_id": f"{0xB:016x}",
    }
    alone = Context().run(line, logging.makeLogRecord({"msg": "alone"}))
    assert set(alone) == {"time", "level", "logger", "message"}


def test_a_traceback_stays_in_its_line() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        told = line(logging.makeLogRecord({"msg": "failed", "exc_info": sys.exc_info()}))
    assert "ValueError: two\nlines" in told["exc_info"]


def test_a_library_that_brings_its_own_handler_writes_json_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from bentoml._internal import log

    monkeypatch.setitem(log.SERVER_LOGGING_CONFIG["formatters"], "traced", {})
    monkeypatch.setattr(log, "configure_server_logging", lambda: None)
    before = logging.getLoggerClass()
    try:
        log_as_json()
        library = logging.getLogger("palimpsest-tests.a-library")
        library.addHandler(logging.StreamHandler())
        library.propagate = False
        library.warning("old weights")
    finally:
        logging.setLoggerClass(before)
        logging.captureWarnings(False)
    assert json.loads(capsys.readouterr().err)["message"] == "old weights"


def test_the_access_line_of_a_request_has_its_id_and_no_prompt(
    serve: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    lines: list[dict[str, Any]] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(line(record))

    log, handler = logging.getLogger("bentoml.palimpsest.http"), Keep()
    log.addHandler(handler)
    caplog.set_level(logging.INFO, logger=log.name)
    try:
        answer = serve().post("/v1/policies/evaluate", json={"prompt": "a secretword"})
    finally:
        log.removeHandler(handler)
    (told,) = lines
    assert told["request_id"] == answer.headers["x-request-id"]
    assert (told["endpoint"], told["status"], told["outcome"]) == ("evaluate", 200, "ok")
    assert "secretword" not in json.dumps(lines)
