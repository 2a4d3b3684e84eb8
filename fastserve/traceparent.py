"""W3C Trace Context: which trace a request is part of, as its `traceparent` field says. Pure.

What is made of it is others' affair. Called by `logs.py` and `interface/trace_context.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

TRACEPARENT: Final = b"traceparent"
TRACESTATE: Final = b"tracestate"

# version "-" trace-id "-" parent-id "-" trace-flags, none of the ids all zeros; versions after 00 may have more to
# say (www.w3.org/TR/trace-context section 3.2).
_GRAMMAR: Final = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]*)?"
)


def trace_id_of(fields: Mapping[bytes, bytes]) -> str | None:
    """The trace id, 32 hexadecimal digits; None without a traceparent, or with one that is to be ignored."""
    value = fields.get(TRACEPARENT)
    match = None if value is None else _GRAMMAR.fullmatch(value)
    if match is None or (match[1] == b"00" and match[3] is not None):
        return None
    return match[2].decode()
