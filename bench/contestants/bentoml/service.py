"""BentoML: a service class for each kind of work, one worker process, one thread for each slot."""

from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Any

import bentoml
import numpy as np
import work

OPTIONS = {"workers": 1, "threads": work.SLOTS, "traffic": {"timeout": 60}, "logging": {"access": {"enabled": False}}}


@bentoml.service(**OPTIONS)
class Plain:
    def __init__(self) -> None:
        self.model = work.load_plain(work.WORK)

    @bentoml.api(route="/predict")
    def predict(self, payload: dict[str, Any], /) -> dict[str, Any]:
        return self.model(payload)


@bentoml.service(**OPTIONS)
class Coroutine:
    @bentoml.api(route="/predict")
    async def predict(self, payload: dict[str, Any], /) -> dict[str, Any]:
        return await work.echo_coroutine(payload)


@bentoml.service(**OPTIONS)
class Steps:
    @bentoml.api(route="/predict")
    def predict(self, payload: dict[str, Any], /) -> dict[str, Any]:
        return work.postprocess(work.echo(work.preprocess(payload)))


@bentoml.service(**OPTIONS)
class Stream:
    @bentoml.api(route="/predict")
    def predict(self, payload: dict[str, Any], /) -> Generator[str, None, None]:
        for chunk in work.stream(payload):
            yield chunk.decode()


@bentoml.service(**OPTIONS)
class StreamCoroutine:
    @bentoml.api(route="/predict")
    async def predict(self, payload: dict[str, Any], /) -> AsyncGenerator[str, None]:
        make = {"stream_coroutine": work.stream_coroutine, "paced": work.paced}[work.WORK]
        async for chunk in make(payload):
            yield chunk.decode()


@bentoml.service(**OPTIONS)
class Upload:
    @bentoml.api(route="/predict")
    def predict(self, content: Path, /) -> dict[str, Any]:
        return work.upload(content.read_bytes())


@bentoml.service(**OPTIONS)
class Batched:
    """A batch is an array here, and a request is as many items of it as it likes."""

    def __init__(self) -> None:
        self.encode = work.load_plain("encoder")

    @bentoml.api(route="/predict", batchable=True, max_batch_size=work.BATCH)
    def predict(self, texts: list[str]) -> np.ndarray:
        return self.encode(texts).numpy()


SERVICES = {
    "echo_coroutine": Coroutine,
    "echo_steps": Steps,
    "stream": Stream,
    "stream_coroutine": StreamCoroutine,
    "paced": StreamCoroutine,
    "upload": Upload,
    "minilm_batched": Batched,
}
Service = SERVICES.get(work.WORK, Plain)
