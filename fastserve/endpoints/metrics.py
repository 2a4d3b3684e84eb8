"""GET /metrics: the server's own metrics, then what the model registers with `prometheus_client`, names untouched.

Asks for the model's off the loop, since its collectors may block. Built by `server.py`, called by the router.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Final
from urllib.parse import parse_qs

from fastserve.endpoints.failures import MODEL_FAILED, log_failure
from fastserve.endpoints.metrics_text import Family, gauge, text_of
from fastserve.endpoints.model_metrics import of_gpus, of_model
from fastserve.endpoints.server_metrics import of_process, of_server
from fastserve.endpoints.waiting import answer_when_known
from fastserve.gpus import Gpu
from fastserve.lifecycle import Lifecycle
from fastserve.messages import Request, Response
from fastserve.metrics import Metrics
from fastserve.model.runtime import Runtime

_TYPE: Final = re.compile(rb"^# TYPE (\S+)", re.MULTILINE)
_END: Final = b"# EOF\n"
_OPENMETRICS: Final = "application/openmetrics-text"
_PLAIN: Final = "text/plain; version=0.0.4; charset=utf-8"
_OPEN: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class MetricsPage:
    """The metrics page. directory: the model's, for tracebacks."""

    def __init__(self, runtime: Runtime, lifecycle: Lifecycle, metrics: Metrics, directory: str) -> None:
        self._runtime = runtime
        self._lifecycle = lifecycle
        self._metrics = metrics
        self._directory = directory

    def answer(self, request: Request) -> None:
        """200 with the page, while loading and draining too; 500 if a collector of the model's raises."""
        answer_when_known(request, functools.partial(self._expose, request))

    async def _expose(self, request: Request) -> Response:
        accept = request.head.fields.get(b"accept", b"").decode("latin-1")
        names = _names(request.head.target)
        page, error = await self._runtime.scrape(accept, names)
        if error is not None:
            log_failure(error, self._directory, "Exception while collecting the model's metrics")
            return MODEL_FAILED
        content, content_type = page
        if not content:
            content_type = _OPEN if _OPENMETRICS in accept else _PLAIN
        is_openmetrics = content_type.startswith(_OPENMETRICS)
        taken = {name.decode().removesuffix("_total") for name in _TYPE.findall(content)}
        families = self._families(await self._runtime.read_gpus())
        own = [family for family in families if family.name not in taken and _is_wanted(family, names)]
        end = _END if is_openmetrics else b""
        text = text_of(own, is_openmetrics=is_openmetrics) + content.removesuffix(_END) + end
        return Response((200, content_type.encode()), text)

    def _families(self, gpus: Sequence[Gpu]) -> Iterator[Family]:
        yield from of_server(self._metrics)
        yield gauge("fastserve_model_ready", "1 while requests are wanted.", int(self._lifecycle.is_ready))
        yield from of_model(self._runtime)
        yield from of_gpus(gpus)
        yield from of_process()


def _is_wanted(family: Family, names: Collection[str]) -> bool:
    """Whether one of the series that are asked for is of this family."""
    return not names or any(family.name + sample.suffix in names for sample in family.samples)


def _names(target: bytes) -> list[str]:
    """`?name[]=a&name[]=b`: the series that are wanted, as for prometheus_client's own servers; none means all."""
    _, _, query = target.partition(b"?")
    return parse_qs(query.decode("latin-1")).get("name[]", [])
