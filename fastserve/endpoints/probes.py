"""Liveness and readiness: answered on the loop from ready-made responses; they never wait for a worker.

Liveness says that the loop turns, readiness that the model is loaded and the server is not draining. The model's
own path also asks its `is_healthy`, if it has one, and waits for that alone.
"""

from __future__ import annotations

import functools
from typing import Final

from fastserve.endpoints.failures import NOT_READY
from fastserve.endpoints.waiting import answer_when_known
from fastserve.lifecycle import Lifecycle
from fastserve.messages import JSON, Request, Response
from fastserve.model.health import HealthCheck
from fastserve.model.runtime import Runtime

_ALIVE: Final = Response((200, JSON), b"true")  # Truss's `/`
_READY: Final = Response((200, JSON), b"{}")


def answer_liveness(request: Request) -> None:
    """200 as long as the loop turns."""
    request.connection.send_response(request, _ALIVE)


class WaitingLiveness:
    """Truss's own, for who asks for its quirks: waits while all the threads that plain calls run on are busy."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def answer(self, request: Request) -> None:
        self._runtime.call_behind(functools.partial(answer_liveness, request))


class Readiness:
    """200 while requests are wanted, else Truss's 503."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle

    def answer(self, request: Request) -> None:
        request.connection.send_response(request, _READY if self._lifecycle.is_ready else NOT_READY)


class Health:
    """Truss's readiness of a model: 200 while requests are wanted and its own `is_healthy`, if any, agrees."""

    def __init__(self, lifecycle: Lifecycle, runtime: Runtime) -> None:
        self._lifecycle = lifecycle
        self._runtime = runtime

    def answer(self, request: Request) -> None:
        if not self._lifecycle.is_ready:
            request.connection.send_response(request, NOT_READY)
        elif self._runtime.health is None:
            request.connection.send_response(request, _READY)
        else:
            answer_when_known(request, functools.partial(self._ask, self._runtime.health))

    async def _ask(self, health: HealthCheck) -> Response:
        is_healthy = await health.is_healthy()
        return _READY if is_healthy and self._lifecycle.is_ready else NOT_READY
