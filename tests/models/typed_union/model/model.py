from collections.abc import Generator
from typing import Union

from pydantic import BaseModel


class Question(BaseModel):
    text: str
    stream: bool = False


class Answer(BaseModel):
    words: list[str]


class Model:
    def predict(self, question: Question) -> Union[Answer, Generator[str, None, None]]:  # noqa: UP007
        words = question.text.split()
        return (word for word in words) if question.stream else Answer(words=words)
