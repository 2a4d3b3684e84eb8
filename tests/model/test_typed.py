"""Payloads against annotations: Truss's words for what is wrong, and what the model gets of what is right."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import typing
import uuid
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Optional, TypedDict

import pydantic
import pydantic.v1 as pydantic_1
import pytest
import typing_extensions
from pydantic_core import PydanticCustomError

from fastserve.errors import ModelDefinitionError, RequestError
from fastserve.model.contract import read_contract
from fastserve.model.schemas import read_types
from fastserve.model.typed import MAX_TOLD, MAX_TOLD_CHARACTERS, PREDICT, InputType, read_input, read_inputs


class Item(pydantic.BaseModel):
    name: str
    n: int = pydantic.Field(0, ge=0)


class Order(pydantic.BaseModel):
    prompt: str
    items: list[Item] = []
    d: dict[int, Item] = {}
    u: int | Item | None = None
    t: tuple[int, str] = (1, "a")
    choice: Literal["a", "b"] = "a"
    when: datetime.datetime | None = None

    @pydantic.field_validator("prompt")
    @classmethod
    def check(cls, prompt: str) -> str:
        if prompt == "two lines":
            raise ValueError("line 1\nline 2")
        if prompt == "no words":
            raise PydanticCustomError("kind", "")
        if prompt == "loop":
            raise RuntimeError("of the user's own")
        if prompt == "exit":
            raise SystemExit(3)
        return prompt

    @pydantic.model_validator(mode="after")
    def check_all(self) -> Order:
        if self.prompt == "root":
            raise ValueError("as a whole")
        return self


def parse(annotation: Any, content: bytes) -> Any:
    """What the model gets, or the text of the 400."""
    checked = read_input(annotation)
    assert checked is not None
    try:
        return checked.parse_json(content)
    except RequestError as error:
        assert error.status == 400
        return error.message


# What Truss's own `format_pydantic_validation_error` says of these contents, recorded with pydantic 2.14.
TRUSS_TEXTS = [
    (b"{}", "Input Parsing Error:\n  `prompt`: Field required."),
    (b'{"prompt":1}', "Input Parsing Error:\n  `prompt`: Input should be a valid string."),
    (
        b'{"prompt":"x","items":[{"name":"a"},{"n":-1}]}',
        "Input Parsing Errors:\n  `items[1].name`: Field required.\n"
        "  `items[1].n`: Input should be greater than or equal to 0.",
    ),
    (
        b'{"prompt":"x","d":{"z":{"name":"a"}}}',
        "Input Parsing Error:\n  `d.z.[key]`: Input should be a valid integer, unable to parse string as an integer.",
    ),
    (b'{"prompt":"x","d":{"2":{}}}', "Input Parsing Error:\n  `d.2.name`: Field required."),
    (
        b'{"prompt":"x","u":{}}',
        "Input Parsing Errors:\n  `u.int`: Input should be a valid integer.\n  `u.Item.name`: Field required.",
    ),
    (
        b'{"prompt":"x","t":["a",2],"choice":"c"}',
        "Input Parsing Errors:\n  `t[0]`: Input should be a valid integer, unable to parse string as an integer.\n"
        "  `t[1]`: Input should be a valid string.\n  `choice`: Input should be 'a' or 'b'.",
    ),
    (b'{"prompt":"two lines"}', "Input Parsing Error:\n  `prompt`: Value error, line 1\n  line 2."),
    (b'{"prompt":"no words"}', "Input Parsing Error:\n  `prompt`: {'type': 'kind', 'msg': ''}."),
    (b'{"prompt":"root"}', "Input Parsing Error:\n  ``: Value error, as a whole."),
    (b"[]", "Input Parsing Error:\n  ``: Input should be a valid dictionary or instance of Order."),
    (b"null", "Input Parsing Error:\n  ``: Input should be a valid dictionary or instance of Order."),
    (b"", "Input Parsing Error:\n  `__root__`: Expecting value: line 1 column 1 (char 0)."),
    (
        b"{",
        "Input Parsing Error:\n  `__root__`: "
        "Expecting property name enclosed in double quotes: line 1 column 2 (char 1).",
    ),
    (
        b"\xff",
        "Input Parsing Error:\n  `__root__`: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte.",
    ),
    (
        b"\xef\xbb\xbf{}",
        "Input Parsing Error:\n  `__root__`: "
        "Unexpected UTF-8 BOM (decode using utf-8-sig): line 1 column 1 (char 0).",
    ),
    (b'{"prompt": NaN}', "Input Parsing Error:\n  `prompt`: Input should be a valid string."),
    (b'{"prompt":"x","items":{}}', "Input Parsing Error:\n  `items`: Input should be a valid list."),
]


@pytest.mark.parametrize("content, text", TRUSS_TEXTS)
def test_a_mistake_is_told_in_trusss_words(content: bytes, text: str) -> None:
    assert parse(Order, content) == text


@pytest.mark.parametrize(("mistakes", "lines"), [(MAX_TOLD, MAX_TOLD + 1), (MAX_TOLD + 1, 1), (300_000, 1)])
def test_mistakes_without_number_do_not_make_an_answer_without_end(mistakes: int, lines: int) -> None:
    text = parse(list[Item], b"[" + b"1," * (mistakes - 1) + b"1]")
    assert text.startswith("Input Parsing Errors:")
    assert len(text.splitlines()) == lines
    assert lines > 1 or text == f"Input Parsing Errors: {mistakes} of them, too many to be told one by one."


def test_mistakes_without_number_are_counted_for_pydantic_1_too() -> None:
    class Numbers(pydantic_1.BaseModel):
        numbers: list[int]

    text = parse(Numbers, b'{"numbers":[' + b'"x",' * MAX_TOLD + b'"x"]}')
    assert text == f"Input Parsing Errors: {MAX_TOLD + 1} of them, too many to be told one by one."


def test_a_long_key_above_many_mistakes_is_not_repeated_for_each() -> None:
    class Lists(pydantic.BaseModel):
        lists: dict[str, list[int]]

    def told(mistakes: int) -> str:
        content = {"lists": {"k" * MAX_TOLD_CHARACTERS: ["x"] * mistakes}}
        return str(parse(Lists, json.dumps(content).encode()))

    assert told(900) == "Input Parsing Errors: 900 of them, too many to be told one by one."
    assert "kkk[0]`: Input should be a valid integer" in told(1)


def test_a_decoded_value_is_checked_alike() -> None:
    checked = read_input(Order)
    assert checked is not None
    with pytest.raises(RequestError) as refused:
        checked.parse({"items": [{"n": -1, "name": "a"}], "prompt": "x"})
    assert (
        refused.value.message == "Input Parsing Error:\n  `items[0].n`: Input should be greater than or equal to 0."
    )
    assert checked.parse({"prompt": "x"}) == Order(prompt="x")


class OddError(Exception):
    """A ValidationError as a user's own classes may bend it."""

    def __init__(self, place: object) -> None:
        super().__init__("odd")
        self.place = place

    def errors(self) -> list[dict[str, Any]]:
        if self.place is None:
            raise KeyError("nothing is known")
        return [{"loc": (self.place,), "msg": "wrong"}]


