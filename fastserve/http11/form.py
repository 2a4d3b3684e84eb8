"""Header sections that are like the one before but for some field values: a form with blanks, filled in.

The constant text was judged when it was parsed; what stands in the blanks is judged here. Whatever is not plainly
good is left to `parser.py`. No I/O. Each connection's `reader.py` keeps one at most.
"""

from __future__ import annotations

from typing import Final

from fastserve.config import Config
from fastserve.errors import RequestError
from fastserve.http11.parser import make_head, parse_content_length, parse_request_line
from fastserve.messages import MEANINGFUL, Head

# Longer sections are parsed each time. An ordinary one has less than 2 KiB, one with a token and cookies less than
# this. A form of twenty fields takes 3 KiB of memory, the worst that fits in here 13 KiB; a head alone may take 32.
MAX_FORM_BYTES: Final = 4096
# A section with more of them is parsed each time: a blank costs more to fill than a field to parse.
MAX_BLANKS: Final = 8

# Values that llhttp reads, and lets decide over other lines: never blanks. (It reads Content-Length, too.)
_READ_BY_LLHTTP: Final = frozenset({b"connection", b"proxy-connection", b"transfer-encoding", b"upgrade"})


class Form:
    """A header section with blanks where some field values stand.

    head: what it is made of, which has been parsed. names: of the fields whose values are blanks; lower-case.
    meaningful: as a Listener's.
    """

    __slots__ = ("_blanks", "_bound", "_config", "_has_length", "_head", "_last", "_may_mean", "names")

    def __init__(
        self, head: Head, names: frozenset[bytes], config: Config, meaningful: frozenset[bytes] = MEANINGFUL
    ) -> None:
        self.names = names
        self._head = head
        self._config = config
        self._bound = min(MAX_FORM_BYTES, config.max_header_bytes)
        self._has_length = b"content-length" in names
        self._may_mean = not names.isdisjoint(meaningful)
        text, *lines = head.section[:-4].split(b"\r\n")
        blanks = []
        for name, line in zip(head.fields, lines, strict=True):
            text += b"\r\n" + line
            if name in names:
                blanks.append((text[: len(text) - len(line) + line.index(b":") + 1], name))
                text = b""
        self._blanks = tuple(blanks)  # the text before it, and the field's name
        self._last = text + b"\r\n\r\n"

    def fill(self, received: bytes) -> Head | None:
        """The head that `received` begins with: what `parse_head` would make of it. It may have its route already.

        None if that is not of this form, or not complete, or to be looked at more closely: it has to be parsed then.
        """
        fields = self._head.fields.copy()
        end = 0
        try:
            for text, name in self._blanks:
                if not received.startswith(text, end):
                    return None
                start = end + len(text)
                end = received.index(b"\r", start, self._bound)
                value = str(received[start:end], "latin-1")
                if not value.isprintable():  # a tab is none, and may stand there: llhttp knows where
                    return None
                fields[name] = received[start:end].strip()
            if not received.startswith(self._last, end):
                return None
            end += len(self._last)
            return self._make_head(received[:end], fields) if end <= self._bound else None
        except (ValueError, RequestError):
            return None

    def _make_head(self, section: bytes, fields: dict[bytes, bytes]) -> Head:
        head = self._head
        if self._may_mean:
            line = parse_request_line(section[: section.index(b"\r\n")], self._config.max_request_line_bytes)
            return make_head(section, line, fields, self._config)
        if self._has_length:
            return head.with_fields(section, fields, parse_content_length(fields[b"content-length"], self._config))
        return head.with_fields(section, fields, head.content_length)


def form_of(
    before: Head, head: Head, form: Form | None, config: Config, meaningful: frozenset[bytes] = MEANINGFUL
) -> Form | None:
    """A form for heads that are to one another as these two, which were parsed one after the other.

    form: the one so far; what was a blank in it remains one. meaningful: as a Listener's.
    None if the two differ in more than a few values.
    """
    fields = head.fields
    if len(head.section) > MAX_FORM_BYTES or list(before.fields) != list(fields) or before.target != head.target:
        return None
    names = {name for name, value in fields.items() if before.fields[name] != value}
    if form is not None:
        names |= form.names & fields.keys()
    # A field for each line: none was repeated, and none comes from the target.
    if not 0 < len(names) <= MAX_BLANKS or names & _READ_BY_LLHTTP or head.section.count(b"\r\n") != len(fields) + 2:
        return None
    return None if head.target[:1] != b"/" else Form(head, frozenset(names), config, meaningful)
