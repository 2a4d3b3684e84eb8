"""What is fuzzed: the choice between valid streams, mutated ones, those of the corpus, and noise, as scenarios.

Joins the generators; plays nothing. Called by each driver with choices of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.fuzz.choices import Choices
from tests.fuzz.grammar import make_stream
from tests.fuzz.mutation import mutate
from tests.fuzz.scenario import Scenario, dress


def make_valid(choices: Choices) -> Scenario:
    """A stream whose every request is to be answered."""
    stream = make_stream(choices)
    return dress(choices, stream.raw, stream.expected, stays_open=stream.stays_open)


def make_mutated(choices: Choices, corpus: Sequence[bytes]) -> Scenario:
    """A valid stream, or one of the corpus, with a few changes."""
    raw = corpus[choices.below(len(corpus))] if choices.below(3) == 2 else make_stream(choices).raw
    return dress(choices, mutate(choices, raw, corpus))


def make_noise(choices: Choices) -> Scenario:
    """Any bytes, perhaps behind the beginning of a request."""
    beginning = (b"", b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    return dress(choices, beginning[choices.below(3)] + choices.octets(60))


def make_any(choices: Choices, corpus: Sequence[bytes]) -> Scenario:
    """A third valid, nearly all others mutated, a few noise."""
    kind = choices.below(24)
    if kind < 8:
        return make_valid(choices)
    return make_noise(choices) if kind == 23 else make_mutated(choices, corpus)
