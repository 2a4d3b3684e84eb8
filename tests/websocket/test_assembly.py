"""Fragments to messages, cut anywhere."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from fastserve.websocket.assembly import Assembly


def assemble(assembly: Assembly, opcode: Opcode, content: bytes, cuts: list[int]) -> list[str | bytes | None]:
    edges = [0, *sorted(cut % (len(content) + 1) for cut in cuts), len(content)]
    pieces = [content[a:b] for a, b in itertools.pairwise(edges)]
    return [
        assembly.add(Frame(Opcode.CONT if i else opcode, piece, i == len(pieces) - 1))
        for i, piece in enumerate(pieces)
    ]


@given(st.lists(st.tuples(st.text() | st.binary(), st.lists(st.integers(0, 1000), max_size=5)), max_size=4))
def test_every_message_comes_out_once_and_as_it_was(messages: list[tuple[str | bytes, list[int]]]) -> None:
    assembly = Assembly()
    for message, cuts in messages:
        is_text = isinstance(message, str)
        content = message.encode() if isinstance(message, str) else message
        made = assemble(assembly, Opcode.TEXT if is_text else Opcode.BINARY, content, cuts)
        assert made == [None] * len(cuts) + [message]


@given(st.binary(), st.lists(st.integers(0, 1000), max_size=5))
def test_text_is_refused_exactly_if_python_refuses_it(content: bytes, cuts: list[int]) -> None:
    try:
        content.decode()
    except UnicodeDecodeError:
        with pytest.raises(UnicodeDecodeError):
            assemble(Assembly(), Opcode.TEXT, content, cuts)
    else:
        assert assemble(Assembly(), Opcode.TEXT, content, cuts)[-1] == content.decode()
