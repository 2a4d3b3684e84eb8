"""A WebSocket method that does what each message says."""

import fastapi


class Model:
    async def websocket(self, websocket: fastapi.WebSocket):
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                raise fastapi.WebSocketDisconnect(message["code"])
            text = message.get("text")
            if text is None:
                await websocket.send_bytes(message["bytes"][::-1])
            elif text == "return":
                return
            elif text == "raise":
                raise ValueError("a secret of the model's")
            elif text == "http_error":
                raise fastapi.HTTPException(400, "mine")
            elif text == "disconnect":
                raise fastapi.WebSocketDisconnect(1000)
            elif text == "policy":
                raise fastapi.WebSocketException(1008, "policy")
            elif text == "close":
                await websocket.close(4000, "mine")
                return
            elif text == "close_and_raise":
                await websocket.close(4001, "mine")
                raise ValueError
            elif text == "json":
                await websocket.send_json({"a": [1, "\u00e9"]})
            elif text == "header":
                await websocket.send_text(websocket.headers.get("x-mark", "none"))
            elif text == "accept":
                await websocket.accept()
                await websocket.send_text("twice")
            else:
                await websocket.send_text(f"{text} back")
