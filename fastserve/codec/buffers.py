"""The bytes of a result without a copy, where nobody can change them before they have been sent.

A model may keep its output and write the next answer over it: what it may still hold is copied. Takes no view of
what the bytes mean. Called on the thread that made the result, by `msgpack_encode.py` and the
endpoints.
"""

from __future__ import annotations

import functools
import sys
import weakref
from collections.abc import Mapping, Sequence
from sys import getrefcount
from typing import Any, Final

from fastserve.codec.tensors import as_private_array, is_tensor
from fastserve.errors import ResultError

Content = bytes | memoryview


def as_content(box: list[Any]) -> Content | None:
    """The raw bytes of `box[0]`; None if it is no bytes, bytearray, memoryview, numpy array or torch tensor.

    box: holds the result. It goes out without a copy if the list has the only reference to it, so the caller lets
        go of its own first (`box = [value]; del value`) and drops the list afterwards. A memoryview is copied unless
        bytes lie below it: who else has one over the same memory cannot be seen.
    Returns bytes, or a one-dimensional view of unsigned bytes that keeps its memory alive. An array's bytes are in C
        order whatever its own; a tensor's are those of its numpy array (`tensors.as_array`).
    Raises ResultError for an array of Python objects and for a tensor that has no numbers to give.

    What cannot be seen is an address: a model that has taken one (`ctypes`, `data_ptr()`) and writes there after it
    has returned must return a copy.
    """
    is_sole = is_held_once(box, 0)
    value = box[0]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return content_of_bytes(value, is_sole=is_sole)
    if not is_array_like(value):
        return None
    try:
        return array_and_content(value, is_sole=is_sole)[1]
    except (TypeError, RuntimeError) as error:
        raise ResultError(f"{type(error).__name__}: {error}") from error


def is_held_once(holder: Sequence[Any] | Mapping[Any, Any], key: Any) -> bool:
    """Whether a list, tuple or dict has the only reference to what stands under `key`."""
    return _count(holder, key) == _ONCE


def _count(holder: Sequence[Any] | Mapping[Any, Any], key: Any) -> int:
    return getrefcount(holder[key])


# Measured, not known: what the interpreter itself adds differs between versions. The same function counts both times,
# and takes what it counts out of a container: a local variable may or may not count (from 3.14 on it is lent).
_ONCE: Final = _count([object()], 0)


def plain_bytes(value: Any) -> bytes:
    """`value`, which must be bytes, bytearray or memoryview, as bytes that are what they say.

    A subclass may have a `__len__` of its own, such as a count of frames; as the Content-Length it would let the rest
    of the content be read as the next response. Raises ResultError for anything else: `bytes(5)` is five zeros.
    """
    if type(value) is bytes:
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return memoryview(value).tobytes()
    raise ResultError(f"the content of a response must be bytes, not {type(value).__name__}")


def content_of_bytes(value: bytes | bytearray | memoryview, *, is_sole: bool) -> Content:
    """is_sole: the caller alone holds `value`."""
    if type(value) is bytes:
        return value
    if isinstance(value, bytes):
        return memoryview(value)
    if isinstance(value, bytearray):
        return memoryview(value) if is_sole and type(value) is bytearray else bytes(value)
    if _is_immutable(value) and value.c_contiguous and value.nbytes:
        return value.cast("B")
    return value.tobytes()


def is_array_like(value: Any) -> bool:
    """Whether `value` is a numpy array or a torch tensor."""
    return _is_array(value) or is_tensor(value)


def array_and_content(value: Any, *, is_sole: bool) -> tuple[Any, Content]:
    """(`value` as a numpy array, its bytes in C order: a view if they cannot change).

    value: a numpy array or a torch tensor. is_sole: the caller alone holds it.
    Raises TypeError for an array of Python objects, and what `tensors.as_array` raises.
    """
    if _is_array(value):
        array, is_private = value, (is_sole and _has_own_memory(value)) or _is_over_bytes(value)
    else:
        array, is_private = as_private_array(value, is_sole=is_sole)
    numpy = sys.modules["numpy"]
    if array.dtype.hasobject:  # its memory holds addresses
        raise TypeError("an array of Python objects has no bytes to send")
    if is_private and array.flags.c_contiguous and array.nbytes:
        # As plain bytes: some of numpy's types (dates) have no form as a buffer.
        return array, memoryview(numpy.asarray(array).reshape(-1).view(numpy.uint8))
    return array, numpy.ndarray.tobytes(array)  # not array.tobytes: a subclass, such as a masked array, has its own


def _is_array(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def _is_immutable(buffer: Any) -> bool:
    if isinstance(buffer, memoryview):
        return buffer.readonly and isinstance(buffer.obj, bytes)
    return isinstance(buffer, bytes)


def _is_over_bytes(array: Any) -> bool:
    """Whether bytes lie below a numpy array or the array that it is a view of."""
    base = array.base
    return _is_immutable(base.base if _is_array(base) else base)


def _has_own_memory(array: Any) -> bool:
    """Whether the memory of a numpy array belongs to it alone, or to a base that it alone holds.

    Views of an array and tensors made from it hold it or its base, and so count.
    """
    ndarray = sys.modules["numpy"].ndarray
    if type(array) is not ndarray or weakref.getweakrefcount(array):
        return False
    if array.base is None:
        return bool(array.flags.owndata)
    if type(array.base) is not ndarray or _count_base(array) != _base_once():
        return False
    base = array.base
    return base.base is None and base.flags.owndata and not weakref.getweakrefcount(base)


def _count_base(array: Any) -> int:
    return getrefcount(array.base)


@functools.cache
def _base_once() -> int:
    """`_count_base` of an array that alone holds its base; measured as `_ONCE` is."""
    return _count_base(sys.modules["numpy"].empty(2)[:1])
