"""The schema of a model and the document of all routes, through the life of a server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import openapi_spec_validator
import orjson
import pydantic
import pydantic.v1 as pydantic_1
import pytest

from fastserve import __version__
from fastserve.endpoints.openapi import PLAIN, build_document
from fastserve.endpoints.router import OPENAI, WEBSOCKET, Endpoints, Router
from fastserve.endpoints.schema import Schemas
from fastserve.lifecycle import Lifecycle, State
from fastserve.messages import Head, Request, Route
from fastserve.model.contract import read_contract
from fastserve.model.runtime import Runtime
from fastserve.model.schemas import read_types
from fastserve.model.typed import read_inputs
from tests.support.responder import RecordingResponder

TRUSS_FIELDS = b"X-BASETEN-ERROR-SOURCE: 04\r\nX-BASETEN-ERROR-CODE: %d\r\n"


class Item(pydantic.BaseModel):
    name: str
    count: int = pydantic.Field(default=1, alias="n")


class Order(pydantic.BaseModel):
    items: list[Item]


class Receipt(pydantic.BaseModel):
    order: Order
    error: Error | None = None


class Error(pydantic.BaseModel):
    """A user's own, of the name that the server has for its."""

    why: str


class Inner(pydantic_1.BaseModel):
    x: int


class Old(pydantic_1.BaseModel):
    inner: Inner


class Tree(pydantic.BaseModel):
    branches: list[Tree]

    @pydantic.computed_field
    def size(self) -> int:
        return 1 + sum(branch.size for branch in self.branches)  # type: ignore[misc] # as pydantic has it


class Unworded(pydantic.BaseModel):
    function: object = pydantic.Field(default=None)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> Any:
        raise ValueError("no words\nfor it")


Receipt.model_rebuild()


class Typed:
    def predict(self, order: Order) -> Receipt: ...  # type: ignore[empty-body]

    def chat_completions(self, question: Item) -> list[Item]: ...  # type: ignore[empty-body]

    def embeddings(self, old: Old) -> Old: ...  # type: ignore[empty-body]


class Untyped:
    def predict(self, model_input):  # type: ignore[no-untyped-def]
        ...


class Streaming:
    def predict(self) -> Any:
        yield "a"


class Broken:
    def predict(self, unworded: Unworded) -> Unworded: ...  # type: ignore[empty-body]


class Scene:
    """The routes of a server that has this model. is_loaded: or is still loading it."""

    def __init__(self, model: object, *, is_loaded: bool = True) -> None:
        self.lifecycle = Lifecycle()
        if is_loaded:
            self.lifecycle.move_to(State.READY)
        contract = read_contract(model)
        self.types = read_types(contract, read_inputs(contract))
        runtime = type("FakeRuntime", (), {"contract": contract, "inputs": read_inputs(contract), "on_adopted": []})
        schemas = Schemas(cast(Runtime, runtime), self.lifecycle, "the name")
        endpoints = Endpoints(
            predict=finder(),
            openai={name: finder() for name in OPENAI},
            websocket=finder(),
            liveness=none,
            readiness=none,
            health=none,
            metrics=none,
            schema=schemas.answer_schema,
            openapi=schemas.answer_openapi,
        )
        self.router = Router(endpoints)
        self.fields = b""

    def get(self, path: str) -> tuple[int, Any]:
        responder = RecordingResponder()
        head = Head(b"", b"GET", path.encode(), path.encode(), {})
        self.router.route(head).answer(Request(head, b"", responder))
        assert responder.response is not None
        self.fields = responder.response.fields
        return responder.response.kind[0], orjson.loads(responder.content)

    def document(self) -> Any:
        """openapi.json, which must be valid."""
        status, document = self.get("/openapi.json")
        assert status == 200
        openapi_spec_validator.validate(document)
        return document


def none(request: Request) -> None: ...


def finder() -> Callable[[Head], Route]:
    return lambda head: Route(none)


