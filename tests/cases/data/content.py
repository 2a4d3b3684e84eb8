"""What content may be: Expect, codings, types, JSON; and answers of the model's own that could harm the framing.

What the model answers is written in JSON here: see tests/models/echo. Gathered by `..load`.
"""

from __future__ import annotations

from tests.cases.case import FIRST, GET, POST, SMUGGLED, Case, Wanted, closed, refused, seen, status, taken

EXPECT = POST + b"Expect: 100-continue\r\n"
NOWHERE = b"POST /nowhere HTTP/1.1\r\nHost: x\r\n"
JSON_POST = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n"
OCTETS = "application/octet-stream"


def json_content(name: str, content: bytes, answer: int | Wanted, fields: bytes = b"") -> Case:
    """JSON to a method that gives back what it was given."""
    raw = JSON_POST + fields + b"Content-Length: %d\r\n\r\n" % len(content) + content
    return taken(name, "RFC 8259 2", raw, answer)


def answering(path: bytes, content: bytes, version: bytes = b"1.1") -> bytes:
    """A request whose content says what the model answers: the arguments of a Response, or the pieces of a stream."""
    return b"POST %b HTTP/%b\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (path, version, len(content)) + content


def answer(name: str, source: str, content: bytes, wanted: int | Wanted) -> Case:
    """A response object of the model's."""
    return taken(name, source, answering(b"/v1/chat/completions", content), wanted, needs_model=True)


