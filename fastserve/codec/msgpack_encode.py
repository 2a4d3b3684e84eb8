"""Python value to msgpack, as msgpack-numpy and Truss write it, in pieces: what is large is not copied into the rest.

Whether memory may go out as it is, `buffers.py` says. Decoding is `msgpack_decode.py`'s. Called on the
thread that made a result.
"""

from __future__ import annotations

import datetime
import os
import sys
import uuid
from collections.abc import Callable
from typing import Any, Final

from fastserve.codec.buffers import Content, array_and_content, content_of_bytes, is_array_like, is_held_once
from fastserve.errors import ResultError

_MAX_BIN: Final = (1 << 32) - 1  # its length has 4 bytes
# Bytes from here on go out as a piece of their own; below, the copy costs less than one more piece in the writev.
PIECE_BYTES: Final = 64 * 1024
# How far large bytes are looked for among small values: into records, not into long lists of numbers, whose elements
# msgpack walks fifty times faster. What lies further in is copied once.
_SEARCH_ITEMS: Final = 64
_SEARCH_DEPTH: Final = 3


def encode_msgpack(box: list[Any]) -> list[Content]:
    """`box[0]` in msgpack: pieces that make the content when joined.

    box: holds the value, as for `buffers.as_content`. Bytes of 64 KiB and more become pieces of their own without a
        copy; so do arrays and tensors if nobody else holds them, nor the containers they lie in.
    Raises ResultError if some part of the value has no form in msgpack; its cause says which.
    """
    import msgpack

    packing = _Packing()
    try:
        packed = msgpack.packb(_prepared(box, 0, is_sole=True, depth=0), default=packing.default)
    except (TypeError, ValueError, OverflowError, BufferError, RecursionError, RuntimeError) as error:
        raise ResultError(f"{type(error).__name__}: {error}") from error
    return packing.pieces(packed)


class _Large:
    """Stands for bytes that are to be a piece of their own."""

    __slots__ = ("content",)

    def __init__(self, content: Content) -> None:
        if len(content) > _MAX_BIN:
            raise ValueError("more than 4 GiB in one piece has no form in msgpack")
        self.content = content


class _Packing:
    """One value on its way into msgpack. Where large bytes belong a mark is packed; they are put in afterwards."""

    __slots__ = ("_large", "_mark")

    def __init__(self) -> None:
        self._large: list[Content] = []
        self._mark = b""  # random, so that no value holds it

    def default(self, value: Any) -> Any:
        """What msgpack does not know, in what it knows. What comes back unchanged it refuses by its type's name."""
        if type(value) is _Large:
            self._mark = self._mark or os.urandom(16)
            self._large.append(value.content)
            return self._mark
        for kind, encode in _ENCODERS:
            if isinstance(value, kind):
                return encode(value)
        return _encode_foreign(value)

    def pieces(self, packed: bytes) -> list[Content]:
        if not self._large:
            return [packed]
        *before, last = packed.split(b"\xc4\x10" + self._mark)
        pieces: list[Content] = []
        for part, content in zip(before, self._large, strict=True):
            pieces += part + b"\xc6" + len(content).to_bytes(4, "big"), content
        return [*pieces, last] if last else pieces


def _prepared(holder: Any, key: Any, *, is_sole: bool, depth: int) -> Any:
    """`holder[key]` with `_Large` for large bytes. is_sole: nobody else holds `holder`."""
    is_sole = is_sole and is_held_once(holder, key)
    value = holder[key]
    kind = type(value)
    if kind is dict or kind is list or kind is tuple:
        if depth == _SEARCH_DEPTH or len(value) > _SEARCH_ITEMS:
            return value
        if kind is dict:
            return {inner: _prepared(value, inner, is_sole=is_sole, depth=depth + 1) for inner in value}
        return [_prepared(value, inner, is_sole=is_sole, depth=depth + 1) for inner in range(len(value))]
    if kind is bytes or kind is bytearray or (kind is memoryview and value.c_contiguous):
        return value if memoryview(value).nbytes < PIECE_BYTES else _Large(content_of_bytes(value, is_sole=is_sole))
    return _array_map(value, is_sole=is_sole) if is_array_like(value) else value


def _array_map(value: Any, *, is_sole: bool) -> dict[bytes, Any]:
    """The map that stands for an array or a tensor."""
    array, content = array_and_content(value, is_sole=is_sole)
    dtype = array.dtype
    return {
        b"nd": True,
        b"type": dtype.descr if dtype.kind == "V" else dtype.str,
        b"kind": b"V" if dtype.kind == "V" else b"",
        b"shape": array.shape,
        b"data": content if len(content) < PIECE_BYTES else _Large(content),
    }


def _encode_foreign(value: Any) -> Any:
    """What only a model that imported its package can return."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, (numpy.bool_, numpy.number)):
        return {b"nd": False, b"type": value.dtype.str, b"data": value.tobytes()}
    if isinstance(value, complex):  # numpy's are, too
        return {b"complex": True, b"data": repr(value)}
    decimal = sys.modules.get("decimal")
    if decimal is not None and isinstance(value, decimal.Decimal):
        return {b"__decimal__": True, b"data": str(value)}
    return _array_map(value, is_sole=False) if is_array_like(value) else value


def _encode_datetime(value: datetime.datetime) -> dict[bytes, Any]:
    text = value.isoformat()
    return {b"__dt_datetime_iso__": True, b"data": text[:-6] + "Z" if text.endswith("+00:00") else text}


def _encode_time(value: datetime.time) -> dict[bytes, Any]:
    if value.utcoffset() is not None:
        raise ValueError("a time of day in a time zone has no form in msgpack")
    return {b"__dt_time_iso__": True, b"data": value.isoformat()}


# A datetime is a date too, and so comes first.
_ENCODERS: Final[tuple[tuple[type, Callable[[Any], Any]], ...]] = (
    (datetime.datetime, _encode_datetime),
    (datetime.date, lambda value: {b"__dt_date_iso__": True, b"data": value.isoformat()}),
    (datetime.time, _encode_time),
    (
        datetime.timedelta,
        lambda value: {b"__dt_timedelta__": True, b"data": (value.days, value.seconds, value.microseconds)},
    ),
    (uuid.UUID, lambda value: {b"__uuid__": True, b"data": str(value)}),
)
