"""The OpenAPI 3.1 document of one server: its real routes, with the model's own schemas. Pure: mappings in, one out.

Which routes there are is the router's to say, what a method takes and returns that of `model/schemas.py`. Called by
`schema.py`, once.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from fastserve import __version__
from fastserve.model.schemas import Types, make_schema

Json = dict[str, Any]
# Path, with {model} for the name of the model -> (method, kind of what answers) for each method. A kind is one of
# PLAIN, or the name of a method of the model.
Operations = Mapping[str, Sequence[tuple[str, str]]]

_logger: Final = logging.getLogger("fastserve")

_COMPONENTS: Final = "#/components/schemas/"
# Where pydantic is told to look for definitions, until they have their place and perhaps another name.
_UNPLACED: Final = "#/unplaced/{model}"
_UNPLACED_PREFIX: Final = "#/unplaced/"

_ERROR: Final[Json] = {
    "title": "Error",
    "type": "object",
    "properties": {"error": {"description": "What went wrong; a text unless the model raised something else."}},
    "required": ["error"],
}
_ERRORS: Final = {
    400: "The content is not what the model takes.",
    404: "The model says nothing of its types.",
    422: "The new code cannot be used; the code before goes on.",
    500: "The model failed, or its result cannot be sent.",
    503: "The model is loading, or the server is draining.",
}
_MODEL_ERRORS: Final = (400, 500, 503)

_MODEL_PARAMETER: Final[Json] = {
    "name": "model",
    "in": "path",
    "required": True,
    "description": "Any name: this server has one model.",
    "schema": {"type": "string"},
}


def _of_json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


# Kinds that are alike for every model: (summary, content of the 200, status codes of errors).
PLAIN: Final[Mapping[str, tuple[str, Json, tuple[int, ...]]]] = {
    "liveness": ("Whether the server answers", _of_json({"const": True}), ()),
    "readiness": ("Whether the model is loaded and wants requests", _of_json({"type": "object"}), (503,)),
    "health": (
        "Whether the model is loaded, wants requests and calls itself healthy",
        _of_json({"type": "object"}),
        (503,),
    ),
    "schema": ("What predict takes and returns, as JSON Schema", _of_json({"type": "object"}), (404, 500, 503)),
    "openapi": ("This document", _of_json({"type": "object"}), (503,)),
    "hot_reload": ("Give the living model the code that is on disk now", _of_json({"type": "object"}), (422,)),
    "metrics": ("Metrics for Prometheus", {"text/plain": {"schema": {"type": "string"}}}, (500,)),
}


def build_document(title: str, operations: Operations, methods: Mapping[str, Types]) -> Json:
    """The document. title: the model's name. methods: of the model, by name; an operation of another is left out.

    HEAD and OPTIONS are left out too: they go with every GET, and with everything.
    """
    components = _Components()
    kinds = {kind for pairs in operations.values() for _, kind in pairs}
    made = {kind: _of_plain(*PLAIN[kind]) for kind in PLAIN}
    made |= {kind: _of_method(kind, types, components) for kind, types in methods.items() if kind in kinds}
    paths: dict[str, Json] = {}
    for path, pairs in operations.items():
        found = {
            method.lower(): {"operationId": _identify(method, path), **made[kind]}
            for method, kind in pairs
            if method not in ("HEAD", "OPTIONS") and kind in made
        }
        if found:
            paths[path] = {**({"parameters": [_MODEL_PARAMETER]} if "{model}" in path else {}), **found}
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": __version__},
        "paths": paths,
        "components": {"schemas": components.schemas},
    }


def _identify(method: str, path: str) -> str:
    """An operationId that no other has: what client generators name their functions after."""
    slash = ["slash"] if path.endswith("/") else []
    return "_".join([method.lower(), *re.findall(r"\w+", path), *slash])


def _of_plain(summary: str, content: Json, errors: Sequence[int]) -> Json:
    return {"summary": summary, "responses": _responses(summary, content, errors)}


def _of_method(name: str, types: Types, components: _Components) -> Json:
    body: Json = {"description": "Whatever the model makes of it.", "content": {"*/*": {}}}
    if types.takes_input:
        schema = components.add(lambda: make_schema(types.input, _UNPLACED))
        body = {
            "required": True,
            "description": "JSON, or the same value in msgpack as application/octet-stream.",
            "content": {**_of_json(schema), "application/octet-stream": {}},
        }
    content = _content_of_result(types, components)
    return {
        "summary": f"The model's {name}",
        "requestBody": body,
        "responses": _responses("What the model returned.", content, _MODEL_ERRORS),
    }


def _content_of_result(types: Types, components: _Components) -> Json:
    """By Content-Type: JSON; bytes for a stream, and for the msgpack that answers binary content."""
    annotation = types.output and types.output.annotation
    if annotation is not None:
        schema = components.add(lambda: make_schema(annotation, _UNPLACED, is_result=True))
    elif types.is_stream or types.output is not None:
        schema = {"type": "string", "description": "The whole stream, for a client that accepts exactly JSON."}
    else:
        schema = {}
    return {**_of_json(schema), "application/octet-stream": {}}


def _responses(description: str, content: Json, errors: Sequence[int]) -> Json:
    refused = {"$ref": _COMPONENTS + "Error"}
    return {
        "200": {"description": description, "content": content},
        **{str(status): {"description": _ERRORS[status], "content": _of_json(refused)} for status in errors},
    }


class _Components:
    """The schemas that have a name, each once."""

    def __init__(self) -> None:
        self.schemas: dict[str, Json] = {"Error": _ERROR}
        # As they came, with all they refer to: tells one that is met again from a namesake.
        self._raw: dict[str, Json] = {}

    def add(self, make: Callable[[], Json | None]) -> Json:
        """What `make` makes, or a reference to it if it has a name; {} if there is no schema. Definitions move here.

        make: gives a schema whose references start with _UNPLACED_PREFIX. It runs hooks of the user's classes.
        """
        try:
            schema = dict(make() or {})  # a copy: pydantic 1 keeps its own
        except Exception as error:  # noqa: BLE001 - a field that JSON Schema has no words for
            _logger.warning("openapi.json goes without a schema: %s", str(error).partition("\n")[0])
            return {}
        definitions = {**schema.pop("definitions", {}), **schema.pop("$defs", {})}
        if "title" in schema:
            name = re.sub(r"[^A-Za-z0-9._-]", "_", schema["title"])
            definitions.setdefault(name, schema)
            schema = {"$ref": _UNPLACED_PREFIX + name} if definitions[name] is schema else schema
        places = {name: self._place(name, _reachable(name, definitions)) for name in definitions}
        references = {_UNPLACED_PREFIX + name: _COMPONENTS + place for name, place in places.items()}
        for name, place in places.items():
            self.schemas[place] = _replaced(definitions[name], references)
        replaced: Json = _replaced(schema, references)
        return replaced

    def _place(self, name: str, definitions: Json) -> str:
        """The name that a schema gets: a namesake with other fields (as a result, say) gets a number.

        definitions: its own, and those it refers to.
        """
        place, number = name, 1
        while place == "Error" or self._raw.get(place, definitions) != definitions:
            number += 1
            place = f"{name}_{number}"
        self._raw[place] = definitions
        return place


def _reachable(name: str, definitions: Mapping[str, Json]) -> Json:
    """Those of `definitions` that the schema of that name refers to, by any number of steps, and itself."""
    found, pending = dict[str, Any](), [name]
    while pending:
        one = pending.pop()
        if one not in found:
            found[one] = definitions[one]
            shown = repr(definitions[one])
            pending += [other for other in definitions if repr(_UNPLACED_PREFIX + other) in shown]
    return found


def _replaced(value: Any, references: Mapping[str, str]) -> Any:
    """`value` with every text that is among `references` replaced, in the mapping of a discriminator too."""
    if isinstance(value, dict):
        return {key: _replaced(inner, references) for key, inner in value.items()}
    if isinstance(value, list):
        return [_replaced(inner, references) for inner in value]
    return references.get(value, value) if isinstance(value, str) else value
