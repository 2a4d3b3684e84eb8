"""predict returns a generator of the `kind` asked for; the OpenAI-style methods are generators themselves."""

import fastapi
import numpy


def texts():
    yield "one "
    yield "two caf\u00e9"
    yield "three"


def pieces():
    yield b"\x00\xff"
    yield b"two"


def split():
    for byte in "\u00e9\U0001f600".encode():
        yield bytes([byte])


def mixed():
    yield "text"
    yield b"bytes"


def with_empty():
    yield "a"
    yield ""
    yield b""
    yield "b"


def fails_first():
    raise ValueError("first")
    yield


def fails_midway():
    yield "0"
    yield "1"
    raise ValueError("midway")


def http_error_first():
    raise fastapi.HTTPException(418, "a teapot")
    yield


def http_error_midway():
    yield "0"
    raise fastapi.HTTPException(418, "a teapot")


def invalid():
    yield b"\xff\xfe"


async def texts_async():
    yield "one "
    yield "two"


async def fails_midway_async():
    yield "0"
    raise ValueError("midway")


async def fails_first_async():
    raise ValueError("first")
    yield


def of(*values):
    def generate():
        yield from values

    return generate


def returns():
    yield "a"
    return "lost"


class Text(str):
    pass


STREAMS = {
    "texts": texts,
    "pieces": pieces,
    "split": split,
    "mixed": mixed,
    "with_empty": with_empty,
    "empty": of(),
    "only_empty": of(""),
    "fails_first": fails_first,
    "fails_midway": fails_midway,
    "http_error_first": http_error_first,
    "http_error_midway": http_error_midway,
    "invalid": invalid,
    "texts_async": texts_async,
    "fails_midway_async": fails_midway_async,
    "fails_first_async": fails_first_async,
    "number": of(1),
    "number_midway": of("a", 1),
    "none": of(None),
    "dict": of({"a": 1}),
    "bytearray": of(bytearray(b"x")),
    "memoryview": of(memoryview(b"xy")),
    "array": of(numpy.arange(2)),
    "np_str": of(numpy.str_("x")),
    "text_like": of(Text("x")),
    "surrogate": of("\ud800"),
    "returns": returns,
    "many": of(*"abcdefghij"),
}


class Model:
    def predict(self, model_input):
        return STREAMS[model_input["kind"]]()

    async def chat_completions(self, model_input):
        yield 'data: {"n": 1}\n\n'
        yield "data: [DONE]\n\n"

    def completions(self, model_input):
        yield b"data: 1\n\n"
        yield b"data: 2\n\n"

    async def messages(self, model_input):
        return texts() if model_input["stream"] else {"text": "whole"}
