"""The least that still is HTTP: a uvloop protocol with httptools and orjson; no routes, limits or timeouts."""

import asyncio

import httptools
import orjson
import uvloop
from work import PORT, WORK, echo, postprocess, preprocess


def answer_echo(content):
    return echo(orjson.loads(content))


def answer_steps(content):
    return postprocess(echo(preprocess(orjson.loads(content))))


ANSWERS = {"echo": answer_echo, "echo_coroutine": answer_echo, "echo_steps": answer_steps}


class Protocol(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)
        self.pieces = []

    def data_received(self, data):
        self.parser.feed_data(data)

    def on_body(self, body):
        self.pieces.append(body)

    def on_message_complete(self):
        content = orjson.dumps(ANSWERS[WORK](b"".join(self.pieces)))
        self.pieces.clear()
        self.transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (len(content), content)
        )


loop = uvloop.new_event_loop()
loop.run_until_complete(loop.create_server(Protocol, "127.0.0.1", PORT, backlog=2048))
loop.run_forever()
