"""Reads what a server sent back with h11, the second opinion: a list of responses."""

from __future__ import annotations

from dataclasses import dataclass

import h11


@dataclass
class Answer:
    """One response. is_complete: its content ended as its framing says."""

    status: int
    fields: dict[str, str]
    content: bytes
    is_complete: bool


def read_answers(received: bytes, methods: list[bytes], *, is_closed: bool = False) -> list[Answer]:
    """Parse `received` as the responses to requests with `methods`. Raises if h11 finds fault with a byte of it."""
    client = h11.Connection(h11.CLIENT)
    answers: list[Answer] = []
    rest = received
    for method in methods:
        if not rest:
            break
        client = h11.Connection(h11.CLIENT)
        target = "*" if method == b"OPTIONS" else "/"
        client.send(h11.Request(method=method, target=target, headers=[("Host", "x"), ("Content-Length", "0")]))
        client.send(h11.EndOfMessage())
        client.receive_data(rest)
        if is_closed:
            client.receive_data(b"")
        answer, rest = _read_one(client)
        if answer is None:
            break
        answers.append(answer)
    assert not rest, f"bytes behind the last answer: {rest!r}"
    return answers


def _read_one(client: h11.Connection) -> tuple[Answer | None, bytes]:
    answer: Answer | None = None
    while True:
        try:
            event = client.next_event()
        except h11.RemoteProtocolError:
            if answer is None:
                raise
            return answer, b""  # cut short
        if isinstance(event, h11.Response):
            fields = {name.decode(): value.decode("latin-1") for name, value in event.headers}
            answer = Answer(event.status_code, fields, b"", is_complete=False)
        elif isinstance(event, h11.Data):
            assert answer is not None
            answer.content += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            assert answer is not None
            answer.is_complete = True
            return answer, bytes(client.trailing_data[0])
        elif event in (h11.NEED_DATA, h11.PAUSED) or isinstance(event, h11.ConnectionClosed):
            return answer, b""
