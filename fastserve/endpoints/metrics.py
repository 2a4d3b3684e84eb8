"""GET /metrics: what the model registers with `prometheus_client`, its names untouched.

Asks for it off the loop, since a model's collectors may block. Built by `server.py`, called by the router.
"""

from __future__ import annotations

import functools
from urllib.parse import parse_qs

from fastserve.endpoints.failures import MODEL_FAILED, log_failure
from fastserve.endpoints.waiting import answer_when_known
from fastserve.messages import Request, Response
from fastserve.model.runtime import Runtime


class Metrics:
    """The metrics page; empty for a model without `prometheus_client`. directory: the model's, for tracebacks."""

    def __init__(self, runtime: Runtime, directory: str) -> None:
        self._runtime = runtime
        self._directory = directory

    def answer(self, request: Request) -> None:
        """200 with the page, while loading and draining too; 500 if a collector of the model's raises."""
        answer_when_known(request, functools.partial(self._expose, request))

    async def _expose(self, request: Request) -> Response:
        # The server's own metrics would go in front of the model's; their names must not be the model's.
        accept = request.head.fields.get(b"accept", b"").decode("latin-1")
        page, error = await self._runtime.scrape(accept, _names(request.head.target))
        if error is not None:
            log_failure(error, self._directory, "Exception while collecting the model's metrics")
            return MODEL_FAILED
        content, content_type = page
        return Response((200, content_type.encode()), content)


def _names(target: bytes) -> list[str]:
    """`?name[]=a&name[]=b`: the series that are wanted, as for prometheus_client's own servers; none means all."""
    _, _, query = target.partition(b"?")
    return parse_qs(query.decode("latin-1")).get("name[]", [])
