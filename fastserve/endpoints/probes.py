"""Liveness and readiness: answered on the loop from ready-made responses; they never wait for a worker.

Liveness says that the loop turns, readiness that the model is loaded and the server is not draining.
"""

from __future__ import annotations

from typing import Final

from fastserve.endpoints.failures import NOT_READY
from fastserve.lifecycle import Lifecycle
from fastserve.messages import JSON, Request, Response

_ALIVE: Final = Response((200, JSON), b"true")  # Truss's `/`
_READY: Final = Response((200, JSON), b"{}")


def answer_liveness(request: Request) -> None:
    """200 as long as the loop turns."""
    request.connection.send_response(request, _ALIVE)


class Readiness:
    """200 while requests are wanted, else Truss's 503."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle

    def answer(self, request: Request) -> None:
        request.connection.send_response(request, _READY if self._lifecycle.is_ready else NOT_READY)
