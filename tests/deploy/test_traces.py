"""A trace of a served request arrives whole at a collector, by OpenTelemetry's own variables and over real HTTP; and
every line of the log is JSON.

| the law that goes red | when this is broken |
|---|---|
| the engine's spans are in the request's trace | a job is made without `trace` |
| the lines of all processes and libraries are JSON | `log_as_json` is called in the worker only |
| what is left is sent before the worker ends | `Runtime.stop` does not close the tracing |
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.running import TWO_RULES, lettering_pack, serving
from tests.tiny import save_pixart

pytestmark = pytest.mark.system


class Collector(ThreadingHTTPServer):
    """Keeps the spans that are sent to `/v1/traces`."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.services: set[str] = set()
        spans, services = self.spans, self.services

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/v1/traces":
                    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                        services.update(
                            a.value.string_value for a in resource.resource.attributes if a.key == "service.name"
                        )
                        spans.extend(span for scope in resource.scope_spans for span in scope.spans)
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Says nothing."""

        super().__init__(("127.0.0.1", 0), Handler)


def test_a_trace_arrives_whole(tmp_path: Path) -> None:
    collector = Collector()
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    trace = "0af7651916cd43dd8448eb211c80319c"
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
        "OTEL_SERVICE_NAME": "pictures",
    }
    model = save_pixart(tmp_path / "model")
    packs = lettering_pack(model, tmp_path / "packs")
    prompt = 'a red star with a sign that says "idiot"'
    try:
        settings = {"packs": packs, "log_format": "json", "also": variables}
        with serving(tmp_path / "s", model=str(model), policy=TWO_RULES, **settings) as server:
            for path in ("/livez", "/readyz", "/metrics", "/nothing"):
                httpx.get(f"{server.url}{path}", timeout=60)
            answer = httpx.post(
                f"{server.url}/v1/images/generations",
                json={"prompt": prompt, "num_inference_steps": 2, "n": 2},
                headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"},
                timeout=300,
            )
    finally:
        collector.shutdown()
    log = [json.loads(line) for line in server.log.splitlines()]
    assert answer.status_code in (200, 400), answer.text  # random weights: the picture may be refused after all
    assert collector.services == {"pictures"}
    ours = [span for span in collector.spans if span.trace_id.hex() == trace]
    ids = {span.span_id for span in ours}
    (root,) = (span for span in ours if span.parent_span_id not in ids)
    assert root.name == "generations"
    assert root.parent_span_id.hex() == "b7ad6b7169203331"
    assert {"read", "decide", "plan", "queue", "denoise", "audit"} <= {span.name for span in ours}
    drawn = [span for span in ours if span.name == "denoise"]
    assert len(drawn) >= 2
    about = {a.key: a.value for a in drawn[0].attributes}
    assert len(about["palimpsest.sites"].array_value.values) == 2
    assert about["palimpsest.steps"].int_value == 2
    assert drawn[0].links[0].span_id == root.span_id
    for span in ours:
        assert root.start_time_unix_nano <= span.start_time_unix_nano
        assert span.name == "audit" or span.end_time_unix_nano <= root.end_time_unix_nano
    names = {span.name for span in collector.spans}
    assert not {name for name in names if "livez" in name or "metrics" in name or "http" in name}
    assert "idiot" not in " ".join(map(str, collector.spans))
    (access,) = (line for line in log if line.get("endpoint") == "generations")
    assert access["trace_id"] == trace
    assert access["span_id"] == root.span_id.hex()
    assert access["request_id"] == answer.headers["x-request-id"]
    assert any("serving" in line["message"] and line["rules"] >= 2 for line in log)
    assert "idiot" not in json.dumps(log)
