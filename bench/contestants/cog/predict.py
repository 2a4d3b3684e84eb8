"""Cog: a Predictor for each kind of work. Its input and output are JSON, in an envelope of its own."""

from typing import Any

import work
from cog import BasePredictor


class Plain(BasePredictor):
    def setup(self) -> None:
        self.model = work.load_plain(work.WORK)

    def predict(self, payload: dict[str, Any]) -> dict[str, Any]:
        return self.model(payload)


class Coroutine(BasePredictor):
    async def predict(self, payload: dict[str, Any]) -> dict[str, Any]:
        return await work.echo_coroutine(payload)


class Steps(BasePredictor):
    def predict(self, payload: dict[str, Any]) -> dict[str, Any]:
        return work.postprocess(work.echo(work.preprocess(payload)))
