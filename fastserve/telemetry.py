"""OpenTelemetry, where its SDK is installed and its variables say where spans go; else nothing of it is imported.

Which spans there are is `http11/traced.py`'s and `model/spans.py`'s, who are given the tracer. Called by `server.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

import fastserve

# One of them must be set: the SDK by itself, which many packages bring along, asks for nothing.
ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
EXPORTERS: Final = "OTEL_TRACES_EXPORTER"
DISABLED: Final = "OTEL_SDK_DISABLED"
PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")

# The exporters that `otlp` may mean, by protocol: the names that OpenTelemetry's packages register. Without a word
# the first is the specification's default; the other is for who has installed that alone.
_OTLP: Final = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
_GROUP: Final = "opentelemetry_traces_exporter"

_logger: Final = logging.getLogger("fastserve")


class Telemetry:
    """tracer: makes this server's spans, which go nowhere before `provide`."""

    def __init__(self, exporters: list[type], service: str) -> None:
        from opentelemetry import trace

        self._exporters = exporters
        self._service = service
        self.tracer: Any = trace.get_tracer("fastserve", fastserve.__version__)

    def provide(self) -> None:
        """Have spans exported; by what the model has set up itself, if it has. Once the model is loaded."""
        try:
            self._provide()
        except Exception:  # exporters read variables of their own, and refuse some
            _logger.exception("OpenTelemetry cannot be set up; there are no spans")

    def _provide(self) -> None:
        from opentelemetry import trace
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            return
        named = OTELResourceDetector().detect()  # what the variables say wins over the name of the model
        provider = TracerProvider(resource=Resource.create({"service.name": self._service, **named.attributes}))
        for exporter in self._exporters:
            provider.add_span_processor(BatchSpanProcessor(exporter()))
        trace.set_tracer_provider(provider)


def find_telemetry(environ: Mapping[str, str], service: str) -> Telemetry | None:
    """What the variables ask for; None if they ask for nothing or what they ask for is not installed.

    service: what the server is called in traces unless they say otherwise.
    """
    names = wanted_exporters(environ)
    if not names:
        return None
    try:
        import opentelemetry.sdk.trace  # noqa: F401
    except ImportError:
        _logger.warning("OTEL_ variables ask for spans, and there are none: pip install 'fastserve[otel]'")
        return None
    exporters = []
    for name in names:
        exporter = _load_exporter(name, environ)
        if exporter is None:
            _logger.warning("%s: no exporter %s is installed; no spans go there", EXPORTERS, name)
        else:
            exporters.append(exporter)
    return Telemetry(exporters, service) if exporters else None


def wanted_exporters(environ: Mapping[str, str]) -> list[str]:
    """The names in OTEL_TRACES_EXPORTER, or `otlp` if only an endpoint is given; none if it is all switched off."""
    said = environ.get(EXPORTERS, "").strip()
    if environ.get(DISABLED, "").strip().lower() == "true" or not (said or any(map(environ.get, ENDPOINTS))):
        return []
    names = [name.strip() for name in (said or "otlp").split(",")]
    return [name for name in names if name not in ("", "none")]


def _load_exporter(name: str, environ: Mapping[str, str]) -> type | None:
    """The class of this name, as OpenTelemetry's own set-up would find it."""
    from importlib.metadata import entry_points  # 10 ms for those alone who export spans

    candidates: list[str] = [name]
    if name == "otlp":
        protocol = next((environ[variable] for variable in PROTOCOLS if environ.get(variable)), None)
        candidates = list(_OTLP.values()) if protocol is None else [_OTLP.get(protocol, protocol)]
    for candidate in candidates:
        for entry in entry_points(group=_GROUP, name=candidate):
            loaded: type = entry.load()
            return loaded
    return None
