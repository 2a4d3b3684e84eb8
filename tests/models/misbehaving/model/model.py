"""Does wrong what user code can do wrong with an answer: its input names the deed."""

import asyncio
import dataclasses
import logging
import math
import pathlib

import starlette.responses
from starlette.exceptions import HTTPException

import fastserve

LINE = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstolen"
MIB = 1 << 20


# --- values that have no JSON form, or an odd one ---


def nested(depth, wrap=lambda inner: [inner]):
    value = 1
    for _ in range(depth):
        value = wrap(value)
    return value


def circle():
    value = {"a": []}
    value["a"].append(value)
    return value


class Lying(dict):
    def items(self):
        return [("a", LINE), 5]

    def __iter__(self):
        raise ValueError("not to be read")


class Text(str):
    def __str__(self):
        raise ValueError("not to be shown")


@dataclasses.dataclass
class Endless:
    inner: object = None


def endless():
    value = Endless()
    value.inner = value
    return value


VALUES = {
    "deep list": lambda: nested(100_000),
    "deep dict": lambda: nested(100_000, lambda inner: {"a": inner}),
    "circle": circle,
    "circle with nan": lambda: [math.nan, circle()],
    "circle of dataclasses": endless,
    "huge int": lambda: 10**5000,
    "set": lambda: {1},
    "object": object,
    "function": lambda: len,
    "bytes in a list": lambda: [b"a"],
    "tuple as key": lambda: {(1, 2): 3},
    "deep with a big int": lambda: [2**70, nested(100_000)],
}
ODD_VALUES = {
    "levels 254": lambda: nested(254),
    "levels 255": lambda: nested(255),
    "int of 4000 digits": lambda: 10**3999,
    "nan": lambda: [math.nan, math.inf, -math.inf],
    "nan beside a big int": lambda: [math.nan, 2**70],
    "surrogate": lambda: {"\ud800": "\udfff"},
    "keys": lambda: {1: 1, None: 2, False: 3, 1.5: 4},
    "key that is nan": lambda: {math.nan: 1},
    "dict that lies": lambda: Lying(a=1),
    "text that cannot be shown": lambda: [Text("a")],
    "controls": lambda: ["\0\r\n\x1b\u2028"],
}

# --- responses ---


class Bytes(bytes):
    """Says of itself what is not so."""

    def __len__(self):
        return 3

    def __bytes__(self):
        return self


class Disguised(bytes):
    """A field name that seems another."""

    def lower(self):
        return b"x-harmless"

    def __bytes__(self):
        return b"X-Other"


class Status(int):
    """Says of itself what is not so."""

    def __int__(self):
        return 101

    def __le__(self, other):
        return True


class Unreadable:
    def __init__(self, where):
        self.where = where

    def __iter__(self):
        if self.where == "iter":
            raise ValueError("no iterator")
        return self

    def __next__(self):
        if self.where == "next":
            raise ValueError("no item")
        return self.where


def changed(response, **attributes):
    for name, value in attributes.items():
        setattr(response, name, value)
    return response


def without(response, name):
    delattr(response, name)
    return response


def raising(error):
    raise error


class Own(starlette.responses.Response):
    """Sends what it is given to send."""

    def __init__(self, *messages):
        self.messages = messages
        super().__init__()

    async def __call__(self, scope, receive, send):
        for message in self.messages:
            await send(message)


def start(status=200, *headers):
    return {"type": "http.response.start", "status": status, "headers": headers}


def body(content=b"abc", **members):
    return {"type": "http.response.body", "body": content, **members}


def file(name, said):
    """A file that was another when its size was asked for."""
    path = pathlib.Path(name)
    path.write_bytes(b"x" * said)
    measured = path.stat()
    return path, measured


def file_response(name, *, said, is_now):
    path, measured = file(name, said)
    path.write_bytes(b"x" * is_now)
    return starlette.responses.FileResponse(path, stat_result=measured)


