"""The annotation of preprocess is that of the input; the result's is that of postprocess."""

from collections.abc import AsyncGenerator, Awaitable
from typing import Union

import pydantic


class Prompt(pydantic.BaseModel):
    text: str


class Length(pydantic.BaseModel):
    length: int


class Model:
    def preprocess(self, prompt: Prompt) -> str:
        return prompt.text

    async def predict(self, text: Length) -> Prompt:
        return len(text)

    async def postprocess(self, length) -> Union[Awaitable[Length], AsyncGenerator[str, None]]:  # noqa: UP007 - Truss knows this form
        return Length(length=length)
