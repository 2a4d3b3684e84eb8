"""What a model object may look like: the kinds of its methods, what they take, which must be there.

That part of Truss's contract which is about the request: how it is asked for, and which combinations are refused.
"""

from __future__ import annotations

import functools
import inspect
import subprocess
import sys
import types
from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any

import fastapi
import pytest
import starlette.requests

import fastserve
from fastserve.errors import ModelDefinitionError
from fastserve.model.contract import OPENAI_METHODS, Kind, Method, Takes, read_contract
from fastserve.model.signatures import EMPTY


def model_with(**methods: Any) -> object:
    """A model whose class has these attributes."""
    return type("Model", (), methods)()


def predict_of(model: object) -> Method:
    predict = read_contract(model).predict
    assert predict is not None
    return predict


def plain(self: object, model_input: Any) -> Any:
    return model_input


async def coroutine(self: object, model_input: Any) -> Any:
    return model_input


def generator(self: object, model_input: Any) -> Generator[Any, None, None]:
    yield model_input


async def async_generator(self: object, model_input: Any) -> AsyncGenerator[Any, None]:
    yield model_input


class Called:
    def __call__(self, model_input: Any) -> Any:
        return model_input


class CalledAsync:
    async def __call__(self, model_input: Any) -> Any:
        return model_input


class CalledStreaming:
    def __call__(self, model_input: Any) -> Generator[Any, None, None]:
        yield model_input


class CalledStreamingAsync:
    async def __call__(self, model_input: Any) -> AsyncGenerator[Any, None]:
        yield model_input


@functools.wraps(plain)
def wrapped(*args: Any, **kwargs: Any) -> Any:
    return plain(*args, **kwargs)


KINDS = [
    (plain, Kind.SYNC),
    (coroutine, Kind.COROUTINE),
    (generator, Kind.GENERATOR),
    (async_generator, Kind.ASYNC_GENERATOR),
    (staticmethod(functools.partial(coroutine, None)), Kind.COROUTINE),
    (classmethod(plain), Kind.SYNC),
    (staticmethod(lambda model_input: model_input), Kind.SYNC),
    (wrapped, Kind.SYNC),
    (Called(), Kind.SYNC),
    (CalledAsync(), Kind.COROUTINE),
    (CalledStreaming(), Kind.GENERATOR),
    (CalledStreamingAsync(), Kind.ASYNC_GENERATOR),
]


@pytest.mark.parametrize("name", ["preprocess", "predict", "postprocess"])
@pytest.mark.parametrize("method, kind", KINDS)
def test_a_method_is_classified_by_what_calling_it_returns(name: str, method: object, kind: Kind) -> None:
    contract = read_contract(model_with(**{"predict": plain, name: method}))
    read = getattr(contract, name)
    assert (read.name, read.kind) == (name, kind)
    assert callable(read.call)


def test_a_method_set_in_init_counts_too() -> None:
    model = model_with(predict=plain)
    model.postprocess = functools.partial(coroutine, model)  # type: ignore[attr-defined]
    postprocess = read_contract(model).postprocess
    assert postprocess is not None
    assert postprocess.kind is Kind.COROUTINE


def test_steps_that_are_not_there_or_none_are_left_out() -> None:
    contract = read_contract(model_with(predict=plain, preprocess=None))
    assert contract.preprocess is None
    assert contract.postprocess is None


def no_arguments(self: object) -> str:
    return "called"


def one_with_default(self: object, model_input: Any = None) -> Any:
    return model_input


def one_by_star(self: object, *args: Any) -> Any:
    return args


@pytest.mark.parametrize(
    "method, result", [(no_arguments, "called"), (plain, 7), (one_with_default, 7), (one_by_star, (7,))]
)
def test_call_takes_the_payload_whatever_the_method_takes(method: Callable[..., Any], result: object) -> None:
    assert predict_of(model_with(predict=method)).call(7) == result


def test_a_coroutine_method_without_arguments_is_still_awaited() -> None:
    async def predict(self: object) -> str:
        return "called"

    method = predict_of(model_with(predict=predict))
    assert method.kind is Kind.COROUTINE
    awaitable = method.call(7)
    assert inspect.iscoroutine(awaitable)
    awaitable.close()


