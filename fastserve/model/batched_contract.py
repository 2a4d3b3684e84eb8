"""What batching asks of the class: a predict that takes a list of inputs, and perhaps a `batch_size_of`.

What cannot work is refused here, at start. What a class may be otherwise, `contract.py` knows. Used by `batches.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import UnionType
from typing import Any, Final, get_args, get_origin

from fastserve.errors import ModelDefinitionError
from fastserve.model.contract import Contract, Kind, Takes, read_method
from fastserve.model.signatures import EMPTY

_INSTEAD: Final = "write `def predict(self, model_inputs)`, or leave runtime.batching out of config.yaml"


def read_batched(contract: Contract) -> Contract:
    """`contract`, whose predict takes a list, as one request sees it: with the types of one input and one result.

    Raises ModelDefinitionError for a predict that cannot be given a list.
    """
    predict = contract.predict
    if predict is None:
        raise ModelDefinitionError(
            "runtime.batching is for models with `predict`; leave it out of config.yaml, or write "
            "`def predict(self, model_inputs)`"
        )
    if predict.request_type is not None:
        raise ModelDefinitionError(
            "`predict` takes the request, and a batch has those of many clients: take it in `preprocess` or "
            f"`postprocess`, and {_INSTEAD}"
        )
    if predict.takes is Takes.NOTHING:
        raise ModelDefinitionError(f"`predict` takes no input, and a batch is a list of inputs: {_INSTEAD}")
    item_type = _item_of(predict.input_type)
    if item_type is None:
        shown = getattr(predict.input_type, "__name__", predict.input_type)
        raise ModelDefinitionError(
            f"`predict` says that it takes {shown}, and with runtime.batching it is given a list of inputs: "
            f"write `list[{shown}]`, or leave runtime.batching out of config.yaml"
        )
    result_type = _item_of(predict.output_type)
    if result_type is None:  # of a stream, say
        result_type = predict.output_type
    one = dataclasses.replace(predict, input_type=item_type, output_type=result_type)
    return dataclasses.replace(contract, predict=one)


def read_size_of(model: object) -> Callable[[Any], Any] | None:
    """The model's `batch_size_of`; None without. Raises ModelDefinitionError."""
    method = read_method(model, "batch_size_of")
    if method is None:
        return None
    if method.kind is not Kind.SYNC or method.takes is not Takes.INPUTS:
        raise ModelDefinitionError(
            "`batch_size_of` takes one input and returns its size at once: "
            "write `def batch_size_of(self, model_input)`"
        )
    return method.call


def _item_of(annotation: Any) -> Any:
    """X of `list[X]` and of what a list is otherwise; EMPTY if nothing is said of X; None if it is no list."""
    origin = get_origin(annotation) or annotation
    if not isinstance(origin, type) or origin in (EMPTY, Any, UnionType):
        return EMPTY  # or a name that type checkers alone know
    try:
        is_list = issubclass(list, origin)
    except TypeError:  # a TypedDict
        is_list = False
    if not is_list:
        return None
    arguments = get_args(annotation)
    return arguments[0] if len(arguments) == 1 else EMPTY
