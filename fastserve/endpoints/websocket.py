"""GET /v1/websocket: the handshake, the model's `websocket` method on the connection, and how that ends.

Close codes, reasons and log lines are Truss's. Called by the router; `websocket/` is imported when it is needed.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from fastserve.endpoints.failures import NOT_READY, log_failure, refusal, truss_error
from fastserve.endpoints.marks import FROM_CLIENT
from fastserve.errors import RequestError, text_of
from fastserve.interface.starlette_websocket import is_disconnect, make_websocket
from fastserve.lifecycle import Lifecycle, State
from fastserve.messages import Head, Request, Route
from fastserve.model.runtime import Runtime

if TYPE_CHECKING:
    from fastserve.websocket.handshake import Handshake
    from fastserve.websocket.session import Session

_logger: Final = logging.getLogger("fastserve")

# RFC 6455 section 7.4.1.
NORMAL_CLOSURE: Final = 1000
UNSUPPORTED_DATA: Final = 1003
INTERNAL_ERROR: Final = 1011

_FAILED: Final = "Internal Server Error (in model/chainlet)."
_NOT_IMPLEMENTED: Final = "WebSocket is not implemented on this deployment."
_NOT_FOUND: Final = truss_error(404, FROM_CLIENT, "Not Found")


class WebSocketEndpoint:
    """Answers WebSocket handshakes with one model. directory: the model's, for tracebacks."""

    def __init__(
        self, runtime: Runtime, lifecycle: Lifecycle, loop: asyncio.AbstractEventLoop, directory: str
    ) -> None:
        self._runtime = runtime
        self._lifecycle = lifecycle
        self._loop = loop
        self._directory = directory
        self._tasks: set[asyncio.Task[None]] = set()  # the loop itself holds them only weakly
        self._route = Route(self.answer)

    def route(self, head: Head) -> Route:
        return self._route

    def answer(self, request: Request) -> None:
        """Refuse over HTTP, or hand the connection to a session of the model's."""
        connection = request.connection
        if self._lifecycle.state is not State.READY:
            connection.send_response(request, NOT_READY)
            return
        try:
            from fastserve.websocket.handshake import read_handshake
        except ImportError:  # without the library there is no WebSocket; a model that needs it has not been loaded
            connection.send_response(request, _NOT_FOUND)
            return
        try:
            handshake = read_handshake(request.head)
        except RequestError as error:
            connection.send_response(request, refusal(error))
            return
        connection.upgrade(request, lambda listener: self._open(listener, handshake, request.head))

    def _open(self, listener: Any, handshake: Handshake, head: Head) -> Session:
        from fastserve.websocket.session import Session

        session = Session(listener, handshake)
        task = self._loop.create_task(self._attend(session, head))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # Behind the task's first step: a method that begins with `accept` may still choose a subprotocol.
        self._loop.call_soon(session.accept)
        return session

    async def _attend(self, session: Session, head: Head) -> None:
        """The whole life of one session. Never raises."""
        method = self._runtime.contract.websocket
        if method is None:
            _logger.error(_NOT_IMPLEMENTED)
            session.close(UNSUPPORTED_DATA, _NOT_IMPLEMENTED)
            return
        error = await self._runtime.attend(lambda: make_websocket(method.input_type, head, session))
        if error is None:
            session.close(NORMAL_CLOSURE)
        elif is_disconnect(error):
            _logger.info("Client terminated websocket connection: `%s`.", text_of(error))
            session.close(NORMAL_CLOSURE)
        elif self._lifecycle.state is not State.STOPPED:  # then it was cancelled, and nobody is there to be told
            log_failure(error, self._directory)
            session.close(INTERNAL_ERROR, _FAILED)
