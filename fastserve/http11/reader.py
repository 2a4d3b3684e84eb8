"""Received bytes to heads and contents, message by message, however they are cut; nothing is parsed ahead. No I/O.

The grammar is `parser.py`'s, content that comes in several reads `content.py`'s. Each connection has one, and
says when the next message may be looked at.
"""

from __future__ import annotations

from typing import Final

from fastserve.http11.content import Content
from fastserve.http11.form import Form, form_of
from fastserve.http11.listener import Listener
from fastserve.http11.parser import EarlyRefusal, parse_head
from fastserve.messages import CHUNKED, Head

_NO_HEAD: Final = Head(b"\0", b"", b"", b"", {}, content_length=CHUNKED)  # equals no section, and has no size

# How often a form is looked for though the last was of no use. To make one costs about what the use of one saves, so
# that each use pays for another, and heads that are to make it costly soon have it given up.
FORM_TRIES: Final = 6


class MessageReader:
    """What one connection has received and not yet taken.

    head: of the latest message, or of the one that was received and is to be taken next.
    form: what it is likely that the next section looks like; None if that is not known.
    unread: what was received, from some byte that has been taken on; empty once all of it has been.
    """

    __slots__ = ("_early", "_listener", "_taken", "_tries_left", "form", "head", "unread")

    def __init__(self, listener: Listener) -> None:
        self._listener = listener  # for its limits, and the route of each head that is parsed
        self.head = _NO_HEAD
        self.form: Form | None = None
        self._tries_left = FORM_TRIES  # to find a form
        self.unread = b""
        self._taken = 0  # bytes of `unread` that have been
        self._early: EarlyRefusal | None = None  # watches an incomplete header section

    @property
    def is_fresh(self) -> bool:
        """Nothing has been received in full so far."""
        return self.head is _NO_HEAD

    def feed(self, received: bytes) -> None:
        self.unread = self.unread[self._taken :] + received if self.unread else received
        self._taken = 0

    def take_head(self) -> bool:
        """Make `head` that of the next message; there are bytes of it. Returns False if its section is incomplete.

        Raises RequestError as `parse_head`, for an incomplete section too if it can never become one.
        """
        if self._early is None and not self._skip_empty_line():
            return False
        # What is behind the bound is not looked at: a section that goes on there is refused by what lies before.
        bound = self._taken + self._listener.config.max_header_bytes + 1
        end = self.unread.find(b"\r\n\r\n", self._taken, bound) + 4
        if end < 4:
            if self._early is None:
                self._early = EarlyRefusal()
            self._early.check(self.unread[self._taken : bound], self._listener.config)
            return False
        section = self.unread[self._taken : end]
        if section != self.head.section:
            before, self.head = self.head, parse_head(section, self._listener.config)
            self.head.route = self._listener.route(self.head)
            self._find_form(before)
        self._early = None
        self._take_until(end)
        return True

    def recognise_head(self, form: Form, received: bytes) -> Head | None:
        """The head that a message begins with, if it is all in `received` and of `form`.

        It is `head` then, and need not be parsed when it is taken, which it is not yet.
        """
        head = form.fill(received)
        if head is not None:
            if head.route is None:
                head.route = self._listener.route(head)
            self.head = head
            if self._tries_left < FORM_TRIES:
                self._tries_left += 1
        return head

    def _find_form(self, before: Head) -> None:
        """`head` had to be parsed; what it has in common with the one before, the next may have too."""
        if self._tries_left:
            self._tries_left -= 1
            listener = self._listener
            form = form_of(before, self.head, self.form, listener.config, listener.meaningful)
            self.form = form or self.form
        else:
            self.form = None

    def reroute(self) -> None:
        """The head that is remembered may lead elsewhere or mean something else now, and so may those like it."""
        self.form = None
        if self.head is not _NO_HEAD:
            # A new one: the request that is being answered keeps its own, and its answer is counted there.
            self.head = parse_head(self.head.section, self._listener.config)
            self.head.route = self._listener.route(self.head)

    def take_whole_content(self) -> bytes | None:
        """All content of the message whose head was taken, if it is here; None, and nothing taken, if it is not."""
        end = self._taken + self.head.content_length
        if self.head.content_length == CHUNKED or end > len(self.unread):
            return None
        content = self.unread[self._taken : end]
        self._take_until(end)
        return content

    def feed_content(self, content: Content) -> None:
        """Give `content` what is here of it. Raises RequestError as its `feed`."""
        self._take_until(content.feed(self.unread, self._taken))

    def take_all(self) -> bytes:
        """Whatever is unread, to be read by somebody else or by nobody."""
        unread = self.unread[self._taken :]
        self.unread = b""
        self._early = None
        return unread

    def _skip_empty_line(self) -> bool:
        """Skip one empty line before a request line (RFC 9112 section 2.2). Returns whether anything is behind it."""
        if self.unread.startswith(b"\r\n", self._taken):
            self._early = EarlyRefusal()  # the message has begun: no second line is skipped
            self._take_until(self._taken + 2)
            return self.unread != b""
        is_last_byte = self._taken == len(self.unread) - 1  # seen first: no copy for each of many pipelined requests
        return not (is_last_byte and self.unread.endswith(b"\r"))  # perhaps the half of one

    def _take_until(self, end: int) -> None:
        if end == len(self.unread):
            self.unread = b""
            end = 0
        self._taken = end
