"""A plain predict that returns whatever `kind` asks for."""

import collections
import dataclasses
import datetime
import decimal
import enum
import math
import pathlib
import uuid

import numpy
import pydantic


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Word(str, enum.Enum):
    YES = "yes"


@dataclasses.dataclass
class Point:
    x: int
    y: float


Pair = collections.namedtuple("Pair", "a b")


class Inner(pydantic.BaseModel):
    day: datetime.date
    text: str


class Outer(pydantic.BaseModel):
    inner: Inner
    numbers: list[float] = []
    none: int | None = None


class Odd:
    pass


class TextLike(str):
    pass


class MappingLike(dict):
    pass


def deep(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


def circle():
    value = []
    value.append(value)
    return value


async def coroutine():
    return "late"


WHEN = datetime.datetime(2024, 2, 29, 12, 30, 15, 250000)
UTC = datetime.timezone.utc

RESULTS = {
    "dict": lambda: {"b": 1, "a": [1.5, True, None, "x"]},
    "list": lambda: [1, 2, 3],
    "tuple": lambda: (1, (2, 3)),
    "set": lambda: {1},
    "frozenset": lambda: frozenset({1}),
    "none": lambda: None,
    "true": lambda: True,
    "zero": lambda: 0,
    "float": lambda: [0.1, 1e22, 1e-7, 5.0, -0.0, 1e16],
    "nan": lambda: [math.nan, math.inf, -math.inf],
    "nan_key": lambda: {math.nan: 1},
    "big": lambda: 2**64,
    "big_negative": lambda: -(2**63) - 1,
    "uint64": lambda: 2**64 - 1,
    "text": lambda: 'caf\u00e9 \U0001f600 "quoted" \\ / \n\t\x00\x7f\u2028',
    "surrogate": lambda: "\ud800",
    "empty_text": lambda: "",
    "bytes": lambda: b"\x00\xff raw",
    "empty_bytes": lambda: b"",
    "bytes_within": lambda: {"a": b"x"},
    "bytearray": lambda: bytearray(b"\x01\x02"),
    "memoryview": lambda: memoryview(b"\x01\x02"),
    "int_keys": lambda: {1: "a", 2: "b"},
    "odd_keys": lambda: {1.5: "a", None: "b", True: "c", False: "d"},
    "tuple_keys": lambda: {(1, 2): "a"},
    "bytes_keys": lambda: {b"a": 1},
    "enum_keys": lambda: {Colour.RED: 1},
    "array": lambda: numpy.arange(6, dtype="float32").reshape(2, 3),
    "array_int": lambda: numpy.arange(3, dtype="int8"),
    "array_uint64": lambda: numpy.array([2**64 - 1], dtype="uint64"),
    "array_bool": lambda: numpy.array([True, False]),
    "array_nan": lambda: numpy.array([math.nan, math.inf, 1.0]),
    "array_float32": lambda: numpy.array([0.1, 1 / 3], dtype="float32"),
    "array_float16": lambda: numpy.array([0.1, 65504], dtype="float16"),
    "array_float64": lambda: numpy.array([0.1, 1e22, 1e-7]),
    "array_fortran": lambda: numpy.asfortranarray(numpy.arange(6).reshape(2, 3)),
    "array_strided": lambda: numpy.arange(10)[::2],
    "array_empty": lambda: numpy.array([]),
    "array_scalar": lambda: numpy.array(5),
    "array_text": lambda: numpy.array(["a", "bc"]),
    "array_bytes": lambda: numpy.array([b"a", b"bc"]),
    "array_object": lambda: numpy.array([1, "a", None], dtype=object),
    "array_complex": lambda: numpy.array([1 + 2j]),
    "array_dates": lambda: numpy.array(["2024-02-29"], dtype="datetime64[D]"),
    "array_structured": lambda: numpy.array([(1, 2.5)], dtype=[("a", "i4"), ("b", "f8")]),
    "arrays_within": lambda: {"a": [numpy.arange(2), {"b": numpy.float32(0.5)}]},
    "np_float32": lambda: numpy.float32(0.1),
    "np_float64": lambda: numpy.float64(0.1),
    "np_nan": lambda: numpy.float32("nan"),
    "np_int64": lambda: numpy.int64(7),
    "np_uint8": lambda: numpy.uint8(7),
    "np_bool": lambda: numpy.bool_(True),
    "np_bool_within": lambda: {"ok": numpy.bool_(True)},
    "np_str": lambda: numpy.str_("text"),
    "np_bytes": lambda: numpy.bytes_(b"raw"),
    "np_complex": lambda: numpy.complex64(1 + 2j),
    "np_datetime": lambda: numpy.datetime64("2024-02-29T12:00:00"),
    "np_timedelta": lambda: numpy.timedelta64(5, "s"),
    "np_int_keys": lambda: {numpy.int64(1): "a"},
    "datetime": lambda: WHEN,
    "datetime_utc": lambda: WHEN.replace(tzinfo=UTC),
    "date": lambda: WHEN.date(),
    "time": lambda: WHEN.time(),
    "timedelta": lambda: datetime.timedelta(days=1, seconds=2, microseconds=3),
    "decimal": lambda: decimal.Decimal("1.10"),
    "uuid": lambda: uuid.UUID(int=5),
    "enum": lambda: Colour.RED,
    "int_enum": lambda: Level.HIGH,
    "str_enum": lambda: Word.YES,
    "dataclass": lambda: Point(1, 2.5),
    "namedtuple": lambda: Pair(1, 2),
    "text_like": lambda: TextLike("text"),
    "mapping_like": lambda: MappingLike(a=1),
    "ordered": lambda: collections.OrderedDict(b=1, a=2),
    "counter": lambda: collections.Counter("aab"),
    "defaultdict": lambda: collections.defaultdict(list, a=[1]),
    "deque": lambda: collections.deque([1]),
    "range": lambda: range(3),
    "path": lambda: pathlib.PurePosixPath("/a"),
    "complex": lambda: 1 + 2j,
    "object": lambda: Odd(),
    "class": lambda: Odd,
    "ellipsis": lambda: ...,
    "exception": lambda: ValueError("a value"),
    "model": lambda: Outer(inner=Inner(day=WHEN.date(), text="caf\u00e9"), numbers=[1, 2.5]),
    "model_nan": lambda: Outer(inner=Inner(day=WHEN.date(), text=""), numbers=[math.nan]),
    "model_within": lambda: {"a": [Inner(day=WHEN.date(), text="x")]},
    "list_of_models": lambda: [Inner(day=WHEN.date(), text="x")],
    "iterator": lambda: iter([1, 2]),
    "map": lambda: map(str, [1]),
    "coroutine": coroutine,
    "circle": circle,
    "deep_500": lambda: deep(500),
    "deep_100000": lambda: deep(100_000),
}


class Model:
    def predict(self, model_input):
        return RESULTS[model_input["kind"]]()