@pytest.mark.parametrize(
    "place, text",
    [
        ("a", "Input Parsing Error:\n  `a`: wrong."),
        (1.5, "Input Parsing Error, odd"),
        (None, "Input Parsing Error, odd"),
    ],
)
def test_a_mistake_that_cannot_be_taken_apart_is_told_as_it_is(place: object, text: str) -> None:
    def validate(value: Any) -> Any:
        raise OddError(place)

    with pytest.raises(RequestError) as refused:
        InputType(None, lambda content: None, validate, OddError).parse_json(b"")
    assert refused.value.message == text


def test_content_nested_too_deep_for_the_decoder_is_refused_and_what_the_standard_library_takes_is_not() -> None:
    assert parse(Order, b"[" * 100_000) == "Input Parsing Error:\n  `__root__`: nested too deeply."
    assert isinstance(parse(pydantic.RootModel[Any], b"[" * 300 + b"]" * 300), pydantic.RootModel)


def test_values_are_those_that_truss_would_have_given() -> None:
    class Values(pydantic.BaseModel):
        big: int
        key: uuid.UUID | str
        text: str

    content = b'{"big": 1180591620717411303425, "key": "12345678123456781234567812345678", "text": "a"}'
    values = parse(Values, content)
    assert values.big == 2**70 + 1
    assert type(values.key) is str


@pytest.mark.parametrize("prompt, error", [("loop", RuntimeError), ("exit", SystemExit)])
def test_what_a_validator_itself_raises_comes_out_as_it_is(prompt: str, error: type[BaseException]) -> None:
    checked = read_input(Order)
    assert checked is not None
    with pytest.raises(error):
        checked.parse_json(b'{"prompt": "%b"}' % prompt.encode())


# --- pydantic 1 ---


class OldItem(pydantic_1.BaseModel):
    name: str
    n: int = pydantic_1.Field(0, ge=0, alias="num")


class Old(pydantic_1.BaseModel):
    prompt: str
    items: list[OldItem] = []
    d: dict[str, OldItem] = {}

    @pydantic_1.validator("prompt")
    def check(cls, prompt: str) -> str:  # noqa: N805 - how pydantic 1 has it
        if prompt == "loop":
            raise RuntimeError("of the user's own")
        return prompt


