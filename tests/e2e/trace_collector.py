"""A collector of traces that speaks OTLP over HTTP on a free port of loopback: keeps every span that it is sent."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse


@dataclass(frozen=True)
class Received:
    """One span: hexadecimal ids, and attributes as text. `service` and `instance` are those of the resource."""

    name: str
    trace: str
    span: str
    parent: str
    attributes: dict[str, str]
    resource: dict[str, str]


@dataclass
class TraceCollector:
    """Where to send traces, and what came."""

    url: str
    spans: list[Received] = field(default_factory=list)

    def trace_with(self, name: str) -> list[Received]:
        """Return all spans of the first trace that has a span of this name, in the order of their arrival; none while there is none."""
        trace = next((span.trace for span in self.spans if span.name == name), None)
        return [span for span in self.spans if span.trace == trace]


@contextmanager
def trace_collector() -> Iterator[TraceCollector]:
    """Listen for as long as the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.spans.extend(_spans_of(ExportTraceServiceRequest.FromString(body)))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = TraceCollector(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()


def _spans_of(request: ExportTraceServiceRequest) -> Iterator[Received]:
    for of_resource in request.resource_spans:
        resource = {pair.key: pair.value.string_value for pair in of_resource.resource.attributes}
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                attributes = {pair.key: pair.value.string_value or str(pair.value.int_value) for pair in span.attributes}
                ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
                yield Received(span.name, *ids, attributes, resource)
