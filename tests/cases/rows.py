"""The rules that the cases stand for, by number: framing, meaning, responses, bounds, independence.

Names only. `data/` files its cases under these numbers; `test_data.py` fails if a rule has none.
"""

from __future__ import annotations

from typing import Final

ROWS: Final = {
    # 1. Framing: one way to read every message, or refuse.
    "1.01": "Content-Length and Transfer-Encoding together",
    "1.02": "Content-Length twice, a list, or not a plain number of bytes",
    "1.03": "Transfer-Encoding that is not exactly chunked",
    "1.04": "Transfer-Encoding in an HTTP/1.0 request",
    "1.05": "chunk-size that is none, and lines of chunks that do not end in CRLF",
    "1.06": "chunk extensions: bounded, quoted-strings without CR and LF",
    "1.07": "trailer section: bounded, never merged into the header section",
    "1.08": "line folding, white space around the field name, empty field name",
    "1.09": "bare LF or CR as a line end, control bytes in values, non-token bytes in names",
    "1.10": "content on GET, HEAD, DELETE, OPTIONS: read as framed and ignored",
    "1.11": "bytes behind a message that closes are never parsed",
    "1.12": "the end of the connection within a message: the model is not run",
    "1.13": "half-close behind complete requests: they are answered",
    "1.14": "at most one empty line before a request line",
    "1.15": "TLS, the HTTP/2 preface, other protocols",
    # 2. Meaning: what a parser of the grammar does not check.
    "2.01": "exactly one Host, a uri-host with an optional port",
    "2.02": "the four forms of a request target",
    "2.03": "a target with a fragment, control, non-ASCII or raw space",
    "2.04": "percent-encoding decoded once, bad escapes refused, no path normalised onto another",
    "2.05": "versions other than 1.0 and 1.1",
    "2.06": "methods that are not for this route, or unknown",
    "2.07": "HEAD: the fields of GET's answer, no content",
    "2.08": "Expect: 100 only for what will be accepted; other expectations 417",
    "2.09": "Connection is a list, close wins; HTTP/1.0 closes unless keep-alive",
    "2.10": "Upgrade that is not for this route is ignored",
    "2.11": "Content-Encoding on a request",
    "2.12": "Content-Type: JSON in UTF-8 unless it says otherwise",
    "2.13": "JSON that is none is 400 with its position",
    "2.14": "field names are compared without case and never normalised",
    # 3. Responses.
    "3.01": "Date, Content-Type, and one of Content-Length and Transfer-Encoding",
    "3.02": "no framing fields and no content with 204 and 304",
    "3.03": "no chunks for HTTP/1.0",
    "3.04": "no empty chunk before the last",
    "3.05": "Connection: close on the last response",
    "3.06": "fields of the model's: no CR, LF, NUL, no framing",
    "3.07": "a response before the content is complete closes",
    # 4. Bounds, at their edges.
    "4.01": "request line: 8 KiB",
    "4.02": "header section: 32 KiB",
    "4.03": "header section: 100 fields",
    "4.04": "content: 100 MiB",
    "4.05": "header section complete within 10 s",
    "4.06": "content at 1 KiB/s after a grace of 10 s",
    "4.07": "idle keep-alive: 75 s",
    "4.08": "lingering close: 2 s or 256 KiB",
    "4.09": "a pipeline is not parsed ahead of the request that runs",
    "4.10": "unread answers stop the parsing",
    "4.11": "WebSocket message: 100 MiB",
    "4.12": "memory follows the content that has arrived",
    "4.13": "connections: 10,000; further ones wait",
    "4.14": "without file descriptors accepting pauses, and is told once",
    # 5. Independence.
    "5.01": "one connection's error never changes another's bytes",
    "5.02": "nothing of one exchange is left for the next on the same connection",
}

# Rules that no bytes of one connection can show, and the tests that do.
ELSEWHERE: Final = {
    "4.08": ("http11/test_connection.py", "test_lingering_is_bounded_in_bytes"),
    "4.09": (
        "http11/test_connection.py",
        "test_a_pipelined_request_waits_until_the_one_before_is_answered_and_reading_stops",
    ),
    "4.10": (
        "http11/test_connection.py",
        "test_pipelined_requests_are_not_parsed_while_the_peer_does_not_read_its_answers",
    ),
    "4.11": ("websocket/test_rfc6455.py", "test_the_limit_is_100_mib"),
    "4.12": ("http11/test_connection.py", "test_memory_follows_what_has_arrived_not_what_was_promised"),
    "4.13": ("server/test_accepting.py", "test_connections_over_the_limit_wait_until_one_closes"),
    "4.14": ("server/test_accepting.py", "test_when_descriptors_run_short_connections_wait_until_there_are_some"),
    "5.01": ("cases/test_sockets.py", "test_a_connection_beside_them_gets_its_own_answers"),
}
