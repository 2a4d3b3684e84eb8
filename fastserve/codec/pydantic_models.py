"""Pydantic models as content: JSON by a model's own serializer, or plain values for binary content.

Pydantic 2, pydantic 1, and `pydantic.v1` beside 2; imports none of them: what has not been imported has no instances.
Called by `json_text.py` and the endpoints, on the thread that made a result.
"""

from __future__ import annotations

import sys
from typing import Any, Final

# The modules that define a BaseModel. The package alone may be there without it: pydantic 2 imports on demand.
_HOMES: Final = ("pydantic.main", "pydantic.v1.main")


def is_model(value: object) -> bool:
    """Whether `value` is an instance of a pydantic model."""
    for name in _HOMES:
        base = getattr(sys.modules.get(name), "BaseModel", None)
        if base is not None and isinstance(value, base):
            return True
    return False


def encode_model(model: Any) -> bytes:
    """A pydantic model as JSON, its fields under their own names: what `.json()` says, as in Truss.

    Raises what the serializer raises: a ValueError (pydantic 2) or TypeError (1) for what has no JSON form.
    """
    # `serialize_by_alias` in a model's config is overruled by Truss, which calls `.json()`: `by_alias=False`.
    text: str = model.model_dump_json(by_alias=False) if hasattr(model, "model_dump_json") else model.json()
    return text.encode()


def dump_model(value: Any) -> Any:
    """A pydantic model as the plain values binary content is made of; any other value as it is."""
    if not is_model(value):
        return value
    return value.model_dump(mode="python") if hasattr(value, "model_dump") else value.dict()
