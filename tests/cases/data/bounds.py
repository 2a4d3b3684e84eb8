"""The bounds at their edges: what just fits, and one byte or field more.

With the options' defaults. Gathered by `..load`.
"""

from __future__ import annotations

from tests.cases.case import CHUNKED, FIRST, GET, POST, Case, ended, refused, silent, taken

LINE = 8192  # bytes of a request line, without its CRLF
SECTION = 32768  # bytes of a header section, request line and empty line included
FIELDS = 100
CONTENT = 104857600
HTTP11 = b" HTTP/1.1\r\nHost: x\r\n\r\n"


def target(size: int, start: bytes = b"GET /livez?", behind: bytes = b"") -> bytes:
    """A request whose request line has `size` bytes."""
    return start + b"a" * (size - len(start) - len(b" HTTP/1.1")) + HTTP11 + behind


def section(size: int, start: bytes = POST, behind: bytes = b"") -> bytes:
    """A request whose header section has `size` bytes."""
    return start + b"X-Tag: " + b"v" * (size - len(start) - 7 - 4) + b"\r\n\r\n" + behind


def fields(count: int, start: bytes = GET, name: bytes = b"A%d") -> bytes:
    """A request with `count` fields, the Host of `start` among them."""
    return start + b"".join((name % n if b"%" in name else name) + b": b\r\n" for n in range(count - 1)) + b"\r\n"


def slow(name: str, start: bytes) -> Case:
    return silent(name, "RFC 9110 15.5.9", start, 408)


CASES = {
    "4.01": [
        taken("request line of 8 KiB", "bounds, RFC 9112 3", target(LINE), 200),
        refused("request line of 8 KiB and 1", "bounds, RFC 9112 3", target(LINE + 1), 414),
        refused("request line of 64 KiB", "bounds, RFC 9112 3", target(8 * LINE), 414),
        refused("request line over the bound in its path", "bounds, RFC 9112 3", target(LINE + 1, b"GET /"), 414),
        taken("request line of 8 KiB in its path", "bounds, RFC 9112 3", target(LINE, b"GET /"), 404),
        refused("request line without end", "bounds, RFC 9112 3", b"GET /" + b"a" * (LINE + 10), 414),
        refused("request line without end, and not one", "bounds, RFC 9112 3", b"GET /\x01" + b"a" * (LINE + 10),
                400),
        refused("request line that goes wrong behind the bound", "bounds, RFC 9112 3",
                b"GET /" + b"a" * (LINE + 10) + b"\x01\n", 414),
        refused("a method without end", "bounds, RFC 9112 3", b"A" * (LINE + 10), 414),
        refused("a version without end", "bounds, RFC 9112 3", b"GET / HTTP/" + b"1" * (LINE + 10), {400, 414}),
        refused("request line over the bound behind a good request", "bounds, RFC 9112 3",
                FIRST + target(LINE + 1), b"first", 414),
    ],
    "4.02": [
        taken("header section of 32 KiB", "bounds, RFC 6585 5", section(SECTION), b""),
        refused("header section of 32 KiB and 1", "bounds, RFC 6585 5", section(SECTION + 1), 431),
        refused("header section of 100 KB", "bounds, RFC 6585 5", section(100_000), 431),
        refused("a value without end", "bounds, RFC 6585 5", GET + b"A: " + b"b" * SECTION, 431),
        refused("a name without end", "bounds, RFC 6585 5", GET + b"A" * SECTION, 431),
        refused("fields without end", "bounds, RFC 6585 5", GET + b"A: %b\r\n" % (b"b" * 1000) * 40, 431),
        taken("header section of 32 KiB with content", "bounds, RFC 6585 5",
              section(SECTION, POST + b"Content-Length: 5\r\n", b"hello"), b"hello"),
        refused("header section over the bound behind a good request", "bounds, RFC 6585 5",
                FIRST + section(SECTION + 1), b"first", 431),
        taken("two header sections of 32 KiB", "bounds, RFC 6585 5", section(SECTION) * 2, b"", b""),
    ],
    "4.03": [
        taken("100 fields", "bounds, RFC 6585 5", fields(FIELDS), 200),
        refused("101 fields", "bounds, RFC 6585 5", fields(FIELDS + 1), 431),
        taken("100 fields of one name", "bounds, RFC 6585 5", fields(FIELDS, name=b"A"), 200),
        refused("101 fields of one name", "bounds, RFC 6585 5", fields(FIELDS + 1, name=b"A"), 431),
        refused("2000 fields", "bounds, RFC 6585 5", fields(2000), 431),
        refused("101 fields behind a good request", "bounds, RFC 6585 5", FIRST + fields(FIELDS + 1), b"first", 431),
    ],
    "4.04": [
        ended("content of 100 MiB is waited for", "bounds, RFC 9110 15.5.14",
              POST + b"Content-Length: %d\r\n\r\n" % CONTENT),
        refused("content of 100 MiB and 1", "bounds, RFC 9110 15.5.14",
                POST + b"Content-Length: %d\r\n\r\n" % (CONTENT + 1), 413),
        refused("content of 2^63 - 1", "bounds, RFC 9110 15.5.14",
                POST + b"Content-Length: 9223372036854775807\r\n\r\n", 413),
        ended("a chunk of 100 MiB is waited for", "bounds, RFC 9110 15.5.14", CHUNKED + b"%x\r\n" % CONTENT),
        refused("a chunk of 100 MiB and 1", "bounds, RFC 9110 15.5.14", CHUNKED + b"%x\r\n" % (CONTENT + 1), 413),
        refused("chunks of 100 MiB and 1 together", "bounds, RFC 9110 15.5.14",
                CHUNKED + b"1\r\nx\r\n%x\r\n" % CONTENT, 413),
        refused("too much content on GET", "bounds, RFC 9110 15.5.14",
                GET + b"Content-Length: %d\r\n\r\n" % (CONTENT + 1), 413),
        refused("too much content behind a good request", "bounds, RFC 9110 15.5.14",
                FIRST + POST + b"Content-Length: %d\r\n\r\n" % (CONTENT + 1), b"first", 413),
        taken("content of 1 MB", "bounds, RFC 9112 6.2",
              POST + b"Content-Length: 1000000\r\n\r\n" + b"x" * 1_000_000, b"x" * 1_000_000),
    ],
    "4.05": [
        slow("a request line that stops", b"GET /li"),
        slow("a header section that stops", GET),
        slow("a field that stops", GET + b"Accep"),
        slow("half an empty line that stops", b"\r"),
        silent("a header section that stops behind a good request", "RFC 9110 15.5.9", FIRST + GET, b"first", 408),
    ],
    "4.06": [
        slow("content that does not come", POST + b"Content-Length: 5\r\n\r\n"),
        slow("content that stops", POST + b"Content-Length: 5\r\n\r\nhell"),
        slow("large content that stops", POST + b"Content-Length: 1000000\r\n\r\nhello"),
        slow("chunks that stop", CHUNKED + b"5\r\nhello\r\n"),
        slow("a trailer that stops", CHUNKED + b"0\r\nA: b"),
    ],
    "4.07": [
        silent("a connection that is never used", "RFC 9112 9.5", b""),
        silent("an idle connection", "RFC 9112 9.5", FIRST, b"first"),
        silent("an idle connection that said keep-alive", "RFC 9112 9.5",
               GET + b"Connection: keep-alive\r\n\r\n", 200),
        silent("a last answer, and a client that does not close", "RFC 9112 9.6",
               GET + b"Connection: close\r\n\r\n", 200),
    ],
}  # fmt: skip
