"""JSON in and out: what orjson refuses the standard library takes; what neither takes is told in Truss's words."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import math
import subprocess
import sys
import uuid
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastserve.codec import json_text
from fastserve.codec.json_text import decode_json, encode_json
from fastserve.errors import RequestError, ResultError

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
    max_leaves=20,
)


def strictly(content: bytes) -> Any:
    """The value of `content`, which must be JSON in UTF-8 by RFC 8259's letter."""
    return orjson.loads(content)


# --- in ---


@settings(max_examples=60)
@given(JSON_VALUES)
def test_any_json_value_comes_back_as_it_was(value: Any) -> None:
    assert decode_json(encode_json(value)) == value
    assert decode_json(json.dumps(value).encode()) == value


@settings(max_examples=60)
@given(JSON_VALUES)
def test_what_is_encoded_is_what_the_standard_library_would_have_said(value: Any) -> None:
    assert json.loads(encode_json(value)) == value


@pytest.mark.parametrize(
    "content, expected",
    [
        (b"Infinity", math.inf),
        (b'{"a": [-Infinity]}', {"a": [-math.inf]}),
        (b"[1e999]", [math.inf]),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        ('{"a": "\u20ac"}'.encode("utf-16"), {"a": "\u20ac"}),
        ('{"a": "\u20ac"}'.encode("utf-16-le"), {"a": "\u20ac"}),
        ("[1]".encode("utf-32-be"), [1]),
        (rb'"\ud800"', "\ud800"),
        (rb'"\ud83d\ude00"', "\U0001f600"),
        (b" null\n", None),
        (b"[" * 900 + b"]" * 900, None),
    ],
)
def test_what_the_standard_library_takes_is_taken(content: bytes, expected: Any) -> None:
    assert decode_json(content) == json.loads(content)
    if expected is not None:
        assert decode_json(content) == expected


def test_nan_is_taken() -> None:
    assert math.isnan(decode_json(b"NaN"))
    assert math.isnan(decode_json(b'{"a": [1, NaN]}')["a"][1])


BAD = [
    b"",
    b" ",
    b"{",
    b"[1,]",
    b'{"a": 1,}',
    b"{'a': 1}",
    b'{"a" 1}',
    b"[1] 2",
    b"nul",
    b'"no end',
    b'"tab \t"',
    b"+1",
    b"01",
    b"\xef\xbb\xbf",
    b'"\\x"',
    b"\x00",
    b"[1, 2",
    b"// no",
]


@pytest.mark.parametrize("content", BAD)
def test_a_mistake_is_told_in_the_standard_library_s_words(content: bytes) -> None:
    with pytest.raises(ValueError) as expected:
        json.loads(content)
    with pytest.raises(RequestError) as refused:
        decode_json(content)
    assert (refused.value.status, refused.value.message) == (400, f"Invalid JSON payload: {expected.value}")


def test_truss_text_for_an_empty_content() -> None:
    with pytest.raises(RequestError, match=r"Invalid JSON payload: Expecting value: line 1 column 1 \(char 0\)"):
        decode_json(b"")


@pytest.mark.parametrize(
    "content, message",
    [
        (b'{"a": "\xe9"}', "not utf-8 at byte 7"),
        (b'"\xed\xa0\x80"', "not utf-8 at byte 1"),
        ('"\u20ac"'.encode("utf-16")[:-1], "not utf-16"),
    ],
)
def test_bytes_that_are_not_the_text_they_seem_are_refused_with_their_place(content: bytes, message: str) -> None:
    with pytest.raises(RequestError, match=f"Invalid JSON payload: {message}") as refused:
        decode_json(content)
    assert refused.value.status == 400


@pytest.mark.parametrize("content", [b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 100_000])
def test_nesting_no_parser_follows_is_refused(content: bytes) -> None:
    with pytest.raises(RequestError, match="nested too deeply") as refused:
        decode_json(content)
    assert refused.value.status == 400


@given(st.binary(max_size=40))
@example(b"9" * 5000)
@example(b"[" + b"9" * 5000)
def test_any_bytes_are_a_value_or_a_400(content: bytes) -> None:
    try:
        decode_json(content)
    except RequestError as refused:
        assert refused.status == 400
        assert refused.message.startswith("Invalid JSON payload: ")


# --- out ---


class Colour(enum.Enum):
    RED = "red"


class Text(str):
    __slots__ = ()


@dataclasses.dataclass
class Point:
    x: int
    y: float


