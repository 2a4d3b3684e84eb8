"""msgpack to Python value: plain msgpack, msgpack-numpy's arrays and numbers, Truss's tags for dates and the like.

Any bytes are a value or a RequestError, and no memory follows what they merely promise. Encoding is
`msgpack_encode.py`'s. Called by `endpoints/predict.py`.
"""

from __future__ import annotations

import datetime
import functools
import importlib.util
import re
import sys
import uuid
from collections.abc import Callable
from typing import Any, Final

from fastserve.errors import RequestError


@functools.cache
def refusal_without_msgpack() -> RequestError | None:
    """The 415 for binary content where msgpack is not installed; None where it is. Imports nothing."""
    if importlib.util.find_spec("msgpack") is not None:
        return None
    return RequestError(
        415,
        "application/octet-stream content needs msgpack: pip install 'fastserve[msgpack]'; JSON needs nothing more",
        (("Accept", "application/json"),),
    )


# An array header may promise as many elements as the content has bytes, and msgpack makes room for 10,000 of them
# before it has seen one (before 1.2.4: for all). With headers in headers, 5 KB of content cost 40 MB and 30 ms. A
# walk through it that makes nothing costs what a copy does, 2 us for 10 KB; above 1 MiB, 80 MB at the most are in
# proportion.
_WALK_BYTES: Final = 1 << 20
_CAREFUL_MSGPACK: Final = (1, 2, 4)

# How the key b"data" ends in every form that msgpack has for bytes. Without it no map has a tag, and none need be
# looked at: ten million empty ones take 0.8 s instead of 1.7.
_DATA_KEY: Final = b"\x04data"


def decode_msgpack(content: bytes) -> Any:
    """The value that `content` holds. Arrays are read-only views of bytes, as with Truss.

    Needs msgpack (`refusal_without_msgpack`); imports numpy when an array arrives.
    Raises RequestError: 400 with what is wrong, 415 for an array where numpy is not installed.
    """
    import msgpack

    try:
        if len(content) <= _WALK_BYTES or msgpack.version < _CAREFUL_MSGPACK:
            walker = msgpack.Unpacker(max_buffer_size=len(content))
            walker.feed(content)
            walker.skip()
        decode = _decode_map if _DATA_KEY in content else None
        return msgpack.unpackb(content, object_hook=decode)
    except msgpack.ExtraData as error:
        looks = "; it looks like JSON, whose Content-Type is application/json" if content[:1] in (b"{", b"[") else ""
        raise _bad(f"{len(error.extra)} bytes follow its end{looks}") from None
    except msgpack.OutOfData:
        raise _bad("it ends too early") from None
    except (msgpack.StackError, RecursionError):
        raise _bad("nested too deeply") from None
    except msgpack.FormatError:
        raise _bad("this is not msgpack") from None
    except UnicodeDecodeError:
        raise _bad("text that is not UTF-8") from None
    except (ValueError, TypeError, OverflowError) as error:
        words = str(error)  # msgpack's own, such as on keys that are not text; its limits are the content's size
        raise _bad("it ends too early" if "incomplete" in words or "exceeds max" in words else words) from None


def _bad(message: str) -> RequestError:
    return RequestError(400, f"Invalid msgpack payload: {message}")


def _decode_map(members: dict[Any, Any]) -> Any:
    """What a map stands for, if it has one of the tags; itself if not, or if it lacks what the tag needs."""
    if b"data" not in members:
        return members
    for tag, decode in _DECODERS.items():
        if tag in members:
            try:
                return decode(members)
            except KeyError:
                return members
            except (ValueError, TypeError, AttributeError, ArithmeticError):
                raise _bad(f"the data of a {tag.decode()} map is not what its tag says") from None
    return members


def _decode_datetime(members: dict[Any, Any]) -> datetime.datetime:
    text = members[b"data"]
    if isinstance(text, str) and text.endswith("Z"):  # read by Python itself from 3.11 on
        text = text[:-1] + "+00:00"
    return datetime.datetime.fromisoformat(text)


def _decode_timedelta(members: dict[Any, Any]) -> datetime.timedelta:
    days, seconds, microseconds = members[b"data"]
    return datetime.timedelta(days, seconds, microseconds)


def _decode_decimal(members: dict[Any, Any]) -> Any:
    from decimal import Decimal  # 2 ms that the start need not wait for

    return Decimal(members[b"data"])


