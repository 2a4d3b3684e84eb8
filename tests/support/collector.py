"""An OpenTelemetry collector as far as a test needs it: takes spans over OTLP/HTTP and keeps them.

Used by tests/server/test_tracing.py.
"""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Collector(http.server.ThreadingHTTPServer):
    """spans: by name, as they came. services: the names of those who sent them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: dict[str, Any] = {}
        self.services: set[str] = set()

    @property
    def variables(self) -> dict[str, str]:
        """What has a process export to here."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.server_port}"}

    def take(self, content: bytes) -> None:
        for group in ExportTraceServiceRequest.FromString(content).resource_spans:
            attributes = {pair.key: pair.value.string_value for pair in group.resource.attributes}
            self.services.add(attributes["service.name"])
            self.spans.update({span.name: span for scope in group.scope_spans for span in scope.spans})


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        self.server.take(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing."""


@contextlib.contextmanager
def collecting() -> Iterator[Collector]:
    """A collector for a while."""
    with Collector() as collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            collector.shutdown()
            thread.join()
