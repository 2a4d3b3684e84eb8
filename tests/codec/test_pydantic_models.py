"""Pydantic models as content: written by their own serializers, wherever they stand in a result."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pydantic
import pydantic.dataclasses
import pydantic.v1 as pydantic_1
import pytest

from fastserve.codec.json_text import encode_json
from fastserve.codec.pydantic_models import dump_model, is_model
from fastserve.errors import ResultError


class Answer(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(serialize_by_alias=True, populate_by_name=True)
    text: str = pydantic.Field(default="é", alias="answer")
    score: float = 0.5

    @pydantic.computed_field
    def length(self) -> int:
        return len(self.text)


class Array(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    values: Any
    blob: bytes = b"\xff"

    @pydantic.field_serializer("values")
    def list_values(self, values: Any) -> Any:
        return values.tolist() if values is not None else 1 / 0

    @pydantic.field_serializer("blob")
    def hex_blob(self, blob: bytes) -> str:
        return blob.hex()


class Bare(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    value: Any


class Numbers(pydantic.RootModel[list[int]]):
    pass


class Old(pydantic_1.BaseModel):
    text: str = "é"
    value: Any = None


@pydantic.dataclasses.dataclass
class Pair:
    left: int
    right: Answer


WRITTEN = [
    (Answer(), b'{"text":"\xc3\xa9","score":0.5,"length":1}'),  # no aliases, as in Truss
    (Array(values=np.arange(2)), b'{"values":[0,1],"blob":"ff"}'),
    (Numbers([1, 2]), b"[1,2]"),
    (Old(), b'{"text": "\\u00e9", "value": null}'),
    (Bare(value=float("nan")), b'{"value":null}'),
    (Bare(value=2**70), b'{"value":1180591620717411303424}'),
]


@pytest.mark.parametrize("model, written", WRITTEN)
def test_a_model_is_written_by_its_own_serializer(model: Any, written: bytes) -> None:
    assert encode_json(model) == written
    assert encode_json({"a": [model, np.float32(1)]}) == b'{"a":[' + written + b",1.0]}"
    assert encode_json({1: model}) == b'{"1":' + written + b"}"


@pytest.mark.parametrize("model, written", WRITTEN)
def test_a_model_beside_what_orjson_refuses_says_the_same(model: Any, written: bytes) -> None:
    value = orjson.loads(written.replace(b"1180591620717411303424", b'"big"'))
    encoded = encode_json({"big": 2**65, "nan": float("nan"), "a": model})
    assert encoded.startswith(b'{"big": 36893488147419103232, "nan": null, "a": ')
    assert orjson.loads(encoded.replace(b"1180591620717411303424", b'"big"'))["a"] == value


def test_a_model_in_a_pydantic_dataclass_is_too() -> None:
    assert encode_json(Pair(1, Answer())) == b'{"left":1,"right":' + WRITTEN[0][1] + b"}"


@pytest.mark.parametrize(
    "model, words",
    [
        (Bare(value=np.arange(2)), "PydanticSerializationError: Unable to serialize unknown type"),
        (Bare(value=b"\xff"), "PydanticSerializationError: "),
        (Array(values=None), "PydanticSerializationError: .*ZeroDivisionError"),
        (Old(value=object()), "TypeError: Object of type 'object' is not JSON serializable"),
    ],
)
def test_what_its_serializer_refuses_cannot_be_sent(model: Any, words: str) -> None:
    for value in (model, {"nested": [model]}):
        with pytest.raises(ResultError, match=words):
            encode_json(value)


@pytest.mark.parametrize(
    "value, dumped",
    [
        (Answer(), {"answer": "é", "score": 0.5, "length": 1}),
        (Numbers([1]), [1]),
        (Bare(value=b"\xff"), {"value": b"\xff"}),
        (Old(value=2), {"text": "é", "value": 2}),
        ([1], [1]),
        (None, None),
    ],
)
def test_for_binary_content_a_model_becomes_plain_values(value: Any, dumped: Any) -> None:
    assert dump_model(value) == dumped


def test_only_instances_are_models() -> None:
    assert is_model(Answer())
    assert is_model(Old())
    assert not is_model(Answer)
    assert not is_model({"model_dump_json": 1})
