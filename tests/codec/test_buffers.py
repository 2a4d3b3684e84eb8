"""Bytes without a copy, and never bytes that a model can still change."""

from __future__ import annotations

import ctypes
import datetime
import functools
import gc
import io
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastserve.codec.buffers import Content, as_content, is_held_once, plain_bytes
from fastserve.errors import ResultError


def address(content: Any) -> int:
    """Where the bytes lie."""
    return int(np.frombuffer(content, np.uint8).ctypes.data)


class Odd(np.ndarray):
    """Never flat, as numpy's own matrix is not."""

    def reshape(self, *shape: Any, **order: Any) -> Any:
        return super().reshape(1, -1)

    def tobytes(self, order: Any = "C") -> bytes:
        raise AssertionError


def content_of(make: Callable[[], Any]) -> Content:
    """`as_content` of what `make` returns, with no reference to it but the box's."""
    box = [make()]
    content = as_content(box)
    assert content is not None
    assert len(content) == memoryview(content).nbytes  # what a transport counts
    return content


# --- what goes out without a copy ---


def test_bytes_go_out_as_they_are_whoever_holds_them() -> None:
    value = b"x" * 100
    assert as_content([value]) is value


def test_a_subclass_of_bytes_goes_out_from_where_it_lies() -> None:
    class Text(bytes):
        def __len__(self) -> int:
            return 1

    value = Text(b"x" * 100)
    assert address(as_content([value])) == address(value)
    assert content_of(lambda: value) == b"x" * 100


@pytest.mark.parametrize("view", [lambda v: v, lambda v: v[10:20], lambda v: v.cast("I"), lambda v: memoryview(v)])
def test_a_view_of_bytes_goes_out_without_a_copy_whoever_holds_it(view: Callable[[memoryview], memoryview]) -> None:
    value = view(memoryview(bytes(range(200))))
    content = as_content([value])
    assert content == value.tobytes()
    assert address(content) == address(value)


ARRAYS: list[Callable[[], Any]] = [
    lambda: np.arange(1000.0),
    lambda: np.arange(1000.0).reshape(10, 100),
    lambda: np.arange(1000.0)[100:200],
    lambda: np.arange(1000.0)[100:].reshape(9, 100)[3:5],
    lambda: np.ones((2, 3, 4), dtype=">i2"),
    lambda: np.array(7),
    lambda: np.array(["2024-01-02"], dtype="M8[ns]"),
    lambda: np.zeros(3, dtype=[("a", "i4"), ("b", "f8")]),
    lambda: np.array(["text"]),
    lambda: np.ones(3, dtype=np.float16),
]


@pytest.mark.parametrize("make", ARRAYS)
def test_an_array_that_nobody_else_holds_goes_out_without_a_copy(make: Callable[[], Any]) -> None:
    box = [make()]
    expected, place = box[0].tobytes(), box[0].ctypes.data
    content = as_content(box)
    assert isinstance(content, memoryview)
    assert address(content) == place
    box.clear()
    gc.collect()
    assert content == expected  # it keeps its memory alive


def test_a_bytearray_that_nobody_else_holds_goes_out_without_a_copy() -> None:
    box = [bytearray(b"x" * 100)]
    place = address(box[0])
    assert address(as_content(box)) == place


def test_an_array_over_bytes_goes_out_without_a_copy_whoever_holds_it() -> None:
    received = bytes(range(100))
    for value in (np.frombuffer(received, np.uint8), np.frombuffer(memoryview(received)[4:], "<u4")[1:]):
        content = as_content([value])
        assert content == value.tobytes()
        assert address(content) == value.ctypes.data
    assert content_of(lambda: np.frombuffer(received, np.uint8).view(Odd)) == received


# --- what is copied ---


class Kept:
    """A model that keeps its output buffer, and shows what it returned in some other guise."""

    def __init__(self, show: Callable[[Any], Any]) -> None:
        self.buffer: Any = np.arange(100, dtype=np.uint8)
        self.show = show

    def predict(self, number: int) -> Any:
        self.buffer[:] = number
        return self.show(self.buffer)


