"""Binary content out: byte for byte what Truss sends, and what is large in pieces that are not copied."""

from __future__ import annotations

import datetime as dt
import math
import sys
import uuid
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgpack
import msgpack_numpy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastserve.codec.msgpack_decode import decode_msgpack
from fastserve.codec.msgpack_encode import PIECE_BYTES, encode_msgpack
from fastserve.errors import ResultError
from tests.support.truss_payloads import TRUSS_PAYLOADS

LARGE = PIECE_BYTES


def encoded(value: Any) -> bytes:
    return b"".join(encode_msgpack([value]))


def by_msgpack_numpy(value: Any) -> bytes:
    content: bytes = msgpack_numpy.packb(value)
    return content


def address(content: Any) -> int:
    """Where the bytes lie."""
    return int(np.frombuffer(content, np.uint8).ctypes.data)


@pytest.mark.parametrize("value, sent", TRUSS_PAYLOADS)
def test_a_value_becomes_what_truss_makes_of_it(value: Any, sent: str) -> None:
    assert encoded(value) == bytes.fromhex(sent)


@pytest.mark.parametrize("dtype", ["?", "i1", ">u2", "<i4", "f2", "f4", "f8", "c8", "c16", "<U3", "S3", "f4,i2"])
@pytest.mark.parametrize("shape", [(), (1,), (0,), (2, 0), (2, 3), (300, 100)])
def test_an_array_becomes_what_msgpack_numpy_makes_of_it(dtype: str, shape: tuple[int, ...]) -> None:
    array: Any = np.zeros(shape, dtype)
    for value in (array, {"a": [array, 1]}, array.T, np.asfortranarray(array), array[..., ::-1] if shape else array):
        assert encoded(value) == by_msgpack_numpy(value)


def test_dates_in_numpy_s_form_are_read_back_though_msgpack_numpy_cannot_write_them() -> None:
    array: Any = np.array(["2024-01-02", "NaT"], dtype="M8[ns]")
    assert encoded(array) != b""
    for decode in (decode_msgpack, msgpack_numpy.unpackb):
        decoded = decode(encoded(array))
        assert (decoded.dtype, decoded.tobytes()) == (array.dtype, array.tobytes())


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.sampled_from([LARGE - 1, LARGE, LARGE + 1]).map(bytes)
    | st.datetimes()
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.complex_numbers(allow_nan=False),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text() | st.binary(), values, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300)
@given(VALUES)
def test_any_value_comes_back_as_it_was(value: Any) -> None:
    assert decode_msgpack(encoded(value)) == value


@settings(max_examples=200)
@given(st.lists(st.integers(0, 3), max_size=3), st.sampled_from(["<i8", ">i2", "<f2", "|b1", "<c8", "<U2"]))
def test_any_array_comes_back_as_it_was(shape: list[int], dtype: str) -> None:
    array: Any = np.arange(math.prod(shape)).reshape(shape).astype(dtype)
    for value in (array, array.T, array[..., ::-1] if shape else array):
        decoded = decode_msgpack(encoded({"a": value}))["a"]
        assert decoded.dtype == value.dtype
        assert decoded.tolist() == value.tolist()


Pair = namedtuple("Pair", "a b")


@pytest.mark.parametrize(
    "value",
    [
        Pair(1, 2),
        OrderedDict(b=1, a=2),
        bytearray(b"x"),
        memoryview(b"x"),
        bytearray(b"x" * LARGE),
        memoryview(b"xy" * LARGE).cast("H"),
        msgpack.ExtType(5, b"x"),
        msgpack.Timestamp(1, 2),
        {(1, 2): 3},
        list(range(1000)),
        {str(number): b"x" * (number * 500) for number in range(200)},
        [[[[[b"x" * LARGE]]]]],
        float("nan"),
        {math.nan: 1},
    ],
)
def test_what_msgpack_itself_takes_it_still_takes(value: Any) -> None:
    assert encoded(value) == msgpack.packb(value)


# --- what has no form ---


class Thing:
    pass


def circle() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def deep(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value, words",
    [
        (Thing(), "TypeError: .*Thing"),
        ({"a": [Thing()]}, "TypeError: .*Thing"),
        ({1, 2}, "TypeError: .*set"),
        (range(3), "TypeError: .*range"),
        (np.datetime64("2024-01-02"), "TypeError: .*datetime64"),
        (np.array([object()]), "TypeError: an array of Python objects"),
        ({"a": [[[[np.array([object()])]]]]}, "TypeError: an array of Python objects"),
        (2**64, "OverflowError: Integer value out of range"),
        (-(2**63) - 1, "OverflowError: Integer value out of range"),
        ("\ud800", "UnicodeEncodeError: "),
        (dt.time(1, tzinfo=dt.timezone.utc), "ValueError: a time of day in a time zone"),
        (memoryview(b"0123")[::2], "BufferError: "),
        (memoryview(b"01" * LARGE)[::2], "BufferError: "),
        (circle(), "ValueError: recursion limit exceeded"),
        (deep(2000), "ValueError: recursion limit exceeded"),
    ],
)
def test_what_has_no_form_is_a_result_error_that_names_it(value: Any, words: str) -> None:
    with pytest.raises(ResultError, match=words) as refused:
        encode_msgpack([value])
    assert isinstance(refused.value.__cause__, Exception)


