"""Raw bytes, as Truss's documentation writes it: the request object, and a response of starlette's."""

import work
from fastapi import Request, Response
from fastapi.responses import JSONResponse


class Upload:
    async def predict(self, request: Request):
        return JSONResponse(work.upload(await request.body()))  # else msgpack, as the request's type says


class Download:
    def predict(self, model_input):
        return Response(work.download(model_input["bytes"]), media_type="application/octet-stream")


Model = {"upload": Upload, "download": Download}[work.WORK]