def content_of(operation: Any) -> tuple[Any, Any]:
    """The schemas of an operation's request and of its 200."""
    contents = (operation["requestBody"], operation["responses"]["200"])
    request, response = (c["content"]["application/json"]["schema"] for c in contents)
    return request, response


# --- /v1/models/{model}/schema ---


def test_the_schema_is_trusss_account_of_predict() -> None:
    status, account = Scene(Typed()).get("/v1/models/any/schema")
    assert status == 200
    assert account == {
        "input_schema": Order.model_json_schema(),
        "output_schema": Receipt.model_json_schema(),
        "supports_streaming": False,
    }


@pytest.mark.parametrize("model", [Untyped(), Streaming()])
def test_without_types_there_is_trusss_404(model: object) -> None:
    scene = Scene(model)
    assert scene.get("/v1/models/any/schema") == (404, {"error": "No schema found"})
    assert scene.fields == TRUSS_FIELDS % 600


@pytest.mark.parametrize(
    "path, words",
    [
        ("/v1/models/any/schema", "Schema not available, please try again later."),
        ("/openapi.json", "Model with name model is not ready."),
    ],
)
def test_while_the_model_is_loading_there_is_503_and_afterwards_the_document(path: str, words: str) -> None:
    scene = Scene(Typed(), is_loaded=False)
    assert scene.get(path) == (503, {"error": words})
    assert scene.fields == TRUSS_FIELDS % 600
    scene.lifecycle.move_to(State.READY)
    assert scene.get(path)[0] == 200
    scene.lifecycle.move_to(State.DRAINING)
    assert scene.get(path) == Scene(Typed()).get(path)


