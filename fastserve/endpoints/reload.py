"""POST /hot-reload: Truss's way to give a living model new code. There in --reload mode alone.

What it does, and in what order with the reloads that changed files bring about, is `model/reload.py`'s.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from fastserve.endpoints.waiting import answer_when_known
from fastserve.errors import text_of
from fastserve.messages import JSON, Request, Response, error_response

_COMPLETE: Final = Response((200, JSON), b'{"msg":"Hot reload complete"}')


class HotReload:
    """hot_reload: raises, once it has logged why, if the code before goes on."""

    def __init__(self, hot_reload: Callable[[], Awaitable[None]]) -> None:
        self._hot_reload = hot_reload

    def answer(self, request: Request) -> None:
        """200 once the new code answers, 422 if it cannot; both as by Truss."""
        answer_when_known(request, self._reload)

    async def _reload(self) -> Response:
        try:
            await self._hot_reload()
        except Exception as error:  # noqa: BLE001 - logged by the one who raises it; a bug of ours is answered too
            cause = error.__cause__ or error
            return error_response(422, f"{type(cause).__name__}: {text_of(cause)}")
        return _COMPLETE
