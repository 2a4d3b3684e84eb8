"""The floor: a uvloop protocol that parses nothing and answers whatever comes with a constant."""

import asyncio

import uvloop
from work import PORT

ANSWER = (
    b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Type: application/json\r\n"
    b"Content-Length: 17\r\n\r\n" + b'{"echo":{"v":12}}'
)


class Floor(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(ANSWER)


loop = uvloop.new_event_loop()
loop.run_until_complete(loop.create_server(Floor, "127.0.0.1", PORT, backlog=2048))
loop.run_forever()