def test_bytes_longer_than_msgpack_can_say_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastserve.codec.msgpack_encode._MAX_BIN", LARGE)  # 4 GiB would take their time
    assert encoded(b"x" * LARGE)
    with pytest.raises(ResultError, match="ValueError: more than 4 GiB"):
        encode_msgpack([b"x" * (LARGE + 1)])


def test_without_numpy_and_decimal_nothing_of_them_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "numpy")
    monkeypatch.delitem(sys.modules, "decimal")
    assert encoded({"a": 1j, "b": uuid.UUID(int=1)}) == msgpack_numpy.packb(
        {"a": 1j, "b": {b"__uuid__": True, b"data": str(uuid.UUID(int=1))}}
    )
    with pytest.raises(ResultError, match="Decimal"):
        encode_msgpack([Decimal(1)])
    assert "numpy" not in sys.modules and "decimal" not in sys.modules


# --- pieces ---


@pytest.mark.parametrize("size", [LARGE - 1, LARGE, 3 * LARGE])
@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [v], lambda v: {"a": {"b": (1, v)}}])
def test_large_bytes_are_a_piece_of_their_own_whoever_holds_them(size: int, wrap: Callable[[Any], Any]) -> None:
    value = b"x" * size
    pieces = encode_msgpack([wrap(value)])
    assert any(piece is value for piece in pieces) == (size >= LARGE)
    assert b"".join(pieces) == msgpack.packb(wrap(value))


@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [v], lambda v: {"a": {"b": (1, v)}}])
def test_a_large_array_that_nobody_else_holds_is_not_copied(wrap: Callable[[Any], Any]) -> None:
    box: list[Any] = [np.arange(LARGE, dtype=np.uint8)]
    place, expected = box[0].ctypes.data, by_msgpack_numpy(wrap(box[0]))
    pieces = encode_msgpack([wrap(box.pop())])
    assert [address(piece) for piece in pieces if len(piece) == LARGE] == [place]
    assert b"".join(pieces) == expected
    assert all(len(piece) == memoryview(piece).nbytes for piece in pieces)  # what a transport counts


def test_many_large_values_keep_their_order() -> None:
    mutable = bytearray(b"2" * LARGE)
    array: Any = np.full(LARGE, 3, np.uint8)
    value = [b"1" * LARGE, mutable, {"a": array, b"k" * LARGE: 1}, memoryview(b"4" * LARGE), "end", array.T]
    pieces = encode_msgpack([value])
    assert len(pieces) == 10
    assert b"".join(pieces) == by_msgpack_numpy(value)


SHOWN: list[Callable[[Any], Any]] = [
    lambda buffer: buffer,
    lambda buffer: [buffer],
    lambda buffer: {"a": {"b": (1, buffer)}},
    lambda buffer: [[[[[[buffer]]]]]],
    lambda buffer: {str(number): buffer for number in range(100)},
    lambda buffer: memoryview(buffer),
    lambda buffer: [memoryview(buffer)[1:]],
]
SHOWN_ARRAYS: list[Callable[[Any], Any]] = [
    lambda buffer: {"a": buffer[:-1]},
    lambda buffer: [buffer.reshape(2, -1)],
    lambda buffer: [np.frombuffer(buffer, np.uint8)],
]


@pytest.mark.parametrize("size", [10, 2 * LARGE])
@pytest.mark.parametrize(
    "make, show",
    [(bytearray, show) for show in SHOWN]
    + [(lambda size: np.zeros(size, np.uint8), show) for show in SHOWN + SHOWN_ARRAYS],
)
def test_an_answer_is_not_changed_by_the_next_predict(
    make: Callable[[int], Any], show: Callable[[Any], Any], size: int
) -> None:
    buffer = make(size)
    first = encode_msgpack([show(buffer)])
    before = b"".join(first)
    memoryview(buffer)[:] = b"\1" * size
    assert b"".join(first) == before
    assert encoded(show(buffer)) != before


def test_a_container_that_the_model_keeps_has_its_arrays_copied() -> None:
    kept: Any = {"a": [np.zeros(LARGE, np.uint8)]}
    for value in (kept, [kept], {"b": kept["a"]}):
        pieces = encode_msgpack([value])
        assert kept["a"][0].ctypes.data not in [address(piece) for piece in pieces]
