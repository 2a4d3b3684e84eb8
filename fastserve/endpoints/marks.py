"""Truss's header fields on an error: who is to look for the mistake.

Texts and status codes are `failures.py`'s. Used by all that answers with an error.
"""

from __future__ import annotations

from typing import Final

FROM_CLIENT: Final = 700
FROM_MODEL: Final = 600
FROM_SERVER: Final = 500

# In lower case: what a model says of these itself does not count.
NAMES: Final = frozenset({b"x-baseten-error-source", b"x-baseten-error-code"})


def error_fields(code: int) -> bytes:
    """The fields as complete lines. code: FROM_CLIENT, FROM_MODEL or FROM_SERVER."""
    return b"X-BASETEN-ERROR-SOURCE: 04\r\nX-BASETEN-ERROR-CODE: %d\r\n" % code
