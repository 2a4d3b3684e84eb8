"""What is sent for each kind of work, and whether an answer is right: the same bytes for every contestant.

Leaves sending to the loads. Called by bench/workloads.py, which says which question a workload puts.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

JSON: Final = "application/json"
BINARY: Final = "application/octet-stream"
CHUNK: Final = b"8 bytes."
SENTENCE: Final = "A sentence of ordinary length, such as one would look for in a set of documents."  # 20 tokens


@dataclass(frozen=True)
class Question:
    """body: what is sent. is_right: of an answer's content, without envelope. is_timed: they tell of predict."""

    body: bytes
    is_right: Callable[[bytes], bool]
    content_type: str = JSON
    is_timed: bool = False

    def content(self, is_wrapped: bool) -> bytes:
        """The body, in Cog's envelope where the contestant has it."""
        return b'{"input":{"payload":%b}}' % self.body if is_wrapped else self.body

    def is_answer(self, content: bytes, is_wrapped: bool) -> bool:
        """Whether `content` answers it."""
        try:
            return self.is_right(json.dumps(json.loads(content)["output"]).encode() if is_wrapped else content)
        except (ValueError, KeyError, TypeError):
            return False


def echo(payload: Any) -> Question:
    """JSON there and back; `payload` is sent without spaces."""
    body = json.dumps(payload, separators=(",", ":")).encode()
    return Question(body, lambda content: json.loads(content)["echo"] == payload)


def trivial() -> Question:
    return echo({"v": 12})


def of_size(size: int) -> Question:
    """About `size` bytes of JSON as models get it: some text, and rows of numbers."""
    row = [0.5, 1.25, -3, 42, 1e-3]
    rows = [row] * (size // 2 // len(json.dumps(row, separators=(",", ":"))))
    return echo({"text": "some text " * (size // 20), "rows": rows})


def stream(chunks: int) -> Question:
    """A count of chunks, whatever a contestant frames them with."""
    return Question(b'{"chunks":%d}' % chunks, lambda content: content.count(CHUNK) == chunks)


def paced(chunks: int) -> Question:
    return Question(b'{"chunks":%d}' % chunks, lambda content: content.count(b"t") >= chunks)


def upload(size: int) -> Question:
    return Question(bytes(size), lambda content: json.loads(content) == {"received": size}, BINARY)


def download(size: int) -> Question:
    return Question(b'{"bytes":%d}' % size, lambda content: len(content) == size)


def tensor(size: int) -> Question:
    """A float32 array of `size` bytes, all ones, in msgpack with the tags of msgpack-numpy; its double comes back."""
    count = size // 4
    twos = struct.pack("<f", 2.0) * count
    return Question(
        b"\x81\xa1x" + _pack_ones(count), lambda content: content.count(b"data") == 1 and twos in content, BINARY
    )


def _pack_ones(count: int) -> bytes:
    """What msgpack_numpy makes: {b"nd": True, b"type": "<f4", b"kind": b"", b"shape": [count], b"data": ...}."""

    def key(name: bytes) -> bytes:
        return b"\xc4" + bytes([len(name)]) + name

    parts = (
        (b"nd", b"\xc3"),
        (b"type", b"\xa3<f4"),
        (b"kind", b"\xc4\x00"),
        (b"shape", b"\x91" + b"\xce" + struct.pack(">I", count)),
        (b"data", b"\xc6" + struct.pack(">I", count * 4) + struct.pack("<f", 1.0) * count),
    )
    return b"\x85" + b"".join(key(name) + value for name, value in parts)


def mlp(rows: int = 8, features: int = 64) -> Question:
    """`features` is that of contestants/shared/work.py."""
    body = json.dumps({"x": [[(row + column) / 100 for column in range(features)] for row in range(rows)]}).encode()

    def is_right(content: bytes) -> bool:
        y = json.loads(content)["y"]
        return len(y) == rows and all(len(row) == features for row in y)

    return Question(body, is_right, is_timed=True)


def minilm(text: str = SENTENCE) -> Question:
    """One text, and its embedding back."""
    return Question(_texts(text), lambda content: _is_embedding(json.loads(content)["embeddings"]), is_timed=True)


def minilm_batched(text: str = SENTENCE) -> Question:
    """The same for those that gather batches; an answer may be the bare rows. How long predict took is not told."""

    def is_right(content: bytes) -> bool:
        answer = json.loads(content)
        return _is_embedding(answer["embeddings"] if isinstance(answer, dict) else answer)

    return Question(_texts(text), is_right)


def _texts(text: str) -> bytes:
    return json.dumps({"texts": [text]}, separators=(",", ":")).encode()


def _is_embedding(rows: Any) -> bool:
    (row,) = rows
    return len(row) == 384 and abs(sum(value * value for value in row) - 1) < 1e-3


def matmul() -> Question:
    return Question(b'{"v":12}', lambda content: json.loads(content)["echo"] == {"v": 12})