def test_a_model_that_json_schema_has_no_words_for_is_a_500_that_says_why(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(Broken())
    error = "Unhandled exception: ValueError: no words\nfor it"
    assert scene.get("/v1/models/any/schema") == (500, {"error": error})
    assert scene.fields == TRUSS_FIELDS % 500
    assert "the model's schema cannot be made" in caplog.text


# --- /openapi.json ---


def test_the_document_names_the_model_and_every_route() -> None:
    scene = Scene(Typed())
    document = scene.document()
    assert document["openapi"] == "3.1.0"
    assert document["info"] == {"title": "the name", "version": __version__}
    operations = scene.router.operations()
    missing = {path.decode() for path in (OPENAI["completions"], OPENAI["messages"], OPENAI["responses"], WEBSOCKET)}
    assert set(document["paths"]) == set(operations) - missing
    for path, described in document["paths"].items():
        pairs = operations[path]
        assert set(described) - {"parameters"} == {method.lower() for method, _ in pairs if method != "HEAD"}
        assert ("parameters" in described) is ("{model}" in path)
        for _, kind in pairs:
            assert kind in PLAIN or kind in scene.types
    names = [o["operationId"] for item in document["paths"].values() for m, o in item.items() if m != "parameters"]
    assert len(set(names)) == len(names)
    assert {"get_slash", "post_predict", "post_v1_models_model_predict", "get_v1_models_model_schema"} <= set(names)


def test_errors_have_the_one_form_of_all_errors() -> None:
    document = Scene(Typed()).document()
    responses = document["paths"]["/predict"]["post"]["responses"]
    assert set(responses) == {"200", "400", "500", "503"}
    for status in ("400", "500", "503"):
        assert responses[status]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Error"}
    assert "404" in document["paths"]["/v1/models/{model}/schema"]["get"]["responses"]
    assert document["components"]["schemas"]["Error"]["required"] == ["error"]


def test_predict_takes_and_returns_what_its_annotations_say() -> None:
    document = Scene(Typed()).document()
    schemas = document["components"]["schemas"]
    predicts = ["/predict", "/invocations", "/v1/models/{model}:predict", "/v1/models/{model}:predict_binary"]
    for path in predicts:
        operation = document["paths"][path]["post"]
        assert content_of(operation) == (
            {"$ref": "#/components/schemas/Order"},
            {"$ref": "#/components/schemas/Receipt"},
        )
        for body in (operation["requestBody"], operation["responses"]["200"]):
            assert set(body["content"]) == {"application/json", "application/octet-stream"}
    expected = Order.model_json_schema(ref_template="#/components/schemas/{model}")
    assert schemas["Item"] == expected.pop("$defs")["Item"]
    assert schemas["Order"] == expected


def test_a_result_s_schema_of_a_name_that_is_taken_gets_another() -> None:
    schemas = Scene(Typed()).document()["components"]["schemas"]
    assert schemas["Receipt"]["properties"]["order"] == {"$ref": "#/components/schemas/Order_2"}
    assert schemas["Order_2"]["properties"]["items"]["items"] == {"$ref": "#/components/schemas/Item_2"}
    assert set(schemas["Item_2"]["properties"]) == {"name", "count"}
    assert schemas["Receipt"]["properties"]["error"]["anyOf"][0] == {"$ref": "#/components/schemas/Error_2"}
    assert set(schemas["Error_2"]["properties"]) == {"why"}


def test_each_method_has_its_own_types_and_those_that_the_model_lacks_no_route() -> None:
    operations = {
        "/v1/chat/completions": [("POST", "chat_completions")],
        "/v1/embeddings": [("POST", "embeddings")],
        "/v1/messages": [("POST", "messages")],
        "/v1/x/{model}": [("POST", "messages")],
    }
    document = orjson.loads(orjson.dumps(build_document("a", operations, Scene(Typed()).types)))
    openapi_spec_validator.validate(document)
    assert set(document["paths"]) == {"/v1/chat/completions", "/v1/embeddings"}
    assert content_of(document["paths"]["/v1/chat/completions"]["post"]) == (
        {"$ref": "#/components/schemas/Item"},
        {"type": "array", "items": {"$ref": "#/components/schemas/Item_2"}},
    )
    assert content_of(document["paths"]["/v1/embeddings"]["post"]) == ({"$ref": "#/components/schemas/Old"},) * 2
    assert set(document["components"]["schemas"]) == {"Error", "Item", "Item_2", "Inner", "Old"}


def test_a_model_within_itself_is_told_from_a_namesake_too() -> None:
    class Model:
        def predict(self, tree: Tree) -> Tree: ...  # type: ignore[empty-body]

    document = Scene(Model()).document()
    assert content_of(document["paths"]["/predict"]["post"]) == (
        {"$ref": "#/components/schemas/Tree"},
        {"$ref": "#/components/schemas/Tree_2"},
    )
    assert document["components"]["schemas"]["Tree_2"]["properties"]["branches"]["items"] == {
        "$ref": "#/components/schemas/Tree_2"
    }


def test_a_method_without_annotations_takes_and_returns_anything() -> None:
    document = Scene(Untyped()).document()
    assert content_of(document["paths"]["/predict"]["post"]) == ({}, {})
    assert set(document["components"]["schemas"]) == {"Error"}


def test_a_generator_s_output_may_be_asked_for_whole_and_what_is_not_looked_at_may_be_anything() -> None:
    operation = Scene(Streaming()).document()["paths"]["/predict"]["post"]
    assert operation["requestBody"]["content"] == {"*/*": {}}
    assert "required" not in operation["requestBody"]
    assert operation["responses"]["200"]["content"]["application/json"]["schema"]["type"] == "string"


def test_what_json_schema_has_no_words_for_is_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    document = Scene(Broken()).document()
    assert content_of(document["paths"]["/predict"]["post"]) == ({}, {})
    assert "openapi.json goes without a schema: no words" in caplog.text


def test_a_model_with_a_websocket_alone_has_no_predict() -> None:
    class Websocket:
        async def websocket(self, websocket: Any) -> None: ...

    paths = Scene(Websocket()).document()["paths"]
    assert "/predict" not in paths
    assert set(paths["/v1/models/{model}:predict"]) == {"get", "parameters"}
