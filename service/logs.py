"""Logs as JSON, one line a record: `log_format = "json"`. As text, the lines are BentoML's.

BentoML configures logging from one table, in its master and again in each worker. The formatter is put into this table.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import Any

from opentelemetry import trace
from pythonjsonlogger.json import JsonFormatter as _JsonFormatter

__all__ = ["REQUEST_ID", "JsonFormatter", "log_as_json"]

# what BentoML's filter and uvicorn add for lines of text
_OF_TEXT = ("levelname_bracketed", "component", "trace_msg", "request_id", "service_name", "color_message")
REQUEST_ID: ContextVar[str | None] = ContextVar("palimpsest_request_id", default=None)


class JsonFormatter(_JsonFormatter):
    """A record as one JSON object: time, level, logger, message, worker, and the ids of its request and its trace."""

    def __init__(self) -> None:
        super().__init__(
            ("levelname", "name", "message"),
            timestamp="time",
            rename_fields={"levelname": "level", "name": "logger"},
            reserved_attrs=[*logging.makeLogRecord({}).__dict__, "message", *_OF_TEXT],
        )

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """Adds what is known of the process, the request and the trace."""
        from bentoml import server_context

        if server_context.worker_index is not None:
            log_data["worker"] = server_context.worker_index
        if (request := REQUEST_ID.get()) is not None:
            log_data["request_id"] = request
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            log_data |= {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}
        return super().process_log_record(log_data)


class _Logger(logging.Logger):
    """A logger whose handlers write JSON: torch, transformers and diffusers bring handlers of their own."""

    def addHandler(self, hdlr: logging.Handler) -> None:
        hdlr.setFormatter(JsonFormatter())
        super().addHandler(hdlr)


def log_as_json() -> None:
    """Makes this process log JSON, libraries that are imported later and the warnings of all included."""
    from bentoml._internal.log import SERVER_LOGGING_CONFIG, configure_server_logging

    SERVER_LOGGING_CONFIG["formatters"]["traced"] = {"()": JsonFormatter}
    configure_server_logging()
    logging.setLoggerClass(_Logger)
    logging.captureWarnings(True)
