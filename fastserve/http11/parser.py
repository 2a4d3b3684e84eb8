"""A complete header section to a Head: llhttp for the grammar, checks here for the meaning. Pure; no I/O.

llhttp (through httptools) is strict about bytes and silent about sense; what it lets through is refused here.
Content is framed by `content.py`. Called by `connection.py`, which finds where the section ends.
"""

from __future__ import annotations

import functools
import re
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

import httptools

from fastserve.config import Config
from fastserve.errors import RequestError
from fastserve.messages import CHUNKED, Head
from fastserve.traceparent import TRACEPARENT

TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # RFC 9110 section 5.6.2
REQUEST_LINE: Final = re.compile(rb"(%b) ([!-~]+) HTTP/([0-9]\.[0-9])" % TOKEN)
LINE_PREFIX: Final = re.compile(rb"%b(?: [!-~]*(?: [!-~]*\r?)?)?" % TOKEN)
# uri-host [ ":" port ] of RFC 9110 section 7.2, less the sub-delims that no real host name has.
HOST: Final = re.compile(rb"(?:[A-Za-z0-9._~%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")

MAX_CONTENT_LENGTH: Final = 2**63 - 1  # what a signed 64-bit proxy in front can hold


class _Sink(dict[bytes, bytes]):
    """What llhttp reports, taken by a C method of dict: a header field costs no Python frame.

    The callbacks that are not wanted are None here, which httptools finds faster than nothing.
    """

    __slots__ = ()
    on_header = dict.__setitem__
    on_url = on_body = on_status = on_message_begin = on_message_complete = None
    on_headers_complete = on_chunk_header = on_chunk_complete = None


class _ListSink:
    """The same for a section with repeated fields: every one is kept, in order."""

    def __init__(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value.rstrip()))


class RequestLine(NamedTuple):
    """method and target as they came; path: percent-decoded, without the query; is_http10: the version.

    authority: that of a target in absolute-form, which stands for Host (RFC 9112 section 3.2.2); else None.
    """

    method: bytes
    target: bytes
    path: bytes
    authority: bytes | None
    is_http10: bool


def parse_head(section: bytes, config: Config) -> Head:
    """Parse one request line and header section.

    section: from the first byte of the request line up to and with the empty line; one CRLF CRLF, at its end.
    Raises RequestError: 400 for what RFC 9112 does not allow, 413, 414, 415, 417, 431, 501 and 505.
    """
    lines = section.count(b"\r\n") - 2
    if len(section) > config.max_header_bytes or lines > config.max_header_fields:
        EarlyRefusal().check(section, config)
    line = parse_request_line(section[: section.index(b"\r\n")], config.max_request_line_bytes)
    sink = _Sink()
    _feed(httptools.HttpRequestParser(sink), section)
    fields = {name.lower(): value.rstrip() for name, value in sink.items()}  # llhttp keeps trailing white space
    if len(fields) != lines:  # llhttp refuses line folding, so a line less is a name that was repeated
        fields = _join_repeated(list_fields(section))
    return make_head(section, line, fields, config)


def make_head(section: bytes, line: RequestLine, fields: dict[bytes, bytes], config: Config) -> Head:
    """What a section means whose grammar is good. Raises RequestError: 400, 413, 415, 417 and 501."""
    is_http10, which = line.is_http10, config.request_ids
    _check_host(fields.get(b"host"), is_http10)
    if line.authority is not None:
        fields[b"host"] = line.authority
    return Head(
        section,
        line.method,
        line.target,
        line.path,
        fields,
        content_length=_parse_framing(fields, is_http10, config),
        is_http10=is_http10,
        keep_alive=_parse_connection(fields, is_http10),
        expects_continue=b"expect" in fields and _parse_expect(fields[b"expect"], is_http10),
        is_named=config.access_log or (which != "given" and (which == "all" or TRACEPARENT in fields)),
    )


def list_fields(section: bytes) -> list[tuple[bytes, bytes]]:
    """Every header field of a section that parses, in order: lower-case name and value."""
    sink = _ListSink()
    _feed(httptools.HttpRequestParser(sink), section)
    return sink.fields