def _decode_complex(members: dict[Any, Any]) -> complex:
    text = members[b"data"]
    return complex(text.decode() if isinstance(text, bytes) else text)


def _decode_numpy(members: dict[Any, Any]) -> Any:
    content, kind = members[b"data"], members.get(b"kind")
    if isinstance(kind, bytes) and kind == b"O":
        raise _bad("arrays of Python objects are pickled, and a pickle can run any code; it is not read")
    if type(content) is not bytes:
        raise _bad("the data of an array is not bytes")
    is_array = members[b"nd"] is True
    shape = _shape(members[b"shape"]) if is_array else (1,)
    dtype = _dtype(members[b"type"])
    numpy = _numpy()
    try:
        array = numpy.ndarray(shape, dtype, content)
    except (ValueError, TypeError, OverflowError):  # too short, too many dimensions, a size that overflows
        array = None
    if array is None or array.nbytes != len(content):
        raise _bad(f"{len(content)} bytes of data do not make an array of this type and shape")
    if _has_bad_text(array):
        raise _bad("an array of text has code points that Unicode has not")  # a SystemError where they are read
    return array if is_array else array[0]


def _has_bad_text(array: Any) -> bool:
    """Whether text in a numpy array, or in a field of its records, is none that Python can hold."""
    dtype = array.dtype
    if dtype.names is not None:
        return any(_has_bad_text(array[name]) for name in dtype.names)
    if dtype.kind != "U" or not dtype.itemsize:
        return False
    codes = _numpy().ascontiguousarray(array).reshape(-1).view(dtype.byteorder + "u4")
    return bool(codes.max(initial=0) > sys.maxunicode)


def _shape(shape: Any) -> tuple[int, ...]:
    if type(shape) is not list or not all(type(length) is int and length >= 0 for length in shape):
        raise _bad("the shape of an array is not a list of lengths")
    return tuple(shape)


# What numpy writes as `dtype.str`, and the names that people write. No objects, nothing that numpy parses further.
_TYPE: Final = re.compile(
    r"[<>=|]?(\?|[biufc]\d{1,2}|[SUV]\d{1,10}|[mM]8(\[\d{0,9}[A-Za-z]{1,2}\])?)"
    r"|bool|u?int(8|16|32|64)|float(16|32|64)|complex(64|128)",
    re.ASCII,
)
# Deeper than any record is nested; far from where Python's own recursion ends.
_MAX_TYPE_DEPTH: Final = 32


def _dtype(described: Any) -> Any:
    """The numpy type of an array: its `dtype.str`, or its `dtype.descr` if it is structured."""
    try:
        dtype = _numpy().dtype(_type_description(described, 0))
    except (ValueError, TypeError, OverflowError):
        raise _bad("the type of an array is none of numpy's that can be sent") from None
    if not dtype.itemsize:  # any number of them would fit into no bytes
        raise _bad("the type of an array has no size")
    return dtype


def _type_description(described: Any, depth: int) -> Any:
    if isinstance(described, bytes):
        described = described.decode("ascii")
    if isinstance(described, str):
        if not _TYPE.fullmatch(described):
            raise ValueError("no such type")
        return described
    if depth == _MAX_TYPE_DEPTH:
        raise ValueError("nested too deeply")
    if type(described) is not list:
        raise TypeError("no description of a type")
    return [
        (_text(name), _type_description(inner, depth + 1), *(tuple(shape) for shape in shapes))
        for name, inner, *shapes in described
    ]


def _text(name: Any) -> Any:
    return name.decode() if isinstance(name, bytes) else name


def _numpy() -> Any:
    try:
        import numpy
    except ImportError:
        raise RequestError(415, "the content has a numpy array, and numpy is not installed here") from None
    return numpy


# In the order in which Truss's decoder and then msgpack-numpy's look for them.
_DECODERS: Final[dict[bytes, Callable[[dict[Any, Any]], Any]]] = {
    b"__dt_datetime_iso__": _decode_datetime,
    b"__dt_date_iso__": lambda members: datetime.date.fromisoformat(members[b"data"]),
    b"__dt_time_iso__": lambda members: datetime.time.fromisoformat(members[b"data"]),
    b"__dt_timedelta__": _decode_timedelta,
    b"__decimal__": _decode_decimal,
    b"__uuid__": lambda members: uuid.UUID(members[b"data"]),
    b"nd": _decode_numpy,
    b"complex": _decode_complex,
}
