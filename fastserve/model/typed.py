"""What the annotation of a method's input asks of a payload: checked, and made what the method expects.

As Truss does for pydantic models, in its words; TypedDicts, dataclasses and what contains any of these are checked
too. Built at start by `runtime.py`, called for each request by `endpoints/predict.py`.
"""

from __future__ import annotations

import json
import logging
import sys
import textwrap
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

from fastserve.errors import RequestError, text_of
from fastserve.model.annotations import (
    NotCheckedError,
    complete,
    is_record,
    is_typed,
    is_version_1,
    make_adapter,
    package_of,
)
from fastserve.model.contract import Contract, Method, Takes
from fastserve.model.typed_dicts import keep_keys

_logger: Final = logging.getLogger("fastserve")

# The key of what a predict request is checked against; the other methods stand under their own names.
PREDICT: Final = "predict"

# Mistakes told one by one: more than a person reads. Each costs 5 us and 70 bytes of answer, and one takes 2 bytes of
# content: 2 MB of them held the loop for 6 s and were answered with 70 MB.
MAX_TOLD: Final = 1000
# And no further one behind so many: each repeats the keys that lead to it. 100 KB of content, nearly all of it one
# key, were answered with 100 MB.
MAX_TOLD_CHARACTERS: Final = 256 * 1024


class InputType:
    """One annotation, as a check of payloads. Every exception but RequestError comes from the user's own validators.

    annotation: what is checked for.
    """

    __slots__ = ("_decode", "_invalid", "_validate", "annotation")

    def __init__(
        self,
        annotation: Any,
        decode: Callable[[bytes], Any],
        validate: Callable[[Any], Any],
        invalid: type[Exception],
    ) -> None:
        """decode: JSON to values. validate: those to the payload; raises `invalid`, a pydantic ValidationError."""
        self.annotation = annotation
        self._decode = decode
        self._validate = validate
        self._invalid = invalid

    def parse_json(self, content: bytes) -> Any:
        """The payload that JSON content is. Raises RequestError 400 with Truss's text."""
        return self.parse(self._decode_json(content))

    def parse(self, value: Any) -> Any:
        """The payload that a decoded value is. Raises RequestError 400 with Truss's text."""
        try:
            return self._validate(value)
        except self._invalid as error:
            raise RequestError(400, _describe(error)) from None

    def _decode_json(self, content: bytes) -> Any:
        try:
            return self._decode(content)
        except RecursionError:
            why = "nested too deeply"
        except ValueError as error:
            why = str(error)
        raise RequestError(400, f"Input Parsing Error:\n  `__root__`: {why}.")


class Unread:
    """An input that is not decoded at all: `bytes`, or that of a method which takes only the request.

    takes_bytes: the payload is the content itself; else it is None.
    """

    __slots__ = ("takes_bytes",)

    annotation: Any = None  # nothing is checked

    def __init__(self, *, takes_bytes: bool) -> None:
        self.takes_bytes = takes_bytes

    def parse_json(self, content: bytes) -> Any:
        return content if self.takes_bytes else None

    def parse(self, value: Any) -> Any:
        return value if self.takes_bytes else None


def read_inputs(contract: Contract, which: str = "all") -> dict[str, InputType | Unread]:
    """The checks that a model's methods ask for, by the name of what is requested.

    That is PREDICT, or an OpenAI-style method.
    Raises ModelDefinitionError for a pydantic model that is not complete.
    """
    methods = {**contract.openai, **({PREDICT: contract.first} if contract.first else {})}
    found = {name: _read(method, which) for name, method in methods.items()}
    return {name: input_type for name, input_type in found.items() if input_type is not None}


def _read(method: Method, which: str) -> InputType | Unread | None:
    if method.takes is Takes.REQUEST:
        return Unread(takes_bytes=False)
    return Unread(takes_bytes=True) if method.input_type is bytes else read_input(method.input_type, which)


def read_input(annotation: Any, which: str = "all") -> InputType | None:
    """The check that `annotation` asks for; None if every payload will do.

    which: `pydantic` checks what Truss checks, a pydantic model as the whole annotation; `direct` a TypedDict or
        dataclass too; `all` also what contains one, such as `list[Item]`.
    Raises ModelDefinitionError for a pydantic model that is not complete.
    """
    package = package_of(annotation)
    if package is not None and not (which == "pydantic" and package is not sys.modules["pydantic"]):
        complete(annotation, package)
        return _of_version_1(annotation, package) if is_version_1(package) else _of_model(annotation)
    if which == "pydantic" or not (is_typed(annotation) if which == "all" else is_record(annotation)):
        return None
    try:
        return _of_any(annotation)
    except NotCheckedError as error:  # Truss runs such a model without any check
        _logger.warning("inputs are not checked against %s: %s", _name_of(annotation), error)
        return None


def _of_version_1(model: Any, package: ModuleType) -> InputType:
    decode = model.__config__.json_loads
    return InputType(model, lambda content: decode(content.decode()), model.parse_obj, package.ValidationError)


def _of_model(model: Any) -> InputType:
    return InputType(model, _decode_exactly, model.model_validate, _core().ValidationError)


def _of_any(annotation: Any) -> InputType:
    adapter = make_adapter(annotation)
    core = _core()
    validate = core.SchemaValidator(keep_keys(adapter.core_schema)).validate_python
    return InputType(annotation, _decode_exactly, validate, core.ValidationError)


def _core() -> Any:
    return sys.modules["pydantic_core"]


def _decode_exactly(content: bytes) -> Any:
    """JSON to the very values Truss validates, which decodes with the standard library.

    Not `model_validate_json`: for it a UUID in a text is a UUID where `UUID | str` asks for either, and its messages
    are others. Not orjson: it rounds integers over 64 bits. Pydantic's own decoder is as fast, and what it refuses
    (lone surrogates, nesting over 200 deep) is left to the standard library, as is saying what is wrong.
    """
    try:
        return _core().from_json(content)
    except ValueError:
        return json.loads(content.decode())


def _describe(error: Any) -> str:
    """A ValidationError in Truss's words. error: of pydantic 1 or 2."""
    try:
        is_version_2 = hasattr(error, "error_count")
        count = error.error_count() if is_version_2 else len(error.errors())  # which it keeps
        too_many = f"Input Parsing Errors: {count} of them, too many to be told one by one."
        if count > MAX_TOLD:
            return too_many
        mistakes = error.errors(include_url=False, include_input=False) if is_version_2 else error.errors()
        lines = ["Input Parsing Error:" if count == 1 else "Input Parsing Errors:"]
        told = 0
        for mistake in mistakes:
            if told > MAX_TOLD_CHARACTERS:
                return too_many
            place = _join(mistake["loc"])
            what = mistake["msg"] or str({key: value for key, value in mistake.items() if key != "loc"})
            lines.append(textwrap.indent(f"`{place}`: {what}.", "  "))
            told += len(lines[-1])
    except Exception:  # noqa: BLE001 - a mistake that a user's validator described in its own way
        return f"Input Parsing Error, {text_of(error)}"
    # A lone surrogate among the keys, which pydantic 1 repeats, could not be sent.
    return "\n".join(lines).encode(errors="replace").decode()


def _join(place: tuple[str | int, ...]) -> str:
    """('items', 1, 'name') as items[1].name. Raises TypeError for what is neither a key nor an index."""
    joined = ""
    for index, step in enumerate(place):
        if isinstance(step, str):
            joined += f".{step}" if index else step
        elif isinstance(step, int):
            joined += f"[{step}]"
        else:
            raise TypeError(f"Unexpected type: {step}.")
    return joined


def _name_of(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)
