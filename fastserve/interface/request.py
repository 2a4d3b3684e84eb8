"""`fastserve.Request`: what a method may take of a request without starlette, by starlette's names.

Made by `endpoints/` for methods that annotate a parameter with it.
"""

from __future__ import annotations

import types
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

from fastserve.interface.disconnection import Disconnection
from fastserve.messages import Head


class Address(NamedTuple):
    """One end of a TCP connection."""

    host: str
    port: int


# Their values are not shown by `repr`, which ends in logs.
SECRET: Final = frozenset({"authorization", "cookie", "proxy-authorization", "x-api-key"})


class Fields(Mapping[str, str]):
    """Header fields of a request; names in any case. Repeated ones are joined by ", " (RFC 9110 section 5.3)."""

    def __init__(self, fields: Mapping[bytes, bytes]) -> None:
        self._fields = fields

    def __getitem__(self, name: str) -> str:
        value = self._fields.get(name.lower().encode())
        if value is None:
            raise KeyError(name)
        return value.decode("latin-1")

    def __iter__(self) -> Iterator[str]:
        return (name.decode("latin-1") for name in self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        shown = {name: "***" if name in SECRET else value for name, value in self.items()}
        return f"Fields({shown})"


class Pairs(Mapping[str, str]):
    """Names and values of a query or a form. A name that stands twice has its last value; `getlist` has all."""

    def __init__(self, encoded: str) -> None:
        self._pairs = parse_qsl(encoded, keep_blank_values=True)
        self._last = dict(self._pairs)

    def __getitem__(self, name: str) -> str:
        return self._last[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._last)

    def __len__(self) -> int:
        return len(self._last)

    def getlist(self, name: str) -> list[str]:
        """Every value of `name`, in order."""
        return [value for key, value in self._pairs if key == name]

    def __repr__(self) -> str:
        return f"Pairs({self._pairs})"


class Request:
    """One request, as a model's method sees it. The content has arrived in full.

    method, url: as text; url is absolute, made of the Host field. client: None on a Unix socket.
    headers, query_params: mappings. state: what `request.state` is for the model, with `watch_disconnect`.
    """

    def __init__(
        self,
        head: Head,
        content: bytes,
        client: tuple[str, int] | None,
        disconnection: Disconnection,
        *,
        is_encrypted: bool = False,
    ) -> None:
        self._content = content
        self._disconnection = disconnection
        self.method = head.method.decode("latin-1")
        self.headers = Fields(head.fields)
        target = head.target.decode("latin-1")
        origin = f"{'https' if is_encrypted else 'http'}://{self.headers.get('host', '')}"
        self.url = origin + target if target.startswith("/") else target
        self.query_params = Pairs(target.partition("?")[2])
        self.client = None if client is None else Address(*client)
        self.state = types.SimpleNamespace(watch_disconnect=disconnection.watch)

    async def body(self) -> bytes:
        """All of the content."""
        return self._content

    async def stream(self) -> AsyncIterator[bytes]:
        """The content in pieces (of which there is one), then b"" as in starlette."""
        if self._content:
            yield self._content
        yield b""

    async def json(self) -> Any:
        """The content as JSON. Raises ValueError if it is none."""
        import json

        return json.loads(self._content)

    async def form(self) -> Pairs:
        """Content in application/x-www-form-urlencoded. (For multipart, annotate starlette's Request.)

        Raises ValueError for content of another type.
        """
        media_type = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != "application/x-www-form-urlencoded":
            raise ValueError(f"not a form but {media_type or 'content without a type'}")
        return Pairs(self._content.decode())

    async def is_disconnected(self) -> bool:
        """Whether the client has gone."""
        return self._disconnection.has_happened