RESPONSES = {  # 500 each
    "headers None": lambda _: changed(fastserve.Response("abc"), headers=None),
    "headers a list": lambda _: changed(fastserve.Response("abc"), headers=[("a", "b")]),
    "headers lie": lambda _: changed(fastserve.Response("abc"), headers=Lying()),
    "value that cannot be shown": lambda _: fastserve.Response("abc", headers={"a": Text("b")}),
    "no status at all": lambda _: without(fastserve.Response("abc"), "status_code"),
    "no content at all": lambda _: without(fastserve.Response("abc"), "content"),
    "media type of lines": lambda _: fastserve.Response("abc", media_type=LINE),
    "media type an object": lambda _: fastserve.Response("abc", media_type=Text("a/b")),
    "stream no status": lambda _: without(fastserve.StreamingResponse(["abc"]), "status_code"),
    "stream headers None": lambda _: changed(fastserve.StreamingResponse(["abc"]), headers=None),
    "stream of an int": lambda _: fastserve.StreamingResponse(5),
    "stream of a class": lambda _: fastserve.StreamingResponse(Unreadable),
    "stream not iterable": lambda _: fastserve.StreamingResponse(Unreadable("iter")),
    "stream without items": lambda _: fastserve.StreamingResponse(Unreadable("next")),
    "error status None": lambda _: raising(changed(fastserve.HTTPError(400), status_code=None)),
    "error headers lie": lambda _: raising(changed(fastserve.HTTPError(400), headers=Lying(a=1))),
    "error detail without form": lambda _: raising(fastserve.HTTPError(400, circle())),
    "fastapi error of lines": lambda _: raising(HTTPException(400, "x", {"A": LINE})),
    "starlette body an int": lambda _: changed(starlette.responses.Response("abc"), body=5),
    "starlette body text": lambda _: changed(starlette.responses.Response("abc"), body="abc"),
    "starlette body None": lambda _: changed(starlette.responses.Response("abc"), body=None),
    "starlette body a list": lambda _: changed(starlette.responses.Response("abc"), body=[1, 2]),
    "starlette no body": lambda _: without(starlette.responses.Response("abc"), "body"),
    "starlette raw headers text": lambda _: changed(starlette.responses.Response("a"), raw_headers=[("a", "b")]),
    "starlette raw headers None": lambda _: changed(starlette.responses.Response("a"), raw_headers=None),
    "starlette raw headers triples": lambda _: changed(starlette.responses.Response("a"), raw_headers=[(b"a",) * 3]),
    "starlette raw lines": lambda _: changed(
        starlette.responses.Response("a"), raw_headers=[(b"a", b"b\r\n\r\n" + LINE.encode())]
    ),
    "starlette raw name": lambda _: changed(starlette.responses.Response("a"), raw_headers=[(LINE.encode(), b"b")]),
    "starlette raw name in disguise": lambda _: changed(
        starlette.responses.Response("a"), raw_headers=[(Disguised(LINE.encode()), b"b")]
    ),
    "status out of range in disguise": lambda _: fastserve.Response("abc", Status(600)),
    "own nothing": lambda _: Own(),
    "own start alone": lambda _: Own(start()),
    "own body alone": lambda _: Own(body()),
    "own two starts": lambda _: Own(start(), start(404), body()),
    "own informational": lambda _: Own(start(103), body()),
    "own upgrade": lambda _: Own(start(101, (b"upgrade", b"websocket")), body()),
    "own text body": lambda _: Own(start(), body("abc")),
    "own int body": lambda _: Own(start(), body(10**6)),
    "own trailers": lambda _: Own(start(), {"type": "http.response.trailers", "headers": []}),
    "own push": lambda _: Own(start(), {"type": "http.response.push", "path": "/"}),
    "own no status": lambda _: Own({"type": "http.response.start"}, body()),
    "own no type": lambda _: Own({}),
    "own not a dict": lambda _: Own("http.response.start"),
    "file lost": lambda _: starlette.responses.FileResponse("nowhere"),
    "small file shrank": lambda name: file_response(name, said=10, is_now=5),
    "small file grew": lambda name: file_response(name, said=5, is_now=10),
    "small file emptied": lambda name: file_response(name, said=10, is_now=0),
}
CUT = {  # the status line is out: cut
    "large file shrank": lambda name: file_response(name, said=3 * MIB, is_now=2 * MIB + 1),
    "large file grew": lambda name: file_response(name, said=2 * MIB + 1, is_now=3 * MIB),
    "large file emptied": lambda name: file_response(name, said=3 * MIB, is_now=65536),
    "own never ends": lambda _: Own(start(), body(more_body=True)),
    "own starts again": lambda _: Own(start(), body(more_body=True), start(404), body()),
    "own too long": lambda _: Own(start(200, (b"content-length", b"4")), body(more_body=True), body()),
    "own too short": lambda _: Own(start(200, (b"content-length", b"9")), body(more_body=True), body()),
}
ODD = {  # answered, as its content
    "bytes that lie": (lambda _: fastserve.Response(Bytes(b"abcdef")), b"abcdef"),
    "stream of bytes that lie": (lambda _: fastserve.StreamingResponse([Bytes(b"abcdef")]), b"abcdef"),
    "starlette bytes that lie": (lambda _: starlette.responses.Response(Bytes(b"abcdef")), b"abcdef"),
    "own bytes that lie": (lambda _: Own(start(), body(Bytes(b"abcdef"))), b"abcdef"),
    "own stream of bytes that lie": (
        lambda _: Own(start(), body(Bytes(b"abcdef"), more_body=True), body()),
        b"abcdefabc",
    ),
    "own more behind the end": (lambda _: Own(start(), body(), body(LINE.encode())), b"abc"),
    "own empty pieces": (lambda _: Own(start(), *[body(b"", more_body=True)] * 9, body()), b"abc"),
    "framing field in disguise": (
        lambda _: Own(start(200, (Disguised(b"Transfer-Encoding"), b"chunked")), body()),
        b"abc",
    ),
    "status that lies": (lambda _: fastserve.Response("abc", Status(200)), b"abc"),
    "stream of a status that lies": (lambda _: fastserve.StreamingResponse(["abc"], Status(200)), b"abc"),
    "status 204": (lambda _: fastserve.Response(LINE, 204, {"Content-Length": "99"}), b""),
    "status 304 stream": (lambda _: fastserve.StreamingResponse([LINE], 304, {"Content-Length": "99"}), b""),
    "starlette 204": (lambda _: starlette.responses.Response(LINE, 204, {"Content-Length": "99"}), b""),
    "starlette 304 stream": (lambda _: starlette.responses.StreamingResponse([LINE], 304), b""),
    "every framing field": (
        lambda _: fastserve.Response(
            "abc",
            headers={
                "Content-Length": "99",
                "TRANSFER-ENCODING": "chunked",
                "connection": "close, X-A",
                "Trailer": "X",
                "Upgrade": "h2c",
                "Keep-Alive": "timeout=0",
                "Date": "never",
            },
        ),
        b"abc",
    ),
}

