"""A collector of traces (OTLP over HTTP), as small as can be."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from service.core import tracing


@dataclass(frozen=True)
class Span:
    """A span as it was received."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    seconds: float
    is_error: bool


@dataclass
class Collector:
    """The spans that were received."""

    url: str
    spans: list[Span] = field(default_factory=list)

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> Span:
        (span,) = self.named(name)
        return span

    def ancestors(self, span: Span) -> list[str]:
        """The names of a span's parents, the nearest first; all of its own trace."""
        by_id = {other.span_id: other for other in self.spans}
        names = []
        while span.parent_id in by_id:
            assert by_id[span.parent_id].trace_id == span.trace_id
            span = by_id[span.parent_id]
            names.append(span.name)
        return names


@contextmanager
def collecting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """This process's spans and its children's go to a collector; its own are there after `tracing.stop()`."""
    collector = Collector("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
            collector.spans += _spans(request)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # its name there
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        collector.url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv(tracing.ENDPOINT, collector.url)
        try:
            tracing.start("api")
            yield collector
        finally:
            tracing.stop()
            server.shutdown()


def _spans(request: Any) -> Iterator[Span]:
    for resource in request.resource_spans:
        about = _dict(resource.resource.attributes)
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Span(
                    service=about["service.name"],
                    name=span.name,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    attributes=_dict(span.attributes),
                    seconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                    is_error=span.status.code == 2,
                )


def _dict(attributes: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in attributes}
