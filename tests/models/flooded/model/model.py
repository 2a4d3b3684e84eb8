"""Echoes; and has what an attack asks for: a large answer, a slow one, streams with an end and without."""

import asyncio

LARGE = "x" * 400_000
PIECE = b"y" * 16_384


class Model:
    def __init__(self):
        self.streams = 0  # that are open

    async def predict(self, payload):
        wish = payload.get("wish") if isinstance(payload, dict) else None
        if wish is None:
            return {"echo": payload}
        if wish == "large":
            return LARGE
        if wish == "slow":
            await asyncio.sleep(0.2)
            return {"echo": payload}
        if wish == "open streams":
            return self.streams
        return self.stream(20 if wish == "stream" else None)

    async def stream(self, pieces):
        self.streams += 1
        try:
            while pieces != 0:
                yield PIECE
                pieces = None if pieces is None else pieces - 1
        finally:
            self.streams -= 1
