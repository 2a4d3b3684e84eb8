"""A Truss-style model for each kind of work. fastserve and Truss's own server both serve this directory."""

from typing import Any

import work


class Plain:
    def load(self):
        self._model = work.load_plain(work.WORK)

    def predict(self, model_input: Any):
        return self._model(model_input)


class Echo:
    def predict(self, model_input):
        return work.echo(model_input)


class Coroutine:
    async def predict(self, model_input):
        return await work.echo_coroutine(model_input)


class Steps:
    def preprocess(self, model_input):
        return work.preprocess(model_input)

    def predict(self, model_input):
        return work.echo(model_input)

    def postprocess(self, result):
        return work.postprocess(result)


class Stream:
    def predict(self, model_input):
        yield from work.stream(model_input)


class StreamCoroutine:
    async def predict(self, model_input):
        async for chunk in work.stream_coroutine(model_input):
            yield chunk


class Paced:
    async def predict(self, model_input):
        async for chunk in work.paced(model_input):
            yield chunk


MODELS = {
    "echo": Echo,
    "echo_coroutine": Coroutine,
    "echo_steps": Steps,
    "stream": Stream,
    "stream_coroutine": StreamCoroutine,
    "paced": Paced,
}
Model = MODELS.get(work.WORK, Plain)
