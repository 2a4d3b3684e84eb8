"""Content bytes to Python value and back: JSON by orjson, with the standard library where orjson refuses.

Numpy, torch and pydantic values are encoded if the model has imported these; none is imported here. Called by
`endpoints/predict.py` (decode) and on the thread that made a result (encode).
"""

from __future__ import annotations

import dataclasses
import math
import sys
from typing import Any

import orjson

from fastserve.codec.pydantic_models import encode_model, is_model
from fastserve.codec.tensors import as_array, as_dense, is_tensor
from fastserve.errors import RequestError, ResultError

# orjson's: OPT_SERIALIZE_NUMPY from the first array on. It would import numpy, a tenth of a second, as soon as it may
# and does not know a type: for bytes, say.
_numpy_option = 0


def _default(value: Any) -> Any:
    """The JSON form of what orjson itself does not know. Raises TypeError if there is none."""
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        if isinstance(value, numpy.ndarray):  # not contiguous, or of a type orjson does not write
            return value.tolist()
        if isinstance(value, (numpy.bool_, numpy.integer)):
            return value.item()
        if isinstance(value, numpy.floating):
            return float(value)
    if is_tensor(value):
        try:
            return _tensor_for_json(value)
        except (RuntimeError, NotImplementedError) as error:  # a meta or nested tensor has no numbers to give
            raise TypeError(f"this tensor has no JSON form: {error}") from error
    if is_model(value):
        return orjson.Fragment(encode_model(value))
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _default_of_orjson(value: Any) -> Any:
    """As `_default`; has orjson write what is of numpy by itself from the first time on."""
    global _numpy_option
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)) and value.dtype.kind != "O":
        _numpy_option = orjson.OPT_SERIALIZE_NUMPY
        return orjson.Fragment(orjson.dumps(value, _default, _numpy_option))
    return _default(value)


def encode_plain(value: Any) -> bytes:
    """Nearly every result. Raises TypeError. (A frame costs less than a partial with keywords: 0.27 us, not 0.59.)"""
    return orjson.dumps(value, _default_of_orjson, _numpy_option)


def decode_json(content: bytes) -> Any:
    """The value that `content` holds.

    What orjson refuses (NaN, Infinity, a byte order mark, UTF-16, escapes of lone surrogates) is tried with the
    standard library, which is what Truss uses and whose messages its clients know.
    Raises RequestError 400 with the position of the mistake.
    """
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        pass  # with its copy of the content as text
    return _decode_with_standard_library(content, "strict")


def _decode_with_standard_library(content: bytes, surrogates: str) -> Any:
    """surrogates: "strict", or "surrogatepass" for those that stand in UTF-8 as bytes, which it does not allow."""
    import json

    try:
        return json.loads(content.decode(json.detect_encoding(content), surrogates))
    except RecursionError:
        raise RequestError(400, "Invalid JSON payload: nested too deeply") from None
    except UnicodeDecodeError as error:
        raise RequestError(400, f"Invalid JSON payload: not {error.encoding} at byte {error.start}") from None
    except ValueError as error:
        raise RequestError(400, f"Invalid JSON payload: {error}") from None


def encode_json(value: Any) -> bytes:
    """`value` as JSON.

    Keys that are not text become text, integers over 64 bits stay exact, numpy arrays and scalars and torch tensors
    become lists and numbers; a pydantic model, wherever it stands, is written by its own serializer.
    Raises ResultError if some part of `value` has no JSON form; its cause says which.
    """
    try:
        return encode_plain(value)
    except TypeError:
        return encode_carefully(value)


def decode_as_python(content: bytes) -> Any:
    """The value that `content` holds, by the standard library alone, as for Truss.

    Integers stay exact whatever their size, and surrogates as bytes are read.
    Raises RequestError 400 with the position of the mistake.
    """
    return _decode_with_standard_library(content, "surrogatepass")


def encode_as_python(value: Any) -> bytes:
    """`value` as JSON by the standard library alone, byte for byte as Truss. Raises TypeError."""
    import json

    if is_model(value):
        return encode_model(value)
    try:
        return json.dumps(value, default=_default_as_python).encode()
    except (ValueError, RecursionError) as error:
        raise TypeError(f"{type(error).__name__}: {error}") from error


def _default_as_python(value: Any) -> Any:
    import json

    return json.loads(encode_model(value)) if is_model(value) else _default(value)


def refuse_as_python(value: Any) -> bytes:
    """Say why `encode_as_python` does not take `value`: always raises ResultError."""
    try:
        return encode_as_python(value)
    except TypeError as error:
        said = error.__cause__ or error
        raise ResultError(f"{type(said).__name__}: {said}") from error


def encode_carefully(value: Any) -> bytes:
    """What `encode_plain` refuses: keys that are not text, then integers over 64 bits and lone surrogates."""
    try:
        return orjson.dumps(value, _default_of_orjson, _numpy_option | orjson.OPT_NON_STR_KEYS)
    except TypeError as error:
        first = error
    import json

    try:
        try:
            return json.dumps(value, default=_default_beside_big, allow_nan=False).encode()
        except ValueError as error:  # NaN or an infinity, which orjson writes as null
            if "Out of range float" not in str(error):
                raise
            return json.dumps(_without_nan(value), default=_default_without_nan, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        cause = first.__cause__ if isinstance(first.__cause__, Exception) else error
        raise ResultError(f"{type(error).__name__}: {error}") from cause


def _default_beside_big(value: Any) -> Any:
    """What `_default` says, and what orjson alone would have written: dates, dataclasses, enums, UUIDs."""
    if is_model(value):
        import json

        return json.loads(encode_model(value))
    try:
        return _default(value)
    except TypeError as refusal:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        try:
            return orjson.loads(orjson.dumps(value))
        except TypeError:
            raise refusal from None  # says it in the words of the standard library, as Truss does


def _default_without_nan(value: Any) -> Any:
    return _without_nan(_default_beside_big(value))


def _without_nan(value: Any) -> Any:
    """`value` with None for each float that JSON has no form for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(inner) for inner in value]
    return value


def _tensor_for_json(tensor: Any) -> Any:
    """An array over a tensor's memory where orjson can write that, ten times faster than lists; else lists."""
    if "numpy" not in sys.modules:
        return as_dense(tensor).tolist()
    array = as_array(tensor)
    return array if array.ndim and array.flags.c_contiguous and array.dtype.kind in "fiub" else array.tolist()
