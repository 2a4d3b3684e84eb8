"""mosec: a Worker for each kind of work, one process for each slot. Its streams are server-sent events, and plain."""

import work
from mosec import Server, SSEWorker, Worker


class Plain(Worker):
    def __init__(self):
        super().__init__()
        self.model = work.load_plain(work.WORK)

    def forward(self, data):
        return self.model(data)


class Steps(Worker):
    def deserialize(self, data):
        return work.preprocess(super().deserialize(data))

    def forward(self, data):
        return work.echo(data)

    def serialize(self, data):
        return super().serialize(work.postprocess(data))


class Stream(SSEWorker):
    def forward(self, data):
        for chunk in work.stream(data):
            self.send_stream_event(chunk.decode())
        return ""


class Upload(Worker):
    def deserialize(self, data):
        return data

    def forward(self, data):
        return work.upload(data)


class Download(Worker):
    resp_mime_type = "application/octet-stream"

    def forward(self, data):
        return work.download(data["bytes"])

    def serialize(self, data):
        return data


class Tensor(Worker):
    resp_mime_type = "application/octet-stream"

    def deserialize(self, data):
        return work.unpack(data)

    def forward(self, data):
        return work.tensor(data)

    def serialize(self, data):
        return work.pack(data)


WORKERS = {"echo_steps": Steps, "stream": Stream, "upload": Upload, "download": Download, "tensor": Tensor}

if __name__ == "__main__":
    server = Server()
    route = "/stream" if work.WORK == "stream" else "/inference"
    # 1 ms is the shortest wait that it has; its default is 10.
    batches = {"max_batch_size": work.BATCH, "max_wait_time": 1} if work.WORK == "minilm_batched" else {}
    server.append_worker(WORKERS.get(work.WORK, Plain), num=work.SLOTS, route=route, **batches)
    server.run()
