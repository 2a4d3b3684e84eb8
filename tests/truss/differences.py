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


# All the switches at once.
STRICT_FLAGS: Final = (
    *("--json", "python"),
    *("--typed-inputs", "pydantic"),
    *("--truss-quirks", "all"),
    *("--on-stream-error", "end"),
    *("--cancel-on-disconnect", "none"),
)

REASONS: Final = (
    Reason(
        "JSON has no NaN (RFC 8259 section 6): it goes out as null",
        ("results / nan", "results / nan_key", "results / array_nan", "results / np_nan", "inputs / echo nan")
        + ("inputs / echo huge exponent",),
        is_switched=True,
    ),
    Reason(
        "orjson reads integers over 64 bits as floats",
        ("inputs / 65 bits", "inputs / 64 bits negative"),
        is_switched=True,
    ),
    Reason(
        "orjson writes float32 and float16 in the fewest digits that tell them apart",
        ("results / array_float32", "results / array_float16", "results / np_float32"),
        is_switched=True,
    ),
    Reason(
        "what Truss cannot write as JSON has a form here that every client reads",
        tuple(
            f"results / {kind}"
            for kind in ("date*", "time", "uuid", "enum", "enum_keys", "dataclass", "array_dates", "np_datetime")
        ),
        is_switched=True,
    ),
    Reason(
        "numpy's truth values and pydantic models within a result are written like the others",
        ("results / np_bool", "results / np_bool_within", "results / model_within", "results / list_of_models"),
    ),
    Reason(
        "bytes as the result of a JSON request are sent as they are",
        tuple(f"results / {kind}" for kind in ("bytes", "empty_bytes", "bytearray", "memoryview", "np_bytes")),
    ),
    Reason(
        "the message names the type",
        ("results / np_timedelta",),
    ),
    Reason(
        "arrays of Python objects are pickles, which run any code that is in them",
        ("results / binary array_object", "inputs / *binary object array"),
    ),
    Reason("msgpack-numpy fails to write dates, and reads ours", ("results / binary array_dates",)),
    Reason(
        "content that cannot be decoded is the client's mistake: 400, not 500",
        ("inputs / latin-1", "inputs / invalid utf-8*", "inputs / too deep", "inputs / msgpack")
        + ("inputs / binary type longer",)
        + tuple(
            f"inputs / *binary {kind}"
            for kind in ("int keys", "empty", "cut", "trailing", "of json", "c1", "invalid utf-8", "unhashable key")
            + ("bad date", "short array")
        ),
    ),
    Reason("JSON is in UTF-8 (RFC 8259 section 8.1)", ("inputs / type json latin-1",)),
    Reason("encoded content is refused by its field, not by its bytes", ("inputs / encoded content",)),
    Reason(
        "errors of the router look like all others",
        tuple(f"inputs / GET {path}" for path in ("/nowhere", "//", "/v1/models", "/v1/models/", "/v1/models/*/b"))
        + ("inputs / GET /v1/models/a%2Fb", "inputs / GET /v1/models/model/other", "inputs / GET /invocations")
        + ("inputs / GET /v1/chat/completions", "inputs / P* /ping", "inputs / P* /v1/models/*", "inputs / POST /")
        + ("inputs / PUT /v1/chat/completions", "inputs / DELETE *", "inputs / POST /nowhere"),
    ),
    Reason("HEAD goes wherever GET does, OPTIONS everywhere", ("inputs / HEAD *", "inputs / OPTIONS *")),
    Reason("a slash more changes nothing (Truss redirects)", ("inputs / GET /v1/models/model/", "inputs / POST */")),
    Reason(
        "426 tells what the path of WebSockets wants (RFC 9110 section 15.5.22)",
        ("inputs / GET /v1/websocket", "websocket / GET"),
    ),
    Reason(
        "the metrics page is one page, whole, at both of its names",
        ("inputs / * /metrics*", "metrics / before", "metrics / after", "metrics / without slash"),
    ),
    Reason("hot reload is there with --reload only", ("inputs / GET /hot-reload",)),
    Reason(
        "each route goes by the annotations of its own method",
        ("typed / other annotation*", "typed / no annotation*", "request_only / *elsewhere"),
        is_switched=True,
    ),
    Reason(
        "what takes only the request may have any content",
        ("methods / bad /v1/completions",),
        is_switched=True,
    ),
    Reason("the same, for a preprocess that does", ("both / bad json",)),
    Reason(
        "a generator that fails before its first chunk is a real error",
        ("streams / *fails_first*", "streams / http_error_first", "generator / fails", "async_generator / fails")
        + ("responses / stream_fails_first", "postprocess_streams / fails first"),
    ),
    Reason(
        "a first chunk that is neither text nor bytes is a real error",
        tuple(f"streams / {kind}" for kind in ("number", "none", "dict", "array", "surrogate")),
    ),
    Reason("a bytearray is bytes", ("streams / bytearray",)),
    Reason(
        "a stream that fails midway is cut, so that the client can tell",
        ("streams / fails_midway*", "streams / http_error_midway"),
        is_switched=True,
    ),
    Reason(
        "what user code raised is not told to clients",
        ("streams / gathered fails_*", "generator / gathered and fails", "responses / no_file"),
    ),
    Reason(
        "other words for what cannot be gathered, and a memoryview or an array can",
        tuple(f"streams / gathered {kind}" for kind in ("pieces", "invalid", "surrogate", "memoryview", "array")),
    ),
    Reason(
        "what the OpenAI-style methods yield is text/event-stream, never gathered, and tells of its failure",
        ("streams / chat*", "streams / completions*", "streams / messages streamed", "gaps / c*"),
    ),
    Reason("an empty stream is known to be empty", ("responses / stream_empty",)),
    Reason(
        "a detail of an HTTPException that Truss fails on is sent",
        ("failures / *http_int", "failures / http_true", "failures / http_nan"),
    ),
    Reason("an HTTPException keeps its header fields", ("failures / *http_headers",), is_switched=True),
    Reason("starlette's own HTTPException counts too", ("failures / *starlette*",)),
    Reason("a model that cancels itself has failed like any other", ("failures / cancelled",)),
    Reason("a method that ends because its client is gone still closes", ("websocket / disconnect",)),
    Reason("accepting twice is as good as once", ("websocket / accepts twice",)),
    Reason("a model without predict has no such path", ("websocket / predict*",)),
)


def reason_for(question: str) -> Reason | None:
    """The reason why our answer to "model / question" may differ from Truss's."""
    for reason in REASONS:
        if any(fnmatch.fnmatchcase(question, pattern) for pattern in reason.questions):
            return reason
    return None
