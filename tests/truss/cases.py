"""What both servers are asked: for each model under tests/models/truss the requests, by name, in order.

Data alone. `record.py` writes down what Truss's server answers, `test_answers.py` asks ours the same.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgpack

from tests.truss.exchange import Exchange

MODELS: Final = Path(__file__).parents[1] / "models" / "truss"

PREDICT: Final = "/v1/models/model:predict"
CHAT: Final = "/v1/chat/completions"
COMPLETIONS: Final = "/v1/completions"
OCTETS: Final = {"Content-Type": "application/octet-stream"}
ACCEPT_JSON: Final = {"Accept": "application/json"}
OPENAI: Final = {"User-Agent": "OpenAI/Python 1.61.0", **ACCEPT_JSON}


@dataclasses.dataclass(frozen=True)
class Conversation:
    """A WebSocket session. messages, fields: as `exchange.converse` takes them."""

    messages: list[Any]
    fields: Mapping[str, str] = dataclasses.field(default_factory=dict)


Question = Exchange | Conversation


def post(payload: Any, path: str = PREDICT, **fields: str) -> Exchange:
    """JSON, as most clients send it; Content_Type="x" is a header field."""
    said = {"Content-Type": "application/json", **{name.replace("_", "-"): value for name, value in fields.items()}}
    return Exchange("POST", path, json.dumps(payload).encode(), said)


def send(content: bytes, path: str = PREDICT, **fields: str) -> Exchange:
    """Any content, and no Content-Type unless there is one among `fields`."""
    return Exchange("POST", path, content, {name.replace("_", "-"): value for name, value in fields.items()})


def pack(payload: Any, path: str = PREDICT, **fields: str) -> Exchange:
    """msgpack."""
    return Exchange("POST", path, msgpack.packb(payload), {**OCTETS, **fields})


def get(path: str, **fields: str) -> Exchange:
    return Exchange("GET", path, b"", fields)


def kinds_of(model: str, table: str) -> list[str]:
    """The keys of the dict `table` in the source of `model`."""
    source = (MODELS / model / "model" / "model.py").read_text()
    body = source.partition(f"\n{table} = {{\n")[2].partition("\n}\n")[0]
    return re.findall(r'^    "(\w+)":', body, re.MULTILINE)


def each(kinds: Iterable[str], path: str = PREDICT, prefix: str = "", **fields: str) -> dict[str, Question]:
    return {prefix + kind: post({"kind": kind}, path, **fields) for kind in kinds}


def _results() -> dict[str, Question]:
    kinds = kinds_of("results", "RESULTS")
    return {**each(kinds), **{f"binary {kind}": pack({"kind": kind}) for kind in kinds}}


def _inputs() -> dict[str, Question]:
    contents: dict[str, bytes] = {
        "object": b'{"a": [1, 2.5, "x", null, true]}',
        "null": b"null",
        "number": b"5",
        "text": b'"x"',
        "list": b"[]",
        "spaces": b" \r\n\t{ } \n",
        "empty": b"",
        "blank": b"  ",
        "cut object": b'{"a": ',
        "cut list": b"[1, 2",
        "cut text": b'"abc',
        "trailing": b"{} {}",
        "trailing comma": b"[1,]",
        "trailing comma of object": b'{"a": 1,}',
        "single quotes": b"{'a': 1}",
        "unquoted key": b"{a: 1}",
        "no colon": b'{"a" 1}',
        "python": b"None",
        "words": b"hello",
        "on line 3": b'{\n  "a": 1,\n  b\n}',
        "comment": b"[1] // one",
        "nan": b"[NaN, Infinity, -Infinity]",
        "huge exponent": b"[1e999, -1e999]",
        "small exponent": b"[1e-400]",
        "long fraction": b"0.1000000000000000055511151231257827021181583404541015625",
        "minus zero": b"[-0, -0.0]",
        "leading zero": b"[01]",
        "plus": b"[+1]",
        "no fraction": b"[1.]",
        "hexadecimal": b"[0x10]",
        "63 bits": b"[9223372036854775807, -9223372036854775808]",
        "64 bits": b"[18446744073709551615]",
        "65 bits": b"[18446744073709551616]",
        "64 bits negative": b"[-9223372036854775809]",
        "duplicate keys": b'{"a": 1, "a": 2}',
        "escapes": rb'"\u00e9\ud83d\ude00\n\/"',
        "bad escape": rb'"\x"',
        "lone surrogate": rb'"\ud800"',
        "control character": b'"a\nb"',
        "nul": b'"\\u0000"',
        "utf-8": '"é😀"'.encode(),
        "latin-1": b'"\xe9"',
        "invalid utf-8": b'{"a": "\xff"}',
        "invalid utf-8 outside": b"\xff\xfe\xfa",
        "mark": b'\xef\xbb\xbf{"a": 1}',
        "utf-16": '{"a": 1}'.encode("utf-16"),
        "utf-16-le": '{"a": 1}'.encode("utf-16-le"),
        "utf-32": '{"a": 1}'.encode("utf-32"),
        "deep": b"[" * 200 + b"]" * 200,
        "too deep": b"[" * 20_000 + b"]" * 20_000,
        "form": b"a=1&b=2",
        "msgpack": msgpack.packb({"a": 1}),
    }
    types: dict[str, str] = {
        "type json": "application/json",
        "type json utf-8": "application/json; charset=utf-8",
        "type json latin-1": "application/json; charset=latin-1",
        "type text": "text/plain",
        "type form": "application/x-www-form-urlencoded",
        "type multipart": "multipart/form-data; boundary=x",
        "type nonsense": "nonsense",
        "type empty": "",
        "type msgpack": "application/msgpack",
        "type image": "image/png",
    }
    binary: dict[str, bytes] = {
        "binary object": msgpack.packb({"a": [1, 2.5, "x", None, True, b"raw"]}),
        "binary int keys": msgpack.packb({1: "a"}),
        "binary list": msgpack.packb([1]),
        "binary null": msgpack.packb(None),
        "binary bytes": msgpack.packb(b"raw"),
        "binary timestamp": bytes.fromhex("d6ff00000005"),
        "binary extension": msgpack.packb(msgpack.ExtType(5, b"x")),
        "binary big": msgpack.packb([2**64 - 1, -(2**63)]),
        "binary empty": b"",
        "binary cut": msgpack.packb({"a": "long text"})[:-3],
        "binary trailing": msgpack.packb({"a": 1}) + b"\x01",
        "binary of json": b'{"a": 1}',
        "binary c1": b"\xc1",
        "binary invalid utf-8": b"\xa1\xff",
        "binary unhashable key": b"\x81\x90\x01",
        "binary datetime": msgpack.packb({b"__dt_datetime_iso__": True, b"data": "2024-02-29T12:30:15"}),
        "binary date": msgpack.packb({b"__dt_date_iso__": True, b"data": "2024-02-29"}),
        "binary time": msgpack.packb({b"__dt_time_iso__": True, b"data": "12:30:15"}),
        "binary timedelta": msgpack.packb({b"__dt_timedelta__": True, b"data": [1, 2, 3]}),
        "binary decimal": msgpack.packb({b"__decimal__": True, b"data": "1.10"}),
        "binary uuid": msgpack.packb({b"__uuid__": True, b"data": "00000000-0000-0000-0000-000000000005"}),
        "binary bad date": msgpack.packb({b"__dt_date_iso__": True, b"data": "x"}),
        "binary array": msgpack.packb(
            {b"nd": True, b"type": "<f4", b"kind": b"", b"shape": [2], b"data": b"\x00\x00\x80?\x00\x00\x00@"}
        ),
        "binary scalar": msgpack.packb({b"nd": False, b"type": "<f4", b"data": b"\x00\x00\x80?"}),
        "binary object array": msgpack.packb(
            {b"nd": True, b"type": "|O", b"kind": b"O", b"shape": [1], b"data": b"cos\nsystem\n(S'true'\ntR."}
        ),
        "binary short array": msgpack.packb(
            {b"nd": True, b"type": "<f4", b"kind": b"", b"shape": [3], b"data": b"\x00\x00\x80?"}
        ),
    }
    binary_types = {
        "binary type parameters": "application/octet-stream; a=b",
        "binary type in capitals": "Application/OCTET-Stream",
        "binary type with space": " application/octet-stream ;",
        "binary type longer": "application/octet-stream2",
    }
    routes: dict[str, Question] = {
        **{f"GET {path}": get(path) for path in GETS},
        **{f"{method} {path}": Exchange(method, path) for method, path in METHODS},
        **{f"POST {path}": post([1], path) for path in POSTS},
        "HTTP/1.0": dataclasses.replace(post([1]), version="1.0"),
        "chunked": Exchange("POST", PREDICT, b"2\r\n[1\r\n1\r\n]\r\n0\r\n\r\n", {"Transfer-Encoding": "chunked"}),
        "expectation": Exchange("POST", PREDICT, b"[1]", {"Expect": "100-continue"}),
        "encoded content": send(b"\x1f\x8b", Content_Encoding="gzip"),
        "accept anything": post([1], Accept="text/html"),
        "request id": post([1], x_baseten_request_id="mine"),
        "no host": Exchange("POST", PREDICT, b"[1]", {"Host": ""}),
    }
    sent = {
        **{name: send(content) for name, content in contents.items()},
        **{f"echo {name}": send(contents[name], COMPLETIONS) for name in ECHOED},
        **{name: send(b'{"a": 1}', Content_Type=kind) for name, kind in types.items()},
        **{name: send(content, Content_Type=OCTETS["Content-Type"]) for name, content in binary.items()},
        **{f"echo {n}": send(c, COMPLETIONS, Content_Type=OCTETS["Content-Type"]) for n, c in binary.items()},
        **{name: send(msgpack.packb({"a": 1}), Content_Type=kind) for name, kind in binary_types.items()},
    }
    return {**sent, **routes}


ECHOED: Final = ("object", "nan", "65 bits", "escapes", "lone surrogate", "mark", "huge exponent", "long fraction")

GETS: Final = (
    "/",
    "/v1/models/model",
    "/v1/models/other",
    "/v1/models/model/loaded",
    "/v1/models/model/schema",
    "/v1/models/model/other",
    "/v1/models/model/",
    "/v1/models/",
    "/v1/models",
    "/v1/models/a%2Fb",
    "/v1/models/a/b",
    PREDICT,
    "/v1/models/model:predict_binary",
    "/v1/models/model:other",
    "/ping",
    "/invocations",
    "/v1/chat/completions",
    "/v1/websocket",
    "/metrics",
    "/metrics/",
    "/metrics/more",
    "/nowhere",
    "/?a=b",
    "/v1/models/model?a=b",
    "//",
    "/hot-reload",
)

METHODS: Final = (
    ("HEAD", "/"),
    ("HEAD", "/v1/models/model"),
    ("OPTIONS", "/"),
    ("OPTIONS", PREDICT),
    ("PUT", PREDICT),
    ("DELETE", "/v1/models/model"),
    ("PATCH", "/ping"),
    ("POST", "/"),
    ("POST", "/ping"),
    ("POST", "/metrics/"),
    ("POST", "/v1/models/model/loaded"),
    ("PUT", "/v1/chat/completions"),
)

POSTS: Final = (
    "/v1/models/other:predict",
    "/v1/models/a:b:predict",
    "/v1/models/model%3Apredict",
    "/v1/models/model:predict_binary",
    "/v1/models/model:predict?a=b",
    "/v1/models/model:predict/",
    "/v1/models/:predict",
    "/v1/models/model:other",
    "/v1/models/model",
    "/v1/models/a/b:predict",
    "/invocations",
    "/nowhere",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/completions/",
    "/v1/embeddings",
    "/v1/messages",
    "/v1/responses",
    "/v1/models/model:chat_completions",
)


def _methods() -> dict[str, Question]:
    paths = (PREDICT, CHAT, COMPLETIONS, "/v1/embeddings", "/v1/messages", "/v1/responses")
    return {
        **{path: post({"a": 1}, path, x_mark="here") for path in paths},
        **{f"bad {path}": send(b"{", path) for path in paths},
        **{f"binary {path}": pack({"a": 1}, path) for path in paths},
    }


def _request_only() -> dict[str, Question]:
    form = send(b"a=1&b=2", f"{PREDICT}?what=form", Content_Type="application/x-www-form-urlencoded")
    parts = (
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
        b'--x\r\nContent-Disposition: form-data; name="f"; filename="f.txt"\r\n\r\nfile\r\n--x--\r\n'
    )
    return {
        "facts": send(b"not json", f"{PREDICT}?a=1&b=%20x", X_Mark="1", Cookie="c=d; e=f", Content_Type="text/x"),
        "escaped path": send(b"x", "/v1/models/m%C3%A9%20n:predict"),
        "json": send(b'{"a": 1}', f"{PREDICT}?what=json"),
        "bad json": send(b"{", f"{PREDICT}?what=json"),
        "body": send(b"\x00\xff", f"{PREDICT}?what=body", Content_Type=OCTETS["Content-Type"]),
        "stream": send(b"abc", f"{PREDICT}?what=stream"),
        "form": form,
        "multipart": send(parts, f"{PREDICT}?what=form", Content_Type="multipart/form-data; boundary=x"),
        "empty": send(b"", f"{PREDICT}?what=body"),
        "no input elsewhere": post({"a": 1}, COMPLETIONS),
        "bad json elsewhere": send(b"{", COMPLETIONS),
    }


def _streams() -> dict[str, Question]:
    kinds = kinds_of("streams", "STREAMS")
    others: dict[str, Question] = {
        "to openai": post({"kind": "texts"}, **{k.replace("-", "_"): v for k, v in OPENAI.items()}),
        "accept more": post({"kind": "texts"}, Accept="application/json, */*"),
        "accept in capitals": post({"kind": "texts"}, Accept="Application/JSON"),
        "accept anything": post({"kind": "texts"}, Accept="*/*"),
        "accept twice": post({"kind": "texts"}, Accept="application/json;q=1"),
        "binary request": pack({"kind": "pieces"}),
        "gathered binary request": pack({"kind": "texts"}, **ACCEPT_JSON),
        "HTTP/1.0": dataclasses.replace(post({"kind": "texts"}), version="1.0"),
        "chat": post({}, CHAT),
        "chat gathered": post({}, CHAT, Accept="application/json"),
        "chat of openai": post({}, CHAT, **{k.replace("-", "_"): v for k, v in OPENAI.items()}),
        "completions": post({}, COMPLETIONS),
        "messages streamed": post({"stream": True}, "/v1/messages"),
        "messages whole": post({"stream": False}, "/v1/messages"),
    }
    return {**each(kinds), **each(kinds, prefix="gathered ", Accept="application/json"), **others}


def _responses() -> dict[str, Question]:
    kinds = kinds_of("responses", "RESPONSES")
    return {
        **each(kinds),
        **each(("json", "json_404", "stream_events", "stream_fails_midway"), COMPLETIONS, "completions "),
        **{f"binary {kind}": pack({"kind": kind}) for kind in ("json", "stream", "json_404")},
        "stream asked as JSON": post({"kind": "stream"}, Accept="application/json"),
        "HTTP/1.0 stream": dataclasses.replace(post({"kind": "stream"}), version="1.0"),
    }


def _failures() -> dict[str, Question]:
    kinds = kinds_of("failures", "FAILURES")
    some = ("value", "http_400", "http_int", "starlette", "stop", "http_headers")
    return {
        **each(kinds),
        **each(some, COMPLETIONS, "awaited "),
        "binary": pack({"kind": "value"}),
        "binary http": pack({"kind": "http_dict"}),
    }


def _typed() -> dict[str, Question]:
    payloads: dict[str, Any] = {
        "good": {"prompt": "a"},
        "coerced": {"prompt": "a", "count": "3", "day": "2024-02-29"},
        "extra": {"prompt": "a", "other": 1},
        "missing": {},
        "two wrong": {"count": "x"},
        "nested": {"prompt": "a", "boxes": [{"width": 1}, {"width": "wide"}, {}]},
        "validator": {"prompt": "bad"},
        "list": [],
        "null": None,
        "bad date": {"prompt": "a", "day": "soon"},
    }
    return {
        **{name: post(payload) for name, payload in payloads.items()},
        **{f"binary {name}": pack(payload) for name, payload in payloads.items()},
        "bad json": send(b'{"prompt": '),
        "empty": send(b""),
        "invalid utf-8": send(b'{"prompt": "\xff"}'),
        "nan": send(b'{"prompt": "a", "boxes": [{"width": NaN}]}'),
        "other annotation": post({"messages": ["a"]}, CHAT),
        "other annotation wrong": post({"prompt": "a"}, CHAT),
        "no annotation": post({"prompt": "a"}, COMPLETIONS),
        "no annotation wrong": post({}, COMPLETIONS),
        "schema": get("/v1/models/model/schema"),
    }


def _typed_steps() -> dict[str, Question]:
    return {
        "good": post({"text": "abc"}),
        "missing": post({}),
        "binary": pack({"text": "abc"}),
        "schema": get("/v1/models/model/schema"),
    }


def _healthy() -> dict[str, Question]:
    told = [True, False, "yes", "", 34, 0, {"a": 1}, {}, None, [], "raises", True]
    asked: dict[str, Question] = {}
    for n, value in enumerate(told):
        asked[f"{n}: told {value!r}"] = post(value)
        asked[f"{n}: health"] = get("/v1/models/model")
    others = {path: get(path) for path in ("/v1/models/model/loaded", "/ping", "/", PREDICT)}
    return {**asked, "told to fail": post(False), **others}


def _constructed() -> dict[str, Question]:
    names = ("given", "of_environment", "overridden", "empty", "missing", "unlisted", "file_wins")
    return {
        "all": post({"what": "all"}),
        **{f"secret {name}": post({"what": "secret", "name": name}) for name in names},
        **{f"get {name}": post({"what": "secret_get", "name": name}) for name in ("given", "unlisted")},
        **{f"in {name}": post({"what": "secret_in", "name": name}) for name in ("given", "unlisted")},
        "secrets len": post({"what": "secrets_len"}),
        "secrets iter": post({"what": "secrets_iter"}),
        "config keys": post({"what": "config_keys"}),
        **{f"config {name}": post({"what": "config", "name": name}) for name in CONFIG_KEYS},
    }


CONFIG_KEYS: Final = (
    "model_metadata",
    "environment_variables",
    "secrets",
    "runtime",
    "resources",
    "requirements",
    "build",
    "base_image",
    "python_version",
    "model_name",
    "model_cache",
)


def _websocket() -> dict[str, Question]:
    ends = ("return", "raise", "http_error", "disconnect", "policy", "close", "close_and_raise")
    return {
        **{end: Conversation(["hello", end]) for end in ends},
        "accepts twice": Conversation(["hello", "accept", "return"]),
        "bytes": Conversation([{"base64": "AAEC"}, "return"]),
        "json": Conversation(["json", "return"]),
        "fields": Conversation(["header", "return"], {"x-mark": "here"}),
        "the client closes": Conversation(["hello", {"close": 1000}]),
        "the client closes oddly": Conversation(["hello", {"close": 4005}]),
        "long": Conversation(["x" * 5000, "return"]),
        "predict": post({}),
        "predict bad json": send(b"{"),
        "GET": get("/v1/websocket"),
        "ready": get("/v1/models/model"),
        "schema": get("/v1/models/model/schema"),
    }


QUESTIONS: Final[dict[str, dict[str, Question]]] = {
    "results": _results(),
    "inputs": {**_inputs(), "websocket": Conversation([])},
    "methods": _methods(),
    "request_only": _request_only(),
    "both": {"all": post({"a": 1}), "bad json": send(b"{"), "binary": pack({"a": 1})},
    "streams": _streams(),
    "generator": {
        "some": post({"fails": False, "n": 3}),
        "none": post({"fails": False, "n": 0}),
        "fails": post({"fails": True}),
        "gathered": post({"fails": False, "n": 3}, Accept="application/json"),
        "gathered and fails": post({"fails": True}, Accept="application/json"),
    },
    "async_generator": {
        "some": post({"n": 3}),
        "fails": post({}),
        "gathered": post({"n": 3}, Accept="application/json"),
    },
    "responses": _responses(),
    "failures": _failures(),
    "typed": _typed(),
    "typed_steps": _typed_steps(),
    "steps": {
        **each(("generator", "response", "set", "fails")),
        "good": post({"kind": "", "value": [1, 2]}),
        "postprocess fails": post({"kind": "", "value": "fails"}),
        "postprocess fails by itself": post({"kind": "", "value": ["a"]}),
        "preprocess fails": post({}),
        "bad json": send(b"{"),
    },
    "postprocess_streams": {
        "some": post({"texts": ["a", "b"]}),
        "gathered": post({"texts": ["a", "b"]}, Accept="application/json"),
        "fails first": post({"texts": ["fails"]}),
        "fails midway": post({"texts": ["a", "fails"]}),
        "predict fails": post({}),
        "number": post({"texts": ["a", 1]}),
    },
    "healthy": _healthy(),
    "healthy_async": _healthy(),
    "constructed": _constructed(),
    "renamed": {"predict": post({})},
    "environment": {"predict": post({})},
    "metrics": {
        "before": get("/metrics/"),
        "predict": post({}),
        "after": get("/metrics/"),
        "without slash": get("/metrics"),
    },
    "websocket": _websocket(),
    "gaps": {
        **each(("generator", "async_generator", "response", "response_async")),
        "gathered": post({"kind": "generator"}, Accept="application/json"),
        "chat": post({}, CHAT),
        "completions that fail": post({}, COMPLETIONS),
    },
}

# Models whose questions are asked all at once: each takes long.
AT_ONCE: Final = frozenset({"gaps"})

# Asked while `slow` loads.
WHILE_LOADING: Final[dict[str, Question]] = {
    **{path: get(path) for path in ("/", "/v1/models/model", "/v1/models/other", PREDICT, "/ping")},
    "/v1/models/model/loaded": get("/v1/models/model/loaded"),
    "/v1/models/model/schema": get("/v1/models/model/schema"),
    "predict": post({}),
    "predict bad json": send(b"{"),
    "predict binary": pack({}),
    "chat": post({}, CHAT),
    "invocations": post({}, "/invocations"),
    "websocket": Conversation([]),
}

# The files of `wrong`: none of them can be loaded.
WRONG: Final = tuple(sorted(file.stem for file in (MODELS / "wrong" / "model").glob("*.py")))

# What is around a model that is asked about it.
ENVIRONMENT: Final = {
    "NUM_LOAD_RETRIES_TRUSS": "1",
    "TRUSS_SECRET_of_environment": "from environment",
    "TRUSS_SECRET_overridden": "strong",
    "TRUSS_SECRET_file_wins": "middling",
    "TRUSS_SECRET_unlisted": "never seen",
}
SECRET_FILES: Final = {"file_wins": "from file\n", "unlisted": "never seen"}
DYNAMIC_CONFIG: Final = {"environment": {"environment": '{"name": "staging"}'}}
