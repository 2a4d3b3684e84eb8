"""Where one message ends and the next begins: content nobody asked for, closing, half-close, pipelines, Upgrade.

Bytes behind a message are either the next request or nothing at all. Gathered by `..load`.
"""

from __future__ import annotations

from tests.cases.case import (
    CHUNKED,
    FIRST,
    GET,
    LAST,
    POST,
    SMUGGLED,
    Case,
    closed,
    ended,
    refused,
    seen,
    status,
    taken,
)

CLOSING = POST + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello"
OLD = b"POST /predict HTTP/1.0\r\nContent-Length: 5\r\n"
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"


def with_content(method: bytes, path: bytes, *answers: int) -> list[Case]:
    """Content that a method has no use for, in both framings, with a request in it and one behind it."""
    start = method + b" " + path + b" HTTP/1.1\r\nHost: x\r\n"
    name = method.decode()
    sized = start + b"Content-Length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED
    chunked = start + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(SMUGGLED) + SMUGGLED + b"\r\n" + LAST
    return [
        taken(f"{name} with content", "smuggling CL.0, RFC 9110 9.3", sized, *answers),
        taken(f"{name} with chunks", "smuggling TE.0, RFC 9110 9.3", chunked, *answers),
        taken(f"{name} with content, then POST", "smuggling CL.0, RFC 9110 9.3", sized + FIRST, *answers, b"first"),
        ended(f"{name} with content that is cut", "RFC 9112 8", sized[:-1]),
    ]


def part(name: str, raw: bytes) -> Case:
    """The connection ends within a message: nothing is answered and the model is not run."""
    return ended(f"end within {name}", "RFC 9112 8", raw)