def _feed(parser: httptools.HttpRequestParser, section: bytes) -> None:
    """Feed llhttp; its errors become RequestErrors."""
    try:
        parser.feed_data(section)
    except httptools.HttpParserUpgrade:
        # `Connection: Upgrade` (what curl --http2 sends) is ignored and answered as HTTP/1.1. Framing is ours, so the
        # bytes behind the section are not lost with the exception.
        return
    except httptools.HttpParserInvalidMethodError:
        raise RequestError(501, "this method is not implemented") from None
    except httptools.HttpParserError as error:
        raise RequestError(400, f"malformed request: {error}") from None


# Clients repeat their few request lines and hosts: 3 us the first time, 0.1 us afterwards.
@functools.lru_cache(maxsize=256)
def parse_request_line(line: bytes, max_bytes: int) -> RequestLine:
    """Parse a request line, without its CRLF (RFC 9112 section 3). Raises RequestError 400, 414, 501 or 505."""
    if len(line) > max_bytes:
        check_line_start(line + b"\r", max_bytes)
    match = REQUEST_LINE.fullmatch(line)
    if match is None:
        raise RequestError(400, "malformed request line")
    method, target, version = match.groups()
    if version != b"1.1" and version != b"1.0":
        raise RequestError(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
    return RequestLine(method, target, *_parse_target(method, target), version == b"1.0")


def check_line_start(start: bytes, max_bytes: int) -> None:
    """Refuse a request line that cannot become a good one.

    start: all of it so far, and its CR, but not its LF. What is behind the limit is not looked at, since it may come
    later: which of the two refusals it is does not depend on how the bytes are cut. Raises RequestError 400 or 414.
    """
    if LINE_PREFIX.fullmatch(start[: max_bytes + 2]) is None:
        raise RequestError(400, "malformed request line")
    if len(start) > max_bytes + 1:
        raise RequestError(414, f"request line over {max_bytes} bytes")


SINGLE: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"content-type"})


