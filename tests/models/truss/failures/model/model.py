"""predict raises what `kind` asks for; so does the awaited OpenAI-style method."""

import asyncio

import fastapi
import pydantic
import starlette.exceptions


class Mine(fastapi.HTTPException):
    pass


class Item(pydantic.BaseModel):
    n: int


def validation():
    try:
        Item(n="x")
    except pydantic.ValidationError as error:
        return error


FAILURES = {
    "value": lambda: ValueError("a secret of the model's"),
    "key": lambda: KeyError("missing"),
    "not_implemented": lambda: NotImplementedError("later"),
    "type": lambda: TypeError("a type"),
    "recursion": lambda: RecursionError("deep"),
    "memory": lambda: MemoryError(),
    "timeout": lambda: TimeoutError("slow"),
    "stop": lambda: StopIteration("stop"),
    "stop_async": lambda: StopAsyncIteration("stop"),
    "os": lambda: OSError(2, "no such file"),
    "unicode": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
    "validation": validation,
    "http_400": lambda: fastapi.HTTPException(400, "mine"),
    "http_418": lambda: fastapi.HTTPException(418),
    "http_500": lambda: fastapi.HTTPException(500, "mine"),
    "http_200": lambda: fastapi.HTTPException(200, "fine"),
    "http_204": lambda: fastapi.HTTPException(204, "nothing"),
    "http_304": lambda: fastapi.HTTPException(304, "same"),
    "http_299": lambda: fastapi.HTTPException(299, "odd"),
    "http_unicode": lambda: fastapi.HTTPException(400, "caf\u00e9"),
    "http_empty": lambda: fastapi.HTTPException(400, ""),
    "http_dict": lambda: fastapi.HTTPException(422, {"why": ["a", 1]}),
    "http_empty_dict": lambda: fastapi.HTTPException(422, {}),
    "http_list": lambda: fastapi.HTTPException(422, ["a", {"b": 1}]),
    "http_int": lambda: fastapi.HTTPException(400, 5),
    "http_true": lambda: fastapi.HTTPException(400, True),
    "http_object": lambda: fastapi.HTTPException(400, {"a": object()}),
    "http_nan": lambda: fastapi.HTTPException(400, {"a": float("nan")}),
    "http_headers": lambda: fastapi.HTTPException(429, "slow down", {"Retry-After": "5", "X-Mine": "1"}),
    "http_subclass": lambda: Mine(409, "conflict"),
    "starlette": lambda: starlette.exceptions.HTTPException(403, "mine"),
    "starlette_default": lambda: starlette.exceptions.HTTPException(404),
    "websocket": lambda: fastapi.WebSocketException(1008, "policy"),
    "cancelled": asyncio.CancelledError,
}


class Model:
    def predict(self, model_input):
        raise FAILURES[model_input["kind"]]()

    async def completions(self, model_input):
        raise FAILURES[model_input["kind"]]()
