"""LitServe: a LitAPI for each kind of work, one worker process for each slot, one API server."""

import litserve as ls
import work
from fastapi import Response

SHAPES = {
    "stream": {"stream": True},
    "stream_coroutine": {"stream": True, "enable_async": True},
    "paced": {"stream": True, "enable_async": True},
    "echo_coroutine": {"enable_async": True},
    # With its default of no wait at all it asks its queue again and again, without sleep, on the core it shares.
    "minilm_batched": {"max_batch_size": work.BATCH, "batch_timeout": 0.001},
}


class Plain(ls.LitAPI):
    def setup(self, device):
        self.model = work.load_plain(work.WORK)

    def predict(self, x):
        return self.model(x)


class Coroutine(ls.LitAPI):
    def setup(self, device):
        pass

    async def decode_request(self, request):
        return request

    async def predict(self, x):
        return await work.echo_coroutine(x)

    async def encode_response(self, output):
        return output


class Steps(ls.LitAPI):
    def setup(self, device):
        pass

    def decode_request(self, request):
        return work.preprocess(request)

    def predict(self, x):
        return work.echo(x)

    def encode_response(self, output):
        return work.postprocess(output)


class Stream(ls.LitAPI):
    def setup(self, device):
        pass

    def predict(self, x):
        yield from work.stream(x)

    def encode_response(self, output):
        yield from output


class StreamCoroutine(ls.LitAPI):
    def setup(self, device):
        self.make = {"stream_coroutine": work.stream_coroutine, "paced": work.paced}[work.WORK]

    async def predict(self, x):
        async for chunk in self.make(x):
            yield chunk

    async def encode_response(self, output):
        async for chunk in output:
            yield chunk


class Download(ls.LitAPI):
    def setup(self, device):
        pass

    def predict(self, x):
        return work.download(x["bytes"])

    def encode_response(self, output):
        return Response(output, media_type="application/octet-stream")


APIS = {
    "echo_coroutine": Coroutine,
    "echo_steps": Steps,
    "stream": Stream,
    "stream_coroutine": StreamCoroutine,
    "paced": StreamCoroutine,
    "download": Download,
}

if __name__ == "__main__":
    api = APIS.get(work.WORK, Plain)(**SHAPES.get(work.WORK, {}))
    # fast_queue=True (ZeroMQ), for several API servers, is the slower one with one core: 480 requests/s against 610.
    server = ls.LitServer(
        api,
        accelerator="cpu",
        workers_per_device=1 if work.WORK == "paced" else work.SLOTS,
        timeout=60,
        max_payload_size=work.MAX_CONTENT,
    )
    server.run(
        host="127.0.0.1",
        port=work.PORT,
        num_api_servers=1,
        log_level="error",
        generate_client_file=False,
        access_log=False,
    )
