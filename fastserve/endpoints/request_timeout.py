"""`X-Request-Timeout`: how long a client will wait for its answer, from the arrival of its request.

Each such request has a timer of its own; `--timeout`, which all have, is kept by the sweep. Used by `predict.py`.
"""

from __future__ import annotations

import asyncio
from time import monotonic_ns
from typing import Final

from fastserve.endpoints.prediction import Prediction
from fastserve.errors import RequestError
from fastserve.interface.disconnection import Disconnection
from fastserve.messages import Head
from fastserve.metrics import NANO

FIELD: Final = b"x-request-timeout"
# A millisecond is the resolution of the loop's timers; who will wait for longer than a day need not say so.
LEAST_S: Final = 0.001
MOST_S: Final = 86400.0


def read_timeout(head: Head) -> float | None:
    """The seconds that `head` asks for; None if it does not. Raises RequestError."""
    said = head.fields.get(FIELD)
    if said is None:
        return None
    try:
        timeout_s = float(said) if said.isascii() and b"_" not in said else 0.0
    except ValueError:
        timeout_s = 0.0
    if not LEAST_S <= timeout_s <= MOST_S:
        raise RequestError(400, f"X-Request-Timeout takes a number of seconds from {LEAST_S:g} to {MOST_S:g}")
    return timeout_s


def expire_within(timeout_s: float, loop: asyncio.AbstractEventLoop, prediction: Prediction) -> None:
    """Have `prediction` expire after so long, or when its server's own time is over, if that is sooner."""
    deadline = prediction.limit(round(timeout_s / NANO))
    left_s = max(0.0, (deadline - monotonic_ns()) * NANO)
    timer = loop.call_later(left_s, prediction.expire)
    if prediction.disconnection is None:
        prediction.disconnection = Disconnection()
    prediction.disconnection.call(timer.cancel)
