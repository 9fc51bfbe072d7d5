"""Traces of requests by OpenTelemetry, set up by its standard variables (`OTEL_*`) and by nothing of our own.

Tracing is off unless an exporter (`OTEL_TRACES_EXPORTER`) or an address (`OTEL_EXPORTER_OTLP_ENDPOINT`,
`OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`) is set. While it is off, or a request is not sampled, no span is made.

No span has a text of a request, nor the message of an exception, which may quote one.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagate import extract
from opentelemetry.trace import Link, Span, SpanKind, StatusCode

from service.settings import SettingsError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

__all__ = ["Attributes", "Tracing", "tracing_from_environment"]

Attributes = Mapping[str, "str | int | float | Sequence[str]"]
_NOTHING: AbstractContextManager[None] = nullcontext()
_ADDRESSES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_OTLP = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}  # protocol -> the exporter's name
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


class Tracing:
    """Makes the spans of one worker. Without a provider it makes none."""

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._provider = provider
        self._tracer = None if provider is None else provider.get_tracer("palimpsest")

    @property
    def on(self) -> bool:
        """Whether spans may be made."""
        return self._tracer is not None

    def request(self, name: str, headers: Mapping[str, str]) -> Span | None:
        """The span of a request that came with these headers; it is the caller's to end. None while tracing is off.

        BentoML's own span, which is never sampled, is not its parent.
        """
        if self._tracer is None:
            return None
        return self._tracer.start_span(name, context=extract(headers, Context()), kind=SpanKind.SERVER)

    def within(self, span: Span | None) -> AbstractContextManager[Span | None]:
        """Makes `span` the current one in the block. Its end is the caller's to tell."""
        if span is None:
            return _NOTHING
        # OpenTelemetry would write down an exception with its message
        return trace.use_span(span, record_exception=False, set_status_on_exception=False)

    def span(self, name: str, attributes: Attributes | None = None) -> AbstractContextManager[Span | None]:
        """A span below the current one. It has the class of an exception, and not its message."""
        if self._tracer is None or not trace.get_current_span().is_recording():
            return _NOTHING
        return self._current(self._tracer.start_span(name, attributes=attributes))

    def here(self) -> Context | None:
        """The current span, as the parent of spans that another thread makes. None if it is not recorded."""
        span = trace.get_current_span()
        return trace.set_span_in_context(span, Context()) if self.on and span.is_recording() else None

    def past(
        self,
        name: str,
        parent: Context | None,
        began: float,
        ended: float,
        attributes: Attributes | None = None,
        *,
        links: Sequence[Context] = (),
        error: BaseException | None = None,
    ) -> None:
        """A span of what is over, if it has a parent. `began` and `ended` are in `time.monotonic` seconds."""
        if self._tracer is None or parent is None:
            return
        to_epoch = time.time() - time.monotonic()
        linked = [Link(trace.get_current_span(link).get_span_context()) for link in links]
        start, end = (int((moment + to_epoch) * 1e9) for moment in (began, ended))
        span = self._tracer.start_span(name, parent, attributes=attributes, links=linked, start_time=start)
        if error is not None:
            _failed(span, error)
        span.end(end)

    def close(self) -> None:
        """Sends what is left."""
        if self._provider is not None:
            self._provider.shutdown()

    @contextmanager
    def _current(self, span: Span) -> Iterator[Span]:
        try:
            with self.within(span):
                yield span
        except Exception as error:
            _failed(span, error)
            raise
        finally:
            span.end()


def tracing_from_environment() -> Tracing:
    """Tracing as the variables say. Raises `SettingsError` for an exporter that is not installed."""
    exporters = _exporters()
    if not exporters:
        return Tracing()
    from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({SERVICE_NAME: "palimpsest"}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource)  # it reads the sampler's variables
    for exporter in exporters:
        provider.add_span_processor(BatchSpanProcessor(exporter))
    return Tracing(provider)


def _exporters() -> list[SpanExporter]:
    """The exporters that the variables name; none while tracing is off."""
    variable = os.environ.get
    named = variable("OTEL_TRACES_EXPORTER") or ("otlp" if any(map(variable, _ADDRESSES)) else "none")
    names = [name.strip() for name in named.split(",") if name.strip() not in ("", "none")]
    if not names or variable("OTEL_SDK_DISABLED", "").lower() == "true":
        return []
    from importlib.metadata import entry_points

    found = {each.name: each for each in entry_points(group="opentelemetry_traces_exporter")}
    if "otlp" in names:
        protocol = next(filter(None, map(variable, _PROTOCOLS)), "http/protobuf")
        if (of := found.get(_OTLP.get(protocol, ""))) is None:
            if protocol in _OTLP:
                package = f"opentelemetry-exporter-{_OTLP[protocol].replace('_', '-')}"
                raise SettingsError(f"`OTEL_EXPORTER_OTLP_PROTOCOL` is `{protocol}`: install `{package}` for it")
            known = " or ".join(p for p, name in _OTLP.items() if name in found)
            raise SettingsError(f"`OTEL_EXPORTER_OTLP_PROTOCOL` must be {known}, got `{protocol}`")
        found["otlp"] = of
    if unknown := [name for name in names if name not in found]:
        raise SettingsError(f"`OTEL_TRACES_EXPORTER` must be `none`, `otlp` or `console`, got `{unknown[0]}`")
    # by default the console's have many lines each, between those of a log that has an object a line
    options = {"console": {"out": sys.stdout, "formatter": lambda span: f"{span.to_json(indent=None)}\n"}}
    return [found[name].load()(**options.get(name, {})) for name in names]


def _failed(span: Span, error: BaseException) -> None:
    span.set_attribute("error.type", type(error).__name__)
    span.set_status(StatusCode.ERROR)
