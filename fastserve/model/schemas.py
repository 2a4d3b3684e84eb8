"""What a method takes and returns, as JSON Schema: Truss's account of a model, and the parts of openapi.json.

Built when asked for: no request but those for a schema pays. Called by `endpoints/schema.py` and
`endpoints/openapi.py`.
"""

from __future__ import annotations

import collections.abc
import dataclasses
from collections.abc import Mapping
from types import UnionType
from typing import Any, Final, Union, get_args, get_origin

from fastserve.model.annotations import NotCheckedError, is_typed, is_version_1, make_adapter, package_of
from fastserve.model.contract import Contract, Kind, Method, Takes
from fastserve.model.typed import PREDICT, InputType, Unread

_STREAMS: Final = (collections.abc.Iterator, collections.abc.AsyncIterator)  # generators of either kind are these too
_GENERATORS: Final = frozenset({Kind.GENERATOR, Kind.ASYNC_GENERATOR})

# How Truss's schemas, and pydantic 2 itself, name the definitions beside a schema.
LOCAL_REFERENCES: Final = "#/$defs/{model}"
LOCAL_REFERENCES_1: Final = "#/definitions/{model}"


@dataclasses.dataclass(frozen=True)
class OutputType:
    """What an annotation says of a result.

    annotation: of a result that is a value; None if it says that all results are streams.
    supports_streaming: a result may be a stream.
    """

    annotation: Any
    supports_streaming: bool


@dataclasses.dataclass(frozen=True)
class Types:
    """What one request's content is made into, and what answers it.

    takes_input: the content is looked at. input: the annotation it is checked against, None without.
    output: None if nothing is known of it. is_stream: the method is a generator function, whatever its annotation.
    """

    takes_input: bool
    input: Any
    output: OutputType | None
    is_stream: bool


def read_types(contract: Contract, inputs: Mapping[str, InputType | Unread]) -> dict[str, Types]:
    """The types of each method that requests call: PREDICT and the OpenAI-style ones, those that the model has.

    inputs: what `typed.read_inputs` found.
    """
    found = {name: _types_of(method, method, inputs.get(name)) for name, method in contract.openai.items()}
    if contract.first is not None and contract.last is not None:
        found[PREDICT] = _types_of(contract.first, contract.last, inputs.get(PREDICT))
    return found


def _types_of(first: Method, last: Method, checked: InputType | Unread | None) -> Types:
    takes_input = first.takes in (Takes.INPUTS, Takes.INPUTS_AND_REQUEST)
    output = read_output(last.output_type)
    return Types(takes_input, checked and checked.annotation, output, last.kind in _GENERATORS)


def read_output(annotation: Any) -> OutputType | None:
    """What the annotation of a result says; None if that is nothing a schema could show.

    Truss knows a pydantic model, a generator, a model that is awaited, and a union of a model and a generator. Here
    whatever contains a TypedDict, a dataclass or a model may stand for the model.
    """
    if _is_a(annotation, _STREAMS):
        return OutputType(None, supports_streaming=True)
    if get_origin(annotation) not in (Union, UnionType):
        annotation = _awaited(annotation)
        return OutputType(annotation, supports_streaming=False) if is_typed(annotation) else None
    members = get_args(annotation)
    values = tuple(_awaited(member) for member in members if not _is_a(member, _STREAMS))
    value = Union[values] if values else None  # noqa: UP007 - there are as many as there are
    return OutputType(value, supports_streaming=len(values) < len(members)) if is_typed(value) else None


def _is_a(annotation: Any, classes: tuple[type, ...]) -> bool:
    origin = get_origin(annotation)
    return isinstance(origin, type) and issubclass(origin, classes)


def _awaited(annotation: Any) -> Any:
    """What awaiting gives: X of Awaitable[X] and of Coroutine[Any, Any, X]."""
    arguments = get_args(annotation)
    return arguments[-1] if arguments and _is_a(annotation, (collections.abc.Awaitable,)) else annotation


def describe(types: Types | None) -> dict[str, Any] | None:
    """Truss's account of a model by the types of its predict; None if they say nothing, or the model has none.

    Raises what pydantic raises for a model that has no JSON Schema.
    """
    if types is None:
        return None
    output = types.output
    input_schema, output_schema = make_schema(types.input), output and make_schema(output.annotation)
    supports_streaming = output and output.supports_streaming
    if not (input_schema or output_schema or supports_streaming):
        return None
    return {
        "input_schema": input_schema,
        "output_schema": output_schema,
        "supports_streaming": supports_streaming,
    }


def make_schema(annotation: Any, references: str | None = None, *, is_result: bool = False) -> dict[str, Any] | None:
    """The JSON Schema (2020-12; draft 7 by pydantic 1) of what `annotation` stands for; None without any.

    references: where definitions are to be found, `{model}` for their names; they come along under `$defs`, or
        `definitions` by pydantic 1. Without it, there.
    is_result: as results are written (field names, computed fields) rather than as content is checked (aliases).
    Raises what pydantic raises for a model that has no JSON Schema.
    """
    package = package_of(annotation)
    schema: dict[str, Any]
    if package is None:
        return None if annotation is None else _schema_of_any(annotation, references or LOCAL_REFERENCES, is_result)
    if is_version_1(package):
        schema = annotation.schema(by_alias=not is_result, ref_template=references or LOCAL_REFERENCES_1)
    else:
        mode = "serialization" if is_result else "validation"
        schema = annotation.model_json_schema(not is_result, references or LOCAL_REFERENCES, mode=mode)
    return schema


def _schema_of_any(annotation: Any, references: str, is_result: bool) -> dict[str, Any] | None:
    """Where Truss has no schema there may be one; for the sake of it alone pydantic is not imported."""
    try:
        adapter = make_adapter(annotation, may_import=False)
        mode = "serialization" if is_result else "validation"
        schema: dict[str, Any] = adapter.json_schema(by_alias=not is_result, ref_template=references, mode=mode)
    except NotCheckedError:
        return None
    return schema