def shown_over_the_buffer(buffer: Any) -> Any:
    """An array over the same memory that only a C structure ties to it."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * 100).from_buffer(buffer))


GUISES: list[Callable[[Any], Any]] = [
    lambda buffer: buffer,
    lambda buffer: buffer[:50],
    lambda buffer: buffer[::2],
    lambda buffer: buffer.reshape(10, 10),
    lambda buffer: buffer.reshape(10, 10).T,
    lambda buffer: buffer[10:].reshape(9, 10)[2:],
    lambda buffer: buffer.view("<u4"),
    lambda buffer: buffer.view(np.recarray),
    lambda buffer: buffer.view(Odd),
    lambda buffer: np.ma.masked_array(buffer),
    lambda buffer: np.lib.stride_tricks.as_strided(buffer, (10,), (1,)),
    lambda buffer: np.broadcast_to(buffer, (2, 100)),
    lambda buffer: np.frombuffer(buffer, np.uint8),
    lambda buffer: np.frombuffer(memoryview(buffer), np.uint8),
    lambda buffer: memoryview(buffer),
    lambda buffer: memoryview(buffer).toreadonly(),
    lambda buffer: memoryview(buffer)[10:20],
    shown_over_the_buffer,
]


@pytest.mark.parametrize("show", GUISES)
def test_an_answer_is_not_changed_by_the_next_predict(show: Callable[[Any], Any]) -> None:
    model = Kept(show)
    first = content_of(lambda: model.predict(1))
    second = content_of(lambda: model.predict(2))
    assert set(bytes(first)) == {1}
    assert set(bytes(second)) == {2}
    assert bytes(first) == np.ndarray.tobytes(np.asarray(model.predict(1)))


def test_a_buffer_kept_as_bytearray_or_in_a_file_is_copied() -> None:
    kept = bytearray(b"1" * 100)
    file = io.BytesIO(kept)
    contents = [
        content_of(lambda: kept),
        content_of(lambda: memoryview(kept)),
        content_of(lambda: memoryview(kept).toreadonly()),
        content_of(lambda: file.getbuffer()),
    ]
    kept[:] = b"2" * 100
    with file.getbuffer() as inside:
        inside[:] = kept
    assert contents == [b"1" * 100] * 4


def test_a_view_that_only_another_view_shares_is_copied() -> None:
    """A view of a view is not counted by what lies below both."""
    first = memoryview(bytearray(b"1" * 100))
    kept = memoryview(first)
    box = [first]
    del first
    content = as_content(box)
    kept[:] = b"2" * 100
    assert content == b"1" * 100


HOLDERS: list[Callable[[Any], Any]] = [
    lambda array: [array],
    lambda array: {"a": array},
    lambda array: array[:1],
    lambda array: array.view(np.uint8),
    lambda array: memoryview(array),
    lambda array: memoryview(array[10:]),
    lambda array: weakref.ref(array),
    lambda array: weakref.WeakValueDictionary({1: array}),
    lambda array: functools.partial(print, array),
    lambda array: array.flat,
    lambda array: array.ctypes,
    lambda array: array.__array_struct__,
    lambda array: array.__dlpack__(),
    lambda array: (value for value in array),
    lambda array: np.lib.stride_tricks.as_strided(array, (10,), (1,)),
]


@pytest.mark.parametrize("hold", HOLDERS)
@pytest.mark.parametrize("cut", [lambda array: array, lambda array: array[:], lambda array: array.reshape(2, 50)[1:]])
def test_whatever_holds_an_array_has_it_copied(hold: Callable[[Any], Any], cut: Callable[[Any], Any]) -> None:
    whole: Any = np.ones(100, dtype=np.uint8)
    box = [cut(whole)]
    holder = hold(whole)
    place = box[0].ctypes.data
    del whole
    assert address(as_content(box)) != place
    del holder


def test_a_weak_reference_to_a_view_alone_has_it_copied() -> None:
    box = [np.ones(100)[:50]]
    seen = weakref.ref(box[0])
    assert address(as_content(box)) != seen().ctypes.data  # type: ignore[union-attr]


def test_a_caller_that_keeps_a_reference_has_it_copied() -> None:
    value = np.ones(100)
    assert address(as_content([value])) != value.ctypes.data


def test_an_array_in_another_order_goes_out_in_c_order() -> None:
    assert content_of(lambda: np.arange(6, dtype=np.uint8).reshape(2, 3).T) == bytes([0, 3, 1, 4, 2, 5])
    assert content_of(lambda: np.asfortranarray([[1, 2], [3, 4]], dtype=np.uint8)) == bytes([1, 2, 3, 4])
    assert content_of(lambda: memoryview(b"012345")[::2]) == b"024"


@pytest.mark.parametrize(
    "make", [lambda: np.zeros((2, 0)), lambda: memoryview(b""), lambda: bytearray(), lambda: b""]
)
def test_nothing_is_nothing(make: Callable[[], Any]) -> None:
    assert content_of(make) == b""


# --- what has no bytes ---


@pytest.mark.parametrize("value", [None, 1, "text", [b"x"], {"a": b"x"}, datetime.date(2024, 1, 2), np.float32(1)])
def test_other_values_have_no_content(value: Any) -> None:
    assert as_content([value]) is None


def test_an_array_of_objects_is_refused() -> None:
    with pytest.raises(ResultError, match="TypeError: an array of Python objects"):
        as_content([np.array([object()])])
    with pytest.raises(ResultError, match="TypeError: an array of Python objects"):
        as_content([np.zeros(2, dtype=[("a", "O")])])


# --- how references are counted ---


def test_the_count_stays_right_when_the_interpreter_has_specialized_the_code() -> None:
    for _ in range(5000):
        value = object()
        holders: list[Any] = [[object()], (object(),), {0: object()}]
        assert [is_held_once(holder, 0) for holder in holders] == [True] * 3
        assert [is_held_once(holder, 0) for holder in ([value], (value,), {0: value})] == [False] * 3
        assert isinstance(as_content([np.ones(8)]), memoryview)
        assert isinstance(as_content([np.ones(8)[1:]]), memoryview)
        kept = np.ones(8)
        assert type(as_content([kept])) is bytes
        assert type(as_content([kept[1:]])) is bytes


class Frames(bytes):
    """Counts something else than bytes."""

    def __len__(self) -> int:
        return 3

    def __bytes__(self) -> bytes:
        return self


@pytest.mark.parametrize(
    "value", [b"abcdef", Frames(b"abcdef"), bytearray(b"abcdef"), memoryview(b"a-b-c-d-e-f")[::2]]
)
def test_plain_bytes_are_what_they_say(value: Any) -> None:
    assert type(plain_bytes(value)) is bytes
    assert plain_bytes(value) == b"abcdef"


@pytest.mark.parametrize("value", [5, "text", None, [1, 2], object()])
def test_nothing_else_is_made_bytes(value: Any) -> None:
    with pytest.raises(ResultError, match="must be bytes"):
        plain_bytes(value)