def _join_repeated(pairs: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    fields: dict[bytes, bytes] = {}
    for name, value in pairs:
        if name not in fields:
            fields[name] = value
        elif name in SINGLE:
            raise RequestError(400, f"more than one {name.decode().title()} field")
        else:
            fields[name] += (b"; " if name == b"cookie" else b", ") + value
    return fields


def _parse_target(method: bytes, target: bytes) -> tuple[bytes, bytes | None]:
    """The path to route by (RFC 9112 section 3.2), and the authority of an absolute-form.

    The path is without query, percent-decoded once, never normalised.
    """
    if method == b"CONNECT":
        raise RequestError(501, "CONNECT is not implemented")
    if target == b"*":
        if method != b"OPTIONS":
            raise RequestError(400, "the request target * goes with OPTIONS alone")
        return target, None
    if b"#" in target:
        raise RequestError(400, "the request target holds a fragment")
    path, authority = target.partition(b"?")[0], None
    if path[:1] != b"/":
        scheme, _, rest = path.partition(b"://")
        authority, slash, path = rest.partition(b"/")
        is_http = scheme.lower() in (b"http", b"https")
        if not is_http or authority[:1] in (b"", b":") or HOST.fullmatch(authority) is None:
            raise RequestError(400, "the request target is neither a path nor an http URI")
        path = slash + path or b"/"
    if b"%" in path:
        if BAD_ESCAPE.search(path) is not None:
            raise RequestError(400, "the request target holds a bad percent escape")
        path = unquote_to_bytes(path)
    return path, authority


@functools.lru_cache(maxsize=256)
def _check_host(host: bytes | None, is_http10: bool) -> None:
    """RFC 9112 section 3.2: exactly one Host, which is a host with an optional port."""
    if host is None:
        if not is_http10:
            raise RequestError(400, "no Host field")
    elif HOST.fullmatch(host) is None:
        raise RequestError(400, "the Host field is not a host with an optional port")


def _parse_framing(fields: dict[bytes, bytes], is_http10: bool, config: Config) -> int:
    """The content's length or CHUNKED, in one way only (RFC 9112 section 6.3)."""
    encoding = fields.get(b"content-encoding")
    if encoding is not None and encoding.lower() != b"identity":
        raise RequestError(415, "content must come unencoded", (("Accept-Encoding", "identity"),))
    length = fields.get(b"content-length")
    coding = fields.get(b"transfer-encoding")
    if coding is not None:
        if length is not None:
            raise RequestError(400, "both Content-Length and Transfer-Encoding")
        if is_http10:
            raise RequestError(400, "Transfer-Encoding in an HTTP/1.0 request")
        if coding.lower() != b"chunked":
            raise RequestError(501 if _is_foreign(coding) else 400, "the only Transfer-Encoding taken is chunked")
        return CHUNKED
    return 0 if length is None else parse_content_length(length, config)


def parse_content_length(value: bytes, config: Config) -> int:
    """The bytes of content to come (RFC 9110 section 8.6). Raises RequestError 400 or 413."""
    if len(value) > 20 or not value.isdigit() or (length := int(value)) > MAX_CONTENT_LENGTH:
        raise RequestError(400, "Content-Length is not a number of bytes")
    if length > config.max_content_bytes:
        raise RequestError(413, f"content over {config.max_content_bytes} bytes")
    return length


def _is_foreign(coding: bytes) -> bool:
    """Whether this could be a coding that we do not know before chunked, rather than nonsense or trickery.

    `identity` has been none since RFC 7230.
    """
    *others, last = (name.strip(b" \t") for name in coding.lower().split(b","))
    return last == b"chunked" and all(
        re.fullmatch(TOKEN, name) is not None and name not in (b"chunked", b"identity") for name in others
    )


def _parse_connection(fields: dict[bytes, bytes], is_http10: bool) -> bool:
    """Whether the peer lets the connection persist (RFC 9112 section 9.3): a list, `close` wins."""
    value = fields.get(b"connection")
    if value is None:
        return not is_http10
    if value == b"keep-alive":  # of every SDK and browser
        return True
    options = [option.strip() for option in value.lower().split(b",")]
    return b"close" not in options and (not is_http10 or b"keep-alive" in options)


def _parse_expect(value: bytes, is_http10: bool) -> bool:
    if is_http10:  # a 1.0 peer's 100-continue is ignored (RFC 9110 section 10.1.1)
        return False
    if value.lower() != b"100-continue":
        raise RequestError(417, "the only expectation met is 100-continue")
    return True


def _up_to_field(number: int, section: bytes) -> bytes | None:
    """`section` up to the end of the header field with this number; None if there are not so many."""
    if section.count(b"\r\n") <= number:
        return None
    end = 0
    for _ in range(number + 1):  # the request line too
        end = section.index(b"\r\n", end) + 2
    return None if section.endswith(b"\r\n\r\n", 0, end) else section[:end]


class EarlyRefusal:
    """Watches an incomplete header section so that what can never become one is refused at once.

    Without it a TLS ClientHello or a line that ends in a bare LF would be waited on until the header deadline.
    It answers what `parse_head` would answer to the whole, however the bytes are cut.
    """

    __slots__ = ("_fed", "_has_line", "_parser")

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(_Sink())
        self._fed = 0
        self._has_line = False

    def check(self, section: bytes, config: Config) -> None:
        """section: all of it so far; must only ever grow. Raises RequestError: 400, 414, 431, 501 or 505."""
        if not self._has_line and not self._check_line(section, config):
            return
        bounded = section[: config.max_header_bytes]
        excessive = _up_to_field(config.max_header_fields + 1, bounded)
        judged = bounded if excessive is None else excessive
        _feed(self._parser, judged[self._fed :])
        self._fed = len(judged)
        if excessive is not None:
            raise RequestError(431, f"more than {config.max_header_fields} header fields")
        if len(section) > config.max_header_bytes:
            raise RequestError(431, f"header section over {config.max_header_bytes} bytes")

    def _check_line(self, section: bytes, config: Config) -> bool:
        """Whether the request line is complete and good; raises if it cannot become one."""
        if b"\r\n" in section[: config.max_request_line_bytes + 2]:
            parse_request_line(section[: section.index(b"\r\n")], config.max_request_line_bytes)
            self._has_line = True
        else:
            check_line_start(section, config.max_request_line_bytes)
        return self._has_line
