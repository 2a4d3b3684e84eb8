"""A connection that logs each request it answers, as one line on stdout: `--access-log`.

A class of its own, so that a server without the option pays nothing. Made by `server.py` instead of a Connection.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from fastserve.http11.connection import SWITCHING_PROTOCOLS, Connection
from fastserve.http11.listener import Listener
from fastserve.logs import REQUEST_IDS
from fastserve.messages import Request, Response

_logger: Final = logging.getLogger("fastserve.access")


class LoggedConnection(Connection):
    """Connection, with a line for each response when its status is known; none for what is quiet, as by Truss."""

    __slots__ = ("_logged",)

    def __init__(self, listener: Listener) -> None:
        super().__init__(listener)
        self._logged = 0  # the number of the latest request that has its line

    def send_json(self, request: Request, content: bytes) -> None:
        self._log(request, 200)
        super().send_json(request, content)

    def send_response(self, request: Request, response: Response) -> None:
        self._log(request, response.kind[0])
        super().send_response(request, response)

    def send_head(
        self, request: Request, response: Response, length: int | None = None, *, may_pause: bool = False
    ) -> None:
        self._log(request, response.kind[0])
        super().send_head(request, response, length, may_pause=may_pause)

    def upgrade(self, request: Request, make_protocol: Callable[[Listener], Any]) -> None:
        self._log(request, SWITCHING_PROTOCOLS)
        super().upgrade(request, make_protocol)

    def _log(self, request: Request, status: int) -> None:
        if request is not self._request or request.number == self._logged:  # gone, or one way that leads to another
            return
        self._logged = request.number
        head = request.head
        if head.route.is_quiet:  # type: ignore[union-attr]  # routed when it was parsed
            return
        version = "1.0" if head.is_http10 else "1.1"
        target = head.target.decode("latin-1")
        token = REQUEST_IDS.set(request.ids)  # an answer may come from anywhere
        _logger.info("Handled request: %s %s HTTP/%s %d", head.method.decode(), target, version, status)
        REQUEST_IDS.reset(token)
