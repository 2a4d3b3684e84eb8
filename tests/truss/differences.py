"""Where our answers are not Truss's, on purpose: the reasons, and the questions that each is the reason for.

Data alone. Our own answers to these stand beside Truss's in answers.json. `test_answers.py` lets nothing else differ.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from typing import Final


@dataclasses.dataclass(frozen=True)
class Reason:
    """Why some answers differ.

    questions: "model / question", with * for any text. is_switched: STRICT_FLAGS give Truss's answers back.
    """

    why: str
    questions: tuple[str, ...]
    is_switched: bool = False


def each(model: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{model} / {name}" for name in names)


def switched(why: str, *questions: str) -> Reason:
    return Reason(why, questions, is_switched=True)


# All the switches at once.
STRICT_FLAGS: Final = (
    *("--json", "python"),
    *("--typed-inputs", "pydantic"),
    *("--truss-quirks", "all"),
    *("--on-stream-error", "end"),
    *("--cancel-on-disconnect", "none"),
)

REASONS: Final = (
    switched(
        "JSON has no NaN (RFC 8259 section 6): it goes out as null",
        *each("results", "nan", "nan_key", "array_nan", "np_nan"),
        *each("inputs", "echo nan", "echo huge exponent"),
    ),
    switched("orjson reads integers over 64 bits as floats", *each("inputs", "65 bits", "64 bits negative")),
    switched(
        "orjson writes float32 and float16 in the fewest digits that tell them apart",
        *each("results", "array_float32", "array_float16", "np_float32"),
    ),
    switched(
        "what Truss cannot write as JSON has a form here that every client reads",
        *each("results", "date*", "time", "uuid", "enum", "enum_keys", "dataclass", "array_dates", "np_datetime"),
    ),
    Reason(
        "numpy's truth values and pydantic models within a result are written like the others",
        each("results", "np_bool", "np_bool_within", "model_within", "list_of_models"),
    ),
    Reason(
        "bytes as the result of a JSON request are sent as they are",
        each("results", "bytes", "empty_bytes", "bytearray", "memoryview", "np_bytes"),
    ),
    Reason("the message names the type", each("results", "np_timedelta")),
    Reason(
        "arrays of Python objects are pickles, which run any code that is in them",
        ("results / binary array_object", "inputs / *binary object array"),
    ),
    Reason("msgpack-numpy fails to write dates, and reads ours", each("results", "binary array_dates")),
    Reason(
        "content that cannot be decoded is the client's mistake: 400, not 500",
        (
            *each("inputs", "latin-1", "invalid utf-8*", "too deep", "msgpack", "binary type longer"),
            *each(
                "inputs", "*binary int keys", "*binary empty", "*binary cut", "*binary trailing", "*binary of json"
            ),
            *each("inputs", "*binary c1", "*binary invalid utf-8", "*binary unhashable key", "*binary bad date"),
            *each("inputs", "*binary short array"),
        ),
    ),
    Reason("JSON is in UTF-8 (RFC 8259 section 8.1)", each("inputs", "type json latin-1")),
    Reason("encoded content is refused by its field, not by its bytes", each("inputs", "encoded content")),
    Reason(
        "errors of the router look like all others",
        (
            *each("inputs", "GET /nowhere", "GET //", "GET /v1/models", "GET /v1/models/", "GET /v1/models/*/b"),
            *each("inputs", "GET /v1/models/a%2Fb", "GET /v1/models/model/other", "GET /invocations", "POST /"),
            *each("inputs", "GET /v1/chat/completions", "PUT /v1/chat/completions", "POST /nowhere", "P* /ping"),
            *each("inputs", "POST /v1/models/model", "POST /v1/models/model:other", "POST /v1/models/a/b:predict"),
            *each("inputs", "POST /v1/models/:predict", "POST /v1/models/model:chat_completions", "DELETE *"),
            *each("inputs", "PUT /v1/models/model:predict", "POST /v1/models/model/loaded"),
        ),
    ),
    Reason("HEAD goes wherever GET does, OPTIONS everywhere", each("inputs", "HEAD *", "OPTIONS *")),
    Reason("a slash more changes nothing (Truss redirects)", each("inputs", "GET /v1/models/model/", "POST /*/")),
    Reason(
        "426 tells what the path of WebSockets wants (RFC 9110 section 15.5.22)",
        ("inputs / GET /v1/websocket", "websocket / GET"),
    ),
    Reason(
        "the metrics page is one page, whole, at both of its names, and begins with the server's own",
        ("inputs / * /metrics*", "metrics / before", "metrics / after", "metrics / without slash"),
    ),
    Reason("hot reload is there with --reload only", each("inputs", "GET /hot-reload")),
    switched(
        "each route goes by the annotations of its own method",
        *each("typed", "other annotation*", "no annotation*"),
        *each("request_only", "*elsewhere"),
    ),
    switched("what takes only the request may have any content", *each("methods", "bad /v1/completions")),
    Reason("the same, for a preprocess that does", each("both", "bad json")),
    Reason(
        "a generator that fails before its first chunk is a real error",
        (
            *each("streams", "*fails_first*", "http_error_first"),
            *("generator / fails", "async_generator / fails"),
            *("responses / stream_fails_first", "postprocess_streams / fails first"),
        ),
    ),
    Reason(
        "a first chunk that is neither text nor bytes is a real error",
        each("streams", "number", "none", "dict", "array", "surrogate"),
    ),
    Reason("a bytearray is bytes", each("streams", "bytearray")),
    switched(
        "a stream that fails midway is cut, so that the client can tell",
        *each("streams", "fails_midway*", "http_error_midway"),
    ),
    Reason(
        "what user code raised is not told to clients",
        ("streams / gathered fails_*", "generator / gathered and fails", "responses / no_file"),
    ),
    Reason(
        "other words for what cannot be gathered, and a memoryview or an array can",
        each("streams", *(f"gathered {kind}" for kind in ("pieces", "invalid", "surrogate", "memoryview", "array"))),
    ),
    Reason(
        "what the OpenAI-style methods yield is text/event-stream, never gathered, and tells of its failure",
        (*each("streams", "chat*", "completions", "messages streamed"), "gaps / c*"),
    ),
    Reason(
        "a detail of an HTTPException that Truss fails on is sent",
        each("failures", "*http_int", "http_true", "http_nan"),
    ),
    switched("an HTTPException keeps its header fields", *each("failures", "*http_headers")),
    Reason("starlette's own HTTPException counts too", each("failures", "*starlette*")),
    Reason("a model that cancels itself has failed like any other", each("failures", "cancelled")),
    Reason("a method that ends because its client is gone still closes", each("websocket", "disconnect")),
    Reason("accepting twice is as good as once", each("websocket", "accepts twice")),
    Reason("a model without predict has no such path", each("websocket", "predict*")),
)


def reason_for(question: str) -> Reason | None:
    """The reason why our answer to "model / question" may differ from Truss's."""
    for reason in REASONS:
        if any(fnmatch.fnmatchcase(question, pattern) for pattern in reason.questions):
            return reason
    return None