# --- what generators do ---

ERRORS = {
    "value": ValueError("as planned"),
    "exit": SystemExit(3),
    "interrupt": KeyboardInterrupt(),
    "close": GeneratorExit(),
    "cancel": asyncio.CancelledError(),
    "stop": StopIteration(5),
    "async stop": StopAsyncIteration(5),
    "http": fastserve.HTTPError(418),
}


def item(what):
    """What is yielded, or raised, in place of a word."""
    if what.startswith("raise "):
        raise ERRORS[what[6:]]
    return {
        "None": None,
        "int": 5,
        "dict": {"a": 1},
        "list": [b"a"],
        "surrogate": "\ud800",
        "bytearray": bytearray(b"bytearray"),
        "view": memoryview(b"v.i.e.w")[::2],
        "lying": Bytes(b"lying"),
        "line": LINE,
        "chunk": b"\r\n0\r\n\r\n" + LINE.encode(),
        "mebibyte": b"x" * MIB,
    }.get(what, what)


def items(inputs):
    for what in inputs["items"]:
        yield item(what)
    for _ in range(inputs.get("repeated", 0)):
        yield item(inputs["last"])
    if "forever" in inputs:
        while True:
            yield ""


def sync_items(inputs):
    try:
        yield from items(inputs)
    finally:
        logging.warning("over")
        if "finally" in inputs:
            item(inputs["finally"])


async def async_items(inputs):
    try:
        for one in items(inputs):
            yield one
    finally:
        logging.warning("over")
        if "finally" in inputs:
            item(inputs["finally"])


KINDS = {
    "sync": sync_items,
    "async": async_items,
    "ours sync": lambda inputs: fastserve.StreamingResponse(sync_items(inputs)),
    "ours async": lambda inputs: fastserve.StreamingResponse(async_items(inputs)),
    "starlette sync": lambda inputs: starlette.responses.StreamingResponse(sync_items(inputs)),
    "starlette async": lambda inputs: starlette.responses.StreamingResponse(async_items(inputs)),
}


def do(inputs):
    deed = inputs.get("deed")
    if deed is None:
        return KINDS[inputs["kind"]](inputs)
    if deed in VALUES or deed in ODD_VALUES:
        return {**VALUES, **ODD_VALUES}[deed]()
    if deed in ODD:
        return ODD[deed][0](inputs.get("file"))
    return {**RESPONSES, **CUT}[deed](inputs.get("file"))


class Model:
    def predict(self, inputs):
        return do(inputs)

    async def chat_completions(self, inputs):
        return do(inputs)
