"""Ray Serve: a deployment whose __call__ reads the request, as its documentation has it; a replica for each slot."""

import signal
import threading

import ray
import work
from ray import serve
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

BINARY = "application/octet-stream"
STREAMS = {"stream": work.stream, "stream_coroutine": work.stream_coroutine, "paced": work.paced}


@serve.deployment(
    num_replicas=1 if work.WORK in STREAMS else work.SLOTS,
    max_ongoing_requests=4096,  # with its default of 5 the others are asked for again and again, up to 0.5 s later
)
class Model:
    def __init__(self):
        self.answer = getattr(self, work.WORK, self.plain)
        if self.answer in (self.plain, self.minilm_batched):
            self.model = work.load_plain(work.WORK)

    async def __call__(self, request: Request):
        return await self.answer(request)

    async def plain(self, request):
        return self.model(await request.json())

    async def minilm_batched(self, request):
        return await self.predict(await request.json())

    @serve.batch(max_batch_size=work.BATCH, batch_wait_timeout_s=0)
    async def predict(self, payloads):
        return self.model(payloads)

    async def echo_coroutine(self, request):
        return await work.echo_coroutine(await request.json())

    async def echo_steps(self, request):
        return work.postprocess(work.echo(work.preprocess(await request.json())))

    async def stream(self, request):
        return StreamingResponse(STREAMS[work.WORK](await request.json()), media_type=BINARY)

    stream_coroutine = paced = stream

    async def upload(self, request):
        return work.upload(await request.body())

    async def download(self, request):
        return Response(work.download((await request.json())["bytes"]), media_type=BINARY)

    async def tensor(self, request):
        return Response(work.pack(work.tensor(work.unpack(await request.body()))), media_type=BINARY)


if __name__ == "__main__":
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    ray.init(num_cpus=max(4, work.SLOTS + 2), include_dashboard=False, logging_level="error", log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": work.PORT}, logging_config={"enable_access_log": False})
    serve.run(Model.bind())
    ended.wait()
    ray.shutdown()
