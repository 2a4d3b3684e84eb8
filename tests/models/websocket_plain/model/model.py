import asyncio
import pathlib
import sys


class Model:
    async def websocket(self, websocket):
        await websocket.accept(subprotocol="echo" if "subprotocol" in websocket.query_params else None)
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                print("ended with", message["code"], message["reason"], file=sys.stderr, flush=True)
                return
            if "bytes" in message:
                await websocket.send_bytes(message["bytes"])
            else:
                await self.obey(websocket, message["text"])

    async def obey(self, websocket, text):
        word, _, rest = text.partition(" ")
        if word == "exit":
            sys.exit(3)
        elif word == "close":
            await websocket.close(int(rest), "as asked")
        elif word == "json":
            await websocket.send_json({"class": type(websocket).__module__, "client": websocket.client.host})
        elif word == "leave":
            await websocket.receive_text()
        elif word == "wait":
            await asyncio.to_thread(pathlib.Path(rest).read_text)
            await websocket.send_text("waited")
        elif word == "forever":
            await asyncio.Event().wait()
        else:
            await websocket.send_text(text)
