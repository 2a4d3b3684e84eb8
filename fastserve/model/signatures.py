"""A function's parameters and annotations, with annotations that are text resolved where they can be.

(`from __future__ import annotations` makes text of all of them.) Called by `contract.py`.
"""

from __future__ import annotations

import functools
import inspect
import sys
import typing
from collections.abc import Callable
from typing import Any, Final

EMPTY: Final = inspect.Parameter.empty


def read_signature(function: Callable[..., Any]) -> inspect.Signature:
    """The signature of a bound method or another callable, its annotations resolved one by one.

    One that cannot be resolved (imported under TYPE_CHECKING, say) stays the text it is.
    Raises ValueError for a callable written in C without a signature.
    """
    signature = inspect.signature(function)
    namespace = _namespace_of(function)
    parameters = [
        parameter.replace(annotation=_resolve(parameter.annotation, namespace))
        for parameter in signature.parameters.values()
    ]
    returned = _resolve(signature.return_annotation, namespace)
    return signature.replace(parameters=parameters, return_annotation=returned)


def _namespace_of(function: Callable[..., Any]) -> dict[str, Any]:
    """What the names in an annotation of `function` mean."""
    inner: Any = inspect.unwrap(function)
    while isinstance(inner, functools.partial):
        inner = inspect.unwrap(inner.func)
    if not hasattr(inner, "__globals__") and not inspect.ismethod(inner):
        inner = getattr(type(inner), "__call__", inner)  # noqa: B004 - an object that can be called
    inner = getattr(inner, "__func__", inner)
    module = sys.modules.get(getattr(inner, "__module__", None) or "")
    found: dict[str, Any] = getattr(inner, "__globals__", None) or vars(module or typing)
    return found


def _resolve(annotation: Any, namespace: dict[str, Any]) -> Any:
    for _ in range(2):  # one in quotes under `from __future__ import annotations` is text in text
        if not isinstance(annotation, str):
            break
        try:
            annotation = eval(annotation, namespace)
        except Exception:  # noqa: BLE001 - whatever the user's names do when they are looked up
            break
    return annotation
