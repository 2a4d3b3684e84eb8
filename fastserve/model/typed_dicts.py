"""TypedDicts as pydantic can check them: those of `typing` too, and without losing keys they do not declare.

A Truss model is given the payload as it came, and may read a key that its TypedDict forgot. Called by
`annotations.py` and `typed.py`.
"""

from __future__ import annotations

import sys
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin, get_type_hints

# Pydantic refuses `typing.TypedDict` before this and asks for that of typing_extensions, which it brings along.
_TAKEN_SINCE: Final = (3, 12)


def is_typed_dict(annotation: object) -> bool:
    """Whether `annotation` is a TypedDict class, of `typing` or of typing_extensions."""
    return hasattr(annotation, "__required_keys__") and hasattr(annotation, "__total__")


def portable(annotation: Any) -> Any:
    """`annotation` with each TypedDict of `typing` in it as one of typing_extensions, where pydantic needs that.

    Raises RecursionError for one that contains itself, NameError for one that names what is not there.
    """
    return annotation if sys.version_info >= _TAKEN_SINCE else _copied(annotation)


def _copied(annotation: Any) -> Any:
    if is_typed_dict(annotation):
        return _copy_typed_dict(annotation) if type(annotation).__module__ == "typing" else annotation
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        annotated = (_copied(arguments[0]), *arguments[1:])
        return Annotated[annotated]
    copies = tuple(_copied(argument) for argument in arguments)
    if copies == arguments:
        return annotation
    if origin in (Union, UnionType):
        return Union[copies]  # noqa: UP007 - there are as many as there are
    return origin[copies if len(copies) > 1 else copies[0]]


def _copy_typed_dict(annotation: Any) -> Any:
    extensions = sys.modules["typing_extensions"]
    presence = {f"{home}.{word}" for home in ("typing", "typing_extensions") for word in ("Required", "NotRequired")}
    fields = {}
    for key, hint in get_type_hints(annotation, include_extras=True).items():
        field = _copied(hint)
        if str(get_origin(hint)) not in presence:
            is_required = key in annotation.__required_keys__
            field = (extensions.Required if is_required else extensions.NotRequired)[field]
        fields[key] = field
    copy = extensions.TypedDict(annotation.__name__, fields)
    copy.__doc__ = annotation.__doc__
    if hasattr(annotation, "__pydantic_config__"):
        copy.__pydantic_config__ = annotation.__pydantic_config__
    return copy


def keep_keys(schema: Any) -> Any:
    """A copy of a pydantic core schema in which every TypedDict keeps the keys that it does not declare.

    Those whose own config says what becomes of such keys stay as they are.
    """
    if type(schema) in (list, tuple):
        return type(schema)(map(keep_keys, schema))
    if type(schema) is not dict:
        return schema
    copy = {key: keep_keys(value) for key, value in schema.items()}
    if schema.get("type") == "typed-dict" and "extra_fields_behavior" not in schema.get("config", {}):
        copy["extra_behavior"] = "allow"
    return copy