CASES = {
    "1.10": [
        *with_content(b"GET", b"/livez", 200),
        *with_content(b"DELETE", b"/predict", 405),
        *with_content(b"OPTIONS", b"/predict", 204),
        *with_content(b"POST", b"/nowhere", 404),
        *with_content(b"TRACE", b"/livez", 405),
        taken("0.CL: a length and no content", "smuggling 0.CL, RFC 9110 8.6",
              GET + b"Content-Length: 0\r\n\r\n" + FIRST, 200, b"first"),
        taken("GET without framing, then content that is a request", "RFC 9112 6.3",
              GET + b"\r\n" + FIRST, 200, b"first"),
        refused("GET without framing, then other content", "RFC 9112 6.3",
                GET + b"\r\n" + b"hello\r\n\r\n", 200, 400),
    ],
    "1.11": [
        closed("a request behind close", "RFC 9112 9.6", CLOSING + SMUGGLED, b"hello"),
        closed("nonsense behind close", "RFC 9112 9.6", CLOSING + b"\x00\xff\r\n\n", b"hello"),
        closed("a bad request behind close", "RFC 9112 9.6", CLOSING + b"FOO\r\n\r\n", b"hello"),
        closed("two requests behind close", "RFC 9112 9.6", CLOSING + SMUGGLED * 2, b"hello"),
        closed("close as the second", "RFC 9112 9.6", FIRST + CLOSING + SMUGGLED, b"first", b"hello"),
        closed("close with chunks", "RFC 9112 9.6",
               POST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n" + LAST + SMUGGLED,
               b"hello"),
        closed("close on GET with a request for content", "RFC 9112 9.6",
               GET + b"Connection: close\r\n\r\n" + SMUGGLED, 200),
        closed("close and 404", "RFC 9112 9.6",
               b"GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" + SMUGGLED, 404),
        closed("HTTP/1.0, a request behind it", "RFC 9112 9.3", OLD + b"\r\nhello" + SMUGGLED, b"hello"),
        refused("a request behind a refusal", "RFC 9112 9.6", b"GET /livez HTTP/1.1\r\n\r\n" + SMUGGLED, 400),
        refused("two refusals are one", "RFC 9112 9.6", b"BAD\r\n\r\nBAD\r\n\r\n", 400),
        refused("a refusal, then much", "RFC 9112 9.6", b"BAD\r\n\r\n" + SMUGGLED * 500, 400),
    ],
    "1.12": [
        part("nothing", b""),
        part("the method", b"PO"),
        part("the request line", b"POST /predict HT"),
        part("the line end", b"POST /predict HTTP/1.1\r"),
        part("the header section", POST),
        part("a field", POST + b"Content-Le"),
        part("the last line end", POST + b"Content-Length: 5\r\n\r"),
        part("content, none of it there", POST + b"Content-Length: 5\r\n\r\n"),
        part("content, all but a byte there", POST + b"Content-Length: 5\r\n\r\nhell"),
        part("content that was promised large", POST + b"Content-Length: 1000000\r\n\r\nhello"),
        part("a chunk-size", CHUNKED + b"5"),
        part("a chunk", CHUNKED + b"5\r\nhel"),
        part("chunks, behind one", CHUNKED + b"5\r\nhello\r\n"),
        part("chunks, the last not ended", CHUNKED + b"5\r\nhello\r\n0\r\n"),
        part("chunks, half the last line end", CHUNKED + b"5\r\nhello\r\n0\r\n\r"),
        part("a trailer", CHUNKED + b"0\r\nA: b\r\n"),
        part("an empty line", b"\r\n"),
        part("half an empty line", b"\r"),
        ended("end within the second request", "RFC 9112 8",
              FIRST + POST + b"Content-Length: 5\r\n\r\nhell", b"first"),
        ended("end within the second header section", "RFC 9112 8", FIRST + POST, b"first"),
    ],
    "1.13": [
        ended("half-close behind a request", "RFC 9112 9.6", FIRST, b"first"),
        ended("half-close behind GET", "RFC 9112 9.6", GET + b"\r\n", 200),
        ended("half-close behind three", "RFC 9112 9.6", FIRST * 3, b"first", b"first", b"first"),
        ended("half-close behind chunks", "RFC 9112 9.6", CHUNKED + b"5\r\nhello\r\n" + LAST, b"hello"),
        ended("half-close behind HTTP/1.0", "RFC 9112 9.6", OLD + b"\r\nhello", b"hello"),
        ended("half-close behind close", "RFC 9112 9.6", CLOSING, b"hello"),
        ended("half-close behind 404", "RFC 9112 9.6", b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        ended("half-close behind a request and an empty line", "RFC 9112 9.6", FIRST + b"\r\n", b"first"),
        ended("half-close behind a refusal", "RFC 9112 9.6", b"BAD\r\n\r\n", 400),
        ended("half-close behind a request and a refusal", "RFC 9112 9.6", FIRST + b"BAD\r\n\r\n", b"first", 400),
        ended("half-close behind twenty", "RFC 9112 9.6", FIRST * 20, *[b"first"] * 20),
    ],
    "2.09": [
        taken("no Connection", "RFC 9112 9.3", FIRST, b"first"),
        taken("keep-alive", "RFC 9112 9.3", GET + b"Connection: keep-alive\r\n\r\n", status(200, connection="")),
        taken("an unknown option", "RFC 9110 7.6.1", GET + b"Connection: foo\r\n\r\n", 200),
        taken("close as part of a word", "RFC 9110 7.6.1", GET + b"Connection: closed, not-close\r\n\r\n", 200),
        taken("close in quotes is another option", "RFC 9110 7.6.1", GET + b'Connection: "close"\r\n\r\n', 200),
        taken("Connection empty", "RFC 9110 7.6.1", GET + b"Connection:\r\n\r\n", 200),
        closed("close", "RFC 9112 9.3", GET + b"Connection: close\r\n\r\n", status(200, connection="close")),
        closed("Close in capitals", "RFC 9110 7.6.1", GET + b"Connection: CLOSE\r\n\r\n", 200),
        closed("close in a list", "RFC 9110 7.6.1", GET + b"Connection: foo, close\r\n\r\n", 200),
        closed("close in a list with odd blanks", "RFC 9110 5.6.1",
               GET + b"Connection: ,foo ,\tclose\t,, bar\r\n\r\n", 200),
        closed("close wins over keep-alive", "RFC 9112 9.3", GET + b"Connection: keep-alive, close\r\n\r\n", 200),
        closed("close wins, the other order", "RFC 9112 9.3", GET + b"Connection: close, keep-alive\r\n\r\n", 200),
        closed("close in a second field", "RFC 9110 5.3",
               GET + b"Connection: keep-alive\r\nConnection: close\r\n\r\n", 200),
        closed("HTTP/1.0", "RFC 9112 9.3", b"GET /livez HTTP/1.0\r\n\r\n", status(200, connection="close")),
        closed("HTTP/1.0 with an unknown option", "RFC 9112 9.3",
               b"GET /livez HTTP/1.0\r\nConnection: foo\r\n\r\n", 200),
        closed("HTTP/1.0 with both", "RFC 9112 9.3",
               b"GET /livez HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", 200),
        taken("HTTP/1.0 with keep-alive", "RFC 9112 9.3", b"GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
              status(200, connection="keep-alive")),
        taken("HTTP/1.0 with Keep-Alive in capitals", "RFC 9112 9.3",
              OLD + b"Connection: Keep-Alive\r\n\r\nhello", b"hello"),
        taken("HTTP/1.0 with keep-alive, then HTTP/1.1", "RFC 9112 9.3",
              OLD + b"Connection: keep-alive\r\n\r\nhello" + FIRST, b"hello", b"first"),
        closed("HTTP/1.1, then HTTP/1.0", "RFC 9112 9.3", FIRST + OLD + b"\r\nhello", b"first", b"hello"),
        taken("five pipelined", "RFC 9112 9.3.2", FIRST * 5, *[b"first"] * 5),
        taken("forty pipelined", "RFC 9112 9.3.2", FIRST * 40, *[b"first"] * 40),
        taken("every kind pipelined", "RFC 9112 9.3.2",
              FIRST + GET + b"\r\n" + CHUNKED + b"1\r\na\r\n" + LAST
              + b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi" + FIRST,
              b"first", 200, b"a", 404, b"first"),
    ],
    "2.10": [
        taken("h2c", "RFC 9110 7.8", POST + H2C + b"\r\n", seen(b"", upgrade="")),
        taken("h2c with content", "smuggling by Upgrade, RFC 9110 7.8",
              POST + H2C + b"Content-Length: 5\r\n\r\nhello", b"hello"),
        taken("h2c with chunks", "smuggling by Upgrade, RFC 9110 7.8",
              POST + H2C + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n" + LAST, b"hello"),
        taken("h2c with content, then a request", "smuggling by Upgrade, RFC 9110 7.8",
              POST + H2C + b"Content-Length: 5\r\n\r\nhello" + FIRST, b"hello", b"first"),
        taken("h2c on GET, then a request", "smuggling by Upgrade, RFC 9110 7.8",
              GET + H2C + b"\r\n" + FIRST, 200, b"first"),
        refused("h2c, then the HTTP/2 preface", "smuggling by Upgrade, RFC 9110 7.8",
                GET + H2C + b"\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 200, {400, 505}),
        taken("Upgrade without Connection", "RFC 9110 7.8",
              POST + b"Upgrade: h2c\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
        taken("Connection: Upgrade without Upgrade", "RFC 9110 7.8",
              POST + b"Connection: Upgrade\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
        taken("WebSocket where there is none", "RFC 9110 7.8",
              GET
              + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
              b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" + FIRST,
              200, b"first"),
        taken("TLS", "RFC 9110 7.8", GET + b"Connection: Upgrade\r\nUpgrade: TLS/1.0, HTTP/1.1\r\n\r\n", 200),
        taken("h2c that is not for us, of an unknown version", "RFC 9110 7.8",
              GET + b"Connection: upgrade\r\nUpgrade: foo/9\r\n\r\n", 200),
        closed("h2c with close", "RFC 9110 7.8",
               POST + b"Connection: Upgrade, close\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nhello" + SMUGGLED,
               b"hello"),
        closed("h2c in HTTP/1.0", "RFC 9110 7.8", OLD + H2C + b"\r\nhello", b"hello"),
        refused("h2c with both framings", "smuggling CL.TE, RFC 9112 6.3",
                POST + H2C + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + LAST, 400),
    ],
    "5.02": [
        taken("the content of one is not that of the next", "RFC 9112 9.3",
              FIRST + POST + b"\r\n" + CHUNKED + LAST, b"first", b"", b""),
        taken("a field of one is not that of the next", "RFC 9112 9.3", POST + b"X-Tag: one\r\n\r\n" + POST + b"\r\n",
              seen(b"", tag="one"), seen(b"", tag="")),
        taken("equal header sections, other content", "RFC 9112 9.3",
              (POST + b"X-Tag: t\r\nContent-Length: 2\r\n\r\nab") + (POST
              + b"X-Tag: t\r\nContent-Length: 2\r\n\r\ncd"),
              seen(b"ab", tag="t"), seen(b"cd", tag="t")),
        taken("the request id of one is not that of the next", "RFC 9112 9.3",
              GET + b"X-Request-ID: mine\r\n\r\n" + GET + b"\r\n",
              status(200, x_request_id="mine"), status(200, x_request_id="")),
        taken("the Host of one is not that of the next", "RFC 9112 9.3",
              b"POST /predict HTTP/1.1\r\nHost: y\r\n" + b"\r\n" + POST + b"\r\n",
              seen(b"", host="y"), seen(b"", host="x")),
        taken("a request id with a blank is not given back", "RFC 9110 5.5", GET + b"X-Request-ID: a b\r\n\r\n",
              status(200, x_request_id="")),
    ],
}  # fmt: skip
