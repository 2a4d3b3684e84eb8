"""GET of what the model takes and returns: Truss's `/v1/models/{model}/schema`, and `/openapi.json` for all routes.

Each is built at its first request after the model has loaded, and kept for as long as that version of the model
serves. Called by the router.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from fastserve.codec.json_text import encode_json
from fastserve.endpoints.failures import NOT_READY, truss_error
from fastserve.endpoints.marks import FROM_MODEL, FROM_SERVER
from fastserve.endpoints.openapi import Operations, build_document
from fastserve.errors import text_of
from fastserve.lifecycle import Lifecycle
from fastserve.messages import JSON, Request, Response
from fastserve.model.runtime import Runtime
from fastserve.model.schemas import Types, describe, read_types
from fastserve.model.typed import PREDICT

_logger: Final = logging.getLogger("fastserve")

_NO_SCHEMA_YET: Final = truss_error(503, FROM_MODEL, "Schema not available, please try again later.")
_NO_SCHEMA: Final = truss_error(404, FROM_MODEL, "No schema found")


class Schemas:
    """The documents of one model. title: its name. 503 while it is loading."""

    def __init__(self, runtime: Runtime, lifecycle: Lifecycle, title: str) -> None:
        self._runtime = runtime
        self._lifecycle = lifecycle
        self._title = title
        self._built: dict[str, Response] = {}
        runtime.on_adopted.append(self._built.clear)

    def answer_schema(self, request: Request) -> None:
        """Truss's account of predict, or its 404 if there is nothing to tell."""
        self._answer(request, "schema", lambda: _schema_response(self._types().get(PREDICT)), _NO_SCHEMA_YET)

    def answer_openapi(self, operations: Operations, request: Request) -> None:
        """The document of `operations`, those of the router."""
        self._answer(
            request,
            "openapi",
            lambda: Response((200, JSON), encode_json(build_document(self._title, operations, self._types()))),
        )

    def _answer(
        self, request: Request, name: str, build: Callable[[], Response], response: Response = NOT_READY
    ) -> None:
        """response: the one while the model is loading."""
        if self._lifecycle.is_loaded:
            if name not in self._built:
                self._built[name] = build()
            response = self._built[name]
        request.connection.send_response(request, response)

    def _types(self) -> dict[str, Types]:
        return read_types(self._runtime.contract, self._runtime.inputs)


def _schema_response(types: Types | None) -> Response:
    try:
        found = describe(types)
    except Exception as error:  # a field of the user's that JSON Schema has no words for
        _logger.exception("the model's schema cannot be made")
        return truss_error(500, FROM_SERVER, f"Unhandled exception: {type(error).__name__}: {text_of(error)}")
    return _NO_SCHEMA if found is None else Response((200, JSON), encode_json(found))