def two(self: object, model_input: Any, request: Any) -> Any: ...


def two_with_default(self: object, model_input: Any, k: int = 1) -> Any: ...


def three(self: object, a: Any, b: Any, c: Any) -> Any: ...


def stars(self: object, a: Any, *args: Any, **kwargs: Any) -> Any: ...


@pytest.mark.parametrize("name", ["preprocess", "predict", "postprocess"])
@pytest.mark.parametrize(
    "method, words",
    [
        (two, "must have request as second argument"),
        (two_with_default, "must have request as second argument"),
        (three, "cannot have more than two arguments"),
        (stars, "cannot have more than two arguments"),
    ],
)
def test_more_arguments_than_the_payload_are_refused(name: str, method: object, words: str) -> None:
    with pytest.raises(ModelDefinitionError) as refused:
        read_contract(model_with(**{"predict": plain, name: method}))
    for word in (f"`{name}`", words, f"def {name}(self, model_input)"):
        assert word in str(refused.value)


@pytest.mark.parametrize("name", ["preprocess", "postprocess"])
def test_a_step_that_cannot_be_called_is_refused_by_name(name: str) -> None:
    with pytest.raises(ModelDefinitionError, match=f"`{name}`"):
        read_contract(model_with(**{"predict": plain, name: 5}))


def test_a_function_in_c_without_a_signature_is_called_with_the_input() -> None:
    with pytest.raises(ValueError, match="no signature"):
        inspect.signature(max)
    method = predict_of(model_with(predict=staticmethod(max)))
    assert (method.kind, method.call([1, 3, 2])) == (Kind.SYNC, 3)


@pytest.mark.parametrize("methods", [{}, {"predict": None, "preprocess": plain}])
def test_a_model_without_predict_is_told_to_add_it(methods: dict[str, Any]) -> None:
    with pytest.raises(ModelDefinitionError, match=r"must have a `predict`.*add `def predict\(self, model_input\)`"):
        read_contract(model_with(**methods))


def test_a_websocket_alone_is_enough() -> None:
    contract = read_contract(model_with(websocket=coroutine))
    assert contract.predict is None
    assert contract.websocket is not None


# --- the request ---


class OwnRequest(starlette.requests.Request):
    """A model may have a request class of its own."""


class OwnFastserveRequest(fastserve.Request): ...


REQUEST_TYPES = [fastserve.Request, starlette.requests.Request, fastapi.Request, OwnRequest, OwnFastserveRequest]
NAMES = ["preprocess", "predict", "postprocess", *OPENAI_METHODS]


def method_of(name: str, function: object) -> Method:
    """What is read of `function` as the model's method of that name, beside a plain predict."""
    contract = read_contract(model_with(**{"predict": plain, name: function}))
    read = contract.openai[name] if name in OPENAI_METHODS else getattr(contract, name)
    assert isinstance(read, Method)
    return read


def refusal_of(**methods: Any) -> str:
    with pytest.raises(ModelDefinitionError) as refused:
        read_contract(model_with(**methods))
    return str(refused.value)


@pytest.mark.parametrize("request_type", REQUEST_TYPES)
@pytest.mark.parametrize("name", NAMES)
def test_a_second_argument_annotated_with_a_request_class_gets_the_request(name: str, request_type: type) -> None:
    def method(self: object, anything: Any, whatever: Any) -> Any:
        return anything, whatever

    method.__annotations__["whatever"] = request_type
    read = method_of(name, method)
    assert (read.takes, read.request_type) == (Takes.INPUTS_AND_REQUEST, request_type)
    assert read.call(1, 2) == (1, 2)


@pytest.mark.parametrize("request_type", REQUEST_TYPES)
@pytest.mark.parametrize("name", [name for name in NAMES if name != "postprocess"])
def test_an_only_argument_annotated_with_a_request_class_gets_the_request(name: str, request_type: type) -> None:
    def method(self: object, whatever: Any) -> Any:
        return whatever

    method.__annotations__["whatever"] = request_type
    read = method_of(name, method)
    assert (read.takes, read.request_type, read.input_type) == (Takes.REQUEST, request_type, EMPTY)
    assert read.call("inputs", "request") == "request"


