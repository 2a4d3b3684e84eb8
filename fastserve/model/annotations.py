"""What an annotation is made of: pydantic models of either version, TypedDicts, dataclasses; and what checks them.

Imports pydantic only for what it is told to check; else asks what the model has imported. At start or for a schema,
never for a request. Called by `typed.py` and `schemas.py`.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from fastserve.errors import ModelDefinitionError, text_of
from fastserve.model.typed_dicts import is_typed_dict, portable

# What models of either version come from: under pydantic 1 the first is version 1 itself.
_PACKAGES: Final = ("pydantic", "pydantic.v1")


class NotCheckedError(Exception):
    """Nothing here can check values against an annotation; the message says why."""


def package_of(annotation: object) -> ModuleType | None:
    """`pydantic` or `pydantic.v1` if `annotation` is a model class made with it, else None."""
    for name in _PACKAGES:
        if f"{name}.main" in sys.modules:  # where BaseModel is: without it nobody has a model
            package = sys.modules[name]
            try:
                if issubclass(annotation, package.BaseModel):  # type: ignore[arg-type] # TypeError is the answer
                    return package
            except Exception:  # noqa: BLE001 - TypeError for no class, `list[int]` say; a metaclass may raise anything
                return None
    return None


def is_version_1(package: ModuleType) -> bool:
    return str(package.VERSION).startswith("1.")


def is_typed(annotation: object) -> bool:
    """Whether a pydantic model, a TypedDict or a dataclass is in `annotation`, as in `list[Item] | None`."""
    return any(is_record(part) or package_of(part) is not None for part in _parts(annotation))


def is_record(annotation: object) -> bool:
    """Whether `annotation` is itself a TypedDict or a dataclass."""
    try:
        return is_typed_dict(annotation) or (isinstance(annotation, type) and dataclasses.is_dataclass(annotation))
    except Exception:  # noqa: BLE001 - a metaclass or lazy object of the user's that does not like to be asked
        return False


def _parts(annotation: object) -> Iterator[object]:
    """`annotation` and all that it is made of: the members of a union, the items of a list."""
    pending, seen = [annotation], list[object]()
    while pending:
        part = pending.pop()
        if any(part is one for one in seen):  # `type Tree = list[Tree]`
            continue
        seen.append(part)
        yield part
        origin = get_origin(part)
        if origin is not Literal:
            pending += get_args(part)[:1] if origin is Annotated else get_args(part)
        if type(part).__name__ == "TypeAliasType":
            pending.append(part.__value__)  # type: ignore[attr-defined] # Python 3.12, or typing_extensions


def complete(model: Any, package: ModuleType) -> None:
    """Resolve what the fields of a pydantic model name, which may stand below it in its module.

    Raises ModelDefinitionError if it cannot be: each request would fail otherwise.
    """
    try:
        if is_version_1(package):
            model.update_forward_refs()
        else:
            model.model_rebuild()
    except Exception as error:
        why = getattr(error, "message", None) or text_of(error)
        raise ModelDefinitionError(
            f"`{model.__name__}` is not a complete pydantic model: {why}; define what it names in {model.__module__}"
        ) from error


def make_adapter(annotation: Any, *, may_import: bool = True) -> Any:
    """A pydantic TypeAdapter for `annotation`, every name in it resolved.

    may_import: load pydantic if the model has not.
    Raises NotCheckedError if there can be none, ModelDefinitionError for a pydantic model that is not complete.
    """
    pydantic = _import_pydantic() if may_import else sys.modules.get("pydantic")
    if pydantic is None or is_version_1(pydantic):
        raise NotCheckedError("pydantic 2 is not installed")
    for part in _parts(annotation):
        package = package_of(part)
        if package is not None and is_version_1(package):
            raise NotCheckedError("a model of pydantic 1 can only be checked by itself")
        if package is not None:
            complete(part, package)
    try:
        adapter = pydantic.TypeAdapter(portable(annotation))
        if hasattr(adapter, "rebuild"):  # pydantic 2.10: what is not resolved is left for the first value
            adapter.rebuild(raise_errors=True)
    except Exception as error:  # also what hooks of the user's classes raise
        raise NotCheckedError(str(getattr(error, "message", None) or text_of(error)).partition("\n")[0]) from error
    return adapter


def _import_pydantic() -> ModuleType | None:
    try:
        return importlib.import_module("pydantic")
    except ImportError:
        return None
