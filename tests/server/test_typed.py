"""Models with types, in a real process: their payloads checked, their results written, their schemas served."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import openapi_spec_validator
import pytest

from tests.support.process import Server, run_to_end, serving, write_model

MODELS = Path(__file__).parent.parent / "models"
NAMES = ("typed_pydantic", "typed_future", "typed_union", "typed_dict", "typed_dataclass")


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Server]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(serving(MODELS / name)) for name in NAMES}


def get(server: Server, path: str) -> Any:
    status, content = server.request("GET", path)
    assert status == 200, content
    return json.loads(content)


PREDICTED = [
    (
        "typed_pydantic",
        {"customer": "Ann", "items": [{"name": "a", "n": 3}, {"name": "b"}]},
        {"customer": "Ann", "total": 4, "first": {"name": "a", "count": 3}},
    ),
    ("typed_future", {"branches": [{}, {"branches": [{}]}]}, {"size": 4}),
    ("typed_union", {"text": "one two"}, {"words": ["one", "two"]}),
    ("typed_dict", [{"x": "1", "y": 2, "name": "a"}, {"x": 3, "y": 4}], {"x": 4, "y": 6, "names": ["a", None]}),
    ("typed_dataclass", {"width": 2, "height": "3", "holes": [{"width": 1, "height": 1}]}, {"area": 5.0}),
]


@pytest.mark.parametrize("name, payload, result", PREDICTED)
def test_the_model_gets_what_its_annotation_says(
    servers: dict[str, Server], name: str, payload: Any, result: Any
) -> None:
    assert servers[name].predict(payload) == result


@pytest.mark.parametrize(
    "name, content, error",
    [
        (
            "typed_pydantic",
            b'{"items": [{"n": -1}]}',
            "Input Parsing Errors:\n  `customer`: Field required.\n  `items[0].name`: Field required.\n"
            "  `items[0].n`: Input should be greater than or equal to 0.",
        ),
        ("typed_pydantic", b"", "Input Parsing Error:\n  `__root__`: Expecting value: line 1 column 1 (char 0)."),
        ("typed_future", b'{"branches": 3}', "Input Parsing Error:\n  `branches`: Input should be a valid list."),
        ("typed_future", b'{"fails": "as pydantic asks"}', "Input Parsing Error:\n  ``: Value error, no such tree."),
        ("typed_dict", b'[{"x": 1}]', "Input Parsing Error:\n  `[0].y`: Field required."),
        ("typed_dataclass", b'{"width": 1}', "Input Parsing Error:\n  `height`: Field required."),
    ],
)
def test_what_is_not_that_is_told_in_trusss_words(
    servers: dict[str, Server], name: str, content: bytes, error: str
) -> None:
    status, answer = servers[name].request("POST", "/predict", content)
    assert (status, json.loads(answer)) == (400, {"error": error})


def test_each_route_goes_by_its_own_method(servers: dict[str, Server]) -> None:
    server = servers["typed_pydantic"]
    status, answer = server.request("POST", "/v1/chat/completions", b'{"name": "Ann", "n": 2}')
    assert (status, json.loads(answer)) == (200, [{"customer": "Ann", "total": 2, "first": None}])
    status, answer = server.request("POST", "/v1/chat/completions", b'{"customer": "Ann"}')
    assert (status, json.loads(answer)) == (400, {"error": "Input Parsing Error:\n  `name`: Field required."})
    paths = get(server, "/openapi.json")["paths"]
    assert "/v1/chat/completions" in paths
    assert "/v1/embeddings" not in paths


def test_what_a_validator_itself_raises_is_logged_and_not_told(servers: dict[str, Server]) -> None:
    server = servers["typed_future"]
    status, answer = server.request("POST", "/predict", b'{"fails": "by itself"}')
    assert (status, json.loads(answer)) == (500, {"error": "Internal Server Error (in model/chainlet)."})
    server.wait_for_log("RuntimeError: by itself")
    assert server.predict({}) == {"size": 1}


def test_a_union_with_a_generator_may_be_either(servers: dict[str, Server]) -> None:
    content = json.dumps({"text": "one two", "stream": True}).encode()
    assert servers["typed_union"].request("POST", "/predict", content) == (200, b"onetwo")


@pytest.mark.parametrize(
    "name, takes, returns, supports_streaming",
    [
        ("typed_pydantic", "Order", "Receipt", False),
        ("typed_future", "Tree", "Size", False),
        ("typed_union", "Question", "Answer", True),
        ("typed_dict", "Point", "Point", False),
        ("typed_dataclass", "Box", "Area", False),
    ],
)
def test_schemas_are_served(
    servers: dict[str, Server], name: str, takes: str, returns: str, supports_streaming: bool
) -> None:
    account = get(servers[name], "/v1/models/model/schema")
    assert set(account) == {"input_schema", "output_schema", "supports_streaming"}
    assert account["supports_streaming"] is supports_streaming
    assert takes in json.dumps(account["input_schema"])
    assert account["output_schema"]["title"] == returns
    document = get(servers[name], "/openapi.json")
    openapi_spec_validator.validate(document)
    assert document["info"]["title"] == name
    assert {takes, returns} <= set(document["components"]["schemas"])
    status, content = servers[name].request("HEAD", "/openapi.json")
    assert (status, content) == (200, b"")


def test_a_model_that_names_what_is_not_there_does_not_start(tmp_path: Path) -> None:
    source = (
        "from pydantic import BaseModel\nclass Order(BaseModel):\n    item: 'Itme'\n"
        "class Model:\n    def predict(self, order: Order):\n        return 1\n"
    )
    status, log = run_to_end(write_model(tmp_path, source), "--port", "0")
    assert status != 0
    assert "`Order` is not a complete pydantic model: name 'Itme' is not defined" in log
    assert "Traceback" not in log