@pytest.mark.parametrize("annotation", [None, dict, "Any", starlette.requests.HTTPConnection, object, Any, 5])
def test_an_argument_named_request_without_that_annotation_gets_the_inputs(annotation: object) -> None:
    def predict(self, request): ...  # type: ignore[no-untyped-def]

    if annotation is not None:
        predict.__annotations__["request"] = annotation
    read = method_of("predict", predict)
    assert (read.takes, read.request_type) == (Takes.INPUTS, None)


def test_annotations_of_input_and_output_are_kept() -> None:
    def predict(self: object, model_input: dict[str, int], request: fastserve.Request) -> list[int]:
        return []

    read = method_of("predict", predict)
    assert (read.input_type, read.output_type) == (dict[str, int], list[int])
    assert method_of("predict", lambda self: None).input_type is EMPTY


# As a model's module is run: outside sys.modules, its annotations all text, some names known to type checkers alone.
TEXT_SOURCE = """
from __future__ import annotations
import functools
from typing import TYPE_CHECKING, Annotated, Any, Optional
import fastapi, fastserve, starlette.requests
from fastapi import Request
if TYPE_CHECKING:
    from elsewhere import GenerateRequest, Hidden
    from elsewhere import Request as Hid

def passing(function):
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)
    return wrapper

def wrapping(function):
    return functools.wraps(function)(passing(function))

class Called:
    async def __call__(self, inputs: dict, request: Request): ...

class Model:
    def predict(self, inputs): ...
    def both(self, inputs, request: Request): ...
    async def both_dotted(self, inputs: dict, request: starlette.requests.Request): ...
    def both_ours(self, inputs: Hidden, request: fastserve.Request): yield
    async def both_quoted(self, inputs, request: "fastapi.Request"): yield
    @wrapping
    def both_wrapped(self, inputs, request: Request): ...
    @wrapping
    @wrapping
    def both_wrapped_twice(self, inputs, request: Request): ...
    @staticmethod
    def both_static(inputs, request: Request): ...
    @classmethod
    def both_class(cls, inputs, request: Request): ...
    def three(self, first, inputs, request: Request): ...
    both_partial = functools.partialmethod(three, 1)
    both_called = Called()
    def both_default(self, inputs=None, request: Request = None): ...
    def both_star(self, inputs, *request: Request): ...
    def both_positional(self, inputs, request: Request, /): ...

    def only(self, request: Request): ...
    @wrapping
    def only_wrapped(self, request: Request): ...
    @staticmethod
    def only_static(request: Request): ...

    def inputs(self, request: Hidden): ...
    def inputs_so_called(self, inputs: GenerateRequest): ...
    def inputs_star(self, *inputs): ...
    @passing
    def passed(self, request: Request): ...
    def later(self, inputs, request: Hidden): ...
    def later_dotted(self, request: elsewhere.Request): ...
    def optional(self, inputs, request: Optional[Request]): ...
    def annotated(self, inputs, request: Annotated[Request, 1]): ...
    def first(self, request: Request, inputs): ...
    def twice(self, request: Request, other: Request): ...
    def keyword(self, inputs, *, request: Request): ...
    def keyword_default(self, inputs, *, request: Request = None): ...
    def only_keyword_default(self, *, request: Request = None): ...
    def only_keywords(self, **request: Request): ...
"""


@pytest.fixture(scope="module")
def written() -> Any:
    module = types.ModuleType("model")
    exec(TEXT_SOURCE, module.__dict__)
    assert "model" not in sys.modules
    return module.__dict__["Model"]()


