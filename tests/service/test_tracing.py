"""Traces: one for a request, whole and without its words; none where nobody asked for one.

Breaks that it is made to show: `trace` left out of jobs, `span` without its look at `is_recording`,
`record_exception` of a span on, `_Stopped` counted as a failure, BentoML's span taken as the parent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, StatusCode

from service.settings import SettingsError
from service.tracing import Tracing, tracing_from_environment

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
WORDS = 'a red star with a sign that says "idiot"'


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracing(exporter: InMemorySpanExporter) -> Tracing:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Tracing(provider)


@pytest.fixture
def asked(serve: Callable[..., Any], tracing: Tracing) -> Callable[..., Any]:
    """Asks a service that traces."""
    client = serve()
    for recorder in (client.runtime.recorder, *(model.recorder for model in client.runtime.models)):
        recorder.tracing = tracing

    def ask(prompt: str, headers: dict[str, str] | None = None, **body: Any) -> Any:
        return client.post(
            "/v1/images/generations", json={"prompt": prompt, "num_inference_steps": 2, **body}, headers=headers
        )

    ask.client = client  # type: ignore[attr-defined]
    return ask


def tree(spans: tuple[ReadableSpan, ...]) -> dict[str, list[str]]:
    """Names of spans by the name of their parent; each is in one trace, below one root."""
    by_id = {span.context.span_id: span.name for span in spans if span.context is not None}
    found: dict[str, list[str]] = {}
    for span in spans:
        parent = "" if span.parent is None else by_id.get(span.parent.span_id, "another service")
        found.setdefault(parent, []).append(span.name)
    return {parent: sorted(names) for parent, names in found.items()}


def named(spans: tuple[ReadableSpan, ...], name: str) -> list[ReadableSpan]:
    return [span for span in spans if span.name == name]


def test_the_spans_of_a_repaired_picture_are_below_its_request(asked: Any, exporter: InMemorySpanExporter) -> None:
    answer = asked(WORDS, {"traceparent": PARENT}, seed=1)
    assert answer.status_code == 200, answer.text
    spans = exporter.get_finished_spans()
    assert {f"{span.context.trace_id:032x}" for span in spans} == {PARENT.split("-")[1]}
    below = tree(spans)
    assert below["another service"] == ["generations"]
    assert {"read", "decide", "plan", "queue", "denoise", "encode", "audit"} <= set(below["generations"])
    (root,) = named(spans, "generations")
    assert root.attributes["http.response.status_code"] == 200
    assert root.attributes["palimpsest.request_id"] == answer.headers["x-request-id"]
    denoise = named(spans, "denoise")[0]
    assert len(denoise.attributes["palimpsest.sites"]) == 2
    assert (denoise.attributes["palimpsest.rows"], denoise.attributes["palimpsest.steps"]) == (1, 2)
    assert denoise.attributes["palimpsest.host"]
    queue = named(spans, "queue")[0]
    assert root.start_time <= queue.start_time <= queue.end_time <= denoise.start_time < denoise.end_time
    assert denoise.end_time <= root.end_time


def test_a_rung_holds_what_it_drew_and_read(asked: Any, exporter: InMemorySpanExporter) -> None:
    from tests.service.engine.scripted import Script

    readers = asked.client.runtime.ready().readers
    readers._look = Script("idiot", "bread")
    assert asked(WORDS, seed=1).status_code == 200
    below = tree(exporter.get_finished_spans())
    (rung,) = named(exporter.get_finished_spans(), "rung")
    assert rung.attributes["palimpsest.rung"] == "wider"
    assert {"queue", "denoise", "read", "decide"} <= set(below["rung"])


def test_pictures_of_one_batch_are_linked_and_each_is_below_its_own_request(
    asked: Any, exporter: InMemorySpanExporter
) -> None:
    assert asked("a blue ring", n=2).status_code == 200
    spans = exporter.get_finished_spans()
    first, second = named(spans, "denoise")
    assert first.attributes["palimpsest.rows"] == 2
    assert first.attributes["palimpsest.sites"] == ()
    (root,) = named(spans, "generations")
    assert [link.context.span_id for link in first.links] == [root.context.span_id]
    assert first.parent == second.parent == root.context


def test_no_span_holds_a_word_of_a_request_or_an_exception(
    asked: Any, exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = asked.client.runtime.ready().host
    broken = RuntimeError(f"cannot draw {WORDS}")

    def fails(*args: Any, **kwargs: Any) -> Any:
        raise broken

    monkeypatch.setattr(host, "generate", fails)
    assert asked(WORDS).status_code == 500
    spans = exporter.get_finished_spans()
    text = " ".join(span.to_json() for span in spans)
    assert "idiot" not in text
    assert "cannot draw" not in text
    (denoise,) = named(spans, "denoise")
    assert (denoise.status.status_code, denoise.attributes["error.type"]) == (StatusCode.ERROR, "RuntimeError")
    (root,) = named(spans, "generations")
    assert root.status.status_code == StatusCode.ERROR


def test_what_a_sentinel_or_a_caller_stops_is_no_failure(tracing: Tracing, host: Any, recorder: Any) -> None:
    from service.engine.queue import BatchKey, Job, Queue
    from service.engine.thread import Engine, _Abandoned

    recorder.tracing, before = tracing, recorder.tracing
    try:
        engine = Engine(lambda: host, Queue(4, recorder), recorder, batching="dynamic", max_batch=1)
        with tracing.within(tracing.request("generations", {})):
            job = Job("pip", None, 1, None, BatchKey(64, 64, 2, None), 1e12, trace=tracing.here())
        with pytest.raises(_Abandoned), engine._traced(host, [job], 1):
            raise _Abandoned
    finally:
        recorder.tracing = before
    exporter = tracing._provider._active_span_processor._span_processors[0].span_exporter  # type: ignore[union-attr]
    (denoise,) = named(exporter.get_finished_spans(), "denoise")
    assert denoise.status.status_code == StatusCode.UNSET


def test_a_streamed_request_ends_with_its_last_event(asked: Any, exporter: InMemorySpanExporter) -> None:
    with asked.client.stream(
        "POST", "/v1/images/generations", json={"prompt": "pip", "num_inference_steps": 2, "stream": True}
    ) as stream:
        assert "completed" in stream.read().decode()
    spans = exporter.get_finished_spans()
    (root,), (denoise,) = named(spans, "generations"), named(spans, "denoise")
    assert root.end_time > denoise.end_time
    assert denoise.parent == root.context


def test_probes_and_metrics_have_no_spans(asked: Any, exporter: InMemorySpanExporter) -> None:
    for path in ("/metrics", "/livez", "/nothing"):
        asked.client.get(path)
    assert exporter.get_finished_spans() == ()


def test_bentomls_own_span_is_not_the_parent(tracing: Tracing, exporter: InMemorySpanExporter) -> None:
    unsampled = NonRecordingSpan(SpanContext(1, 2, is_remote=False))
    token = attach(trace.set_span_in_context(unsampled, Context()))
    try:
        span = tracing.request("generations", {})
        assert span is not None
        span.end()
    finally:
        detach(token)
    (made,) = exporter.get_finished_spans()
    assert made.parent is None


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of all spans that OpenTelemetry makes."""
    from opentelemetry.sdk.trace import Tracer

    made: list[str] = []
    real = Tracer.start_span

    def start(self: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        made.append(name)
        return real(self, name, *args, **kwargs)

    monkeypatch.setattr(Tracer, "start_span", start)
    return made


def test_nothing_is_made_while_tracing_is_off(serve: Any, count: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    off = tracing_from_environment()
    assert not off.on
    client = serve()
    client.runtime.recorder.tracing = off
    assert client.post("/v1/images/generations", json={"prompt": WORDS, "num_inference_steps": 2}).status_code == 200
    assert count == []
    assert off.span("a") is off.span("b") is off.within(None), "one object for all"
    assert off.here() is None


def test_of_a_request_that_is_not_sampled_only_the_first_span_is_begun(asked: Any, count: list[str]) -> None:
    asked.client.runtime.recorder.tracing = Tracing(TracerProvider(sampler=ParentBased(ALWAYS_OFF)))
    assert asked("pip").status_code == 200
    assert count == ["generations"]


@pytest.mark.parametrize(
    ("variables", "on"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "console"}, False),
    ],
)
def test_the_standard_variables_say_whether(
    variables: dict[str, str], on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    tracing = tracing_from_environment()
    assert tracing.on is on
    tracing.close()


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (
            {"OTEL_TRACES_EXPORTER": "zipkin"},
            "`OTEL_TRACES_EXPORTER` must be `none`, `otlp` or `console`, got `zipkin`",
        ),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
            "`OTEL_EXPORTER_OTLP_PROTOCOL` must be http/protobuf, got `http/json`",
        ),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "`OTEL_EXPORTER_OTLP_PROTOCOL` is `grpc`: install `opentelemetry-exporter-otlp-proto-grpc` for it",
        ),
    ],
)
def test_an_exporter_that_is_not_there_is_a_mistake(
    variables: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as error:
        tracing_from_environment()
    assert str(error.value) == said


def test_the_console_has_a_line_a_span(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    tracing = tracing_from_environment()
    for name in ("one", "two"):
        span = tracing.request(name, {})
        assert span is not None
        span.end()
    tracing.close()
    assert [json.loads(line)["name"] for line in capsys.readouterr().out.splitlines()] == ["one", "two"]


def test_the_name_and_the_sampler_are_the_environments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=pictures,deployment.environment=test")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    tracing = tracing_from_environment()
    provider = tracing._provider
    assert provider is not None
    assert provider.resource.attributes["service.name"] == "pictures"
    assert not tracing.request("generations", {}).is_recording()  # type: ignore[union-attr]
    tracing.close()
    monkeypatch.delenv("OTEL_RESOURCE_ATTRIBUTES")
    plain = tracing_from_environment()
    assert plain._provider.resource.attributes["service.name"] == "palimpsest"  # type: ignore[union-attr]
    plain.close()
