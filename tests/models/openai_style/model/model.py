"""Answers like OpenAI's and Anthropic's services: dicts, or server-sent events made in every way there is."""

import asyncio
import json
import logging
import threading

from starlette.requests import Request
from starlette.responses import StreamingResponse

import fastserve

released = threading.Event()


def event(data, name=None):
    data = data if isinstance(data, str) else json.dumps(data)
    return (f"event: {name}\n" if name else "") + f"data: {data}\n\n"


def chat_chunk(inputs, text, finish_reason=None):
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}
    return {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": inputs["model"],
        "choices": [choice],
    }


def chat_events(inputs):
    for word in inputs["messages"][-1]["content"].split():
        yield event(chat_chunk(inputs, word + " "))
    yield event(chat_chunk(inputs, "", "stop"))
    yield event("[DONE]")


async def async_chat_events(inputs):
    for sent in chat_events(inputs):
        await asyncio.sleep(0)
        yield sent


WAYS = {
    "generator": chat_events,
    "async generator": async_chat_events,
    "starlette": lambda inputs: StreamingResponse(chat_events(inputs), media_type="text/event-stream"),
    "starlette async": lambda inputs: StreamingResponse(async_chat_events(inputs), media_type="text/event-stream"),
    "fastserve": lambda inputs: fastserve.StreamingResponse(chat_events(inputs), media_type="text/event-stream"),
}


def response_object(inputs, text, status):
    part = {"type": "output_text", "text": text, "annotations": []}
    message = {"id": "m1", "type": "message", "role": "assistant", "status": status, "content": [part]}
    return {
        "id": "r1",
        "object": "response",
        "created_at": 1,
        "status": status,
        "model": inputs["model"],
        "output": [message],
        "parallel_tool_calls": False,
        "tool_choice": "auto",
        "tools": [],
    }


class Model:
    def predict(self, inputs):
        """Hold the slot until there are embeddings."""
        released.clear()
        logging.warning("predict waits")
        released.wait()
        return "released"

    async def chat_completions(self, inputs, request: Request):
        if inputs.get("stream"):
            return WAYS[request.headers.get("x-way", "generator")](inputs)
        if inputs["model"] == "missing":
            raise fastserve.HTTPError(404, {"message": "no such model", "type": "invalid_request_error"})
        message = {"role": "assistant", "content": inputs["messages"][-1]["content"].upper()}
        return {
            "id": "c1",
            "object": "chat.completion",
            "created": 1,
            "model": inputs["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }

    def completions(self, inputs):
        """Plain, without the request; what it returns may be a generator."""
        answer = {"id": "t1", "object": "text_completion", "created": 1, "model": inputs["model"]}
        if inputs.get("stream"):
            return (
                event({**answer, "choices": [{"index": 0, "text": word, "finish_reason": None, "logprobs": None}]})
                for word in [*inputs["prompt"].split(), "[DONE]"]
                if word != "[DONE]"
            )
        choice = {"index": 0, "text": inputs["prompt"].upper(), "finish_reason": "stop", "logprobs": None}
        return {**answer, "choices": [choice]}

    async def embeddings(self, request: Request):
        """Of the request alone."""
        inputs = await request.json()
        released.set()
        embeddings = [
            {"object": "embedding", "index": i, "embedding": [float(len(text)), 0.5]}
            for i, text in enumerate(inputs["input"])
        ]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        return {"object": "list", "model": inputs["model"], "data": embeddings, "usage": usage}

    def messages(self, inputs, request: fastserve.Request):
        """Anthropic's."""
        text = f"{inputs['messages'][-1]['content']} {request.headers['X-Name']}"
        message = {
            "id": "m1",
            "type": "message",
            "role": "assistant",
            "model": inputs["model"],
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }
        if inputs.get("stream"):
            return self.message_events(message, text)
        return {**message, "content": [{"type": "text", "text": text}], "stop_reason": "end_turn"}

    def message_events(self, message, text):
        def named(kind, **fields):
            return event({"type": kind, **fields}, kind)

        yield named("message_start", message=message)
        yield named("content_block_start", index=0, content_block={"type": "text", "text": ""})
        for word in text.split():
            yield named("content_block_delta", index=0, delta={"type": "text_delta", "text": word + " "})
        yield named("content_block_stop", index=0)
        delta = {"stop_reason": "end_turn", "stop_sequence": None}
        yield named("message_delta", delta=delta, usage={"output_tokens": 2})
        yield named("message_stop")

    async def responses(self, inputs):
        """An async generator function: it streams whatever it is asked."""
        kinds = [
            ("response.created", ""),
            *(("response.output_text.delta", word) for word in inputs["input"].split()),
        ]
        for number, (kind, word) in enumerate([*kinds, ("response.completed", "")]):
            fields = {"type": kind, "sequence_number": number}
            if word:
                fields |= {"item_id": "m1", "output_index": 0, "content_index": 0, "delta": word, "logprobs": []}
            else:
                status = "completed" if kind == "response.completed" else "in_progress"
                fields["response"] = response_object(inputs, inputs["input"], status)
            yield event(fields, kind)