CASES = {
    "2.08": [
        taken("Expect: 100, then content", "RFC 9110 10.1.1",
              (EXPECT + b"Content-Length: 5\r\n\r\n", b"hello"), 100, b"hello"),
        taken("Expect: 100, then chunks", "RFC 9110 10.1.1",
              (EXPECT + b"Transfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n"), 100, b"hello"),
        taken("Expect twice on one connection", "RFC 9110 10.1.1",
              (EXPECT + b"Content-Length: 5\r\n\r\n", b"hello" + FIRST), 100, b"hello", b"first"),
        taken("Expect in capitals", "RFC 9110 10.1.1",
              (POST + b"Expect: 100-CONTINUE\r\nContent-Length: 5\r\n\r\n", b"hello"), 100, b"hello"),
        taken("Expect, and content with it", "RFC 9110 10.1.1", EXPECT + b"Content-Length: 5\r\n\r\nhello", b"hello"),
        taken("Expect without content", "RFC 9110 10.1.1", EXPECT + b"\r\n", b""),
        taken("Expect and no content, on GET", "RFC 9110 10.1.1", GET + b"Expect: 100-continue\r\n\r\n", 200),
        closed("Expect in HTTP/1.0", "RFC 9110 10.1.1",
               b"POST /predict HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
        closed("an unknown expectation in HTTP/1.0", "RFC 9110 10.1.1",
               b"POST /predict HTTP/1.0\r\nExpect: foo\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
        refused("an unknown expectation", "RFC 9110 10.1.1",
                POST + b"Expect: 200-ok\r\nContent-Length: 5\r\n\r\nhello", 417),
        refused("two expectations", "RFC 9110 10.1.1",
                POST + b"Expect: 100-continue, foo\r\nContent-Length: 5\r\n\r\nhello", 417),
        refused("an empty expectation", "RFC 9110 10.1.1", POST + b"Expect:\r\nContent-Length: 5\r\n\r\nhello", 417),
        refused("Expect with a parameter", "RFC 9110 10.1.1",
                POST + b"Expect: 100-continue;a=b\r\nContent-Length: 5\r\n\r\nhello", 417),
        refused("Expect with an obfuscated value", "smuggling 0.CL by Expect",
                POST + b"Expect: y 100-continue\r\nContent-Length: 5\r\n\r\nhello" + SMUGGLED, 417),
        refused("Expect behind a good request", "RFC 9110 10.1.1",
                FIRST + POST + b"Expect: foo\r\n\r\n", b"first", 417),
        refused("Expect and too much", "RFC 9110 10.1.1", EXPECT + b"Content-Length: 104857601\r\n\r\n", 413),
        refused("Expect and two lengths", "RFC 9110 10.1.1",
                EXPECT + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n", 400),
        refused("Expect and a coding", "RFC 9110 10.1.1",
                EXPECT + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\n", 415),
    ],
    "2.11": [
        refused("gzip", "RFC 9110 8.4",
                POST + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
                status(415, accept_encoding="identity")),
        refused("br", "RFC 9110 8.4", POST + b"Content-Encoding: br\r\nContent-Length: 5\r\n\r\nhello", 415),
        refused("x-gzip", "RFC 9110 8.4", POST + b"Content-Encoding: x-gzip\r\nContent-Length: 5\r\n\r\nhello", 415),
        refused("zstd with chunks", "RFC 9110 8.4",
                POST + b"Content-Encoding: zstd\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 415),
        refused("identity and gzip", "RFC 9110 8.4",
                POST + b"Content-Encoding: identity, gzip\r\nContent-Length: 5\r\n\r\nhello", 415),
        refused("gzip in a second field", "RFC 9110 8.4",
                POST + b"Content-Encoding: identity\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
                415),
        refused("gzip behind a good request", "RFC 9110 8.4",
                FIRST + POST + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello", b"first", 415),
        taken("Content-Encoding: identity", "RFC 9110 8.4",
              POST + b"Content-Encoding: Identity\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
        taken("Accept-Encoding asks for nothing", "RFC 9110 12.5.3",
              POST + b"Accept-Encoding: gzip, br\r\n\r\n", seen(b"", content_encoding="")),
    ],
    "2.12": [
        json_content("no Content-Type", b"[2]", status(200, b"[2]", content_type="application/json")),
        json_content("declared JSON", b"[1]", status(200, b"[1]"), b"Content-Type: application/json\r\n"),
        json_content("JSON in UTF-8", b"[1]", status(200, b"[1]"),
                     b"Content-Type: application/json; charset=utf-8\r\n"),
        json_content("JSON in UTF-8, quoted", b"[1]", status(200, b"[1]"),
                     b'Content-Type: application/json;charset="UTF-8"\r\n'),
        json_content("a form's type", b"[1]", status(200, b"[1]"),
                     b"Content-Type: application/x-www-form-urlencoded\r\n"),
        json_content("JSON in Latin-1", b"[1]", status(415, accept="application/json"),
                     b"Content-Type: application/json; charset=latin-1\r\n"),
        json_content("JSON in UTF-16", b"[1]", 415, b"Content-Type: application/json; charset=utf-16\r\n"),
        json_content("JSON in UTF-7", b"[1]", 415, b"Content-Type: application/json; charset=utf-7\r\n"),
        refused("two Content-Types", "RFC 9110 8.3",
                JSON_POST
                + b"Content-Type: application/json\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\n[1]", 400),
    ],
    "2.13": [
        json_content("JSON, every kind", b'{"a":[1,-2.5,true,null,"\xc3\xa4"]}', 200),
        json_content("JSON with blanks around", b" \r\n\t[1] \n", status(200, b"[1]")),
        json_content("JSON empty", b"", 400),
        json_content("JSON of blanks", b"   ", 400),
        json_content("JSON truncated", b'{"a": [1, 2', 400),
        json_content("JSON with a byte too many", b"[1]]", 400),
        json_content("JSON twice", b"[1][1]", 400),
        json_content("JSON with single quotes", b"{'a': 1}", 400),
        json_content("JSON with a comma at the end", b"[1,]", 400),
        json_content("JSON with a comment", b"[1] // one", 400),
        json_content("JSON with a raw line end in a string", b'"a\nb"', 400),
        json_content("JSON with a bad escape", b'"\\x41"', 400),
        json_content("JSON with leading zeros", b"[01]", 400),
        json_content("JSON with a plus", b"[+1]", 400),
        json_content("JSON in invalid UTF-8", b'"\xff"', 400),
        json_content("JSON in overlong UTF-8", b'"\xc0\xaf"', 400),
        json_content("JSON nested 100,000 deep", b"[" * 100_000, 400),
        json_content("what is no JSON", b"a=b&c=d", 400),
        taken("JSON where there is none says where", "RFC 8259 2", answering(b"/v1/completions", b"[1,!]"),
              status(400, b'{"error":"Invalid JSON payload: Expecting value: line 1 column 4 (char 3)"}')),
    ],
    "3.01": [
        taken("a JSON answer", "RFC 9110 6.6.1", answering(b"/v1/completions", b"[1]"),
              status(200, b"[1]", content_length="3", content_type="application/json", transfer_encoding="")),
        taken("a stream is chunked", "RFC 9112 7.1", answering(b"/v1/messages", b'["a","bc"]'),
              status(200, b"abc", transfer_encoding="chunked", content_length="")),
        taken("two streams on a connection", "RFC 9112 7.1",
              answering(b"/v1/messages", b'["a"]') * 2, status(200, b"a"), status(200, b"a")),
        taken("an error", "RFC 9110 6.6.1",
              answering(b"/nowhere", b""), status(404, b'{"error":"Not Found"}', content_type="application/json")),
        answer("a response of text", "RFC 9110 8.3", b'{"content":"hi"}', status(200, b"hi", content_length="2")),
        answer("an empty response", "RFC 9110 8.6", b"{}", status(200, b"", content_length="0")),
    ],
    "3.02": [
        answer("204", "RFC 9110 15.3.5",
               b'{"status_code":204}', status(204, b"", content_length="", transfer_encoding="")),
        answer("204 with content", "RFC 9110 15.3.5",
               b'{"status_code":204,"content":"hi"}', status(204, b"", content_length="")),
        answer("304", "RFC 9110 15.4.5", b'{"status_code":304}', status(304, b"", content_length="")),
        answer("304 with content", "RFC 9110 15.4.5",
               b'{"status_code":304,"content":"hi"}', status(304, b"", content_length="")),
        taken("204 to OPTIONS", "RFC 9110 9.3.7",
              b"OPTIONS /livez HTTP/1.1\r\nHost: x\r\n\r\n", status(204, b"", content_length="")),
        answer("101 is not the model's to send", "RFC 9110 15.2", b'{"status_code":101}', 500),
        answer("a status out of range", "RFC 9110 15", b'{"status_code":1000}', 500),
    ],
    "3.03": [
        closed("a stream for HTTP/1.0", "RFC 9112 6.1", answering(b"/v1/messages", b'["a","bc"]', b"1.0"),
               status(200, b"abc", transfer_encoding="", connection="close")),
        closed("a stream for HTTP/1.0 with keep-alive", "RFC 9112 6.3",
               b"POST /v1/messages HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\n" + b'["a"]'
               + SMUGGLED,
               status(200, b"a", transfer_encoding="", connection="close")),
        closed("JSON for HTTP/1.0", "RFC 9112 6.1",
               answering(b"/v1/completions", b"[1]", b"1.0"), status(200, b"[1]", content_length="3")),
    ],
    "3.04": [
        taken("an empty chunk in a stream", "RFC 9112 7.1",
              answering(b"/v1/messages", b'["a","","b"]'), status(200, b"ab")),
        taken("an empty chunk first", "RFC 9112 7.1", answering(b"/v1/messages", b'["","a"]'), status(200, b"a")),
        taken("an empty chunk last", "RFC 9112 7.1", answering(b"/v1/messages", b'["a",""]'), status(200, b"a")),
        taken("only empty chunks", "RFC 9112 7.1",
              answering(b"/v1/messages", b'["",""]') + FIRST, status(200, b""), b"first"),
        taken("a stream of nothing", "RFC 9112 7.1",
              answering(b"/v1/messages", b"[]") + FIRST, status(200, b""), b"first"),
        taken("a chunk that looks like the last", "RFC 9112 7.1",
              answering(b"/v1/messages", b'["0\\r\\n\\r\\n","HTTP/1.1 200 OK\\r\\n\\r\\n"]'),
              status(200, b"0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n")),
    ],
    "3.05": [
        closed("the last of two", "RFC 9112 9.6",
               FIRST + GET + b"Connection: close\r\n\r\n", seen(b"first", connection=""),
               status(200, connection="close")),
        closed("a stream that closes", "RFC 9112 9.6",
               b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 5\r\n\r\n"
               + b'["a"]' + SMUGGLED,
               status(200, b"a", connection="close")),
        refused("a refusal behind a good request", "RFC 9112 9.6",
                FIRST + b"GET / HTTP/1.1\r\n\r\n", b"first", status(400, connection="close")),
        closed("the last of two, by HTTP/1.0", "RFC 9112 9.6",
               FIRST + b"GET /livez HTTP/1.0\r\n\r\n", b"first", status(200, connection="close")),
    ],
    "3.06": [
        answer("CRLF in a value", "smuggling by response splitting",
               b'{"headers":{"X":"a\\r\\nSet-Cookie: b"}}', 500),
        answer("LF in a value", "smuggling by response splitting", b'{"headers":{"X":"a\\nb"}}', 500),
        answer("CR in a value", "smuggling by response splitting", b'{"headers":{"X":"a\\rb"}}', 500),
        answer("NUL in a value", "RFC 9110 5.5", b'{"headers":{"X":"a\\u0000b"}}', 500),
        answer("CRLF in a name", "smuggling by response splitting", b'{"headers":{"X: a\\r\\nY":"b"}}', 500),
        answer("a name that is no token", "RFC 9110 5.1", b'{"headers":{"X Y":"b"}}', 500),
        answer("CRLF in the type", "smuggling by response splitting", b'{"media_type":"a/b\\r\\nX: y"}', 500),
        answer("Transfer-Encoding by hand", "RFC 9112 6.1",
               b'{"content":"hi","headers":{"Transfer-Encoding":"chunked"}}',
               status(200, b"hi", transfer_encoding="", content_length="2")),
        answer("Connection by hand", "RFC 9112 9.6",
               b'{"content":"hi","headers":{"Connection":"close"}}', status(200, b"hi", connection="")),
        answer("a field of its own", "RFC 9110 5.1",
               b'{"content":"hi","headers":{"X-Own":"yes"}}', status(200, b"hi", x_own="yes")),
    ],
    "3.07": [
        closed("404 before large content", "RFC 9112 9.3",
               (NOWHERE + b"Expect: 100-continue\r\nContent-Length: 1000000\r\n\r\n", b""), 404),
        closed("404 before content that is waited for", "RFC 9110 10.1.1",
               (NOWHERE + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n", b""), 404),
        closed("404 before chunks that are waited for", "RFC 9110 10.1.1",
               (NOWHERE + b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n", b""), 404),
        closed("405 before content that is waited for", "RFC 9110 10.1.1",
               (b"PUT /predict HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n", b""), 405),
        closed("404 in the middle of large content", "RFC 9112 9.3",
               NOWHERE + b"Content-Length: 1000000\r\n\r\n" + b"x" * 300_000, 404),
        closed("404 in the middle of a large chunk", "RFC 9112 9.3",
               NOWHERE + b"Transfer-Encoding: chunked\r\n\r\nf4240\r\n" + b"x" * 300_000, 404),
        taken("404 with content that is all there", "RFC 9112 9.3", NOWHERE + b"Content-Length: 5\r\n\r\nhello", 404),
        taken("404 with chunks that are all there", "RFC 9112 9.3",
              NOWHERE + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 404),
        refused("413 before any of much content", "RFC 9110 15.5.14", POST + b"Content-Length: 104857602\r\n\r\n",
                413),
    ],
}  # fmt: skip