@pytest.mark.parametrize(
    "value, expected",
    [
        ({"a": 1, "b": [True, None, 1.5, "\u20ac"]}, '{"a":1,"b":[true,null,1.5,"\u20ac"]}'),
        ((1, (2, 3)), "[1,[2,3]]"),
        (None, "null"),
        (Text("sub"), '"sub"'),
        ({1: "a", False: "b", None: "c", 1.5: "d"}, '{"1":"a","false":"b","null":"c","1.5":"d"}'),
        ({"a": {2: {3: 4}}}, '{"a":{"2":{"3":4}}}'),
        (2**63, "9223372036854775808"),
        (math.nan, "null"),
        ([math.inf, -math.inf], "[null,null]"),
        (Point(1, 2.5), '{"x":1,"y":2.5}'),
        (Colour.RED, '"red"'),
        (datetime.datetime(2024, 1, 2, 3, 4, 5), '"2024-01-02T03:04:05"'),
        (uuid.UUID(int=7), '"00000000-0000-0000-0000-000000000007"'),
    ],
)
def test_a_value_of_python_has_its_json_form(value: Any, expected: str) -> None:
    assert encode_json(value) == expected.encode()


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, 10**40])
def test_integers_over_64_bits_stay_exact(value: int) -> None:
    for inside in (value, [value], {"a": {1: value}}):
        assert json.loads(encode_json(inside)) == json.loads(json.dumps(inside))


def test_half_a_surrogate_pair_is_written_as_an_escape() -> None:
    assert encode_json({"a": "\ud800"}) == rb'{"a": "\ud800"}'


def test_nesting_deeper_than_orjson_goes_is_written() -> None:
    value: list[Any] = []
    for _ in range(500):
        value = [value]
    assert encode_json(value) == b"[" * 501 + b"]" * 501


@pytest.mark.parametrize("beside", [2**70, {1: 2**70}])
@pytest.mark.parametrize(
    "value, expected",
    [
        ([math.nan, (math.inf, {"a": -math.inf})], [None, [None, {"a": None}]]),
        (np.float32("nan"), None),
        (np.array([math.nan, 1.5]), [None, 1.5]),
        (Point(1, math.nan), {"x": 1, "y": None}),
    ],
)
def test_what_the_standard_library_had_to_write_is_strict_json_too(value: Any, expected: Any, beside: Any) -> None:
    assert strictly(encode_json([value, beside]))[0] == expected


@pytest.mark.parametrize(
    "value, expected", [(datetime.date(2024, 1, 2), "2024-01-02"), (Point(1, 2.5), {"x": 1, "y": 2.5})]
)
def test_a_value_has_the_same_form_whatever_stands_beside_it(value: Any, expected: Any) -> None:
    assert strictly(encode_json([value, 1]))[0] == expected
    assert json.loads(encode_json([value, 2**70]))[0] == expected


# --- numpy ---