@pytest.mark.parametrize(
    "content, text",
    [
        (b"{}", "Input Parsing Error:\n  `prompt`: field required."),
        (
            b'{"items":[{"name": "a"}, {"num":-1}]}',
            "Input Parsing Errors:\n  `prompt`: field required.\n  `items[1].name`: field required.\n"
            "  `items[1].num`: ensure this value is greater than or equal to 0.",
        ),
        (b"{", "Input Parsing Error:\n  `__root__`: Expecting property name enclosed in double quotes: "
               "line 1 column 2 (char 1)."),
        (b"\xff", "Input Parsing Error:\n  `__root__`: "
                  "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte."),
        (rb'{"prompt":"a","d":{"\ud800":{}}}', "Input Parsing Error:\n  `d.?.name`: field required."),
        (b"[" * 100_000, "Input Parsing Error:\n  `__root__`: nested too deeply."),
    ],
)  # fmt: skip
def test_models_of_pydantic_1_are_checked_in_the_same_form(content: bytes, text: str) -> None:
    assert parse(Old, content) == text


def test_models_of_pydantic_1_are_made() -> None:
    assert parse(Old, b'{"prompt":"a","items":[{"name":"b","num":2}]}') == Old(
        prompt="a", items=[OldItem(name="b", num=2)]
    )
    with pytest.raises(RuntimeError):
        parse(Old, b'{"prompt":"loop"}')


# --- what Truss does not check ---


@dataclass
class Box:
    width: float
    holes: list[Box] = field(default_factory=list)


class Base(TypedDict, total=False):
    other: int


class Point(Base):
    x: int
    y: typing_extensions.NotRequired[Annotated[int, pydantic.Field(gt=3)]]


class Line(TypedDict):
    points: list[Point]
    style: Literal["a"]


@pydantic.with_config(pydantic.ConfigDict(extra="forbid"))
class Strict(TypedDict):
    x: int


class Endless(TypedDict):
    inner: list[Endless]


class Tree(typing_extensions.TypedDict):
    trees: list[Tree]


@pytest.mark.parametrize(
    "annotation, content, payload",
    [
        (Optional[Item], b"null", None),  # noqa: UP045
        (Item | None, b'{"name":"a"}', Item(name="a", n=0)),
        (list[Item], b'[{"name":"a","n":"2"}]', [Item(name="a", n=2)]),
        (list[Item], b"[{}]", "Input Parsing Error:\n  `[0].name`: Field required."),
        (Annotated[dict[str, Item], "words"], b'{"k":{"name":"a"}}', {"k": Item(name="a", n=0)}),
        (Box, b'{"width":"2","holes":[{"width":1}],"more":1}', Box(2.0, [Box(1.0)])),
        (Box, b"{}", "Input Parsing Error:\n  `width`: Field required."),
        (Point, b'{"x":"1","more":{"a":1}}', {"x": 1, "more": {"a": 1}}),
        (Point, b'{"y":4}', "Input Parsing Error:\n  `x`: Field required."),
        (Point, b'{"x":1,"y":3}', "Input Parsing Error:\n  `y`: Input should be greater than 3."),
        (Point | None, b'{"x":1,"more":2}', {"x": 1, "more": 2}),
        (Annotated[Point, "words"], b'{"x":1,"more":2}', {"x": 1, "more": 2}),
        (dict[str, Point], b'{"k":{"x":1,"more":2}}', {"k": {"x": 1, "more": 2}}),
        (Line, b'{"points":[{"x":1,"z":2}],"style":"a"}', {"points": [{"x": 1, "z": 2}], "style": "a"}),
        (Strict, b'{"x":1,"y":2}', "Input Parsing Error:\n  `y`: Extra inputs are not permitted."),
        (Tree, b'{"trees":[{"trees":[],"x":1}]}', {"trees": [{"trees": [], "x": 1}]}),
        (typing_extensions.TypeAliasType("Alias", list[Item]), b'[{"name":"a"}]', [Item(name="a", n=0)]),
    ],
)
def test_what_contains_a_typed_thing_is_checked_too(annotation: Any, content: bytes, payload: Any) -> None:
    assert parse(annotation, content) == payload


def test_a_typed_dict_keeps_what_it_says_of_itself() -> None:
    assert parse(Point, b"3") == "Input Parsing Error:\n  ``: Input should be a valid dictionary."


@pytest.mark.parametrize(
    "annotation",
    [Any, None, str, dict, list[int], dict[str, Any], int | None, Literal["a"], "Unresolved",
     typing.Callable[..., int], Annotated[int, Item], pydantic.conint(gt=3)],
)  # fmt: skip
def test_nothing_else_is_checked(annotation: Any) -> None:
    assert read_input(annotation) is None


