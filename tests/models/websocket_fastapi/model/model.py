import fastapi


class Model:
    async def websocket(self, websocket: fastapi.WebSocket):
        try:
            while True:
                text = await websocket.receive_text()
                if text == "done":
                    return
                if text == "raise":
                    raise ValueError("This is test error.")
                if text == "who":
                    text = type(websocket).__module__
                await websocket.send_text(text + " pong")
        except fastapi.WebSocketDisconnect:
            print("left", flush=True)
