"""`fastserve.trace_context()`: what a model adds to the requests that it makes for the one it answers.

For models without a request object, and deep in their libraries. Read from where log lines have it.
"""

from __future__ import annotations

from fastserve.logs import REQUEST_IDS
from fastserve.traceparent import TRACEPARENT, TRACESTATE, trace_id_of


def trace_context() -> dict[str, str]:
    """Header fields `traceparent`, and `tracestate` if it has one, of the request that is being answered (W3C).

    {} if that has none that holds. Known of the requests that come once this has been imported; with OpenTelemetry of
    all, with the server's own span as the parent. On any thread that the request's context reaches.
    """
    ids = REQUEST_IDS.get()
    if ids is None or trace_id_of(fields := ids[3]) is None:
        return {}
    names = (TRACEPARENT, TRACESTATE) if TRACESTATE in fields else (TRACEPARENT,)
    return {name.decode(): fields[name].decode("latin-1") for name in names}