def written_method(written: Any, name: str) -> Method:
    model = model_with()
    model.predict = getattr(written, name)  # type: ignore[attr-defined]
    return predict_of(model)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("both", Kind.SYNC),
        ("both_dotted", Kind.COROUTINE),
        ("both_ours", Kind.GENERATOR),
        ("both_quoted", Kind.ASYNC_GENERATOR),
        ("both_wrapped", Kind.SYNC),
        ("both_wrapped_twice", Kind.SYNC),
        ("both_static", Kind.SYNC),
        ("both_class", Kind.SYNC),
        ("both_partial", Kind.SYNC),
        ("both_called", Kind.COROUTINE),
        ("both_default", Kind.SYNC),
        ("both_positional", Kind.SYNC),
        ("both_star", Kind.SYNC),
    ],
)
def test_text_annotations_are_recognised_which_truss_does_not(written: Any, name: str, kind: Kind) -> None:
    read = written_method(written, name)
    expected = fastserve.Request if name == "both_ours" else starlette.requests.Request
    assert (read.kind, read.takes, read.request_type) == (kind, Takes.INPUTS_AND_REQUEST, expected)


@pytest.mark.parametrize("name", ["only", "only_wrapped", "only_static"])
def test_so_are_those_of_an_only_argument(written: Any, name: str) -> None:
    read = written_method(written, name)
    assert (read.takes, read.request_type) == (Takes.REQUEST, starlette.requests.Request)


@pytest.mark.parametrize("name", ["inputs", "inputs_so_called", "inputs_star"])
def test_an_only_argument_of_a_class_that_cannot_be_looked_up_gets_the_inputs(written: Any, name: str) -> None:
    assert written_method(written, name).takes is Takes.INPUTS


SECOND = "must have request as second argument (type annotated)"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("later", [SECOND, "'Hidden' cannot be resolved: import it outside TYPE_CHECKING"]),
        ("later_dotted", ["'elsewhere.Request' cannot be resolved: import it outside TYPE_CHECKING"]),
        ("optional", [SECOND]),
        ("annotated", [SECOND]),
        ("first", ["not allowed to have request as first argument, request must be second"]),
        ("twice", ["not allowed to have request as first argument, request must be second"]),
        ("passed", [SECOND, "functools.wraps"]),
        ("keyword", ["is called by position", "`request`"]),
        ("keyword_default", ["is called by position", "`request`"]),
        ("only_keyword_default", ["is called by position", "`request`"]),
        ("only_keywords", ["is called by position", "`**request`"]),
        ("three", ["cannot have more than two arguments", "it has 3"]),
    ],
)
def test_a_wrong_signature_is_refused_in_words_that_help(written: Any, name: str, words: list[str]) -> None:
    with pytest.raises(ModelDefinitionError) as refused:
        written_method(written, name)
    said = str(refused.value)
    for word in [*words, "`predict`", "write `def predict(self, model_input)`", "request: fastserve.Request"]:
        assert word in said
    assert "Got: (" in said  # Truss shows the signature too


def test_truss_s_examples_of_wrong_signatures_are_refused_in_its_words() -> None:
    def invalid_arg(self, inputs, invalid_arg): ...  # type: ignore[no-untyped-def]

    def request_first(self, request: fastapi.Request, invalid_arg): ...  # type: ignore[no-untyped-def]

    def something(self, inputs, request: fastapi.Request, something): ...  # type: ignore[no-untyped-def]

    assert "`predict` method with two arguments must have request as second argument" in refusal_of(
        predict=invalid_arg
    )
    assert (
        "`predict` method with two arguments is not allowed to have request as first argument, request must be second"
        in refusal_of(predict=request_first)
    )
    assert "`predict` method cannot have more than two arguments" in refusal_of(predict=something)


# --- combinations ---


def of_request(self: object, request: fastapi.Request) -> Any: ...


def of_both(self: object, inputs: Any, request: fastapi.Request) -> Any: ...


async def websocket(self: object, websocket: fastapi.WebSocket) -> None: ...


DISCARDS_INPUT = "When using `preprocess`, the predict method cannot only have the request argument"
DISCARDS_RESULT = "The `postprocess` method cannot only have the request argument"
BOTH = "Truss model cannot have both `websocket` and any of `predict`, `preprocess`, or `postprocess` methods"


