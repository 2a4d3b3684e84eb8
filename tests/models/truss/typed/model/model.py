"""A pydantic model in, another out; the OpenAI-style methods have annotations of their own, or none."""

import datetime

import pydantic


class Box(pydantic.BaseModel):
    width: float
    labels: list[str] = []


class Order(pydantic.BaseModel):
    prompt: str
    count: int = 1
    day: datetime.date | None = None
    boxes: list[Box] = []

    @pydantic.field_validator("prompt")
    @classmethod
    def check_prompt(cls, prompt):
        if prompt == "bad":
            raise ValueError("a bad prompt")
        return prompt


class Reply(pydantic.BaseModel):
    text: str
    order: Order


class Chat(pydantic.BaseModel):
    messages: list[str]


class Model:
    def predict(self, order: Order) -> Reply:
        return Reply(text=f"{type(order).__name__} {order.prompt} {order.count!r} {order.day!r}", order=order)

    def chat_completions(self, chat: Chat):
        return {"type": type(chat).__name__, "messages": chat.messages}

    def completions(self, model_input):
        return type(model_input).__name__
