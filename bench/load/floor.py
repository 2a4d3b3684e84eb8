"""The floor: a uvloop Protocol that answers whatever comes with a constant. python -m bench.load.floor PORT"""

from __future__ import annotations

import asyncio
import sys

import uvloop

ANSWER = (
    b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Type: application/json\r\n"
    b"Content-Length: 20\r\n\r\n" + b'{"echo":{"value":1}}'
)


class Floor(asyncio.Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(ANSWER)


def main() -> None:
    loop = uvloop.new_event_loop()
    loop.run_until_complete(loop.create_server(Floor, "127.0.0.1", int(sys.argv[1])))
    print("ready", file=sys.stderr, flush=True)
    loop.run_forever()


if __name__ == "__main__":
    main()