@pytest.mark.parametrize(
    ("methods", "said", "instead"),
    [
        (
            {"preprocess": plain, "predict": of_request},
            DISCARDS_INPUT,
            "def predict(self, model_input, request:",
        ),
        ({"preprocess": of_request, "predict": of_request}, DISCARDS_INPUT, "def predict(self, model_input"),
        ({"predict": of_both, "postprocess": of_request}, DISCARDS_RESULT, "def postprocess(self, result, request"),
        ({"predict": of_request, "postprocess": of_request}, DISCARDS_RESULT, "def postprocess(self, result"),
        (
            {"preprocess": plain},
            "must have a `predict` or `websocket` method",
            "add `def predict(self, model_input)`",
        ),
        ({"chat_completions": plain}, "must have a `predict` or `websocket` method", "add `def predict("),
        ({"websocket": websocket, "predict": plain}, BOTH, "leave one out"),
        ({"websocket": websocket, "preprocess": plain}, BOTH, "leave one out"),
        ({"websocket": websocket, "postprocess": plain}, BOTH, "leave one out"),
        ({"websocket": plain}, "`websocket` endpoints must be async", "write `async def websocket("),
        (
            {"websocket": of_request},
            "`websocket` must have only one argument: `websocket`",
            "write `async def websocket(",
        ),
        ({"websocket": no_arguments}, "`websocket` must have only one argument", "write `async def websocket("),
        ({"websocket": of_both}, "`websocket` must have only one argument", "write `async def websocket("),
        ({"websocket": async_generator}, "`websocket` endpoints must be async", "write `async def websocket("),
        (
            {"predict": plain, "is_healthy": plain},
            "`is_healthy` must have only one argument: `self`",
            "is_healthy(self)",
        ),
        (
            {"predict": plain, "is_healthy": of_request},
            "`is_healthy` must have only one argument",
            "is_healthy(self)",
        ),
    ],
)
def test_a_combination_that_truss_refuses_is_refused_in_its_words(
    methods: dict[str, Any], said: str, instead: str
) -> None:
    refusal = refusal_of(**methods)
    assert said in refusal
    assert instead in refusal


@pytest.mark.parametrize(
    ("name", "function", "instead"),
    [
        ("is_healthy", two, "write `def is_healthy(self)`"),
        ("is_healthy", three, "write `def is_healthy(self)`"),
        ("websocket", two, "write `async def websocket(self, websocket)`"),
        ("setup_environment", two, "write `def setup_environment(self, environment)`"),
        ("chat_completions", two, "write `def chat_completions(self, model_input)`"),
    ],
)
def test_each_method_is_told_its_own_signature(name: str, function: object, instead: str) -> None:
    others = {} if name == "websocket" else {"predict": plain}
    refusal = refusal_of(**others, **{name: function})
    assert f"`{name}`" in refusal
    assert instead in refusal
    assert refusal.count(f"def {name}(self") == (2 if name in OPENAI_METHODS else 1)


@pytest.mark.parametrize(
    "methods",
    [
        {"predict": of_request},
        {"preprocess": of_request, "predict": plain},
        {"preprocess": of_request, "predict": of_both, "postprocess": of_both},
        {"preprocess": of_request, "predict": no_arguments},
        {"predict": of_request, "postprocess": no_arguments},
        {"predict": plain, **dict.fromkeys(OPENAI_METHODS, of_request)},
        {"websocket": websocket, **dict.fromkeys(OPENAI_METHODS, of_both)},
        {"websocket": websocket, "is_healthy": no_arguments, "setup_environment": plain},
        {"predict": plain, "is_healthy": no_arguments, "setup_environment": plain},
    ],
)
def test_every_other_combination_is_taken(methods: dict[str, Any]) -> None:
    contract = read_contract(model_with(**methods))
    for name in methods:
        assert contract.openai.get(name) or getattr(contract, name)


def test_starlette_is_not_imported_to_look_for_its_requests() -> None:
    source = (
        "import sys\nfrom fastserve.model.contract import read_contract\n"
        "class Model:\n    def predict(self, model_input): ...\n"
        "read_contract(Model())\nassert 'starlette' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", source], check=True, timeout=60)