class Touchy(type):
    def __getattr__(cls, name: str) -> Any:
        raise RuntimeError(f"no {name} here")

    def __repr__(cls) -> str:
        raise RuntimeError


class Untouchable(metaclass=Touchy): ...


@pytest.mark.parametrize("is_inner", [False, True])
def test_an_annotation_that_may_not_be_asked_is_nothing_to_check(is_inner: bool) -> None:
    annotation = list[Untouchable] if is_inner else Untouchable

    class Model:
        def predict(self, model_input=Untouchable): ...  # type: ignore[no-untyped-def]

    Model.predict.__annotations__.update(model_input=annotation, **{"return": annotation})
    contract = read_contract(Model())
    assert read_inputs(contract) == {}
    assert read_types(contract, {})[PREDICT].output is None


@pytest.mark.parametrize("annotation", [list[Item], Point, Box, Old, OldItem | None])
def test_truss_s_own_checks_may_be_all_there_is(annotation: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert read_input(annotation, "pydantic") is None
    assert not caplog.records


def test_truss_s_own_check_is_always_there() -> None:
    assert isinstance(read_input(Order, "pydantic"), InputType)


class Unknown:
    pass


@dataclass
class Locked:
    lock: Unknown


@dataclass
class Lost:
    field: Nowhere  # type: ignore[name-defined] # noqa: F821


@pytest.mark.parametrize(
    "annotation, why",
    [
        (Locked, "Locked: Unable to generate"),
        (Lost, "Lost: name 'Nowhere' is not defined"),
        (list[Old], "pydantic 1 can only be checked by itself"),
    ],
)
def test_what_cannot_be_checked_is_left_as_it_is_with_a_warning(
    annotation: Any, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert read_input(annotation) is None
    assert len(caplog.records) == 1
    assert "inputs are not checked against" in caplog.text
    assert why in caplog.text


def test_pydantic_before_2_10_resolves_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(pydantic.TypeAdapter, "rebuild")
    assert parse(list[Item], b'[{"name":"a"}]') == [Item(name="a", n=0)]


def test_a_typed_dict_within_itself_is_checked_where_pydantic_takes_it_as_it_is() -> None:
    assert (read_input(Endless) is not None) is (sys.version_info >= (3, 12))


def test_without_pydantic_dataclasses_are_left_as_they_are(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("pydantic.main", "pydantic.v1.main"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pydantic", None)
    assert read_input(Box) is None
    assert "inputs are not checked against Box: pydantic 2 is not installed" in caplog.text


# --- at start ---


def test_a_model_that_names_what_is_not_there_is_refused_at_start() -> None:
    class Broken(pydantic.BaseModel):
        field: Nowhere  # type: ignore[name-defined] # noqa: F821

    class OldBroken(pydantic_1.BaseModel):
        field: Nowhere  # type: ignore[name-defined] # noqa: F821

    for annotation in (Broken, OldBroken, list[Broken], pydantic.BaseModel):
        with pytest.raises(ModelDefinitionError, match="is not a complete pydantic model"):
            read_input(annotation)


def test_a_model_that_puts_off_its_schema_is_built_at_start() -> None:
    class Later(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(defer_build=True)
        x: int

    assert not Later.__pydantic_complete__
    assert read_input(Later) is not None
    assert Later.__pydantic_complete__


def test_each_method_that_requests_call_has_its_own_check() -> None:
    class Model:
        def preprocess(self, order: Order) -> Any: ...

        def predict(self, made: Item) -> Any: ...

        def chat_completions(self, question: Item) -> Any: ...

        def embeddings(self, texts: list[str]) -> Any: ...

    inputs = read_inputs(read_contract(Model()))
    assert {name: checked.annotation for name, checked in inputs.items()} == {
        "predict": Order,
        "chat_completions": Item,
    }


def test_a_websocket_has_no_input_to_check() -> None:
    class Model:
        async def websocket(self, websocket: Any) -> None: ...

    assert read_inputs(read_contract(Model())) == {}


def test_pydantic_is_not_imported_for_models_that_do_without() -> None:
    source = (
        "import sys, fastserve.server, fastserve.codec.json_text\n"
        "from fastserve.model.typed import read_input\n"
        "assert read_input(dict) is None and fastserve.codec.json_text.encode_json({}) == b'{}'\n"
        "assert not {m for m in sys.modules if m.startswith('pydantic') or m.startswith('typing_ext')}\n"
    )
    subprocess.run([sys.executable, "-c", source], check=True)
