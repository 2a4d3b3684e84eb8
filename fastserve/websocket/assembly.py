"""Frames to messages: fragments put together, text checked as it comes.

Order and size of fragments are the library's to check. Called by `session.py`. Source: RFC 6455 section 5.4.
"""

from __future__ import annotations

import codecs

from websockets.frames import Frame, Opcode


class Assembly:
    """The message that is arriving.

    In one growing buffer: a list of fragments would cost tens of bytes for each, however short, and empty ones
    are not limited in number.
    """

    __slots__ = ("_content", "_is_text", "_utf8")

    def __init__(self) -> None:
        self._content = bytearray()
        self._is_text = False
        self._utf8 = codecs.getincrementaldecoder("utf-8")()

    def add(self, frame: Frame) -> str | bytes | None:
        """Take a data frame. Returns the message if that completes it; text as str.

        Raises UnicodeDecodeError as soon as a text cannot become UTF-8 (RFC 6455 section 8.1).
        """
        if frame.opcode is not Opcode.CONT:
            self._is_text = frame.opcode is Opcode.TEXT
            if frame.fin:
                return str(frame.data, "utf-8") if self._is_text else bytes(frame.data)
        if self._is_text:
            self._utf8.decode(bytes(frame.data), frame.fin)
        self._content += frame.data
        if not frame.fin:
            return None
        content, self._content = self._content, bytearray()
        return content.decode() if self._is_text else bytes(content)