ARRAYS: list[tuple[Any, Any]] = [
    (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
    (np.arange(6).reshape(2, 3).T, [[0, 3], [1, 4], [2, 5]]),
    (np.arange(6)[::2], [0, 2, 4]),
    (np.arange(6)[::-1], [5, 4, 3, 2, 1, 0]),
    (np.asfortranarray([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
    (np.array([1, 2], dtype=">i4"), [1, 2]),
    (np.array(7), 7),
    (np.array([]), []),
    (np.zeros((2, 0)), [[], []]),
    (np.array([1.5], dtype=np.float16), [1.5]),
    (np.array([[1.5], [2.5]], dtype=np.float16)[::-1], [[2.5], [1.5]]),
    (np.array([0.5], dtype=np.float32), [0.5]),
    (np.array([True, False]), [True, False]),
    (np.array([250], dtype=np.uint8), [250]),
    (np.array([2**64 - 1], dtype=np.uint64), [2**64 - 1]),
    (np.array(["a", "b"]), ["a", "b"]),
    (np.array([{"a": 1}, None], dtype=object), [{"a": 1}, None]),
    (np.array([math.nan, math.inf]), [None, None]),
    (np.array([math.nan, math.inf])[::-1], [None, None]),
    (np.array(["2024-01-02"], dtype="datetime64[D]"), ["2024-01-02T00:00:00"]),
]


@pytest.mark.parametrize("value, expected", ARRAYS)
def test_an_array_becomes_lists(value: Any, expected: Any) -> None:
    for wrapped, wanted in [(value, expected), ({"a": [value]}, {"a": [expected]}), ({1: value}, {"1": expected})]:
        assert strictly(encode_json(wrapped)) == wanted


@pytest.mark.parametrize(
    "value, expected",
    [
        (np.int64(-5), -5),
        (np.int8(5), 5),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.float64(1.5), 1.5),
        (np.float32(0.5), 0.5),
        (np.float16(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("text"), "text"),
    ],
)
def test_a_numpy_scalar_becomes_a_number(value: Any, expected: Any) -> None:
    assert strictly(encode_json({"a": value})) == {"a": expected}
    assert json.loads(encode_json({"a": [value, 2**70]})) == {"a": [expected, 2**70]}


def test_numpy_s_nan_becomes_null_too() -> None:
    assert encode_json([np.float32("nan"), np.float64("inf")]) == b"[null,null]"


def test_numpy_is_not_imported_for_a_model_that_did_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "numpy")
    assert encode_json({1: 2**70}) == b'{"1": 1180591620717411303424}'
    with pytest.raises(ResultError, match="set"):
        encode_json({1, 2})
    assert "numpy" not in sys.modules


def test_orjson_does_not_import_it_either() -> None:
    lines = "import datetime, sys; from fastserve.codec.json_text import encode_plain; import orjson"
    values = 'b"bytes", {"a": {1}}, object(), datetime.datetime.now(), (value for value in [1])'
    tries = f"""
for value in ({values}):
    try:
        encode_plain(value)
    except TypeError:
        pass
print("numpy" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", lines + tries], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    "value",
    [
        np.float32(0.1),
        np.float64(0.1),
        np.int64(-7),
        np.bool_(True),
        np.array([0.1, 0.2], np.float32),
        {"a": [np.arange(3), np.arange(4.0)[::2]], "b": np.float32(1.1)},
        {1: np.array([0.1], np.float32)},
        np.array([{"a": None}, 2**70], object),
        [np.array([{1: np.float32(1.1)}], object), np.float32(1.1)],
        np.array([np.float32(1.1)], object)[::-1],
        np.array(["a", "b"]),
        np.array(["2026-01-02"], "datetime64[s]"),
        np.array(7),
        np.float16(1.1),
    ],
)
def test_the_first_of_numpy_is_written_like_those_behind_it(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_text, "_numpy_option", 0)
    first = encode_json(value)
    monkeypatch.setattr(json_text, "_numpy_option", orjson.OPT_SERIALIZE_NUMPY)
    assert encode_json(value) == first


def test_orjson_writes_numpy_from_the_first_time_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_text, "_numpy_option", 0)
    encode_json(np.float32(1.1))
    assert json_text._numpy_option == orjson.OPT_SERIALIZE_NUMPY


def test_an_array_beside_an_integer_over_64_bits_is_written_too() -> None:
    assert json.loads(encode_json({"a": np.arange(3)[::-1], "b": 2**70})) == {"a": [2, 1, 0], "b": 2**70}


@settings(max_examples=50)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=4), st.sampled_from(["i8", ">i2", "f2", "f4", "?", "u1"]))
def test_an_array_of_any_shape_and_order_becomes_what_tolist_says(shape: list[int], kind: str) -> None:
    array: Any = (np.arange(math.prod(shape)) % 2).astype(kind).reshape(shape)
    for view in (array, array.T, array[..., ::-1]):
        assert strictly(encode_json(view)) == view.tolist()


# --- what has no JSON form ---


class Thing:
    pass


def circle() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value, words",
    [
        (Thing(), "TypeError: .*Thing"),
        ({"a": [Thing()]}, "TypeError: .*Thing"),
        ({"a": {1: Thing()}}, "TypeError: .*Thing"),
        ([2**70, Thing()], "TypeError: .*Thing"),
        (b"bytes", "TypeError: .*bytes"),
        ({1, 2}, "TypeError: .*set"),
        (iter([1]), "TypeError: .*iterator"),
        ({(1, 2): 3}, "TypeError: .*keys"),
        ({"a": 1j}, "TypeError: .*complex"),
        (np.array([1j]), "TypeError: .*complex"),
        (np.array([Thing()], dtype=object), "TypeError: .*Thing"),
        (np.array([b"x"]), "TypeError: .*bytes"),
        (circle(), "ValueError: Circular"),
        (deep(), "Recursion"),
    ],
)
def test_what_has_no_json_form_is_told_by_its_type(value: Any, words: str) -> None:
    with pytest.raises(ResultError, match=words) as refused:
        encode_json(value)
    assert isinstance(refused.value.__cause__, (TypeError, ValueError, RecursionError))
